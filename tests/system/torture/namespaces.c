/* Children in new namespaces. Run by root, except for the tests whose name starts with user. */
#include "torture.h"

static pid_t cloned(unsigned long flags)
{
	return CHECK(syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0));
}

static int t_mount(char **argv)
{
	pid_t pid = cloned(CLONE_NEWNS);
	if (!pid) {
		CHECK(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
		CHECK(mount("tmpfs", "/mnt", "tmpfs", 0, "size=64k"));
		MARK_CHILD();
		CHECK(umount2("/mnt", MNT_DETACH));
		_exit(0);
	}
	reap(pid, 0);
	MARK_PARENT();
	return 0;
}

/* Process ids differ inside and outside: 1 here is another number to the tracer. */
static int t_pid(char **argv)
{
	pid_t pid = cloned(CLONE_NEWPID);
	if (!pid) {
		if (getpid() != 1)
			_exit(1);
		MARK_CHILD();
		pid = CHECK(fork());
		if (!pid) {
			MARK_GRANDCHILD();
			_exit(0);
		}
		reap(pid, 0);
		_exit(0);
	}
	reap(pid, 0);
	MARK_PARENT();
	return 0;
}

/* The namespace's first process ends, and the kernel kills the rest of the namespace. */
static int t_pid_dies(char **argv)
{
	int fds[2];
	char byte = 0;
	CHECK(pipe(fds));
	pid_t pid = cloned(CLONE_NEWPID);
	if (!pid) {
		pid = CHECK(fork());
		if (!pid) {
			MARK_GRANDCHILD();
			CHECK(write(fds[1], &byte, 1));
			for (;;)
				;
		}
		CHECK(read(fds[0], &byte, 1));
		_exit(0);
	}
	reap(pid, 0);
	MARK_PARENT();
	return 0;
}

static int t_unshare_pid(char **argv)
{
	CHECK(unshare(CLONE_NEWPID));
	pid_t pid = CHECK(fork());
	if (!pid) {
		MARK_CHILD();
		execl(sibling(argv[0], "leaf"), "leaf", NULL);
		_exit(1);
	}
	reap(pid, 0);
	MARK_PARENT();
	return 0;
}

static int t_all(char **argv)
{
	pid_t pid = cloned(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER);
	if (!pid) {
		sethostname("inside", 6);
		MARK_CHILD();
		execl(sibling(argv[0], "leaf"), "leaf", NULL);
		_exit(1);
	}
	reap(pid, 0);
	MARK_PARENT();
	return 0;
}

static int t_user(char **argv)
{
	pid_t pid = CHECK(fork());
	if (!pid) {
		CHECK(unshare(CLONE_NEWUSER));
		MARK_CHILD();
		setgroups(0, NULL);
		CHECK(unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS));
		pid = CHECK(fork());
		if (!pid) {
			sethostname("inside", 6);
			MARK_GRANDCHILD();
			_exit(0);
		}
		reap(pid, 0);
		_exit(0);
	}
	reap(pid, 0);
	MARK_PARENT();
	return 0;
}

static int t_chroot(char **argv)
{
	char path[PATH_MAX];
	snprintf(path, sizeof path, "%s", sibling(argv[0], "."));
	pid_t pid = CHECK(fork());
	if (!pid) {
		CHECK(chroot(path));
		CHECK(chdir("/"));
		execl("/leaf", "leaf", NULL);
		_exit(1);
	}
	reap(pid, 0);
	MARK_PARENT();
	return 0;
}

static const struct test tests[] = {
	{"mount", t_mount},
	{"pid", t_pid},
	{"pid_dies", t_pid_dies},
	{"unshare_pid", t_unshare_pid},
	{"all", t_all},
	{"user", t_user},
	{"chroot", t_chroot},
	{0},
};

int main(int argc, char **argv)
{
	return run_test(tests, argv);
}
