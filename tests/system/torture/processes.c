/* Every way to make a process, to lose its parent, and to die. */
#include "torture.h"

static void child(void)
{
	MARK_CHILD();
	_exit(0);
}

static int t_fork(char **argv)
{
	pid_t pid = CHECK(fork());
	if (!pid)
		child();
	reap(pid, 0);
	MARK_PARENT();
	return 0;
}

#ifdef SYS_fork
static int t_fork_raw(char **argv)
{
	pid_t pid = CHECK(syscall(SYS_fork));
	if (!pid)
		child();
	reap(pid, 0);
	MARK_PARENT();
	return 0;
}
#endif

static int t_vfork(char **argv)
{
	pid_t pid = vfork();
	if (!pid)
		child();
	reap(pid, 0);
	MARK_PARENT();
	return 0;
}

static int t_vfork_exec(char **argv)
{
	const char *leaf = sibling(argv[0], "leaf");
	pid_t pid = vfork();
	if (!pid) {
		MARK_CHILD();
		execl(leaf, "leaf", NULL);
		_exit(1);
	}
	reap(pid, 0);
	MARK_PARENT();
	return 0;
}

static int t_vfork_dies(char **argv)
{
	pid_t pid = vfork();
	if (!pid) {
		MARK_CHILD();
		syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
		for (;;)
			;
	}
	reap(pid, -SIGKILL);
	MARK_PARENT();
	return 0;
}

static int t_clone_raw(char **argv)
{
	pid_t pid = CHECK(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
	if (!pid)
		child();
	reap(pid, 0);
	MARK_PARENT();
	return 0;
}

static int clone_main(void *unused)
{
	MARK_CHILD();
	syscall(SYS_exit, 0);
	return 0;
}

/* A process that shares memory, files and working directory, but is not a thread. */
static int t_clone_vm(char **argv)
{
	static char stack[65536] __attribute__((aligned(16)));
	pid_t pid = CHECK(clone(clone_main, stack + sizeof stack, CLONE_VM | CLONE_FS | CLONE_FILES | SIGCHLD, NULL));
	reap(pid, 0);
	MARK_PARENT();
	return 0;
}

/* A child whose end sends no signal: only __WALL sees it. */
static int t_clone_nosignal(char **argv)
{
	static char stack[65536] __attribute__((aligned(16)));
	pid_t pid = CHECK(clone(clone_main, stack + sizeof stack, 0, NULL));
	reap(pid, 0);
	MARK_PARENT();
	return 0;
}

/* A child that becomes its maker's sibling: its parent is whoever started the workload. */
static int t_clone_parent(char **argv)
{
	int fds[2];
	CHECK(pipe(fds));
	pid_t pid = CHECK(syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0));
	if (!pid)
		child();
	close(fds[1]);
	wait_for_close(fds[0]);
	MARK_PARENT();
	return 6;
}

static pid_t clone3(uint64_t flags)
{
	struct clone_args args = {.flags = flags, .exit_signal = SIGCHLD};
	return CHECK(syscall(SYS_clone3, &args, sizeof args));
}

static int t_clone3(char **argv)
{
	pid_t pid = clone3(0);
	if (!pid)
		child();
	reap(pid, 0);
	MARK_PARENT();
	return 0;
}

static int t_clone3_vfork(char **argv)
{
	pid_t pid = clone3(CLONE_VFORK);
	if (!pid)
		child();
	reap(pid, 0);
	MARK_PARENT();
	return 0;
}

/* CLONE_UNTRACED asks that no tracer be forced upon the child. strace(1) obeys, so the oracle runs the same test
 * with a further argument, which leaves the flag out. */
static int t_clone_untraced(char **argv)
{
	pid_t pid = CHECK(syscall(SYS_clone, (argv[2] ? 0 : CLONE_UNTRACED) | SIGCHLD, 0, 0, 0, 0));
	if (!pid)
		child();
	reap(pid, 0);
	MARK_PARENT();
	return 0;
}

static int t_clone3_untraced(char **argv)
{
	pid_t pid = clone3(argv[2] ? 0 : CLONE_UNTRACED);
	if (!pid)
		child();
	reap(pid, 0);
	MARK_PARENT();
	return 0;
}

static int t_spawn(char **argv)
{
	pid_t pid;
	char *args[] = {"leaf", NULL}, *env[] = {NULL};
	if (posix_spawn(&pid, sibling(argv[0], "leaf"), NULL, NULL, args, env))
		die("posix_spawn");
	reap(pid, 0);
	MARK_PARENT();
	return 0;
}

/* A daemon: it makes its marker calls only once nobody is left who could have waited for it. */
static int t_daemon(char **argv)
{
	pid_t first = getpid();
	int fds[2];
	calls_that_depend_on_timing();
	kill(first, 0);
	CHECK(pipe(fds));
	pid_t pid = CHECK(fork());
	if (!pid) {
		setsid();
		pid = CHECK(fork());
		if (pid)
			_exit(0);
		close(fds[1]);
		wait_for_close(fds[0]);
		while (!kill(first, 0))
			short_sleep();
		MARK_GRANDCHILD();
		pid = CHECK(fork());
		if (!pid)
			child();
		reap(pid, 0);
		MARK_AFTER();
		_exit(0);
	}
	reap(pid, 0);
	MARK_PARENT();
	return 7;
}

static int t_forks(char **argv)
{
	int count = argv[2] ? atoi(argv[2]) : 1000;
	for (int i = 0; i < count; i++) {
		pid_t pid = CHECK(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
		if (!pid) {
			if (i == count / 2)
				MARK_CHILD();
			if (i == count - 1)
				MARK_GRANDCHILD();
			_exit(0);
		}
		reap(pid, 0);
	}
	MARK_PARENT();
	return 0;
}

/* Many at once: all alive before the first may end. */
static int t_forks_together(char **argv)
{
	int count = 200, fds[2], pids[200];
	CHECK(pipe(fds));
	for (int i = 0; i < count; i++) {
		pids[i] = CHECK(fork());
		if (!pids[i]) {
			close(fds[1]);
			wait_for_close(fds[0]);
			if (i == 0)
				MARK_CHILD();
			if (i == count - 1)
				MARK_GRANDCHILD();
			_exit(0);
		}
	}
	close(fds[1]);
	for (int i = 0; i < count; i++)
		reap(pids[i], 0);
	MARK_PARENT();
	return 0;
}

/* Each process makes the next and ends at once: a chain of orphans, with one process alive at a time. */
static int t_chain(char **argv)
{
	int depth = 200;
	while (depth--) {
		pid_t pid = CHECK(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
		if (pid)
			_exit(depth == 199 ? 3 : 0);
	}
	MARK_GRANDCHILD();
	_exit(0);
}

static int t_killed_child(char **argv)
{
	int fds[2];
	char byte = 0;
	CHECK(pipe(fds));
	pid_t pid = CHECK(fork());
	if (!pid) {
		MARK_CHILD();
		CHECK(write(fds[1], &byte, 1));
		for (;;)
			; /* no further system call: where it is killed must not matter */
	}
	CHECK(read(fds[0], &byte, 1));
	CHECK(kill(pid, SIGKILL));
	reap(pid, -SIGKILL);
	MARK_PARENT();
	return 0;
}

static int t_killed_itself(char **argv)
{
	MARK_PARENT();
	kill(getpid(), SIGKILL);
	return 1;
}

/* T: stopped, t: stopped under a tracer (proc_pid_stat(5)). */
static int is_stopped(pid_t pid)
{
	char path[64], text[512];
	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	int fd = CHECK(open(path, O_RDONLY));
	ssize_t got = CHECK(read(fd, text, sizeof text - 1));
	close(fd);
	text[got] = 0;
	char *state = strrchr(text, ')');
	return state && (state[2] == 'T' || state[2] == 't');
}

/* Stopped and continued: the parent must see each stop, and the child must go on. */
static int t_stop(char **argv)
{
	int seen, fds[2];
	char byte = 0;
	CHECK(pipe(fds));
	pid_t pid = CHECK(fork());
	if (!pid) {
		setpgid(0, 0); /* in an orphaned process group, SIGTSTP does nothing */
		kill(getpid(), SIGSTOP);
		MARK_CHILD();
		read(fds[0], &byte, 1); /* the news of being continued is lost with the next stop, or the end */
		kill(getpid(), SIGTSTP);
		MARK_GRANDCHILD();
		read(fds[0], &byte, 1);
		_exit(0);
	}
	for (int i = 0; i < 2; i++) {
		CHECK(waitpid(pid, &seen, WUNTRACED));
		if (!WIFSTOPPED(seen) || WSTOPSIG(seen) != (i ? SIGTSTP : SIGSTOP))
			return 96;
		for (int j = 0; j < 10; j++)
			short_sleep();
		if (!is_stopped(pid)) /* a tracer let it run on */
			return 94;
		CHECK(kill(pid, SIGCONT));
		CHECK(waitpid(pid, &seen, WCONTINUED));
		if (!WIFCONTINUED(seen))
			return 95;
		CHECK(write(fds[1], &byte, 1));
	}
	reap(pid, 0);
	MARK_PARENT();
	return 0;
}

/* Ends at once with its own status while a child works on. */
static int t_leaves_child(char **argv)
{
	pid_t first = getpid();
	calls_that_depend_on_timing();
	kill(first, 0);
	pid_t pid = CHECK(fork());
	if (!pid) {
		while (!kill(first, 0))
			short_sleep();
		child();
	}
	return 9;
}

static const struct test tests[] = {
	{"fork", t_fork},
#ifdef SYS_fork
	{"fork_raw", t_fork_raw},
#endif
	{"vfork", t_vfork},
	{"vfork_exec", t_vfork_exec},
	{"vfork_dies", t_vfork_dies},
	{"clone_raw", t_clone_raw},
	{"clone_vm", t_clone_vm},
	{"clone_nosignal", t_clone_nosignal},
	{"clone_parent", t_clone_parent},
	{"clone3", t_clone3},
	{"clone3_vfork", t_clone3_vfork},
	{"clone_untraced", t_clone_untraced},
	{"clone3_untraced", t_clone3_untraced},
	{"spawn", t_spawn},
	{"daemon", t_daemon},
	{"forks", t_forks},
	{"forks_together", t_forks_together},
	{"chain", t_chain},
	{"killed_child", t_killed_child},
	{"killed_itself", t_killed_itself},
	{"stop", t_stop},
	{"leaves_child", t_leaves_child},
	{0},
};

int main(int argc, char **argv)
{
	return run_test(tests, argv);
}
