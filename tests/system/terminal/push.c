/* Tries to put text into the input of its terminal, in each way that it is given; prints the way and its errno. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char *text; /* one character, below 4 GiB */

static int outcome(long result)
{
    return result < 0 ? errno : 0;
}

#ifdef __x86_64__
static int by_i386(void)
{
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(54), "b"(0), "c"(TIOCSTI), "d"(text)
                     : "memory", "r8", "r9", "r10", "r11");
    return result < 0 ? -(int)result : 0;
}

static int by_x32(long bit)
{
    return outcome(syscall(bit | 514, 0, TIOCSTI, text));
}
#endif

/* A filter of one's own that lets a supervisor decide, who lets the kernel make the call: no tracer sees it. */
static int by_supervisor(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 24),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, TIOCSTI, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    int listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    if (listener < 0)
        return 1000 + errno;
    pid_t supervisor = fork();
    if (!supervisor) {
        struct seccomp_notif request = {0};
        while (!ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &request)) {
            struct seccomp_notif_resp answer = {.id = request.id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
            ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
            memset(&request, 0, sizeof request);
        }
        _exit(0);
    }
    int found = outcome(syscall(SYS_ioctl, 0, TIOCSTI, text));
    kill(supervisor, SIGKILL);
    waitpid(supervisor, NULL, 0);
    return found;
}

int main(int argc, char **argv)
{
    text = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    *text = '#';
    for (int i = 1; i < argc; i++) {
        const char *way = argv[i];
        int found = -1;
        if (!strcmp(way, "plain"))
            found = outcome(ioctl(0, TIOCSTI, text));
        else if (!strcmp(way, "high"))
            found = outcome(syscall(SYS_ioctl, 0, 0xffffffff00000000ul | TIOCSTI, text));
        else if (!strcmp(way, "selection"))
            found = outcome(ioctl(0, TIOCLINUX, text));
        else if (!strcmp(way, "supervisor"))
            found = by_supervisor();
#ifdef __x86_64__
        else if (!strcmp(way, "i386"))
            found = by_i386();
        else if (!strcmp(way, "x32"))
            found = by_x32(0x40000000);
        else if (!strcmp(way, "x32-without-bit"))
            found = by_x32(0);
#endif
        else if (!strcmp(way, "other"))
            found = outcome(ioctl(0, TIOCGWINSZ, text));
        printf("%s=%d\n", way, found);
        fflush(stdout);
    }
    return 0;
}
