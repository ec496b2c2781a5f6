/* Threads and processes that are killed during a call. Each directory that exists afterwards was made by a call that
 * the kernel carried out. */
#include "torture.h"

enum { ROUNDS = 25, THREADS = 8, DIRECTORIES = 40 };

static int rounds;

static void make(long who, int number)
{
	char name[64];
	snprintf(name, sizeof name, "%d-%ld-%d", rounds, who, number);
	CHECK(mkdir(name, 0755));
}

static void *makes_directories(void *who)
{
	for (int i = 0; i < DIRECTORIES; i++)
		make((long)who, i);
	return NULL;
}

/* A process ends while its threads make directories. */
static int t_threads(char **argv)
{
	for (; rounds < ROUNDS; rounds++) {
		pid_t pid = CHECK(fork());
		if (!pid) {
			pthread_t thread;
			for (long i = 0; i < THREADS; i++)
				pthread_create(&thread, NULL, makes_directories, (void *)i);
			usleep(1000 + 150 * rounds);
			_exit(0);
		}
		CHECK(waitpid(pid, NULL, 0));
	}
	return 0;
}

/* A process is killed while it forks; its children live on, each to make a directory. */
static int t_makers(char **argv)
{
	for (; rounds < ROUNDS; rounds++) {
		pid_t pid = CHECK(fork());
		if (!pid) {
			for (int i = 0;; i++) {
				if (!CHECK(fork())) {
					make(0, i);
					_exit(0);
				}
			}
		}
		usleep(500 + 100 * rounds);
		CHECK(kill(pid, SIGKILL));
		CHECK(waitpid(pid, NULL, 0));
	}
	return 0;
}

static const struct test tests[] = {
	{"threads", t_threads},
	{"makers", t_makers},
	{0},
};

int main(int argc, char **argv)
{
	return run_test(tests, argv);
}
