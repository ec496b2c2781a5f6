/* SPDX-License-Identifier: MIT */
/* Nanoseconds a call: loop NAME SKIP_SECONDS MEASURE_SECONDS, prints the median burst; or loop NAME -n CALLS, prints nothing. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    static double bursts[1 << 20];
    if (argc != 4)
        return 2;
    int plain = !strcmp(argv[1], "getppid");
    if (!strcmp(argv[2], "-n")) {
        for (long left = atol(argv[3]); left > 0; left--)
            plain ? syscall(SYS_getppid) : syscall(SYS_fcntl, 0, F_GETFD);
        return 0;
    }
    double begin = now(), skip = begin + atof(argv[2]), end = skip + atof(argv[3]);
    size_t count = 0;
    for (;;) {
        double start = now();
        for (int i = 0; i < 1000; i++)
            plain ? syscall(SYS_getppid) : syscall(SYS_fcntl, 0, F_GETFD);
        double stop = now();
        if (stop > skip && count < sizeof(bursts) / sizeof(*bursts))
            bursts[count++] = (stop - start) * 1e6;
        if (stop > end)
            break;
    }
    qsort(bursts, count, sizeof(*bursts), by_value);
    printf("%.2f\n", bursts[count / 2]);
    return 0;
}
