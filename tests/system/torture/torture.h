/* Shared by the torture programs: raw system calls, pipes for ordering, and the table of test names.
 *
 * Every program makes the same SET of system calls each time it runs, however the scheduler feels: parents and
 * children order themselves through pipes, and a call that libc makes only in some interleavings (futex, madvise,
 * munmap ...) is also made once on purpose, by calls_that_depend_on_timing(). The marker calls are ones that libc
 * and the dynamic linker never make, so that one marker missing names the place that was missed.
 */
#ifndef TORTURE_H
#define TORTURE_H
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Markers: harmless, without side effects, and never made by libc on its own. */
#define MARK_CHILD() syscall(SYS_getpgid, 0)
#define MARK_GRANDCHILD() syscall(SYS_sched_get_priority_max, SCHED_FIFO)
#define MARK_PARENT() syscall(SYS_getsid, 0)
#define MARK_AFTER() syscall(SYS_sched_getscheduler, 0)
#define MARK_THREAD() syscall(SYS_getpriority, 0, 0)
#define MARK_HANDLER() syscall(SYS_sched_getparam, 0, 0)

static inline void die(const char *what)
{
	dprintf(2, "torture: %s: %s\n", what, strerror(errno));
	_exit(99);
}

#define CHECK(expr) ({ long r_ = (long)(expr); if (r_ == -1) die(#expr); r_; })

/* Wait for `pid` and demand a normal exit with `status`, or death by signal `-status`. */
static inline void reap(pid_t pid, int status)
{
	int seen;
	while (waitpid(pid, &seen, __WALL) < 0)
		if (errno != EINTR)
			die("waitpid");
	if (status >= 0 ? !(WIFEXITED(seen) && WEXITSTATUS(seen) == status)
			: !(WIFSIGNALED(seen) && WTERMSIG(seen) == -status)) {
		dprintf(2, "torture: child ended with wait status %#x\n", seen);
		_exit(98);
	}
}

/* Block until every other holder of the pipe's writing end has ended or closed it. */
static inline void wait_for_close(int fd)
{
	char byte;
	while (read(fd, &byte, 1) > 0 || errno == EINTR)
		errno = 0;
}

static inline void short_sleep(void)
{
	struct timespec ts = {0, 5000000};
	nanosleep(&ts, NULL);
}

/* Libc makes these, or not, as threads happen to interleave. */
static inline void calls_that_depend_on_timing(void)
{
	int word = 0;
	syscall(SYS_futex, &word, FUTEX_WAKE, 1, NULL, NULL, 0);
#ifdef SYS_futex_time64
	syscall(SYS_futex_time64, &word, FUTEX_WAKE, 1, NULL, NULL, 0);
#endif
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	mprotect(page, 4096, PROT_NONE);
	mprotect(page, 4096, PROT_READ | PROT_WRITE);
	madvise(page, 4096, MADV_DONTNEED);
	munmap(page, 4096);
	sigset_t set;
	sigprocmask(SIG_BLOCK, NULL, &set);
	sched_yield();
	short_sleep();
}

/* The path of `name` in the directory of this program. */
static inline const char *sibling(const char *self, const char *name)
{
	static char path[PATH_MAX];
	const char *slash = strrchr(self, '/');
	snprintf(path, sizeof path, "%.*s/%s", slash ? (int)(slash - self) : 1, slash ? self : ".", name);
	return path;
}

struct test {
	const char *name;
	int (*run)(char **argv); /* argv[0] is the program, argv[1] the test's name */
};

static inline int run_test(const struct test *tests, char **argv)
{
	for (; tests->name; tests++)
		if (argv[1] && !strcmp(argv[1], tests->name))
			return tests->run(argv);
	dprintf(2, "torture: no test named %s\n", argv[1] ? argv[1] : "(nothing)");
	return 97;
}

#endif
