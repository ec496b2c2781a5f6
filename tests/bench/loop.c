/* SPDX-License-Identifier: MIT */
/* Measure the nanoseconds that a call of getppid, fcntl, read, or open with close takes.
 *   loop NAME SKIP_SECONDS MEASURE_SECONDS   prints the median burst
 *   loop NAME -n CALLS                       prints nothing
 * NAME is getppid, fcntl, read (one byte of /dev/zero), or a path with a slash, which is opened and closed. */
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

static const char *name;
static int zero;

static void once(void)
{
    if (name[0] == 'g')
        syscall(SYS_getppid);
    else if (name[0] == 'f')
        syscall(SYS_fcntl, 0, F_GETFD);
    else if (name[0] == 'r') {
        char byte;
        if (read(zero, &byte, 1) != 1)
            exit(1);
    }
    else
        close(open(name, O_RDONLY));
}

int main(int argc, char **argv)
{
    static double bursts[1 << 20];
    if (argc != 4)
        return 2;
    name = argv[1];
    zero = open("/dev/zero", O_RDONLY);
    if (!strcmp(argv[2], "-n")) {
        for (long left = atol(argv[3]); left > 0; left--)
            once();
        return 0;
    }
    double begin = now(), skip = begin + atof(argv[2]), end = skip + atof(argv[3]);
    size_t count = 0;
    for (;;) {
        double start = now();
        for (int i = 0; i < 1000; i++)
            once();
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
