/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What the kernel notes of a watched workload.
 *
 * Watched threads carry a task storage; every other thread leaves each program after one load. Names, argument values,
 * results and capability checks are counted in maps, so no single one can be dropped; whatever does not fit is counted
 * in `stats`. Only a program executed for the first time is sent as an event, with its path.
 *
 * The #defines without a value here come from loader.py: sizes of stores, offsets of kernel structures (from BTF),
 * syscall numbers.
 */

#include "shared.h"



struct scratch { struct file_key key; u32 length; u32 pad; u64 hash; char text[TEXT]; };

BPF_TASK_STORAGE(tasks, struct task_state);
BPF_PERCPU_ARRAY(counts, struct counts, LIMIT_PROGRAMS);
BPF_ARRAY(programs, struct program_state, LIMIT_PROGRAMS);
BPF_TABLE("hash", struct file_key, u32, files, LIMIT_PROGRAMS);
BPF_TABLE("hash", struct syscall_key, struct syscall_value, others, LIMIT_SYSCALLS);
BPF_TABLE("hash", struct result_key, u64, results, LIMIT_RESULTS);
BPF_ARRAY(specs, struct spec, ABIS * NUMBERS);
BPF_TABLE("hash", struct argument_key, u8, arguments, LIMIT_ARGUMENTS);
BPF_ARRAY(argument_counts, u32, LIMIT_SESSIONS * ABIS * NUMBERS);
BPF_TABLE("hash", struct check_key, struct check_value, checks, LIMIT_CAPABILITIES);
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
BPF_TABLE("lru_hash", struct process_key, u64, members, 32768); /* threads, the dead too, to their thread group (its signal_struct) */
BPF_PROG_ARRAY(tails, ROUTES);
#endif

/* Under their own names bcc looks for these helpers among the kernel's symbols, once a call: that takes longer than compiling. */
static int (*read_user)(void *to, u32 size, const void *from) = (void *)BPF_FUNC_probe_read_user;
static int (*read_user_text)(void *to, u32 size, const void *from) = (void *)BPF_FUNC_probe_read_user_str;

#define TEXT_OF(x) #x
#define STRING(x) TEXT_OF(x)

/* Loads that the verifier checks against BTF: no helper call. The result is what BTF says is there. */
#define CTX(index) ({ u64 v_; asm volatile("%0 = *(u64 *)(%1 + 8 * " STRING(index) ")" : "=r"(v_) : "r"(ctx)); v_; })
#define LOAD64(pointer, offset) ({ u64 v_; asm volatile("%0 = *(u64 *)(%1 + " STRING(offset) ")" : "=r"(v_) : "r"(pointer)); v_; })
#define LOAD16(pointer, offset) ({ u64 v_; asm volatile("%0 = *(u16 *)(%1 + " STRING(offset) ")" : "=r"(v_) : "r"(pointer)); v_; })
#define LOAD32(pointer, offset) ({ u64 v_; asm volatile("%0 = *(u32 *)(%1 + " STRING(offset) ")" : "=r"(v_) : "r"(pointer)); v_; })

/* The arguments of a call, which the registers keep until its end. */
#define ARGUMENTS(a, regs, abi)                                                                                                  \
    do {                                                                                                                         \
        if (abi == ABI_COMPAT) {                                                                                                 \
            a[0] = LOAD64(regs, OFFSET_COMPAT_ARGUMENT_0) & 0xffffffff;                                                          \
            a[1] = LOAD64(regs, OFFSET_COMPAT_ARGUMENT_1) & 0xffffffff;                                                          \
            a[2] = LOAD64(regs, OFFSET_COMPAT_ARGUMENT_2) & 0xffffffff;                                                          \
            a[3] = LOAD64(regs, OFFSET_COMPAT_ARGUMENT_3) & 0xffffffff;                                                          \
            a[4] = LOAD64(regs, OFFSET_COMPAT_ARGUMENT_4) & 0xffffffff;                                                          \
            a[5] = LOAD64(regs, OFFSET_COMPAT_ARGUMENT_5) & 0xffffffff;                                                          \
        } else {                                                                                                                 \
            a[0] = LOAD64(regs, OFFSET_ARGUMENT_0);                                                                              \
            a[1] = LOAD64(regs, OFFSET_ARGUMENT_1);                                                                              \
            a[2] = LOAD64(regs, OFFSET_ARGUMENT_2);                                                                              \
            a[3] = LOAD64(regs, OFFSET_ARGUMENT_3);                                                                              \
            a[4] = LOAD64(regs, OFFSET_ARGUMENT_4);                                                                              \
            a[5] = LOAD64(regs, OFFSET_ARGUMENT_5);                                                                              \
        }                                                                                                                        \
    } while (0)

/* The slow way, for pointers of which nothing is known. */
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

static __always_inline struct task_state *watched(struct task_struct *task)
{
    /* Most threads of the machine have no storage at all; one load tells. */
    if (!LOAD64(task, OFFSET_TASK_STORAGE))
        return 0;
    return tasks.task_storage_get(task, 0, 0);
}

static __always_inline struct session *session_at(u32 number)
{
    int index = number;
    return sessions.lookup(&index);
}

/* The session that the running thread belongs to. */
static __always_inline struct session *this_session(void)
{
    struct task_state *s = watched((void *)bpf_get_current_task_btf());
    return session_at(s ? s->session : 0);
}

static __always_inline void add(int stat, u64 value)
{
    struct session *session = this_session();
    if (session)
        __sync_fetch_and_add(&session->stats[stat], value);
}

static __always_inline u64 noted_new(void)
{
    u64 now = bpf_ktime_get_ns();
    struct session *session = this_session();
    if (session)
        session->stats[STAT_LAST_NEW] = now;
    return now;
}

static __always_inline void note_values(struct task_state *s, u32 abi, u64 number, struct spec *spec, u64 *a)
{
    struct argument_key key = {.program = s->program, .abi = abi, .number = number};
    if (spec->pointer) {
        u64 word = 0;
        if (read_user(&word, sizeof(word), (void *)a[0]))
            return; /* the kernel will not be able to read it either: EFAULT */
        key.value[0] = word & spec->mask[0];
    } else {
        key.value[0] = a[spec->position[0] & 7] & spec->mask[0];
        if (spec->count > 1)
            key.value[1] = a[spec->position[1] & 7] & spec->mask[1];
        if (spec->count > 2)
            key.value[2] = a[spec->position[2] & 7] & spec->mask[2];
    }
    if (s->last_number == number && s->last_abi == abi && s->last_values[0] == key.value[0] && s->last_values[1] == key.value[1] &&
        s->last_values[2] == key.value[2])
        return;
    s->last_number = number;
    s->last_abi = abi;
    s->last_values[0] = key.value[0];
    s->last_values[1] = key.value[1];
    s->last_values[2] = key.value[2];
    if (arguments.lookup(&key))
        return;
    int index = (s->session * ABIS + abi) * NUMBERS + number;
    u32 *count = argument_counts.lookup(&index);
    if (!count || *count >= ABI_VALUES_MAX)
        return; /* past this, user space reports an overflow, not a list */
    u8 one = 1;
    if (arguments.update(&key, &one)) {
        add(LOST_ARGUMENTS, 1);
        return;
    }
    __sync_fetch_and_add(count, 1);
    noted_new();
}

#ifdef WITH_USES
/* A thread's numbers (struct pid, struct upid): its own, and those that the namespaces above know it by, down to the workload's first. */
static __always_inline void note_member(u64 task, u32 session, u32 start)
{
    u64 pid = read64(task + OFFSET_TASK_THREAD_PID), group = read64(task + OFFSET_TASK_SIGNAL);
    u32 level = read32(pid + OFFSET_PID_LEVEL) & 31;
    for (int i = 0; i < 4; i++) {
        u64 place = pid + OFFSET_PID_NUMBERS + 16 * (u64)level;
        struct process_key key = {.nr = read32(place), .session = session, .ns = read64(place + 8)};
        members.update(&key, &group);
        if (level == 0 || level <= start)
            break;
        level--;
    }
}
#endif

/* What is compared with later: where a session began. */
static __always_inline void note_start(struct session *session, u32 number, struct task_struct *task)
{
    session->began = 1;
    session->ns = read64(LOAD64(task, OFFSET_TASK_REAL_CRED) + OFFSET_CRED_USER_NS);
    session->ns_level = read32(session->ns + OFFSET_NS_LEVEL);
    session->level = read32(read64((u64)task + OFFSET_TASK_THREAD_PID) + OFFSET_PID_LEVEL);
    u64 fs = read64((u64)task + OFFSET_TASK_FS);
    session->top = read64(fs + OFFSET_FS_ROOT_DENTRY);
    session->root = session->top ^ read64(fs + OFFSET_FS_ROOT_MNT);
#ifdef WITH_USES
    note_member((u64)task, number, session->level);
#endif
}

/* Count a call; whether its result is wanted. Negative: there was no room. */
static __always_inline int count_call(int program, u32 abi, u64 id)
{
    if (id < NUMBERS && abi == ABI_NATIVE) {
        struct counts *c = counts.lookup(&program);
        struct program_state *p = programs.lookup(&program);
        if (!c || !p)
            return -1;
        c->calls[id & (NUMBERS - 1)]++;
        u64 bit = 1ull << (id & 63);
        u32 word = (id >> 6) & (NUMBER_WORDS - 1);
        if (!(p->seen[word] & bit)) {
            p->first[id & (NUMBERS - 1)] = noted_new();
            __sync_fetch_and_or(&p->seen[word], bit);
        }
        return !(p->ok[word] & bit);
    }
    struct syscall_key key = {.program = program, .abi = abi, .number = id};
    struct syscall_value *v = others.lookup(&key);
    if (!v) {
        struct syscall_value fresh = {.first = noted_new()};
        others.update(&key, &fresh);
        v = others.lookup(&key);
        if (!v) {
            add(LOST_SYSCALLS, 1);
            return -1;
        }
    }
    __sync_fetch_and_add(&v->calls, 1);
    return !v->ok;
}

int on_sys_enter(u64 *ctx)
{
    struct task_struct *task = (void *)bpf_get_current_task_btf();
    struct task_state *s = watched(task);
    if (!s)
        return 0;
    u64 id = CTX(1);
    u64 abi = ABI_NATIVE;
    if (LOAD32(task, OFFSET_COMPAT_STATUS) & COMPAT_BIT)
        abi = ABI_COMPAT;
#ifdef X32_BIT
    else if (id & X32_BIT && id < 0x80000000) {
        abi = ABI_X32;
        id &= ~X32_BIT;
    }
#endif
    id &= 0xffffffff;
    if (s->state < STATE_STARTING) {
        /* Which call it is, in case the workload begins with it. */
        s->abi = abi;
        s->number = id;
        s->entered = 1;
        /* Between fork and exec the child is still profgen; its execve is where the workload begins. */
        if (s->state != STATE_ARMED || id != NR_EXECVE || abi != ABI_NATIVE)
            return 0;
        int zero = 0;
        struct session *session = session_at(s->session);
        struct self *own = self.lookup(&zero);
        if (!session || !own)
            return 0;
        s->state = STATE_STARTING;
        note_start(session, s->session, task);
        own->level = session->level;
        own->mounts = LOAD64(LOAD64(task, OFFSET_TASK_NSPROXY), OFFSET_NSPROXY_MNT_NS);
    }
#ifdef WITH_DENIALS
    s->entered = 1;
#endif
    s->caller = s->program;
    s->abi = abi;
    s->number = id;
    int wanted = count_call(s->program, abi, id);
    if (wanted < 0)
        return 0;
    s->wanted = wanted;
    s->route = ROUTE_NONE;
    if (id >= NUMBERS)
        return 0;
    int index = abi * NUMBERS + id;
    struct spec *spec = specs.lookup(&index);
    if (spec)
        s->route = spec->route;
    if (spec && spec->count) {
        void *regs = (void *)CTX(0);
        u64 a[8] = {};
        ARGUMENTS(a, regs, abi);
        note_values(s, abi, id, spec, a);
    }
    return 0;
}

static __always_inline void note_result(struct task_state *s, s64 result)
{
    int program = s->caller;
    if (result >= 0 || result < -4095) {
        if (s->abi == ABI_NATIVE && s->number < NUMBERS) {
            struct program_state *p = programs.lookup(&program);
            if (p)
                __sync_fetch_and_or(&p->ok[(s->number >> 6) & (NUMBER_WORDS - 1)], 1ull << (s->number & 63));
        } else {
            struct syscall_key key = {.program = program, .abi = s->abi, .number = s->number};
            struct syscall_value *v = others.lookup(&key);
            if (v)
                v->ok = 1;
        }
        return;
    }
    struct result_key key = {.program = program, .abi = s->abi, .number = s->number, .error = -result};
    u64 *known = results.lookup(&key);
    if (known) {
        __sync_fetch_and_add(known, 1);
        return;
    }
    u64 one = 1;
    if (results.update(&key, &one))
        add(LOST_RESULTS, 1);
}

#ifdef WITH_USES
static __always_inline void go_on(u64 *ctx, struct task_state *s, u32 route, s64 result);
#endif

#ifdef WITH_DENIALS
static __always_inline void note_refused(u64 *ctx, struct task_struct *task, struct task_state *s);
#endif

int on_sys_exit(u64 *ctx)
{
    struct task_struct *task = (void *)bpf_get_current_task_btf();
    struct task_state *s = watched(task);
    if (!s)
        return 0;
#ifdef WITH_DENIALS
    if (!s->entered) {
        note_refused(ctx, task, s);
        return 0;
    }
    s->entered = 0;
#endif
    if (s->state < STATE_STARTING)
        return 0;
    u32 wanted = s->wanted, route = s->route;
    if (!wanted && !route)
        return 0;
    s->wanted = s->route = 0;
    s64 result = CTX(1);
    if (result == -512 || result == -513 || result == -514 || result == -516)
        return 0; /* ERESTART*: no result yet, the call is made again (include/linux/errno.h) */
    if (wanted)
        note_result(s, result);
    if (!route || result == -14 || result == -38)
        return 0; /* EFAULT, ENOSYS: nothing was looked at */
    bool failed = result < 0 && result >= -4095;
    if (route & ROUTE_FAILURES && !failed)
        return 0;
    route &= 0xff;
    if (route == ROUTE_OPEN)
        route = failed ? TAIL_TEXT : TAIL_DESCRIPTOR;
#ifdef WITH_USES
    go_on(ctx, s, route, result);
#endif
    return 0;
}

/* A thread's number as profgen knows it: in profgen's pid namespace (struct pid, struct upid). */
static __always_inline u32 number_of_thread(u64 task)
{
    int zero = 0;
    struct self *own = self.lookup(&zero);
    return read32(read64(task + OFFSET_TASK_THREAD_PID) + OFFSET_PID_NUMBERS + 16 * (u64)(own ? own->level & 31 : 0));
}

#ifdef WITH_WATCH
static __always_inline void on_other_fork(struct task_struct *parent, struct task_struct *child);
static __always_inline struct task_state *state_of_first(struct task_struct *task);
static __always_inline void note_pids(struct session *session, struct task_struct *task);
static __always_inline void session_ended(u32 number);
static __always_inline bool is_entry(struct task_struct *task, struct task_state *s, struct session *session);
static __always_inline void session_began(u32 number, struct task_struct *task, bool first);
#endif

/* sched_process_fork(parent, child): runs for threads too, before the child does. */
int on_fork(u64 *ctx)
{
    struct task_struct *task = (void *)bpf_get_current_task_btf();
    struct task_state *s = watched(task);
    struct task_struct *child = (void *)CTX(1);
#ifdef WITH_WATCH
    if (!s)
        s = state_of_first(task);
    if (!s)
        on_other_fork(task, child);
#endif
    if (!s)
        return 0;
    struct task_state copy = {.state = s->state, .program = s->program, .last_number = ~0u, .session = s->session, .mounts = s->mounts};
    if (!tasks.task_storage_get(child, &copy, BPF_LOCAL_STORAGE_GET_F_CREATE)) {
        add(LOST_TASKS, 1);
        return 0;
    }
    struct session *session = session_at(s->session);
    if (!session)
        return 0;
    __sync_fetch_and_add(&session->stats[STAT_LIVE], 1);
#ifdef WITH_WATCH
    if (s->state == STATE_WAITING)
        note_pids(session, child);
#endif
#ifdef WITH_USES
    note_member((u64)child, s->session, session->level);
#endif
    u32 tid = number_of_thread((u64)child), one = 1;
    if (live.update(&tid, &one))
        add(LOST_TASKS, 1); /* recorded, but out of reach of --duration and of signals */
    return 0;
}

int on_exit(u64 *ctx)
{
    struct task_struct *task = (void *)bpf_get_current_task_btf();
    struct task_state *s = watched(task);
    if (!s)
        return 0;
    u32 tid = number_of_thread((u64)task);
    live.delete(&tid);
    struct session *session = session_at(s->session);
    if (!session)
        return 0;
    u64 were = __sync_fetch_and_add(&session->stats[STAT_LIVE], -1);
#ifdef WITH_WATCH
    if (were == 1)
        session_ended(s->session);
#endif
    return 0;
}

/* Path components of a dentry from the leaf up to the top of its mount namespace, each with its NUL; their length, 0 if it did not fit. */
static __always_inline u32 walk(struct scratch *local, u8 *out, u64 dentry, u64 mnt)
{
    /* The length lives in a map: an unknown number to the verifier, so that all turns of the loop look alike to it. */
    local->length = 0;
    for (int depth = 0; depth < 48; depth++) {
        u32 length = local->length;
        if (!dentry)
            return 0;
        u64 parent = read64(dentry + OFFSET_DENTRY_PARENT);
        u64 mount_root = read64(mnt + OFFSET_VFSMOUNT_ROOT);
        if (dentry == mount_root || dentry == parent) {
            u64 mount = mnt - OFFSET_MOUNT_MNT;
            u64 above = read64(mount + OFFSET_MOUNT_PARENT);
            if (dentry == mount_root && above != mount) {
                dentry = read64(mount + OFFSET_MOUNT_POINT);
                mnt = above + OFFSET_MOUNT_MNT;
                continue;
            }
            if (length)
                return length; /* the top of the tree */
            /* a file that is on no tree (memfd): its name is all there is; of the top itself it is a slash */
            local->length = bpf_probe_read_kernel_str(out, 256, (void *)read64(dentry + OFFSET_DENTRY_NAME));
            return local->length;
        }
        int got = bpf_probe_read_kernel_str(out + (length & (TEXT - 1)), 256, (void *)read64(dentry + OFFSET_DENTRY_NAME));
        if (got <= 0)
            return 0;
        length += got;
        if (length >= TEXT)
            return 0; /* PATH_MAX: no path that the process could have used is longer (path_resolution(7)) */
        local->length = length;
        dentry = parent;
    }
    return 0;
}

#ifdef WITH_USES
struct where { u64 dentry; u64 mnt; };

/* The path that a mapped file was opened by. On overlayfs a mapping has a file of the layer, which keeps the user's path beside its own (struct
 * backing_file of fs/file_table.c, Linux 6.7) or has that for its own; its inode is the layer's in either case. Of mapped files only such are
 * FMODE_NOACCOUNT (include/linux/fs.h); the bit of FMODE_BACKING moved in Linux 6.14. */
static __always_inline struct where mapped_by(u64 file)
{
    u64 aside = 0;
#ifdef OFFSET_BACKING_PATH
    if (read32(file + OFFSET_FILE_MODE) & 1 << 29)
        aside = OFFSET_BACKING_PATH - OFFSET_FILE_PATH;
#endif
    return (struct where){.dentry = read64(file + aside + OFFSET_FILE_DENTRY), .mnt = read64(file + aside + OFFSET_FILE_MNT)};
}
#endif

#if defined(WITH_USES) && defined(OFFSET_MM_TREE)
/* The file that is mapped at an address: a walk down the tree of mappings (lib/maple_tree.c mtree_lookup_walk). `node`: 32 words to work in. */
static __always_inline u64 file_at(u64 mm, u64 address, u64 *node)
{
    u64 below = read64(mm + OFFSET_MM_TREE);
    for (int depth = 0; depth < 6; depth++) {
        u32 type = below >> 3 & 15;
        if (below <= 4096 || type < 1 || type > 3)
            return 0;
        bpf_probe_read_kernel(node, 256, (void *)(below & ~255ull));
        u32 slots = type == 3 ? WIDE_SLOTS : NARROW_SLOTS, pivots = slots - TREE_PIVOTS - 1, at;
        for (at = 0; at < pivots; at++) {
            u64 last = node[(TREE_PIVOTS + at) & 31];
            if (last >= address || (!last && at))
                break;
        }
        below = node[(slots + at) & 31];
        if (type == 1)
            return below && (below & 3) == 0 ? read64(below + OFFSET_VMA_FILE) : 0;
    }
    return 0;
}

/* What the kernel mapped beside a program that has just been executed (PT_INTERP): the file at AT_BASE, getauxval(3). 0 for a static one. */
static __always_inline u64 loader_of(u64 mm, struct scratch *local)
{
    u64 *words = (u64 *)local->text, base = 0;
    bpf_probe_read_kernel(words, 48 * 8, (void *)(mm + OFFSET_MM_AUXV));
    bool wide = !(words[0] >> 32); /* of a 32-bit program, type and value are in one word */
    for (int i = 0; i < 48 && !base; i++) {
        if (wide && !(i & 1) && words[i] == 7)
            base = words[i + 1];
        if (!wide && (u32)words[i] == 7)
            base = words[i] >> 32;
    }
    return base ? file_at(mm, base, words) : 0;
}
#else
#define file_at(mm, address, node) 0 /* Linux before 6.1 */
#endif

/* A number for another program of a session; LIMIT_PROGRAMS when there is none left. */
static __always_inline u32 new_program(u32 session)
{
    int at = NEXT_PROGRAM;
    u64 *next = counters.lookup(&at);
    if (!next)
        return LIMIT_PROGRAMS;
    u32 program = LIMIT_PROGRAMS;
    if (*next < LIMIT_PROGRAMS)
        program = __sync_fetch_and_add(next, 1);
#ifdef WITH_WATCH
    if (program >= LIMIT_PROGRAMS && free_programs.pop(&program))
        return LIMIT_PROGRAMS;
#endif
    int index = program;
    struct program_state *p = programs.lookup(&index);
    if (!p)
        return LIMIT_PROGRAMS;
    p->session = session;
    return program;
}

/* A hash of the names of a path, from the leaf up to the top of its mount namespace, and of whether it is deleted. It begins with an address, which
 * nobody can reckon with. */
static __always_inline u64 names_of(struct scratch *local, u64 dentry, u64 mnt)
{
    u64 *words = (u64 *)local->text;
    local->hash = mnt ^ !read64(dentry + OFFSET_DENTRY_HASHED);
    for (int depth = 0; depth < 48; depth++) {
        u64 parent = read64(dentry + OFFSET_DENTRY_PARENT);
        if (dentry == read64(mnt + OFFSET_VFSMOUNT_ROOT)) {
            u64 mount = mnt - OFFSET_MOUNT_MNT, above = read64(mount + OFFSET_MOUNT_PARENT);
            if (above == mount)
                break;
            dentry = read64(mount + OFFSET_MOUNT_POINT);
            mnt = above + OFFSET_MOUNT_MNT;
            continue;
        }
        __builtin_memset(words, 0, 256);
        bpf_probe_read_kernel_str(words, 256, (void *)read64(dentry + OFFSET_DENTRY_NAME));
        u64 hash = local->hash;
#pragma clang loop unroll(disable)
        for (int i = 0; i < 32; i++) {
            hash = (hash ^ words[i]) * 0x9e3779b97f4a7c15ull;
            hash ^= hash >> 32;
        }
        local->hash = hash;
        if (dentry == parent)
            break;
        dentry = parent;
    }
    return local->hash;
}

/* Where the file of a program is, in the key. */
static __always_inline void identify(struct scratch *local, u32 session, u64 file)
{
    struct file_key *key = &local->key;
    u64 inode = read64(file + OFFSET_FILE_INODE), dentry = read64(file + OFFSET_FILE_DENTRY);
    __builtin_memset(key, 0, sizeof(*key));
    key->session = session;
    key->dev = read32(read64(inode + OFFSET_INODE_SB) + OFFSET_SB_DEV);
    key->inode = read64(inode + OFFSET_INODE_INO);
    key->mount = read64(file + OFFSET_FILE_MNT);
    key->names = names_of(local, dentry, key->mount);
}

/* The number of a program, new or known, that a task of a session runs from `file`; `name`: of a script, what was executed; else 0. */
static __always_inline u32 program_of(u32 number, u64 file, u64 name, bool script, u64 task)
{
    int zero = 0;
    struct scratch *local = scratch.lookup(&zero);
    struct session *session = session_at(number);
    struct self *own = self.lookup(&zero);
    if (!local || !session || !own)
        return 1;
    u64 dentry = read64(file + OFFSET_FILE_DENTRY);
    u64 mnt = read64(file + OFFSET_FILE_MNT);
    u64 inode = read64(file + OFFSET_FILE_INODE);
    u64 fs = read64(task + OFFSET_TASK_FS);
    u64 pwd = read64(fs + OFFSET_FS_PWD_DENTRY);
    struct file_key *key = &local->key;
    identify(local, number, file);
    if (script) {
        key->directory = names_of(local, pwd, read64(fs + OFFSET_FS_PWD_MNT));
        u32 length = bpf_probe_read_kernel_str(local->text, TEXT, (void *)name);
        bpf_probe_read_kernel_str(key->script, SCRIPT_TEXT, (void *)(name + (length > SCRIPT_TEXT ? length - SCRIPT_TEXT : 0)));
    }
    u32 *known = files.lookup(key);
    u32 program = known ? *known : new_program(number);
    if (program >= LIMIT_PROGRAMS || (!known && files.update(key, &program))) {
        __sync_fetch_and_add(&session->stats[LOST_PROGRAMS], 1);
        return session->shared; /* kept for those that cannot be told apart */
    }
    int index = program;
    struct program_state *p = programs.lookup(&index);
    if (!p || (known && (!script || p->generation == session->generation)))
        return program; /* a script's text may have come to mean another file: then it is told again */
    p->generation = session->generation;
    session->stats[STAT_LAST_NEW] = bpf_ktime_get_ns();
    struct event *e = events.ringbuf_reserve(sizeof(struct event));
    if (!e) {
        __sync_fetch_and_add(&session->stats[LOST_EVENTS], 1);
        return program;
    }
    u64 root_dentry = read64(fs + OFFSET_FS_ROOT_DENTRY), root_mnt = read64(fs + OFFSET_FS_ROOT_MNT);
    e->program = program;
    e->session = number;
    e->generation = session->generation;
    e->script = script;
    e->truncated = 0;
    e->foreign = session->root != (root_dentry ^ root_mnt);
    e->other_mounts = own->mounts != read64(read64(task + OFFSET_TASK_NSPROXY) + OFFSET_NSPROXY_MNT_NS);
    e->tid = e->tgid = number_of_thread(task); /* exec leaves the leader alone */
    e->deleted = dentry != read64(mnt + OFFSET_VFSMOUNT_ROOT) && !read64(dentry + OFFSET_DENTRY_HASHED);
    e->pseudo = read64(read64(inode + OFFSET_INODE_SB) + OFFSET_SB_FLAGS) >> 31 & 1; /* SB_NOUSER */
    e->uid = read32(inode + OFFSET_INODE_UID);
    e->fsuid = read32(read64(task + OFFSET_TASK_CRED) + OFFSET_CRED_FSUID);
    e->cwd_length = e->root_length = 0;
    e->exe_length = walk(local, e->exe, dentry, mnt);
    e->name[0] = 0;
    if (name)
        bpf_probe_read_kernel_str(e->name, TEXT, (void *)name);
    if (script && e->name[0] != '/')
        e->cwd_length = walk(local, e->cwd, pwd, read64(fs + OFFSET_FS_PWD_MNT));
    if (e->foreign)
        e->root_length = walk(local, e->root, root_dentry, root_mnt);
    e->loader_known = e->loader_length = e->loader_uid = 0;
#if defined(WITH_USES) && defined(OFFSET_MM_TREE)
    e->loader_known = 1;
    u64 loader = loader_of(read64(task + OFFSET_TASK_MM), local);
    if (loader) {
        struct where at = mapped_by(loader);
        e->loader_uid = read32(read64(at.dentry + OFFSET_DENTRY_INODE) + OFFSET_INODE_UID);
        e->loader_length = walk(local, e->loader, at.dentry, at.mnt);
    }
#endif
    if (!e->exe_length || (script && e->name[0] != '/' && !e->cwd_length) || (e->foreign && !e->root_length)) {
        e->truncated = 1;
        __sync_fetch_and_add(&session->stats[LOST_PATHS], 1);
    }
    e->argv0[0] = 0;
    if (name)
        read_user_text(e->argv0, sizeof(e->argv0), (void *)read64(read64(task + OFFSET_TASK_MM) + OFFSET_MM_ARG_START));
    events.ringbuf_submit(e, 0);
    return program;
}

/* sched_process_exec(task, old_pid, bprm): the new program is in place. */
int on_exec(u64 *ctx)
{
    struct task_struct *task = (void *)bpf_get_current_task_btf();
    struct task_state *s = watched(task);
    if (!s || s->state == STATE_ARMED)
        return 0;
    struct exec_key key = {.by = s->program};
#ifdef WITH_WATCH
    bool waited = s->state == STATE_WAITING;
    if (waited) {
        struct session *session = session_at(s->session);
        if (!session || !is_entry(task, s, session))
            return 0;
        key.by = session->began ? BY_ENTERED : BY_NONE;
        if (!session->began)
            note_start(session, s->session, task);
        session_began(s->session, task, key.by == BY_NONE);
    }
#endif
    u64 bprm = CTX(2), name = read64(bprm + OFFSET_BPRM_FILENAME);
    key.program = program_of(s->session, read64(bprm + OFFSET_BPRM_FILE), name, read64(bprm + OFFSET_BPRM_INTERP) != name, (u64)task);
#ifdef WITH_WATCH
    if (waited) {
        /* The call that is about to end is the first of the workload. */
        s->caller = key.program;
        s->wanted = count_call(key.program, s->abi, s->number) > 0;
        s->route = ROUTE_NONE;
        s->entered = 1;
    }
#endif
    s->state = STATE_RECORDING;
    s->program = key.program;
    s->last_number = ~0u;
    u64 *known = execs.lookup(&key);
    if (known) {
        __sync_fetch_and_add(known, 1);
    } else {
        u64 one = 1;
        if (execs.update(&key, &one))
            add(LOST_EXECS, 1);
    }
    /* An exec from a thread that is not the leader goes on under the leader's number; the old leader's exit took it away. */
    u32 tid = number_of_thread((u64)task), one = 1;
    live.update(&tid, &one);
    return 0;
}

static __always_inline bool among(u64 id, u64 cred, u32 offset)
{
    /* the id is -1 (leave unchanged), or one of real, saved, effective (struct cred: uid gid suid sgid euid egid) */
    u32 value = id;
    return value == ~0u || value == read32(cred + offset) || value == read32(cred + offset + 8) || value == read32(cred + offset + 16);
}

/* set*id calls ask for the capability first, even when the ids asked for are the caller's own (kernel/sys.c). */
static __always_inline bool changes_nothing(u64 cred, u32 number, u64 a0, u64 a1, u64 a2)
{
    if (number == NR_SETUID || number == NR_SETFSUID)
        return among(a0, cred, OFFSET_CRED_UID);
    if (number == NR_SETREUID)
        return among(a0, cred, OFFSET_CRED_UID) && among(a1, cred, OFFSET_CRED_UID);
    if (number == NR_SETRESUID)
        return among(a0, cred, OFFSET_CRED_UID) && among(a1, cred, OFFSET_CRED_UID) && among(a2, cred, OFFSET_CRED_UID);
    if (number == NR_SETGID || number == NR_SETFSGID)
        return among(a0, cred, OFFSET_CRED_GID);
    if (number == NR_SETREGID)
        return among(a0, cred, OFFSET_CRED_GID) && among(a1, cred, OFFSET_CRED_GID);
    if (number == NR_SETRESGID)
        return among(a0, cred, OFFSET_CRED_GID) && among(a1, cred, OFFSET_CRED_GID) && among(a2, cred, OFFSET_CRED_GID);
    return false;
}

/* chmod calls ask for CAP_FSETID for every file of a foreign group; it matters only for a mode with the set-group-ID bit (fs/attr.c). */
static __always_inline bool sets_no_group_id(u32 number, u64 a1, u64 a2)
{
    if (number == NR_CHMOD || number == NR_FCHMOD)
        return !(a1 & 02000);
    return (number == NR_FCHMODAT || number == NR_FCHMODAT2) && !(a2 & 02000);
}

static __always_inline void note_check(struct task_struct *task, struct task_state *s, u64 cred, u64 ns, u32 cap, bool refused, u32 audited, u64 stack)
{
    struct session *session = session_at(s->session);
    if (!session)
        return;
    struct check_key key = {.program = s->program, .abi = s->abi, .number = s->number, .cap = cap, .refused = refused, .audited = audited};
    /* The namespace the workload began in, or one above it, is the one that counts (user_namespaces(7)). */
    key.child = ns != session->ns && read32(ns + OFFSET_NS_LEVEL) > session->ns_level;
    key.overridden = cred != LOAD64(task, OFFSET_TASK_REAL_CRED);
    if (s->abi == ABI_NATIVE && (cap == CAP_SETGID || cap == CAP_SETUID)) {
        u64 regs = bpf_task_pt_regs(task);
        key.idle = changes_nothing(cred, s->number, read64(regs + OFFSET_ARGUMENT_0), read64(regs + OFFSET_ARGUMENT_1), read64(regs + OFFSET_ARGUMENT_2));
    }
    if (s->abi == ABI_NATIVE && cap == CAP_FSETID) {
        u64 regs = bpf_task_pt_regs(task);
        key.idle = sets_no_group_id(s->number, read64(regs + OFFSET_ARGUMENT_1), read64(regs + OFFSET_ARGUMENT_2));
    }
    key.stack = stack;
    u64 now = bpf_ktime_get_ns();
    struct check_value *v = checks.lookup(&key);
    if (v) {
        __sync_fetch_and_add(&v->count, 1);
        v->last = now;
        return;
    }
    struct check_value fresh = {.count = 1, .first = now, .last = now};
    if (checks.update(&key, &fresh))
        add(LOST_CAPABILITIES, 1);
    else
        noted_new();
}

/* The kernel stack's key in `stacks`: a hash of its addresses. */
static __always_inline u64 stack_of(void *ctx)
{
    int zero = 0;
    struct stack *stack = stack_scratch.lookup(&zero);
    if (!stack)
        return 0;
    int length = bpf_get_stack(ctx, stack, sizeof(*stack), 0);
    u64 hash = 0xcbf29ce484222325ull;
    for (int i = 0; i < FRAMES; i++) {
        if (length < 0 || i * 8 >= length)
            stack->address[i] = 0;
        hash = (hash ^ stack->address[i]) * 0x9e3779b97f4a7c15ull;
        hash ^= hash >> 29;
    }
    if (!stacks.lookup(&hash) && stacks.update(&hash, stack))
        add(LOST_STACKS, 1);
    return hash;
}

static __always_inline struct task_state *recorded(struct task_struct *task)
{
    struct task_state *s = watched(task);
    return s && s->state >= STATE_STARTING ? s : 0;
}

/* tp_btf/cap_capable (Linux 6.14 and newer): cred, target_ns, capable_ns, cap, ret */
int on_cap_tracepoint(u64 *ctx)
{
    struct task_struct *task = (void *)bpf_get_current_task_btf();
    struct task_state *s = recorded(task);
    if (!s)
        return 0;
    u64 stack = stack_of(ctx);
    note_check(task, s, CTX(0), CTX(1), CTX(3), (s32)CTX(4) != 0, AUDITED_UNKNOWN, stack);
    return 0;
}

/* kprobe and kretprobe on cap_capable(cred, target_ns, cap, options); options bit 1 is CAP_OPT_NOAUDIT (Linux 5.1 and newer) */
int on_cap_entry(struct pt_regs *ctx)
{
    struct task_struct *task = (void *)bpf_get_current_task_btf();
    struct task_state *s = recorded(task);
    if (!s)
        return 0;
    s->check_cred = PARAMETER_0(ctx);
    s->check_ns = PARAMETER_1(ctx);
    s->check_cap = PARAMETER_2(ctx);
    s->check_options = PARAMETER_3(ctx);
    s->check_stack = stack_of(ctx);
    return 0;
}

int on_cap_return(struct pt_regs *ctx)
{
    struct task_struct *task = (void *)bpf_get_current_task_btf();
    struct task_state *s = recorded(task);
    if (!s || !s->check_cred)
        return 0;
    u64 cred = s->check_cred;
    s->check_cred = 0;
    note_check(task, s, cred, s->check_ns, s->check_cap, (s32)RETURNED(ctx) != 0, s->check_options & 2 ? AUDITED_NO : AUDITED_YES, s->check_stack);
    return 0;
}

/* lsm/capable(cred, target_ns, cap, options, result so far): a refusal by an earlier module ends before this hook. */
int on_cap_lsm(u64 *ctx)
{
    struct task_struct *task = (void *)bpf_get_current_task_btf();
    s64 result = CTX(4);
    struct task_state *s = recorded(task);
    if (s) {
        u64 stack = stack_of(ctx);
        note_check(task, s, CTX(0), CTX(1), CTX(2), (s32)result != 0, CTX(3) & 2 ? AUDITED_NO : AUDITED_YES, stack);
    }
    return 0;
}

#ifdef WITH_USES
#include "uses.bpf.c"
#endif
#ifdef WITH_WATCH
#include "watch.bpf.c"
#endif
