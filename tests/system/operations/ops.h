/* Shared by the operations: the directory they work in, paths below it, and what ends them. */
#ifndef OPS_H
#define OPS_H
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/netlink.h>
#include <linux/openat2.h>
#include <net/ethernet.h>
#include <netinet/in.h>
#include <netpacket/packet.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define NOBODY 65534
#define REFUSED_HERE 77 /* this kernel does not have it, or does not allow it: not a failure of the operation */

extern const char *dir;	 /* the only directory that is worked in */
extern const char *self; /* argv[0] */

/* Report and end with status 1, which means that an operation was refused. _exit: a child must not flush twice. */
static inline void die(const char *what)
{
	dprintf(2, "ops: %s: %s\n", what, strerror(errno));
	_exit(1);
}

static inline void not_here(const char *what)
{
	dprintf(2, "ops: %s: %s: not offered here\n", what, strerror(errno));
	_exit(REFUSED_HERE);
}

#define CHECK(expr) ({ long r_ = (long)(expr); if (r_ == -1) die(#expr); r_; })
#define DEMAND(expr) ((expr) ? (void)0 : (errno = 0, die("not so: " #expr)))
/* The call must fail, and with this errno. */
#define FAILS(expr, number) ({ errno = 0; if ((long)(expr) != -1 || errno != (number)) die("should fail: " #expr); })

/* DIR/name, in one of eight buffers used in turn. */
static inline char *in(const char *name)
{
	static char buffers[8][PATH_MAX + 256];
	static unsigned next;
	char *buffer = buffers[next++ % 8];
	snprintf(buffer, sizeof buffers[0], "%s/%s", dir, name);
	return buffer;
}

static inline void put(int fd)
{
	DEMAND(write(fd, "x", 1) == 1);
}

/* Make a file with a few bytes; for what is there before the operation. */
static inline void make(const char *name)
{
	int fd = CHECK(open(in(name), O_WRONLY | O_CREAT | O_TRUNC, 0644));
	DEMAND(write(fd, "content\n", 8) == 8);
	close(fd);
}

static inline void make_mode(const char *name, mode_t mode)
{
	make(name);
	CHECK(chmod(in(name), mode));
}

static inline void make_dir(const char *name)
{
	if (mkdir(in(name), 0755) && errno != EEXIST)
		die(name);
}

/* A copy of this very program, whatever its kind, at DIR/name. */
static inline void make_program(const char *name)
{
	char buffer[65536];
	ssize_t n;
	int from = CHECK(open("/proc/self/exe", O_RDONLY));
	int to = CHECK(open(in(name), O_WRONLY | O_CREAT | O_TRUNC, 0755));
	while ((n = CHECK(read(from, buffer, sizeof buffer))) > 0)
		DEMAND(write(to, buffer, n) == n);
	close(from);
	close(to);
}

static inline void make_script(const char *name, const char *interpreter, const char *argument)
{
	int fd = CHECK(open(in(name), O_WRONLY | O_CREAT | O_TRUNC, 0755));
	dprintf(fd, "#!%s/%s %s\n", dir, interpreter, argument);
	close(fd);
}

static inline void reap(pid_t pid, int status)
{
	int seen;
	while (waitpid(pid, &seen, __WALL) < 0)
		if (errno != EINTR)
			die("waitpid");
	if (WIFEXITED(seen) && WEXITSTATUS(seen) == REFUSED_HERE)
		_exit(REFUSED_HERE);
	if (status >= 0 ? !(WIFEXITED(seen) && WEXITSTATUS(seen) == status)
			: !(WIFSIGNALED(seen) && WTERMSIG(seen) == -status)) {
		dprintf(2, "ops: child ended with wait status %#x\n", seen);
		_exit(1);
	}
}

/* A child that lives until its end of the pipe is closed: to be signalled, read or traced. */
struct sleeper {
	pid_t pid;
	int pipe;
};

static inline struct sleeper sleeper_start(void)
{
	int fds[2];
	CHECK(pipe2(fds, O_CLOEXEC));
	struct sleeper child = {CHECK(fork()), fds[1]};
	if (!child.pid) {
		char byte;
		close(fds[1]);
		while (read(fds[0], &byte, 1) < 0 && errno == EINTR)
			;
		_exit(0);
	}
	close(fds[0]);
	return child;
}

static inline void sleeper_end(struct sleeper child)
{
	close(child.pipe);
	reap(child.pid, 0);
}

#endif
