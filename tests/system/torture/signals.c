/* Signals: handlers and their return, traps that a tracer might keep for itself, own seccomp filters. */
#include "torture.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <ucontext.h>

static volatile sig_atomic_t handled;

static void handler(int number)
{
	handled++;
	MARK_HANDLER();
}

static void on(int number, void (*run)(int), int flags)
{
	struct sigaction action = {.sa_handler = run, .sa_flags = flags};
	CHECK(sigaction(number, &action, NULL));
}

static int t_handler(char **argv)
{
	for (int number = 1; number < 31; number++)
		if (number != SIGKILL && number != SIGSTOP)
			on(number, handler, 0);
	for (int number = 1; number < 31; number++)
		if (number != SIGKILL && number != SIGSTOP)
			kill(getpid(), number);
	MARK_AFTER();
	return handled == 28 ? 0 : 1;
}

/* What a debugger uses itself: breakpoints and SIGTRAP sent by hand must reach the workload. */
static int t_trap(char **argv)
{
	on(SIGTRAP, handler, 0);
	__asm__ volatile("int3");
	kill(getpid(), SIGTRAP);
	MARK_AFTER();
	return handled == 2 ? 0 : 1;
}

static void *bad_page;

static void segv(int number, siginfo_t *info, void *context)
{
	handled++;
	MARK_HANDLER();
	mprotect(bad_page, 4096, PROT_READ | PROT_WRITE);
}

static int t_segv(char **argv)
{
	static char stack[65536];
	stack_t alternative = {.ss_sp = stack, .ss_size = sizeof stack};
	struct sigaction action = {.sa_sigaction = segv, .sa_flags = SA_SIGINFO | SA_ONSTACK};
	CHECK(sigaltstack(&alternative, NULL));
	CHECK(sigaction(SIGSEGV, &action, NULL));
	bad_page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	*(volatile int *)bad_page = 1;
	MARK_AFTER();
	return handled == 1 ? 0 : 1;
}

/* A timer's signal interrupts a wait. */
static int t_alarm(char **argv)
{
	sigset_t block, none;
	struct itimerval soon = {.it_value = {0, 20000}};
	on(SIGALRM, handler, 0);
	sigemptyset(&none);
	sigemptyset(&block);
	sigaddset(&block, SIGALRM);
	CHECK(sigprocmask(SIG_BLOCK, &block, NULL));
	CHECK(setitimer(ITIMER_REAL, &soon, NULL));
	sigsuspend(&none);
	MARK_AFTER();
	return handled == 1 ? 0 : 1;
}

/* The death of a child interrupts a blocking read, which the kernel restarts. */
static int t_restart(char **argv)
{
	int fds[2];
	char byte;
	on(SIGCHLD, handler, SA_RESTART);
	calls_that_depend_on_timing();
	CHECK(pipe(fds));
	for (int i = 0; i < 2; i++) {
		pid_t pid = CHECK(fork());
		if (!pid) {
			short_sleep();
			if (i)
				CHECK(write(fds[1], "x", 1));
			_exit(0);
		}
	}
	CHECK(read(fds[0], &byte, 1));
	while (wait(NULL) > 0 || errno == EINTR)
		;
	MARK_AFTER();
	return 0;
}

static int t_dies(char **argv)
{
	int number = atoi(argv[2]);
	MARK_PARENT();
	kill(getpid(), number);
	return 1;
}

static void filter(unsigned number, unsigned action)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {4, code};
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}

/* The workload refuses itself getpgid. Whether the refused call is seen is each tracer's own matter
 * (docs/tracers.md); the workload must see its own errno, and all other calls must be recorded. */
static int t_filter_errno(char **argv)
{
	filter(SYS_getpgid, SECCOMP_RET_ERRNO | 77);
	if (syscall(SYS_getpgid, 0) != -1 || errno != 77)
		return 1;
	pid_t pid = CHECK(fork());
	if (!pid) {
		MARK_GRANDCHILD();
		_exit(0);
	}
	reap(pid, 0);
	MARK_AFTER();
	return 0;
}

static int t_filter_trap(char **argv)
{
	on(SIGSYS, handler, 0);
	filter(SYS_getpgid, SECCOMP_RET_TRAP);
	syscall(SYS_getpgid, 0);
	MARK_AFTER();
	return handled == 1 ? 0 : 1;
}

static int t_filter_kill(char **argv)
{
	pid_t pid = CHECK(fork());
	if (!pid) {
		filter(SYS_getpgid, SECCOMP_RET_KILL_PROCESS);
		MARK_GRANDCHILD();
		syscall(SYS_getpgid, 0);
		_exit(0);
	}
	reap(pid, -SIGSYS);
	MARK_AFTER();
	return 0;
}

static const struct test tests[] = {
	{"handler", t_handler},
	{"trap", t_trap},
	{"segv", t_segv},
	{"alarm", t_alarm},
	{"restart", t_restart},
	{"dies", t_dies},
	{"filter_errno", t_filter_errno},
	{"filter_trap", t_filter_trap},
	{"filter_kill", t_filter_kill},
	{0},
};

int main(int argc, char **argv)
{
	return run_test(tests, argv);
}
