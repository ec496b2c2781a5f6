/* SPDX-License-Identifier: MIT */
/*
 * A service's day in minutes: day CALLS FORKS FOLDER. One process makes CALLS million calls of a few kinds, some of
 * which open files of FOLDER; another makes FORKS processes, and every hundredth executes a program. Both begin when
 * standard input ends. Prints how many calls of each kind it made.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROUND = 20, FILES = 256 };

static void serve(long calls, const char *folder)
{
    int pair[2], null = open("/dev/null", O_WRONLY), zero = open("/dev/zero", O_RDONLY);
    char byte[16] = {0}, path[256];
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    for (long round = 0; round < calls / ROUND; round++) {
        for (int i = 0; i < 5; i++)
            syscall(SYS_getppid);
        for (int i = 0; i < 4; i++)
            if (write(null, byte, sizeof(byte)) != sizeof(byte) || read(zero, byte, sizeof(byte)) != sizeof(byte))
                _exit(3);
        if (sendto(pair[0], byte, 1, 0, NULL, 0) != 1 || recvfrom(pair[1], byte, 1, 0, NULL, NULL) != 1)
            _exit(4);
        for (int i = 0; i < 3; i++)
            fcntl(null, F_GETFL);
        snprintf(path, sizeof(path), "%s/%ld", folder, round % FILES);
        close(open(path, O_RDONLY | O_CREAT, 0600));
    }
    _exit(0);
}

int main(int count, char **arguments)
{
    if (count != 4)
        return 2;
    long calls = atol(arguments[1]), forks = atol(arguments[2]), failed = 0;
    char byte;
    while (read(0, &byte, 1) > 0)
        ;
    pid_t server = fork();
    if (server == 0)
        serve(calls, arguments[3]);
    for (long i = 0; i < forks; i++) {
        pid_t child = fork();
        if (child == 0) {
            if (i % 100 == 0)
                execl("/bin/true", "true", (char *)NULL);
            syscall(SYS_getpgid, 0);
            _exit(0);
        }
        int status = 1;
        if (child < 0 || waitpid(child, &status, 0) < 0 || status)
            failed++;
    }
    int status = 1;
    if (waitpid(server, &status, 0) < 0 || status || failed)
        return 1;
    long rounds = calls / ROUND;
    printf("getppid %ld\nsendto %ld\nrecvfrom %ld\n", 5 * rounds, rounds, rounds);
    printf("getpgid %ld\n", forks - (forks + 99) / 100);
    return 0;
}
