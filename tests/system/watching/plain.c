/* SPDX-License-Identifier: MIT */
/* A program without libc, so that every call it makes is known. plain CALLS CHILDREN calls getppid CALLS times, and
 * makes CHILDREN children that each call getuid once. */
static long call4(long number, long a, long b, long c, long d)
{
    long result;
#if defined(__x86_64__)
    register long r10 asm("r10") = d;
    asm volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
#else
    register long x8 asm("x8") = number, x0 asm("x0") = a, x1 asm("x1") = b, x2 asm("x2") = c, x3 asm("x3") = d;
    asm volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
    result = x0;
#endif
    return result;
}

#if defined(__x86_64__)
enum { CLONE = 56, WAIT4 = 61, GETUID = 102, GETPPID = 110, EXIT_GROUP = 231 };
asm(".globl _start\n_start: mov %rsp, %rdi\nand $-16, %rsp\ncall begin\n");
#else
enum { CLONE = 220, WAIT4 = 260, GETUID = 174, GETPPID = 173, EXIT_GROUP = 94 };
asm(".globl _start\n_start: mov x0, sp\nbl begin\n");
#endif
#define SIGCHLD 17

static long number(const char *text)
{
    long value = 0;
    while (*text >= '0' && *text <= '9')
        value = 10 * value + *text++ - '0';
    return value;
}

__attribute__((used)) void begin(long *stack)
{
    long arguments = stack[0];
    char **argv = (char **)(stack + 1);
    long calls = arguments > 1 ? number(argv[1]) : 0, children = arguments > 2 ? number(argv[2]) : 0;
    for (long i = 0; i < calls; i++)
        call4(GETPPID, 0, 0, 0, 0);
    for (long i = 0; i < children; i++) {
        long pid = call4(CLONE, SIGCHLD, 0, 0, 0);
        if (pid == 0) {
            call4(GETUID, 0, 0, 0, 0);
            call4(EXIT_GROUP, 0, 0, 0, 0);
        }
        call4(WAIT4, pid, 0, 0, 0);
    }
    for (;;)
        call4(EXIT_GROUP, 0, 0, 0, 0);
}
