/* Workloads for the tests of profgen as a wrapper: they say "ready", then wait for what the test does to them. */
#include "torture.h"

static volatile sig_atomic_t count;

static void counting(int number)
{
	count++;
}

static void handle_all(void (*run)(int))
{
	static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};
	for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++)
		signal(numbers[i], run);
}

static void ready(void)
{
	CHECK(write(1, "ready\n", 6));
}

/* Ends with 40 and the number of signals that came: the first, and what follows it within 0.3 s. */
static int t_count(char **argv)
{
	sigset_t all, none;
	sigfillset(&all);
	sigemptyset(&none);
	sigprocmask(SIG_BLOCK, &all, NULL);
	handle_all(counting);
	ready();
	sigsuspend(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	struct timespec left = {0, 300000000};
	while (nanosleep(&left, &left) < 0)
		;
	return 40 + count;
}

static int t_forever(char **argv)
{
	ready();
	for (;;)
		pause();
}

static int t_stubborn(char **argv)
{
	handle_all(SIG_IGN);
	ready();
	for (;;)
		pause();
}

/* Many processes and threads, all the time, for about as many milliseconds as argv[2] says. */
static void *busy_thread(void *unused)
{
	return NULL;
}

static int t_busy(char **argv)
{
	struct timespec start, now;
	clock_gettime(CLOCK_MONOTONIC, &start);
	ready();
	do {
		pid_t pid = CHECK(fork());
		if (!pid) {
			pthread_t thread;
			if (!pthread_create(&thread, NULL, busy_thread, NULL))
				pthread_join(thread, NULL);
			_exit(0);
		}
		waitpid(pid, NULL, 0);
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while ((now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000 < atoi(argv[2]));
	return 0;
}

/* Leaves a child that never ends. */
static int t_leaves_forever(char **argv)
{
	if (!CHECK(fork()))
		for (;;)
			pause();
	ready();
	return 5;
}

static const struct test tests[] = {
	{"count", t_count},
	{"forever", t_forever},
	{"stubborn", t_stubborn},
	{"busy", t_busy},
	{"leaves_forever", t_leaves_forever},
	{0},
};

int main(int argc, char **argv)
{
	return run_test(tests, argv);
}
