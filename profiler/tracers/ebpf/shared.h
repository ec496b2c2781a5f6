/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What the BPF programs and user space both know: keys and values of maps, events, and the numbers in them.
 *
 * shared.py reads this file, so nothing here is written a second time in Python. It understands #define of an integer
 * expression, enum, and struct with members of the types below. `char` is a text that ends at its first NUL; `u8` is
 * raw bytes. Padding is explicit, because the bytes of a map's key are compared.
 */
#pragma once

#define NUMBERS 512                 /* native syscall numbers counted in arrays; a larger number goes to a hash map */
#define NUMBER_WORDS (NUMBERS / 64) /* bitmap of the same numbers */
#define NO_NUMBER 0xffffffffu       /* in place of a syscall number */
#define SOCKETCALLS 490     /* socketcall(2) of i386: call N is recorded under the unused number SOCKETCALLS + N */
#define ABI_VALUES_MAX 4096 /* (program, value) pairs of one syscall; user space has its own bound on values */
#define VALUES 3            /* recorded arguments of one call */
#define ARGUMENTS_MAX 6     /* arguments of a system call */
#define FRAMES 48           /* of a kernel stack */
#define TEXT 4096           /* PATH_MAX */
#define NAME_SIZE 256       /* NAME_MAX and a NUL */
#define PATH_TEXT (TEXT + NAME_SIZE) /* a path and the component that may overflow it */
#define SCRIPT_TEXT 256              /* the end of a script's name */
#define ID_TEXT 64                   /* hexadecimal digits of a container's id */
#define COMM_TEXT 16                 /* TASK_COMM_LEN */

/* The ABI of a call, in the order of ABI_ORDER in reader.py. */
enum abi { ABI_NATIVE, ABI_COMPAT, ABI_X32, ABIS };

/* ARMED: profgen's own child before its exec. WAITING: in a watched cgroup, but not yet the workload (watch.bpf.c). */
enum state { STATE_ARMED = 1, STATE_WAITING, STATE_STARTING, STATE_RECORDING };

/* Counters of a session: each way to lose something, then facts. */
enum stat {
    LOST_TASKS,
    LOST_PROGRAMS,
    LOST_SYSCALLS,
    LOST_ARGUMENTS,
    LOST_RESULTS,
    LOST_CAPABILITIES,
    LOST_STACKS,
    LOST_EVENTS,
    LOST_EXECS,
    LOST_PATHS,
    LOST_NAMES, /* no room in the ring `paths` */
    LOST_FILES,
    LOST_SOCKETS,
    LOST_PROCESSES,
    LOST_DENIALS,
    LOST_HIDDEN,
    STAT_LIVE,     /* threads that live */
    STAT_LAST_NEW, /* when something was seen for the first time, in ns of the monotonic clock */
    STAT_TASKS,    /* threads of the workload that live, without those of its runtime */
    STAT_PEAK,     /* the most of them at once */
    STATS,
};

/* Indexes of `counters`. ENTRIES numbers the times that on_sys_enter was attached, and is 0 while it is not. UNUSUAL:
 * it must stay, because a thread was seen that on_sys_exit alone does not understand (note_unusual in common.h). */
enum counter { NEXT_PROGRAM, NEXT_SESSION, LOST_SESSIONS, MARKED, ENTRIES, UNUSUAL, COUNTERS };

/* Program numbers of session 0: before the first exec, and for programs that found no room of their own. */
enum program_number { PROGRAM_STARTING, PROGRAM_SHARED, PROGRAM_FIRST };

/* In place of the program that executed another one: the tracer, which started the workload; whoever brought a process
 * into a workload that runs already (`docker exec`). */
#define BY_NONE PROGRAM_STARTING
#define BY_ENTERED 0xffffffffu

/* What a session is a recording of. */
enum kind { KIND_COMMAND, KIND_CONTAINER, KIND_CGROUP, KIND_PID };

/* -- a watched thread and what it belongs to --------------------------------------------------------------------- */

struct task_state {
    u32 state;
    u32 program;
    u32 wanted;      /* the result of the call in flight is wanted */
    u32 caller;      /* the program that made it: execve changes `program` */
    u32 abi;         /* of the call in flight */
    u32 number;      /* of the call in flight */
    u32 last_number; /* the last recorded arguments: a loop looks them up once */
    u32 last_abi;
    u64 last_values[VALUES];
    u64 check_cred; /* a capability check in flight, between kprobe and kretprobe */
    u64 check_ns;
    u64 check_stack;
    u32 check_cap;
    u32 check_options;
    u32 route;   /* the program that looks at what the call in flight used */
    u32 session; /* the recording it belongs to */
    u32 mounts;  /* WAITING: the mount namespace of the thread that brought it in */
    u32 entered; /* the call in flight is counted already */
    u32 looked;  /* the program has read its capability sets (capget(2)) */
    u32 guarded; /* the value of ENTRIES at the thread's last call that on_sys_enter saw */
    u64 mapped;  /* the user namespace for which the call in flight may write a map of ids */
};

/* One recording. Programs are numbered across all of them, so a row that is keyed by program belongs to one session. */
struct session {
    u64 ns;         /* the user namespace that the workload began in */
    u64 top;        /* the root's dentry: a copy of a mount namespace has the same */
    u64 root;       /* the root's dentry and mount in one word: compared, never followed */
    u64 pids;       /* the pid namespace that was made for it, if any */
    u64 generation; /* grows when the same text may lead to another file than before */
    u64 stats[STATS];
    u32 level;     /* of the pid namespace that it began in */
    u32 shared;    /* the number of its programs that found no room */
    u32 began;     /* a program was executed, or joined */
    u32 kind;      /* enum kind */
    u32 ended;     /* its last thread has ended (not for KIND_CGROUP) */
    u32 ns_level;  /* of `ns`, which may be gone before the session is */
    u32 root_user; /* it began as root */
    u32 pad;
};

/* profgen itself: mounts and root as in a session, the level of its pid namespace, and the host's mount namespace. */
struct self {
    u64 mounts;
    u64 top;
    u64 root;
    u32 level;
    u32 host_mounts;
};

/* A thread's number in a pid namespace. */
struct process_key {
    u32 nr;
    u32 session;
    u64 ns;
};

/* How often something was seen, and when first and last, in ns of the monotonic clock. */
struct tally {
    u64 count;
    u64 first;
    u64 last;
};

/* -- system calls, their arguments and results -------------------------------------------------------------------- */

struct counts {
    u64 calls[NUMBERS];
};

struct program_state {
    u64 seen[NUMBER_WORDS];
    u64 ok[NUMBER_WORDS];
    u64 first[NUMBERS];
    u64 session;
    u64 generation;
};

struct syscall_key {
    u32 program;
    u32 abi;
    u64 number;
};

struct syscall_value {
    u64 calls;
    u64 first;
    u64 ok;
};

struct result_key {
    u32 program;
    u32 abi;
    u64 number;
    u64 error;
};

struct argument_key {
    u32 program;
    u32 abi;
    u64 number;
    u64 value[VALUES];
};

/* The program that looks at what a call used, by its index in `tails` (uses.bpf.c). ROUTE_OPEN is TAIL_DESCRIPTOR or
 * TAIL_TEXT by the call's result. */
enum route {
    ROUTE_NONE,
    TAIL_DESCRIPTOR,
    TAIL_TEXT,
    TAIL_PROCESS,
    TAIL_SOCKET,
    ROUTE_OPEN,
    TAIL_COUNT,
    TAIL_WALK,
    TAIL_NAMES,
    ROUTES,
};
#define ROUTE_FAILURES 0x100 /* added to a route: only calls that fail */

/* What a call does with the capability sets of its thread. */
enum sets { SETS_NONE, SETS_LOOK, SETS_CHANGE, SETS_PRCTL, SETS_FILTER };

/* What is special about a call. */
enum only {
    ONLY_ALL,
    ONLY_HOW,
    ONLY_EXECUTABLE,
    ONLY_PROTECTED,
    ONLY_FLOCK,
    ONLY_FCNTL_LOCK,
    ONLY_SYMLINK,
    ONLY_CHROOT,
    ONLY_NAMES,
    ONLY_MOUNT,
    ONLY_PTRACE,
    ONLY_PAIR,
    ONLY_EXECUTE,
    ONLY_OLD_MMAP,
    ONLY_SOCKETCALL,
    ONLY_MESSAGES,
    ONLY_UNSHARE,
    ONLY_OPTION,
};

#define NO_ARGUMENT 7 /* in place of an argument's position */
#define PLACES 4      /* paths of one call, and descriptors that they start from */

/* Which arguments of a call are recorded (up to `mask`), and which tell what it uses (from `route`). */
struct spec {
    u32 count;   /* of the recorded arguments */
    u32 pointer; /* argument 0 points to the recorded word */
    u32 position[VALUES];
    u32 flags_mask; /* the flags that tell two uses apart */
    u64 mask[VALUES];
    u16 route; /* enum route, and ROUTE_FAILURES */
    u8 only;   /* enum only */
    u8 fd;     /* positions of arguments, or NO_ARGUMENT */
    u8 flags;
    u8 mode;
    u8 optional; /* bit N: path N may be missing */
    u8 plain;    /* bit N: path N is a text, and does not lead to a file */
    u16 follow;  /* bit N: a link at the end of path N is followed; bit N + 1: it is with AT_SYMLINK_FOLLOW */
    u8 sets;     /* enum sets */
    u8 reads;    /* its arguments are looked at when it begins */
    u8 at[PLACES];
    u8 path[PLACES];
};

/* -- capability checks --------------------------------------------------------------------------------------------- */

enum audited { AUDITED_UNKNOWN, AUDITED_NO, AUDITED_YES };

struct check_key {
    u32 program;
    u32 abi;
    u64 number;
    u32 cap;
    u32 child;      /* against a user namespace below the one that the workload began in */
    u32 refused;    /* the check's result */
    u32 audited;    /* enum audited */
    u32 overridden; /* with other credentials than the thread's own */
    u32 idle;       /* the call needs no capability for what it asks */
    u32 taken;      /* refused for want of what the bounding set took away */
    u32 pad;
    u64 stack; /* a key of `stacks` */
};

#define ALGORITHMS 8 /* congestion controls that anybody may choose */
#define CLAIMS 1024  /* different claims */

/* A call that needs capabilities in a set of its thread, which the kernel does not check with cap_capable: capset(2),
 * PR_CAP_AMBIENT_RAISE, and a thread that maps root into its own user namespace. Sets as in struct cred, asked for and
 * had before. */
struct claim_key {
    u32 program;
    u32 abi;
    u64 number;
    u32 child; /* in a user namespace below the one that the workload began in */
    u32 looked;
    u64 effective;
    u64 permitted;
    u64 inheritable;
    u64 had_effective;
    u64 had_permitted;
    u64 had_inheritable;
    u64 bounding;
};

/* The kernel's own stack map loses one of two stacks that fall into one bucket; a hash map loses none before it is
 * full. */
struct stack {
    u64 address[FRAMES];
};

/* -- programs ------------------------------------------------------------------------------------------------------ */

/* A file that was renamed, or a directory above it, is another program: `names` is a hash of the whole path. All
 * scripts of an interpreter share its file, so the end of the script's name is part of the key, and the directory that
 * the name starts from. */
struct file_key {
    u64 session;
    u64 dev;
    u64 inode;
    u64 mount;
    u64 names;
    u64 directory;
    char script[SCRIPT_TEXT];
};

/* Privileges that came from the executed file. */
#define GAINED_SETUID 1
#define GAINED_SETGID 2
#define GAINED_CAPABILITIES 4

struct exec_key {
    u32 by;
    u32 program;
    u32 gained; /* GAINED_* */
    u32 child;  /* in a user namespace below the one that the workload began in */
};

/* A program that was executed for the first time, in the ring `events`. A path is of the mount namespace: components
 * from the leaf up, each with its NUL; its length is 0 where it is unknown. */
struct event {
    u32 program;
    u32 script;
    u32 exe_length;
    u32 cwd_length;   /* only of a script with a relative name */
    u32 root_length;  /* only if foreign */
    u32 truncated;    /* a path was too long */
    u32 foreign;      /* executed under another root than the workload began with */
    u32 other_mounts; /* executed in another mount namespace than profgen's */
    u32 tgid;
    u32 tid;
    u32 deleted;
    u32 pseudo; /* on a mount that no path leads to: a memfd */
    u32 uid;    /* owner of the file */
    u32 fsuid;
    u32 loader_known;
    u32 loader_length;
    u32 loader_uid; /* owner of the loader's file */
    u32 session;
    u32 generation;
    char argv0[NAME_SIZE];
    char name[TEXT]; /* as given to execve(2); empty for a program that was joined */
    u8 exe[PATH_TEXT];
    u8 cwd[PATH_TEXT];
    u8 root[PATH_TEXT];
    u8 loader[PATH_TEXT];
};

/* -- what calls use ------------------------------------------------------------------------------------------------ */

#define CALL_ABI_SHIFT 16 /* `call` of a key: the ABI above the number */
#define CALL_NUMBER_MASK 0xffff
#define CALL_NEW_MOUNTS 0xffffffffu /* in place of a call: the thread has a mount namespace of its own now */

/* `detail` of a use_key */
#define DETAIL_ERROR 0xfff      /* errno, 0 for success */
#define DETAIL_KIND 0xf000      /* the file type, in its place in the mode (S_IFMT) */
#define DETAIL_OWN (1 << 16)    /* the file is the thread's own (fsuid) */
#define DETAIL_OTHERS (1 << 17) /* it is somebody else's */
#define DETAIL_PSEUDO (1 << 18) /* on a mount that no path leads to: a memfd */
#define DETAIL_WHOSE_SHIFT 19   /* 2 bits: an enum whom for a file below /proc/PID, else 0 */

/* Whose process it is. Of two, the greater counts. */
enum whom { WHOM_NONE, WHOM_SELF, WHOM_WORKLOAD, WHOM_OUTSIDE };

/* `facts` of a use_event: two for each path, shifted by FACT_PIECE_BITS times its index, then those of the event. */
#define FACT_DELETED 1
#define FACT_DETACHED 2
#define FACT_PIECE_BITS 2
#define FACT_OTHER_ROOT (1 << 8)
#define FACT_OTHER_MOUNTS (1 << 9)
#define FACT_DESCRIPTOR (1 << 10) /* path 0 is what a descriptor leads to, and there are no texts */
#define FACT_SAME_TOP (1 << 11)   /* the root is the same file that the session began with */

/* `flags` of a use_key for the address of a unix socket: the type above the protocol */
#define UNIX_TYPE_SHIFT 16
#define UNIX_PROTOCOL_MASK 0xffff

#define TEXTS 3  /* texts of an event */
#define PIECES 4 /* paths of an event: the file, or the start of each text; the last is a root of the process's own */

struct use_key {
    u64 hash; /* of the names */
    u32 program;
    u32 call;
    u32 flags;
    u32 detail;
};

/* The first use of its kind, in the ring `paths`. The texts and the paths follow; a length of 0 stands for none. */
struct use_event {
    struct use_key key;
    u64 root;
    u64 mounts;        /* the mount namespace, by a number that is never used again */
    u64 mounts_before; /* of a call that made the namespace: the one that it is a copy of */
    u32 mode;
    u32 facts;
    u32 fsuid;
    u32 tgid; /* in profgen's pid namespace */
    u32 tid;
    u32 own_tgid; /* in the thread's own pid namespace */
    u32 own_tid;
    u32 text_length[TEXTS];
    u32 path_length[PIECES];
};

#define NO_PORT 0xffffffffu

struct socket_key {
    u32 program;
    u32 call;
    u16 family;
    u16 type;
    u32 protocol;
    u32 port;
    u32 error;
};

/* A signal to a process, or a look into it. */
struct contact_key {
    u32 program;
    u32 call;
    u32 number; /* of the signal or of the ptrace(2) request */
    u16 whom;
    u16 error;
};

/* -- watching (watch.bpf.c) ---------------------------------------------------------------------------------------- */

/* A container by its id or name; `names` leads to its newest session, or to 0 for none yet. */
struct name_key {
    char text[ID_TEXT];
};

struct cgroup_key {
    u64 id;
    u32 hierarchy;
    u32 pad;
};

/* A cgroup that is not there yet: the next directory on the way to it, and which of the `steps` that is. */
struct awaited_key {
    u64 above;
    u32 hierarchy;
    u32 pad;
    char name[NAME_SIZE];
};

struct step {
    u32 session;
    u32 last;
    char name[NAME_SIZE];
};

#define JOIN_STARTING 0x80000000u /* in `joining`: a runtime's process, before the exec of the entry point */
#define JOIN_THREADS 0x40000000u  /* in `joining`: its first thread is marked, and the others become as that one */

/* What became of a session, in the ring `events`; struct event has another size. An end that finds no room is read
 * from the session. */
enum what { NEWS_MADE, NEWS_BEGAN, NEWS_JOINED, NEWS_ENDED, NEWS_THREADS };

struct news {
    u32 what;
    u32 session;
    u32 tgid;
    u32 pad;
    u64 time;
    char name[ID_TEXT];
};

/* The first process of a session, in the ring `starts`, for whoever takes hold of it at once. */
struct start {
    u32 session;
    u32 tgid;
    u64 time;
};

#define REFUSED_OTHERS 0x100 /* added to `abi`: one row for all argument lists that found no row of their own */

/* A call that a seccomp filter refused. */
struct refused_key {
    u32 program;
    u32 abi;
    u32 number;
    u32 error;
    u64 a[ARGUMENTS_MAX];
};

struct refused_value {
    u64 count;
    u32 pid;
    u32 pad;
    char comm[COMM_TEXT];
};

struct refused_sort {
    u32 program;
    u32 abi;
    u32 number;
    u32 error;
};
