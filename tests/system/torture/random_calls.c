/* SPDX-License-Identifier: MIT */
/*
 * random_calls SEED NUMBER REPEATS SKIPPED...: makes each call from 0 to NUMBER with random arguments, REPEATS times,
 * each in a child of its own. It runs in namespaces of its own, in an empty directory. A child that blocks is killed
 * after 50 ms. SKIPPED are numbers of calls that reach beyond a namespace.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORDS 512

static uint64_t state;

static uint64_t next(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static uint64_t memory[WORDS];
static char names[8][32] = {"a", "b", "a/b", "/proc/self/fd/3", ".", "", "link", "/proc/self/exe"};

static uint64_t value(void)
{
    static const uint64_t odd[] = {0, 1, 2, 3, 4, -1, -2, -100, 0x7fffffff, 0x80000000, 0xffffffff, 1ull << 63, 4096};
    switch (next() % 8) {
    case 0:
        return next();
    case 1:
        return next() % 64;
    case 2:
    case 3:
        return (uintptr_t)names[next() % 8];
    case 4:
        return (uintptr_t)&memory[next() % WORDS];
    case 5:
        return 1ull << next() % 64;
    default:
        return odd[next() % (sizeof(odd) / sizeof(*odd))];
    }
}

static void child(long number)
{
    struct itimerval soon = {.it_value.tv_usec = 50000};
    setitimer(ITIMER_REAL, &soon, NULL);
    for (int i = 0; i < WORDS; i++)
        memory[i] = value();
    uint64_t a[6];
    for (int i = 0; i < 6; i++)
        a[i] = value();
    syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    _exit(0);
}

int main(int argc, char **argv)
{
    state = strtoull(argv[1], NULL, 10) * 2654435761u + 88172645463325252ull;
    long last = atol(argv[2]), repeats = atol(argv[3]);
    mkdirat(AT_FDCWD, "a", 0755);
    close(open("b", O_CREAT | O_WRONLY, 0600));
    if (symlinkat("b", AT_FDCWD, "link")) {
        /* it is there from an earlier turn */
    }
    open(".", O_RDONLY | O_DIRECTORY);
    socket(AF_UNIX, SOCK_STREAM, 0);
    /* No descriptor leads out of the directory: fchmod(2) on /dev/null would change the machine's. */
    int own = open("b", O_RDWR);
    for (int fd = 0; fd < 3; fd++)
        dup2(own, fd);
    for (long turn = 0; turn < repeats * (last + 1); turn++) {
        long number = turn % (last + 1);
        int skipped = 0;
        for (int i = 4; i < argc; i++)
            skipped |= atol(argv[i]) == number;
        next();
        if (skipped)
            continue;
        pid_t pid = fork();
        if (!pid)
            child(number);
        while (waitpid(pid, NULL, 0) > 0)
            ;
    }
    return 7;
}
