/* Threads: many, ending, forking, executing, killed. */
#include "torture.h"

#define MANY 64

static pthread_barrier_t barrier;

static void *at_barrier(void *arg)
{
	static const long markers[] = {SYS_getpriority, SYS_getpgid, SYS_sched_getscheduler, SYS_getsid,
				       SYS_getppid, SYS_umask, SYS_times, SYS_getcpu};
	pthread_barrier_wait(&barrier);
	/* times(0), getpgid(0) and the like take a zero anywhere. */
	syscall(markers[(long)arg % 8], 0, 0, 0);
	pthread_barrier_wait(&barrier);
	if ((long)arg == MANY - 1)
		MARK_GRANDCHILD();
	return NULL;
}

static pthread_t start(void *(*run)(void *), void *arg)
{
	pthread_t thread;
	if (pthread_create(&thread, NULL, run, arg))
		die("pthread_create");
	return thread;
}

static int t_many(char **argv)
{
	pthread_t threads[MANY];
	calls_that_depend_on_timing();
	pthread_barrier_init(&barrier, NULL, MANY);
	for (long i = 0; i < MANY; i++)
		threads[i] = start(at_barrier, (void *)i);
	for (int i = 0; i < MANY; i++)
		pthread_join(threads[i], NULL);
	syscall(SYS_capget, 0, 0);
	return 0;
}

static void *last_marks(void *arg)
{
	if ((long)arg == 499)
		MARK_THREAD();
	return NULL;
}

static int t_storm(char **argv)
{
	calls_that_depend_on_timing();
	for (long i = 0; i < 500; i++)
		pthread_join(start(last_marks, (void *)i), NULL);
	MARK_AFTER();
	return 0;
}

static pid_t main_tid;

/* Until the first thread is gone or a zombie: tgkill still succeeds for a zombie leader, so read its state. */
static void wait_for_leader_exit(void)
{
	char path[64], text[512];
	snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)main_tid);
	for (;;) {
		int fd = open(path, O_RDONLY);
		if (fd < 0)
			return;
		ssize_t got = read(fd, text, sizeof text - 1);
		close(fd);
		text[got > 0 ? got : 0] = 0;
		char *state = strrchr(text, ')');
		if (state && state[2] == 'Z')
			return;
		short_sleep();
	}
}

static void *outlives_leader(void *arg)
{
	wait_for_leader_exit();
	MARK_THREAD();
	syscall(SYS_exit_group, 5);
	return NULL;
}

/* The thread group's leader ends first; a thread goes on and sets the status. */
static int t_leader_exits(char **argv)
{
	calls_that_depend_on_timing();
	main_tid = getpid();
	start(outlives_leader, NULL);
	syscall(SYS_exit, 0);
	return 1;
}

static char **the_argv;

static void *execs(void *arg)
{
	if (arg)
		wait_for_leader_exit();
	MARK_THREAD();
	execl(sibling(the_argv[0], "leaf"), "leaf", "4", NULL);
	die("execl");
	return NULL;
}

/* exec from a thread: the kernel ends the others and gives the survivor the leader's id. */
static int t_exec(char **argv)
{
	the_argv = argv;
	calls_that_depend_on_timing();
	start(execs, NULL);
	for (;;)
		; /* makes no call: when the exec comes must not matter */
}

static int t_exec_leader_gone(char **argv)
{
	the_argv = argv;
	calls_that_depend_on_timing();
	main_tid = getpid();
	start(execs, "");
	syscall(SYS_exit, 0);
	return 1;
}

static void *returns(void *arg)
{
	MARK_THREAD();
	return NULL;
}

/* Calls of the process after one of its threads has ended, then a second life after exec. */
static int t_call_after(char **argv)
{
	calls_that_depend_on_timing();
	pthread_join(start(returns, NULL), NULL);
	MARK_AFTER();
	execl(sibling(argv[0], "leaf"), "leaf", NULL);
	return 1;
}

static void *forks(void *arg)
{
	pid_t pid = CHECK(fork());
	if (!pid) {
		MARK_CHILD();
		_exit(0);
	}
	reap(pid, 0);
	const char *leaf = sibling(the_argv[0], "leaf");
	pid = vfork();
	if (!pid) {
		execl(leaf, "leaf", NULL);
		_exit(1);
	}
	reap(pid, 0);
	return NULL;
}

static int t_fork(char **argv)
{
	the_argv = argv;
	calls_that_depend_on_timing();
	pthread_join(start(forks, NULL), NULL);
	MARK_AFTER();
	return 0;
}

static void *spins(void *arg)
{
	pthread_barrier_wait(&barrier);
	for (;;)
		;
}

/* Eight threads of a child die with it, at once, by a signal from outside. */
static int t_killed(char **argv)
{
	int fds[2];
	char byte = 0;
	calls_that_depend_on_timing();
	CHECK(pipe(fds));
	pid_t pid = CHECK(fork());
	if (!pid) {
		pthread_barrier_init(&barrier, NULL, 9);
		for (int i = 0; i < 8; i++)
			start(spins, NULL);
		pthread_barrier_wait(&barrier);
		MARK_CHILD();
		/* All calls but the barrier's own futex calls have been made; those are in the set anyway. */
		CHECK(write(fds[1], &byte, 1));
		for (;;)
			;
	}
	CHECK(read(fds[0], &byte, 1));
	CHECK(kill(pid, SIGKILL));
	reap(pid, -SIGKILL);
	MARK_PARENT();
	return 0;
}

static const struct test tests[] = {
	{"many", t_many},
	{"storm", t_storm},
	{"leader_exits", t_leader_exits},
	{"exec", t_exec},
	{"exec_leader_gone", t_exec_leader_gone},
	{"call_after", t_call_after},
	{"fork", t_fork},
	{"killed", t_killed},
	{0},
};

int main(int argc, char **argv)
{
	return run_test(tests, argv);
}
