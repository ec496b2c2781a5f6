/* Births that race with ends. A process forks, makes threads or executes in one thread while another one executes or
 * ends, and is killed at a random moment on top of that. Arguments: the test, a seed, the number of rounds.
 *
 * What a round leaves behind ends by itself, so each test ends, whatever the races make of it. */
#include "torture.h"

static char **the_argv;

static void pause_at_random(int microseconds)
{
	struct timespec time = {0, 1000L * (rand() % microseconds)};
	nanosleep(&time, NULL);
}

static void execute(void)
{
	execl(sibling(the_argv[0], "leaf"), "leaf", NULL);
	_exit(1);
}

static void *ends(void *unused)
{
	return NULL;
}

static void *forks(void *unused)
{
	for (;;)
		if (!fork())
			_exit(0);
}

static void *vforks(void *unused)
{
	for (;;)
		if (!vfork())
			execute();
}

static void *makes_threads(void *unused)
{
	pthread_attr_t attributes;
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	for (;;) {
		pthread_t thread;
		pthread_create(&thread, &attributes, ends, NULL);
	}
}

static void *executes(void *unused)
{
	pause_at_random(5000);
	execute();
	return NULL;
}

static void beside(void *(*run)(void *))
{
	pthread_t thread;
	if (pthread_create(&thread, NULL, run, NULL))
		_exit(0); /* killed, or too many */
}

static void exec_fork(void)
{
	beside(forks);
	executes(NULL);
}

static void exec_fork_leader(void)
{
	beside(executes);
	forks(NULL);
}

static void exec_vfork(void)
{
	beside(vforks);
	executes(NULL);
}

static void exec_threads(void)
{
	beside(makes_threads);
	executes(NULL);
}

static void exit_fork(void)
{
	beside(forks);
	beside(vforks);
	pause_at_random(5000);
	_exit(0);
}

/* Children of its parent, which waits for them. */
static void siblings(void)
{
	for (int i = 0; i < 30; i++)
		if (!syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0))
			_exit(0);
	_exit(0);
}

/* Process 1 of a pid namespace, whose end kills all in it. */
static void pid_namespace(void)
{
	if (unshare(CLONE_NEWPID))
		die("unshare");
	pid_t pid = fork();
	if (!pid) {
		beside(forks);
		pause_at_random(5000);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	_exit(0);
}

static const struct race {
	const char *name;
	void (*run)(void);
} races[] = {
	{"exec_fork", exec_fork},
	{"exec_fork_leader", exec_fork_leader},
	{"exec_vfork", exec_vfork},
	{"exec_threads", exec_threads},
	{"exit_fork", exit_fork},
	{"siblings", siblings},
	{"pid_namespace", pid_namespace},
	{0},
};

static void run_round(const struct race *race, int number)
{
	int seed = rand(), stops = number % 3 == 2;
	pid_t pid = CHECK(fork());
	if (!pid) {
		signal(SIGCHLD, SIG_IGN);
		srand(seed);
		race->run();
		_exit(1);
	}
	if (stops) {
		pause_at_random(6000);
		kill(pid, SIGSTOP);
		pause_at_random(2000);
		kill(pid, SIGCONT);
	}
	pause_at_random(12000);
	kill(pid, SIGKILL);
	while (waitpid(-1, NULL, __WALL) > 0 || errno == EINTR)
		;
}

/* Another thread puts CLONE_UNTRACED into the memory of a clone3 call, and takes it away, all the time. The child waits
 * until its calls are made: without a tracer they fail, as its filter leaves them to one. Says how many waited. */
static struct clone_args shared = {.exit_signal = SIGCHLD};

static void *toggles(void *unused)
{
	for (;;)
		*(volatile uint64_t *)&shared.flags ^= CLONE_UNTRACED;
}

static int untraced(int rounds)
{
	int waited = 0;
	beside(toggles);
	for (int i = 0; i < rounds; i++) {
		int seen;
		pid_t pid = CHECK(syscall(SYS_clone3, &shared, sizeof shared));
		if (!pid) {
			struct timespec start, now; /* the clock needs no call (vdso(7)) */
			int status = 0;
			clock_gettime(CLOCK_MONOTONIC, &start);
			while (syscall(SYS_getpgid, 0) < 0) {
				status = 1;
				clock_gettime(CLOCK_MONOTONIC, &now);
				if (now.tv_sec > start.tv_sec + 20)
					__builtin_trap();
			}
			MARK_GRANDCHILD();
			syscall(SYS_exit_group, status);
		}
		CHECK(waitpid(pid, &seen, 0));
		waited += seen != 0;
	}
	dprintf(1, "%d\n", waited);
	_exit(0);
}

/* The oldest child sleeps 200 times a millisecond next to busy ones. Says how many milliseconds that took. */
static int busy(int count)
{
	struct timespec start, now;
	volatile int *over = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	clock_gettime(CLOCK_MONOTONIC, &start);
	if (!CHECK(fork())) {
		for (int i = 0; i < 200; i++)
			usleep(1000);
		*over = 1;
		_exit(0);
	}
	for (int i = 0; i < count; i++) {
		if (!CHECK(fork())) {
			while (!*over)
				getppid();
			_exit(0);
		}
	}
	while (wait(NULL) > 0)
		;
	clock_gettime(CLOCK_MONOTONIC, &now);
	dprintf(1, "%ld\n", (now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000);
	return 0;
}

int main(int argc, char **argv)
{
	int rounds = argc > 3 ? atoi(argv[3]) : 20;
	the_argv = argv;
	srand(argc > 2 ? atoi(argv[2]) : 1);
	if (argc > 1 && !strcmp(argv[1], "untraced"))
		return untraced(rounds);
	if (argc > 1 && !strcmp(argv[1], "busy"))
		return busy(rounds);
	for (const struct race *race = races; race->name; race++) {
		if (argc > 1 && !strcmp(argv[1], race->name)) {
			for (int i = 0; i < rounds; i++)
				run_round(race, i);
			return 0;
		}
	}
	return 97;
}
