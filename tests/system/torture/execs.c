/* Every way to execute a file, and to fail to. */
#include "torture.h"
#include <sys/syscall.h>

static char *leaf_args[] = {"leaf", NULL};
static char *no_env[] = {NULL};

static int t_execve(char **argv)
{
	MARK_PARENT();
	execve(sibling(argv[0], "leaf"), leaf_args, no_env);
	return 1;
}

static int t_execveat_fd(char **argv)
{
	int fd = CHECK(open(sibling(argv[0], "leaf"), O_PATH | O_CLOEXEC));
	syscall(SYS_execveat, fd, "", leaf_args, no_env, AT_EMPTY_PATH);
	return 1;
}

static int t_execveat_dir(char **argv)
{
	int fd = CHECK(open(sibling(argv[0], "."), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	syscall(SYS_execveat, fd, "leaf", leaf_args, no_env, 0);
	return 1;
}

/* A program that exists in memory only. */
static int t_memfd(char **argv)
{
	static char image[1 << 20];
	int from = CHECK(open(sibling(argv[0], "leaf"), O_RDONLY | O_CLOEXEC));
	ssize_t size = CHECK(read(from, image, sizeof image));
	int fd = CHECK(syscall(SYS_memfd_create, "in memory", MFD_CLOEXEC));
	CHECK(write(fd, image, size));
	syscall(SYS_execveat, fd, "", leaf_args, no_env, AT_EMPTY_PATH);
	return 1;
}

/* As a shell looks a command up: nowhere (ENOENT), not executable (EACCES), below a file (ENOTDIR), then found. */
static int t_probes(char **argv)
{
	char path[PATH_MAX];
	strcpy(path, sibling(argv[0], "no-such-directory/leaf"));
	execve(path, leaf_args, no_env);
	execve(sibling(argv[0], "not-executable"), leaf_args, no_env);
	execve(sibling(argv[0], "leaf/leaf"), leaf_args, no_env);
	execve(sibling(argv[0], "."), leaf_args, no_env);
	MARK_PARENT();
	execve(sibling(argv[0], "leaf"), leaf_args, no_env);
	return 1;
}

/* Executes files that are not programs, and goes on. */
static int t_fails(char **argv)
{
	if (execve(sibling(argv[0], "empty"), leaf_args, no_env) != -1 ||
	    execve(sibling(argv[0], "no-such-file"), leaf_args, no_env) != -1)
		return 1;
	if (execve((char *)1, leaf_args, no_env) != -1 || errno != EFAULT)
		return 2;
	MARK_AFTER();
	return 0;
}

/* An exec that fails beyond its point of no return kills: the interpreter named in the file is not a program. */
static int t_fails_late(char **argv)
{
	pid_t pid = CHECK(fork());
	if (!pid) {
		MARK_CHILD();
		execve(sibling(argv[0], "broken"), leaf_args, no_env);
		_exit(3);
	}
	int status;
	CHECK(waitpid(pid, &status, 0));
	MARK_PARENT();
	return 0;
}

static int t_chain(char **argv)
{
	int left = argv[2] ? atoi(argv[2]) : 40;
	char text[12];
	if (!left)
		execve(sibling(argv[0], "leaf"), leaf_args, no_env);
	sprintf(text, "%d", left - 1);
	execl(argv[0], argv[0], "chain", text, NULL);
	return 1;
}

/* 64-bit, then 32-bit, then 64-bit again. */
static int t_abis(char **argv)
{
	execl(sibling(argv[0], "execs32"), sibling(argv[0], "execs32"), "back", NULL);
	return 1;
}

static int t_back(char **argv)
{
	MARK_CHILD();
	execl(sibling(argv[0], "execs"), sibling(argv[0], "execs"), "execve", NULL);
	return 1;
}

/* Not a test by itself: installed with the setuid bit, and run by an ordinary user. */
static int t_setuid(char **argv)
{
	if (geteuid() == 0)
		syscall(SYS_sched_get_priority_min, SCHED_FIFO);
	MARK_AFTER();
	return 0;
}

static const struct test tests[] = {
	{"execve", t_execve},
	{"execveat_fd", t_execveat_fd},
	{"execveat_dir", t_execveat_dir},
	{"memfd", t_memfd},
	{"probes", t_probes},
	{"fails", t_fails},
	{"fails_late", t_fails_late},
	{"chain", t_chain},
	{"abis", t_abis},
	{"back", t_back},
	{"setuid", t_setuid},
	{0},
};

int main(int argc, char **argv)
{
	return run_test(tests, argv);
}
