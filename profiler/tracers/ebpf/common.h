/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Maps of the recorder, loads of kernel memory, and what all programs ask about a thread: its state, its session, its
 * numbers, its root.
 */
#pragma once

/* Room for work on paths: the stack of a program has 512 bytes. */
struct scratch {
    struct file_key key;
    u32 length;
    u32 pad;
    u64 hash;
    char text[TEXT];
};

BPF_TASK_STORAGE(tasks, struct task_state);
BPF_PERCPU_ARRAY(counts, struct counts, LIMIT_PROGRAMS);
BPF_ARRAY(programs, struct program_state, LIMIT_PROGRAMS);
BPF_TABLE("hash", struct file_key, u32, files, LIMIT_PROGRAMS);
BPF_TABLE("hash", struct syscall_key, struct syscall_value, others, LIMIT_SYSCALLS);
BPF_TABLE("hash", struct result_key, u64, results, LIMIT_RESULTS);
BPF_ARRAY(specs, struct spec, (ABIS * NUMBERS));
BPF_TABLE("hash", struct argument_key, u8, arguments, LIMIT_ARGUMENTS);
BPF_ARRAY(argument_counts, u32, (LIMIT_SESSIONS * ABIS * NUMBERS));
BPF_TABLE("hash", struct check_key, struct tally, checks, LIMIT_CAPABILITIES);
BPF_ARRAY(algorithms, u64, ALGORITHMS); /* congestion controls for everybody: the beginnings of their names */
BPF_TABLE("hash", struct claim_key, struct tally, claims, CLAIMS);
BPF_TABLE("hash", u64, struct stack, stacks, LIMIT_STACKS);
BPF_PERCPU_ARRAY(stack_scratch, struct stack, 1);
BPF_TABLE("hash", struct exec_key, u64, execs, LIMIT_EXECS);
BPF_TABLE("hash", u32, u32, live, LIMIT_TASKS);
BPF_RINGBUF_OUTPUT(events, LIMIT_EVENT_PAGES);
BPF_ARRAY(sessions, struct session, LIMIT_SESSIONS);
BPF_ARRAY(counters, u64, COUNTERS);
BPF_ARRAY(self, struct self, 1);
BPF_PERCPU_ARRAY(scratch, struct scratch, 1);
#ifdef WITH_WATCH
BPF_QUEUE(free_programs, u32, LIMIT_PROGRAMS);
BPF_QUEUE(free_sessions, u32, LIMIT_SESSIONS);
#endif
#ifdef WITH_USES
#define MEMBERS 32768
BPF_TABLE("lru_hash", struct process_key, u64, members, MEMBERS); /* threads, also dead ones: their signal_struct */
BPF_PROG_ARRAY(tails, ROUTES);
#endif

/* -- loads --------------------------------------------------------------------------------------------------------- */

/* Under the helpers' own names, bcc looks for them among the kernel's symbols at each call, which takes longer than
 * compiling. */
static int (*read_user)(void *to, u32 size, const void *from) = (void *)BPF_FUNC_probe_read_user;
static int (*read_user_text)(void *to, u32 size, const void *from) = (void *)BPF_FUNC_probe_read_user_str;

/* Hide what the compiler knows of a value: it would drop a bound that the verifier needs. */
#define KEEP(value) asm volatile("" : "+r"(value))

#define TEXT_OF(x) #x
#define STRING(x) TEXT_OF(x)

/* Loads that the verifier checks against BTF, without a helper call. The result has the type that BTF says. */
#define LOAD(type, pointer, offset)                                                                                    \
    ({                                                                                                                 \
        u64 v_;                                                                                                        \
        asm volatile("%0 = *(" #type " *)(%1 + " STRING(offset) ")" : "=r"(v_) : "r"(pointer));                        \
        v_;                                                                                                            \
    })
#define LOAD64(pointer, offset) LOAD(u64, pointer, offset)
#define LOAD32(pointer, offset) LOAD(u32, pointer, offset)
#define LOAD16(pointer, offset) LOAD(u16, pointer, offset)
#define CTX(index) LOAD64(ctx, 8 * index) /* argument of a tracepoint or a hook */

/* Loads through a helper, for pointers that the verifier does not know. */
static __always_inline u64 read64(u64 address)
{
    u64 value = 0;
    bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
    return value;
}

static __always_inline u32 read32(u64 address)
{
    u32 value = 0;
    bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
    return value;
}

/* -- calls --------------------------------------------------------------------------------------------------------- */

/* The ABI that a call is made under; `number` becomes its number there. */
static __always_inline u32 abi_of(struct task_struct *task, u64 *number)
{
    u32 abi = ABI_NATIVE;
    if (LOAD32(task, OFFSET_COMPAT_STATUS) & COMPAT_BIT)
        abi = ABI_COMPAT;
#ifdef X32_BIT
    else if (*number & X32_BIT && *number < X32_NUMBERS_END) {
        abi = ABI_X32;
        *number &= ~X32_BIT;
    }
#endif
    *number &= 0xffffffff;
    return abi;
}

/* The arguments of a call, which the registers keep until its end. */
#define ARGUMENTS(a, regs, abi)                                                                                        \
    do {                                                                                                               \
        if (abi == ABI_COMPAT) {                                                                                       \
            a[0] = LOAD64(regs, OFFSET_COMPAT_ARGUMENT_0) & 0xffffffff;                                                \
            a[1] = LOAD64(regs, OFFSET_COMPAT_ARGUMENT_1) & 0xffffffff;                                                \
            a[2] = LOAD64(regs, OFFSET_COMPAT_ARGUMENT_2) & 0xffffffff;                                                \
            a[3] = LOAD64(regs, OFFSET_COMPAT_ARGUMENT_3) & 0xffffffff;                                                \
            a[4] = LOAD64(regs, OFFSET_COMPAT_ARGUMENT_4) & 0xffffffff;                                                \
            a[5] = LOAD64(regs, OFFSET_COMPAT_ARGUMENT_5) & 0xffffffff;                                                \
        } else {                                                                                                       \
            a[0] = LOAD64(regs, OFFSET_ARGUMENT_0);                                                                    \
            a[1] = LOAD64(regs, OFFSET_ARGUMENT_1);                                                                    \
            a[2] = LOAD64(regs, OFFSET_ARGUMENT_2);                                                                    \
            a[3] = LOAD64(regs, OFFSET_ARGUMENT_3);                                                                    \
            a[4] = LOAD64(regs, OFFSET_ARGUMENT_4);                                                                    \
            a[5] = LOAD64(regs, OFFSET_ARGUMENT_5);                                                                    \
        }                                                                                                              \
    } while (0)

/* An array that a position from a spec, masked, cannot leave. */
#define ARGUMENT_PLACES 8
#define ARGUMENT_MASK (ARGUMENT_PLACES - 1)

static __always_inline bool failed(s64 result)
{
    return result < 0 && result >= -MAX_ERRNO;
}

static __always_inline u64 mix(u64 hash, u64 word)
{
    hash = (hash ^ word) * 0x9e3779b97f4a7c15ull; /* 2^64 divided by the golden ratio, an odd number */
    return hash ^ hash >> 32;
}

static __always_inline void tally_again(struct tally *tally, u64 now)
{
    __sync_fetch_and_add(&tally->count, 1);
    tally->last = now;
}

/* -- threads and sessions ------------------------------------------------------------------------------------------ */

/* The state of a watched thread. Most threads of the machine have no storage at all, which takes one load to see. */
static __always_inline struct task_state *watched(struct task_struct *task)
{
    if (!LOAD64(task, OFFSET_TASK_STORAGE))
        return 0;
    return tasks.task_storage_get(task, 0, 0);
}

/* The state of a thread that belongs to a workload, and does not wait for it to begin. */
static __always_inline struct task_state *recorded(struct task_struct *task)
{
    struct task_state *s = watched(task);
    return s && s->state >= STATE_STARTING ? s : 0;
}

static __always_inline struct session *session_at(u32 number)
{
    int index = number;
    return sessions.lookup(&index);
}

/* The session that the running thread belongs to. */
static __always_inline struct session *this_session(void)
{
    struct task_state *s = tasks.task_storage_get((void *)bpf_get_current_task_btf(), 0, 0);
    return session_at(s ? s->session : 0);
}

static __always_inline struct self *profgen(void)
{
    int zero = 0;
    return self.lookup(&zero);
}

static __always_inline u64 *counter_at(int index)
{
    return counters.lookup(&index);
}

/* The number of the present attachment of on_sys_enter; 0 while it is not attached. */
static __always_inline u32 entries(void)
{
    u64 *number = counter_at(ENTRIES);
    return number ? *number : 0;
}

/* Keep on_sys_enter attached once there is a thread that on_sys_exit alone does not understand. The end of a call looks
 * the same whether or not a seccomp filter, or a tracer within the workload, answered it. Calls of other ABIs share
 * numbers that sigreturn(2) hides. */
static __always_inline void note_unusual(struct task_struct *task, u32 abi)
{
    if (abi == ABI_NATIVE && !(LOAD64(task, OFFSET_SYSCALL_WORK) & SYSCALL_WORK_OTHERS))
        return;
    u64 *known = counter_at(UNUSUAL);
    if (known && !*known)
        *known = 1;
}

static __always_inline void count_loss(int stat)
{
    struct session *session = this_session();
    if (session)
        __sync_fetch_and_add(&session->stats[stat], 1);
}

/* Note that something was seen for the first time, and return when. */
static __always_inline u64 noted_new(void)
{
    u64 now = bpf_ktime_get_ns();
    struct session *session = this_session();
    if (session)
        session->stats[STAT_LAST_NEW] = now;
    return now;
}

/* Count a thread that begins to belong to the workload. The largest of counts that are reached together stays. */
#define PEAK_TRIES 8
static __always_inline void count_task(struct session *session)
{
    u64 now = __sync_fetch_and_add(&session->stats[STAT_TASKS], 1) + 1, peak = session->stats[STAT_PEAK];
#pragma clang loop unroll(disable)
    for (int i = 0; i < PEAK_TRIES && now > peak; i++) {
        u64 found = __sync_val_compare_and_swap(&session->stats[STAT_PEAK], peak, now);
        if (found == peak)
            break;
        peak = found;
    }
}

/* A thread's entry for one level of pid namespaces (struct upid). */
static __always_inline u64 upid_at(u64 pid, u32 level)
{
    return pid + OFFSET_PID_NUMBERS + UPID_SIZE * (u64)(level & PID_LEVEL_MASK);
}

/* Its entry for its own pid namespace. */
static __always_inline u64 own_upid(u64 pid)
{
    return upid_at(pid, read32(pid + OFFSET_PID_LEVEL));
}

static __always_inline u64 pid_of(u64 task)
{
    return read64(task + OFFSET_TASK_THREAD_PID);
}

static __always_inline u32 profgen_level(void)
{
    struct self *own = profgen();
    return own ? own->level : 0;
}

/* A thread's number in profgen's pid namespace. */
static __always_inline u32 number_of_thread(u64 task)
{
    return read32(upid_at(pid_of(task), profgen_level()));
}

#if defined(WITH_USES) || defined(WITH_WATCH)
/* The struct pid of a thread's process. */
static __always_inline u64 process_pid_of(u64 task)
{
    return read64(read64(task + OFFSET_TASK_SIGNAL) + OFFSET_SIGNAL_PIDS + 8 * PIDTYPE_TGID);
}
#endif

/* The number of a thread's process in profgen's pid namespace. */
#if defined(WITH_USES) || defined(WITH_WATCH)
static __always_inline u32 number_of_process(u64 task)
{
    return read32(upid_at(process_pid_of(task), profgen_level()));
}
#endif

static __always_inline u64 mounts_of(u64 task)
{
    return read64(read64(task + OFFSET_TASK_NSPROXY) + OFFSET_NSPROXY_MNT_NS);
}

#ifdef WITH_USES
/* Note a thread's numbers: in its own pid namespace, and in those above it up to the one that the workload began in. */
#define LEVELS_NOTED 4
static __always_inline void note_member(u64 task, u32 session, u32 start)
{
    u64 pid = pid_of(task), group = read64(task + OFFSET_TASK_SIGNAL);
    u32 level = read32(pid + OFFSET_PID_LEVEL) & PID_LEVEL_MASK;
    for (int i = 0; i < LEVELS_NOTED; i++) {
        u64 place = upid_at(pid, level);
        struct process_key key = {.nr = read32(place), .session = session, .ns = read64(place + UPID_NS)};
        members.update(&key, &group);
        if (level == 0 || level <= start)
            break;
        level--;
    }
}
#endif

/* Whether credentials are those of root in their user namespace: the first line of its map, which has root in general,
 * tells who that is (user_namespaces(7)). */
static __always_inline bool is_root(u64 cred)
{
    u64 extent = read64(cred + OFFSET_CRED_USER_NS) + OFFSET_NS_UID_EXTENT;
    return read32(extent + EXTENT_FIRST) == 0 &&
           read32(extent + EXTENT_LOWER) == read32(cred + OFFSET_CRED_UID + CRED_EFFECTIVE);
}

/* Whether credentials belong to a user namespace below the one that a session began in (user_namespaces(7)). */
static __always_inline bool below_start(struct session *session, u64 ns)
{
    return ns != session->ns && read32(ns + OFFSET_NS_LEVEL) > session->ns_level;
}

/* Whether a thread has a seccomp filter with a listener: its supervisor answers calls, which never begin. */
#define FILTERS_MAX 64
static __always_inline bool supervised(u64 task)
{
#ifdef OFFSET_FILTER_NOTIF
    u64 filter = read64(task + OFFSET_TASK_FILTER);
#pragma clang loop unroll(disable)
    for (int i = 0; i < FILTERS_MAX && filter; i++) {
        if (read64(filter + OFFSET_FILTER_NOTIF))
            return true;
        filter = read64(filter + OFFSET_FILTER_ABOVE);
    }
#endif
    return false;
}

/* Note where a session begins: later threads are compared with it. */
static __always_inline void note_start(struct session *session, u32 number, u64 task)
{
    u64 cred = read64(task + OFFSET_TASK_REAL_CRED);
    session->began = 1;
    session->root_user = is_root(cred);
    session->ns = read64(cred + OFFSET_CRED_USER_NS);
    session->ns_level = read32(session->ns + OFFSET_NS_LEVEL);
    session->level = read32(pid_of(task) + OFFSET_PID_LEVEL);
    u64 fs = read64(task + OFFSET_TASK_FS);
    session->top = read64(fs + OFFSET_FS_ROOT_DENTRY);
    session->root = session->top ^ read64(fs + OFFSET_FS_ROOT_MNT);
    if (supervised(task))
        session->stats[LOST_HIDDEN]++;
#ifdef WITH_USES
    note_member(task, number, session->level);
#endif
}
