/* Seccomp filters that the workload installs itself, and what they make of its calls. */
#include "torture.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/ioctl.h>

#ifndef SECCOMP_USER_NOTIF_FLAG_CONTINUE
#define SECCOMP_USER_NOTIF_FLAG_CONTINUE 1
#endif

static int install(unsigned number, unsigned action, unsigned flags)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {4, code};
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	return CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program));
}

static int listener, lets_continue;

/* Answers every call with 77, or lets it continue. */
static void *supervises(void *unused)
{
	for (;;) {
		struct seccomp_notif asked = {0};
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &asked))
			continue;
		struct seccomp_notif_resp answer = {.id = asked.id, .val = lets_continue ? 0 : 77};
		answer.flags = lets_continue ? SECCOMP_USER_NOTIF_FLAG_CONTINUE : 0;
		ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
	}
}

static int supervised(char **argv)
{
	listener = install(SYS_getpgid, SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER);
	pid_t pid = CHECK(fork());
	if (!pid) {
		if (argv[2]) { /* a program that inherits the filter */
			execvp(argv[2], argv + 2);
			_exit(1);
		}
		long found = syscall(SYS_getpgid, 0);
		_exit(found == 77 ? 7 : found > 0 ? 8 : 9);
	}
	pthread_t thread;
	int status;
	if (pthread_create(&thread, NULL, supervises, NULL))
		die("pthread_create");
	CHECK(waitpid(pid, &status, 0));
	_exit(WEXITSTATUS(status));
}

static int t_emulated(char **argv)
{
	return supervised(argv);
}

static int t_continued(char **argv)
{
	lets_continue = 1;
	return supervised(argv);
}

/* As libseccomp asks whether the kernel knows the flag. */
static int t_asks(char **argv)
{
	int found = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, NULL);
	return found == -1 && errno == EFAULT ? 0 : 1;
}

/* Without a tracer the call fails with ENOSYS. */
static int t_traced(char **argv)
{
	install(SYS_getpgid, SECCOMP_RET_TRACE | 5, 0);
	return syscall(SYS_getpgid, 0) > 0 ? 8 : errno == ENOSYS ? 0 : 9;
}

/* Strict mode is refused where a filter is. */
static int t_strict(char **argv)
{
	int failed = argv[2] ? prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0)
			     : syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, NULL);
	syscall(SYS_exit, !failed ? 0 : errno == EINVAL ? 8 : 9);
	return 1;
}

/* Waits with a listener in place, to be joined. */
static int t_waits(char **argv)
{
	install(SYS_getpgid, SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER);
	CHECK(write(1, "ready\n", 6));
	char byte;
	return read(0, &byte, 1) < 0;
}

static const struct test tests[] = {
	{"emulated", t_emulated},
	{"continued", t_continued},
	{"asks", t_asks},
	{"traced", t_traced},
	{"strict", t_strict},
	{"waits", t_waits},
	{0},
};

int main(int argc, char **argv)
{
	return run_test(tests, argv);
}
