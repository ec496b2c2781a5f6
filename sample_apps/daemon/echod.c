/* echod: answers each UDP datagram with its text in upper case, from several threads. SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <pwd.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 3 };

static atomic_bool stopping;
static atomic_ulong answered;
static int sock;

static void *serve(void *unused)
{
    char text[1500];
    struct sockaddr_in peer;

    (void)unused;
    while (!stopping) {
        socklen_t length = sizeof peer;
        ssize_t size = recvfrom(sock, text, sizeof text, 0, (struct sockaddr *)&peer, &length);
        if (size < 0) /* the SO_RCVTIMEO timeout: check whether to stop */
            continue;
        for (ssize_t i = 0; i < size; i++)
            text[i] = (char)toupper((unsigned char)text[i]);
        if (sendto(sock, text, (size_t)size, 0, (struct sockaddr *)&peer, length) == size)
            answered++;
    }
    return NULL;
}

static int open_socket(int port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval limit = {.tv_usec = 200000};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) < 0)
        err(1, "socket");
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
        err(1, "cannot bind UDP port %d", port);
    return fd;
}

static void drop_privileges(const char *user)
{
    if (getuid() != 0)
        return;
    struct passwd *account = getpwnam(user);
    if (!account)
        errx(1, "unknown user %s", user);
    if (setgroups(0, NULL) < 0 || setgid(account->pw_gid) < 0 || setuid(account->pw_uid) < 0)
        err(1, "cannot become %s", user);
}

static void detach(void)
{
    setsid();
    umask(022);
    if (chdir("/") < 0)
        err(1, "/");
    int null = open("/dev/null", O_RDWR);
    if (null < 0)
        err(1, "/dev/null");
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
    if (null > STDERR_FILENO)
        close(null);
}

static int run_daemon(int pid_file, const char *user)
{
    pthread_t threads[THREADS];
    sigset_t set;
    int number;

    detach();
    dprintf(pid_file, "%d\n", (int)getpid());
    drop_privileges(user);

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    for (int i = 0; i < THREADS; i++)
        if ((errno = pthread_create(&threads[i], NULL, serve, NULL)) != 0)
            err(1, "thread");
    sigwait(&set, &number);
    stopping = true;
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    if (ftruncate(pid_file, 0) < 0)
        err(1, "pid file");
    fprintf(stderr, "echod: %lu datagrams answered\n", (unsigned long)answered);
    return 0;
}

/* With -w the starter forwards SIGTERM to the daemon. It is a subreaper, so it sees the daemon end. */
static int wait_for(pid_t daemon, const sigset_t *set)
{
    for (;;) {
        int number, status;
        sigwait(set, &number);
        if (number != SIGCHLD) {
            if (kill(daemon, SIGTERM) < 0)
                err(1, "cannot stop the daemon");
        } else if (waitpid(daemon, &status, WNOHANG) == daemon) {
            return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
        }
    }
}

int main(int argc, char **argv)
{
    const char *user = "nobody", *pid_path = "/tmp/echod.pid";
    int port = 7007, wait = 0, option;

    while ((option = getopt(argc, argv, "wp:s:u:")) != -1)
        switch (option) {
        case 'w': wait = 1; break;
        case 'p': pid_path = optarg; break;
        case 's': port = atoi(optarg); break;
        case 'u': user = optarg; break;
        default: errx(2, "usage: echod [-w] [-p PIDFILE] [-s UDP_PORT] [-u USER]");
        }

    sock = open_socket(port);
    int pid_file = open(pid_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (pid_file < 0)
        err(1, "%s", pid_path);

    sigset_t set, old;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGCHLD);
    int known[2];
    if (wait && (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0 || sigprocmask(SIG_BLOCK, &set, &old) < 0))
        err(1, "cannot wait");
    if (pipe(known) < 0)
        err(1, "pipe");

    /* Fork twice: the daemon is not a session leader and has no terminal; the middle process reports its pid. */
    pid_t middle = fork();
    if (middle < 0)
        err(1, "fork");
    if (middle == 0) {
        setsid();
        pid_t daemon = fork();
        if (daemon < 0)
            err(1, "fork");
        if (daemon > 0)
            _exit(write(known[1], &daemon, sizeof daemon) == sizeof daemon ? 0 : 1);
        if (wait)
            sigprocmask(SIG_SETMASK, &old, NULL);
        close(known[0]);
        close(known[1]);
        return run_daemon(pid_file, user);
    }
    pid_t daemon;
    if (read(known[0], &daemon, sizeof daemon) != sizeof daemon || waitpid(middle, NULL, 0) != middle)
        errx(1, "the daemon did not start");
    return wait ? wait_for(daemon, &set) : 0;
}
