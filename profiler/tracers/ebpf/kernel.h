/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Constants of the kernel that the BPF programs use, each with the header that it comes from. What differs between
 * builds of the kernel (offsets) or between architectures (numbers of calls) comes from loader.py instead.
 */
#pragma once

#define MAX_ERRNO 4095 /* include/linux/err.h */
#define EFAULT 14      /* include/uapi/asm-generic/errno-base.h */
#define ENOSYS 38      /* include/uapi/asm-generic/errno.h */

/* include/linux/errno.h: no result yet, the call is made again */
#define ERESTARTSYS 512
#define ERESTARTNOINTR 513
#define ERESTARTNOHAND 514
#define ERESTART_RESTARTBLOCK 516

#define SECCOMP_SET_MODE_FILTER 1 /* include/uapi/linux/seccomp.h */
#define SECCOMP_FILTER_FLAG_NEW_LISTENER 8

#define PF_EXITING 0x4 /* include/linux/sched.h */
#define PF_FORKNOEXEC 0x40
#define CAP_OPT_NOAUDIT 2          /* include/linux/security.h */
#define CALL_NUMBER_OF_ORIG 0xffff /* the part of orig_ax that can be the number of a call */
#define X32_NUMBERS_END 0x80000000 /* a greater number is negative: it stands for no call */

/* include/linux/pid.h: struct upid { int nr; struct pid_namespace *ns; }, one for each level from 0 */
#define UPID_SIZE 16
#define UPID_NS 8
#define PID_LEVEL_MASK 31 /* MAX_PID_NS_LEVEL is 32; include/linux/pid_namespace.h */
#define PIDTYPE_TGID 1    /* include/linux/pid_types.h */

/* include/linux/cred.h: uid, gid, suid, sgid, euid, egid follow one another */
#define CRED_SAVED 8
#define CRED_EFFECTIVE 16

/* include/uapi/linux/capability.h, include/uapi/linux/prctl.h */
#define CAPABILITY_VERSION_1 0x19980330
#define PR_CAP_AMBIENT 47
#define PR_CAP_AMBIENT_RAISE 2

/* include/linux/uidgid_types.h: struct uid_gid_extent */
#define EXTENT_FIRST 0
#define EXTENT_LOWER 4

/* include/uapi/asm-generic/socket.h, include/uapi/linux/tcp.h */
#define SOL_SOCKET 1
#define SO_SNDBUFFORCE 32
#define SO_RCVBUFFORCE 33
#define SOL_TCP 6
#define TCP_CONGESTION 13

/* ipc/mqueue.c, include/linux/ipc_namespace.h: the default limits of a queue; struct mq_attr */
#define MQ_FLAGS_AND_SIZES 3
#define MQ_MAX 10
#define MQ_SIZE_MAX 8192

#define NO_ID 0xffffffffu /* -1: setreuid(2) and the like leave this id unchanged */

/* include/uapi/linux/stat.h */
#define S_IFMT 0170000
#define S_IFSOCK 0140000
#define S_ISUID 04000
#define S_ISGID 02000
#define S_IXGRP 00010

/* include/linux/fs.h */
#define SB_NOUSER (1ul << 31)
#define FMODE_PATH 0x4000
#define FMODE_NOACCOUNT (1 << 29)

/* include/uapi/linux/magic.h */
#define TMPFS_MAGIC 0x01021994
#define HUGETLBFS_MAGIC 0x958458f6
#define PROC_SUPER_MAGIC 0x9fa0
#define NSFS_MAGIC 0x6e736673

#define CLONE_NEWNS 0x20000 /* include/uapi/linux/sched.h */
#define PF_SIGNALED 0x400   /* include/linux/sched.h */
#define NO_CALL 0xffffffffu /* the number after sigreturn(2), which restores all registers */

/* include/uapi/linux/fcntl.h, include/uapi/asm-generic/fcntl.h */
#define AT_FDCWD (-100)
#define AT_SYMLINK_NOFOLLOW 0x100
#define AT_SYMLINK_FOLLOW 0x400
#define AT_EMPTY_PATH 0x1000
#define RESOLVE_IN_ROOT 0x10 /* include/uapi/linux/openat2.h */
#define LOCK_SH 1
#define LOCK_EX 2
#define LOCK_NB 4
#define LOCK_UN 8
#define F_WRLCK 1
#define F_SETLK 6
#define F_SETLKW 7
#define F_SETLK64 13 /* of 32-bit ABIs */
#define F_SETLKW64 14
#define F_OFD_SETLK 37
#define F_OFD_SETLKW 38

/* include/uapi/asm-generic/mman-common.h */
#define PROT_EXEC 4
#define MAP_ANONYMOUS 0x20

/* include/linux/socket.h, include/linux/net.h, include/uapi/linux/net.h */
#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_IPV6 41   /* include/uapi/linux/in.h */
#define IPV6_ADDRFORM 1   /* include/uapi/linux/in6.h */
#define FAMILY_SIZE 2     /* sa_family_t, before the address */
#define PORT_END 4        /* of struct sockaddr_in and sockaddr_in6: the port is in the same place */
#define ADDRESS_MAX 128   /* struct sockaddr_storage */
#define SOCK_TYPE_MASK 15 /* the rest of the word is flags */
#define SOCKETCALL_MAX 20 /* SYS_SENDMMSG */
#define MMSGHDR_SIZE 64   /* struct mmsghdr of a 64-bit ABI */
#define COMPAT_MMSGHDR_SIZE 32

#define PTRACE_TRACEME 0 /* include/uapi/linux/ptrace.h */
#define AT_BASE 7        /* include/uapi/linux/auxvec.h */
#define AUXV_WORDS 48    /* of mm_struct.saved_auxv: AT_BASE is among the first 24 pairs */

/* include/linux/maple_tree.h, lib/maple_tree.c: a node's address has its type in the low bits */
#define MAPLE_NODE_WORDS 32
#define MAPLE_NODE_SIZE (8 * MAPLE_NODE_WORDS)
#define MAPLE_NODE_MASK (MAPLE_NODE_SIZE - 1)
#define MAPLE_TYPE_SHIFT 3
#define MAPLE_TYPE_MASK 15
#define MAPLE_LEAF_64 1
#define MAPLE_ARANGE_64 3
#define MAPLE_LEVELS 6
#define XA_ZERO_ENTRY_END 4096 /* smaller values are not pointers; include/linux/xarray.h */
