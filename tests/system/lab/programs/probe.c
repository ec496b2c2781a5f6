/* Makes calls that a service never makes and tells what came of each: lines of "NAME ERRNO", 0 for success.
 * It is static: apart from the calls under test it makes only those of a C program's start.
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void tell(const char *name, long result)
{
    char line[100];
    int length = snprintf(line, sizeof line, "%s %d\n", name, result < 0 ? errno : 0);

    if (write(1, line, (size_t)length) != length)
        _exit(1);
}

/* A child by the raw call, as glibc's wrappers would set up more; it ends at once. */
static void try_clone(const char *name, unsigned long flags)
{
    long pid = syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, NULL);

    if (pid == 0)
        _exit(0);
    tell(name, pid);
    if (pid > 0)
        waitpid((pid_t)pid, NULL, 0);
}

static void try_clone3(const char *name, uint64_t flags)
{
    struct clone_args args = {.flags = flags, .exit_signal = SIGCHLD};
    long pid = syscall(SYS_clone3, &args, sizeof args);

    if (pid == 0)
        _exit(0);
    tell(name, pid);
    if (pid > 0)
        waitpid((pid_t)pid, NULL, 0);
}

static void try_socket(const char *name, unsigned long domain, int type, int protocol)
{
    long fd = syscall(SYS_socket, domain, type, protocol);

    tell(name, fd);
    if (fd >= 0)
        close((int)fd);
}

static void *nothing(void *unused)
{
    return unused;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "int80") == 0) {
#ifdef __x86_64__
        long result;
        __asm__ volatile("int $0x80" : "=a"(result) : "a"(20L /* getpid, i386 */) : "memory", "r8", "r9", "r10", "r11");
        errno = result < 0 ? (int)-result : 0;
        tell("int80", result < 0 ? -1 : 0);
#endif
        return 0;
    }

    /* What the service does too. */
    try_socket("tcp", AF_INET, SOCK_STREAM, 0);
    try_socket("tcp_high_bits", AF_INET | 1UL << 40, SOCK_STREAM, 0); /* the kernel looks at 32 bits of an int */
    pthread_t thread;
    errno = pthread_create(&thread, NULL, nothing, NULL);
    tell("thread", errno ? -1 : 0);
    if (!errno)
        pthread_join(thread, NULL);
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    tell("mmap_rw", page == MAP_FAILED ? -1 : 0);
    tell("mprotect_r", mprotect(page, 4096, PROT_READ));

    /* What it does not. */
    try_socket("alg", 38 /* AF_ALG */, SOCK_SEQPACKET, 0);
    try_socket("alg_high_bits", 38 | 1UL << 40, SOCK_SEQPACKET, 0);
    try_socket("netlink", AF_NETLINK, SOCK_RAW, 0);
    try_socket("packet", AF_PACKET, SOCK_RAW, 0);
    try_socket("raw", AF_INET, SOCK_RAW, 1);
    try_socket("udp", AF_INET, SOCK_DGRAM, 0);
    tell("unshare_nothing", syscall(SYS_unshare, 0));
    try_clone("clone_user", CLONE_NEWUSER);
    try_clone("clone_ns", CLONE_NEWNS);
    try_clone("clone_pid", CLONE_NEWPID);
    try_clone("clone_net", CLONE_NEWNET);
    try_clone("clone_ipc", CLONE_NEWIPC);
    try_clone("clone_uts", CLONE_NEWUTS);
    try_clone("clone_cgroup", CLONE_NEWCGROUP);
    try_clone3("clone3", 0);
    try_clone3("clone3_user", CLONE_NEWUSER);
    tell("mprotect_wx", mprotect(page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC));
    tell("mprotect_x", mprotect(page, 4096, PROT_READ | PROT_EXEC));
    page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    tell("mmap_wx", page == MAP_FAILED ? -1 : 0);
    tell("unshare_user", syscall(SYS_unshare, CLONE_NEWUSER)); /* last: it changes what else may be done */
    return 0;
}
