/*
 * Do ten things that no workload of the tests does: others DIRECTORY PID
 *
 * DIRECTORY holds the files `read`, `remove`, `mode` and the program `execute`, and the directory `mount`. PID is a
 * process outside. Write `NAME done` or `NAME ERRNO` for each; end with 0.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *directory;

/* absolute: a filter may refuse chdir */
static const char *in(const char *name)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static void tried(const char *name, long result)
{
    printf("%s %s\n", name, result < 0 ? strerrorname_np(errno) : "done");
}

static long execute(const char *path)
{
    int status;
    pid_t child = vfork();
    if (child == 0) {
        execl(path, path, (char *)NULL);
        _exit(errno);
    }
    if (child < 0 || waitpid(child, &status, 0) < 0)
        return -1;
    errno = WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
    return errno ? -1 : 0;
}

static long connected(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(19)};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    address.sin_addr.s_addr = htonl(0x7f000707);
    return fd < 0 ? fd : connect(fd, (struct sockaddr *)&address, sizeof address);
}

int main(int argc, char **argv)
{
    pid_t outside;
    if (argc != 3)
        return 2;
    directory = argv[1];
    outside = atoi(argv[2]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    tried("read", open(in("read"), O_RDONLY));
    tried("create", open(in("create"), O_WRONLY | O_CREAT, 0600));
    tried("remove", unlink(in("remove")));
    tried("mode", chmod(in("mode"), 0700));
    tried("execute", execute(in("execute")));
    tried("connect", connected());
    tried("mount", mount("none", in("mount"), "tmpfs", MS_NOSUID, NULL));
    tried("trace", ptrace(PTRACE_SEIZE, outside, 0, 0));
    tried("signal", kill(outside, SIGCONT));
    tried("bpf", syscall(SYS_bpf, 0, NULL, 0));
    return 0;
}
