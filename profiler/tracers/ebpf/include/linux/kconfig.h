/* SPDX-License-Identifier: MIT */
/* What bcc's own header needs of a kernel source tree, so that none has to be installed. See loader.py. */
#pragma once

#define CONFIG_BPF_SYSCALL 1
#define PAGE_SIZE 4096
#define NULL ((void *)0)
#define __always_inline inline __attribute__((always_inline, nodebug))
#define true 1
#define false 0

typedef signed char s8;
typedef unsigned char u8;
typedef short s16;
typedef unsigned short u16;
typedef int s32;
typedef unsigned int u32;
typedef long long s64;
typedef unsigned long long u64;
typedef _Bool bool;
typedef unsigned long size_t;
typedef long ssize_t;
typedef unsigned long uintptr_t;

/* Registers of the running machine as kprobe programs get them (arch/x86/include/asm/ptrace.h,
 * arch/arm64/include/uapi/asm/ptrace.h). */
struct pt_regs {
#if defined(__aarch64__) || defined(__TARGET_ARCH_arm64)
    unsigned long regs[31], sp, pc, pstate;
#else
    unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
#endif
};
