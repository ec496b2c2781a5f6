/* Calls under an ABI that is not the program's own, and calls that do not exist. x86 only. */
#include "torture.h"

#ifdef __x86_64__

/* getpgid is number 132 on i386; x86-64 has utime there. */
static long int80(long number, long first)
{
	long result;
	__asm__ volatile("int $0x80"
			 : "=a"(result)
			 : "a"(number), "b"(first), "c"(0L), "d"(0L)
			 : "memory", "r8", "r9", "r10", "r11");
	return result;
}

static int t_int80(char **argv)
{
	int80(132, 0);
	MARK_PARENT();
	return 0;
}

/* fork by the i386 gate: number 2, and the child goes on in 64-bit mode. */
static int t_int80_fork(char **argv)
{
	pid_t pid = int80(2, 0);
	if (!pid) {
		MARK_CHILD();
		_exit(0);
	}
	reap(pid, 0);
	MARK_PARENT();
	return 0;
}

/* getpid with the x32 bit; where the kernel has no x32 it gives ENOSYS, and is an x32 call all the same. */
static int t_x32(char **argv)
{
	syscall(0x40000000 | SYS_getpgid, 0);
	MARK_PARENT();
	return 0;
}

#else

static char done;

/* A 32-bit process that enters 64-bit code (selector 0x33) and makes a 64-bit call there: getpgid is 121. */
static int t_gate64(char **argv)
{
	static const unsigned char code[] = {
		0xb8, 121, 0, 0, 0, /* mov $121, %eax */
		0x31, 0xff,         /* xor %edi, %edi */
		0x0f, 0x05,         /* syscall */
		0xcb,               /* lret */
	};
	unsigned char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct { uint32_t offset; uint16_t selector; } __attribute__((packed)) target;
	memcpy(page, code, sizeof code);
	target.offset = (uint32_t)(uintptr_t)page;
	target.selector = 0x33;
	__asm__ volatile("lcall *%0" : : "m"(target) : "eax", "ecx", "edx", "esi", "edi", "memory", "cc");
	done = 1;
	MARK_PARENT();
	return 0;
}

#endif

static int t_unknown(char **argv)
{
	if (syscall(999, 1, 2) != -1 || errno != ENOSYS)
		return 1;
	pid_t pid = CHECK(fork());
	if (!pid) {
		syscall(0x3fffffff, 1, 2);
		_exit(0);
	}
	reap(pid, 0);
	MARK_PARENT();
	return 0;
}

/* -1 is what a tracer writes to skip a call: made by the workload itself it is just a call that does not exist. */
static int t_minus_one(char **argv)
{
	if (syscall(-1, 0) != -1 || errno != ENOSYS)
		return 1;
	MARK_PARENT();
	return 0;
}

static const struct test tests[] = {
#ifdef __x86_64__
	{"int80", t_int80},
	{"int80_fork", t_int80_fork},
	{"x32", t_x32},
#else
	{"gate64", t_gate64},
#endif
	{"unknown", t_unknown},
	{"minus_one", t_minus_one},
	{0},
};

int main(int argc, char **argv)
{
	return run_test(tests, argv);
}
