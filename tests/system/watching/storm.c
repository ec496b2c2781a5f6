/* SPDX-License-Identifier: MIT */
/* Four threads that fork all the time. From SIGUSR1 on, each child makes one getpgid.
 * It prints "counted" when the first such child has ended; SIGUSR2 ends it, and it prints how many there were. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static atomic_int told, over;
static atomic_long children;

static void *fork_on(void *unused)
{
    while (!over) {
        int now = told;
        pid_t pid = fork();
        if (pid == 0) {
            if (now)
                syscall(SYS_getpgid, 0);
            syscall(SYS_exit_group, 0);
        }
        if (pid > 0) {
            waitpid(pid, NULL, 0);
            if (now && children++ == 0) {
                puts("counted");
                fflush(stdout);
            }
        }
    }
    return unused;
}

int main(void)
{
    sigset_t set;
    pthread_t threads[4];
    int signal;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, fork_on, NULL);
    puts("ready");
    fflush(stdout);
    while (sigwait(&set, &signal) == 0 && signal == SIGUSR1)
        told = 1;
    over = 1;
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    printf("%ld\n", children);
    return 0;
}
