/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Watching what profgen does not start. Follows recorder.bpf.c, in one text.
 *
 * A task that is brought into a watched cgroup waits; it is recorded from its first exec that is the workload's own and not the runtime's.
 * Whether it is, is told by the order of events and by namespaces, never by names. What runs already is joined: see on_join.
 */



BPF_TABLE("hash", struct name_key, u32, names, LIMIT_SESSIONS + 4096); /* of containers, to their newest session; 0: none yet */
BPF_TABLE("hash", struct cgroup_key, u32, cgroups, 65536); /* to their session */
BPF_TABLE("hash", u32, u32, joining, LIMIT_TASKS); /* processes by profgen's number, to their session */
BPF_ARRAY(all_containers, u32, 1);
/* Cgroups that are not there yet, by what is above them, to the step that they are on the way to the one that is watched. */
BPF_TABLE("hash", struct awaited_key, u32, awaited, 256);
BPF_ARRAY(steps, struct step, 256);
/* What the stack has no room for. */
struct room {
    struct name_key key; struct name_key zero; char text[256]; struct task_state state; struct task_state fresh;
    struct awaited_key awaited; struct awaited_key nothing;
};
BPF_PERCPU_ARRAY(rooms, struct room, 1);

BPF_RINGBUF_OUTPUT(starts, 16);

static __always_inline void tell(u32 what, u32 number, u32 tgid, struct name_key *name)
{
    struct start start = {.session = number, .tgid = tgid, .time = bpf_ktime_get_ns()};
    if (what == NEWS_BEGAN)
        starts.ringbuf_output(&start, sizeof(start), 0);
    struct news *news = events.ringbuf_reserve(sizeof(struct news));
    if (!news) {
        int lost = LOST_SESSIONS;
        u64 *count = counters.lookup(&lost);
        struct session *session = session_at(number);
        if (count && (what == NEWS_MADE || what == NEWS_BEGAN))
            __sync_fetch_and_add(count, 1);
        else if (session && what != NEWS_ENDED)
            __sync_fetch_and_add(&session->stats[LOST_EVENTS], 1);
        return;
    }
    news->what = what;
    news->session = number;
    news->tgid = tgid;
    news->pad = 0;
    news->time = start.time;
    if (name)
        __builtin_memcpy(news->name, name->text, ID_TEXT);
    else
        __builtin_memset(news->name, 0, ID_TEXT);
    events.ringbuf_submit(news, 0);
}

static __always_inline void session_ended(u32 number)
{
    struct session *session = session_at(number);
    if (!session || session->kind == KIND_CGROUP)
        return;
    session->ended = 1;
    tell(NEWS_ENDED, number, 0, 0);
}

static __always_inline void session_began(u32 number, struct task_struct *task, bool first)
{
    if (first)
        tell(NEWS_BEGAN, number, number_of_thread((u64)task), 0);
}

/* The number of a task's mount namespace. */
static __always_inline u32 mounts_number(struct task_struct *task)
{
    return read32(read64(read64((u64)task + OFFSET_TASK_NSPROXY) + OFFSET_NSPROXY_MNT_NS) + OFFSET_MNT_NS_INUM);
}

/* A thread's pid namespace (of the innermost of its numbers), and its number there. */
static __always_inline u64 pids_of(struct task_struct *task, u32 *number)
{
    u64 pid = read64((u64)task + OFFSET_TASK_THREAD_PID);
    u64 place = pid + OFFSET_PID_NUMBERS + 16 * (u64)(read32(pid + OFFSET_PID_LEVEL) & 31);
    *number = read32(place);
    return read64(place + 8);
}

/* A pid namespace that was made for a task that waits is the container's own. */
static __always_inline void note_pids(struct session *session, struct task_struct *task)
{
    u32 number = 0;
    u64 ns = pids_of(task, &number);
    if (number == 1 && !session->began)
        session->pids = ns;
}

/* Whether an exec that has just succeeded is the workload's first: of a container, in a mount namespace that is neither the host's nor its
 * runtime's, and as the first process of the pid namespace that was made for it. All that runs before is the runtime and its hooks. */
static __always_inline bool is_entry(struct task_struct *task, struct task_state *s, struct session *session)
{
    if (session->kind != KIND_CONTAINER)
        return true;
    int zero = 0;
    struct self *own = self.lookup(&zero);
    u32 mounts = mounts_number(task), number = 0;
    if (mounts == s->mounts || (own && mounts == own->host_mounts))
        return false;
    return session->began || session->pids != pids_of(task, &number) || number == 1;
}

static __always_inline u64 cgroup_above(u64 cgroup)
{
    u64 css = read64(cgroup + OFFSET_CGROUP_SELF + OFFSET_CSS_PARENT);
    return css ? css - OFFSET_CGROUP_SELF : 0;
}

/* What a container is called in its cgroup's name: its id in ID, docker-ID.scope, libpod-ID.scope, cri-containerd-ID.scope and the like, and not in
 * libpod-conmon-ID.scope; else the whole name. Returns whether it is an id. */
static __always_inline bool name_of(u64 cgroup, struct room *out)
{
    u64 name = read64(read64(cgroup + OFFSET_CGROUP_KN) + OFFSET_KERNFS_NAME);
    out->key = out->zero;
    s64 length = bpf_probe_read_kernel_str(out->text, sizeof(out->text), (void *)name) - 1;
    if (length <= 0)
        return false;
    u64 word = 0;
    if (length > 6) {
        bpf_probe_read_kernel(&word, 6, (void *)(name + length - 6));
        if (word == 0x65706f63732eull) /* ".scope" */
            length -= 6;
    }
    bool id = length >= ID_TEXT;
    if (id) {
        bpf_probe_read_kernel(out->key.text, ID_TEXT, (void *)(name + length - ID_TEXT));
        s64 other = 0; /* negative: not a hexadecimal digit. Without a branch: the verifier would go both ways at each. */
#pragma clang loop unroll(disable)
        for (int i = 0; i < ID_TEXT; i++) {
            s64 c = (u8)out->key.text[i];
            other |= ((c - '0') | ('9' - c)) & ((c - 'a') | ('f' - c));
        }
        if (length > ID_TEXT) {
            word = 0;
            bpf_probe_read_kernel(&word, 1, (void *)(name + length - ID_TEXT - 1));
            if (word != '-')
                other = -1;
        }
        if (length >= ID_TEXT + 7) {
            word = 0;
            bpf_probe_read_kernel(&word, 7, (void *)(name + length - ID_TEXT - 7));
            if (word == 0x2d6e6f6d6e6f63ull) /* "conmon-" */
                other = -1;
        }
        if (other >= 0)
            return true;
        out->key = out->zero;
    }
    bpf_probe_read_kernel_str(out->key.text, ID_TEXT, (void *)name);
    return false;
}

/* A new session of a container; 0 when there is no room. */
static __always_inline u32 new_session(struct name_key *name)
{
    int at = NEXT_SESSION;
    u64 *next = counters.lookup(&at);
    if (!next)
        return 0;
    u32 number = LIMIT_SESSIONS;
    if (*next < LIMIT_SESSIONS)
        number = __sync_fetch_and_add(next, 1);
    if (number >= LIMIT_SESSIONS && free_sessions.pop(&number))
        number = 0;
    struct session *session = session_at(number);
    u32 shared = number ? new_program(number) : LIMIT_PROGRAMS;
    if (!number || !session || shared >= LIMIT_PROGRAMS) {
        int lost = LOST_SESSIONS;
        u64 *count = counters.lookup(&lost);
        if (count)
            __sync_fetch_and_add(count, 1);
        if (number)
            free_sessions.push(&number, 0);
        return 0;
    }
    __builtin_memset(session, 0, sizeof(*session));
    session->shared = shared;
    session->kind = KIND_CONTAINER;
    names.update(name, &number);
    tell(NEWS_MADE, number, 0, name);
    return number;
}

#define CGROUP_LEVELS 32 /* more are not seen */
/* The session that a cgroup belongs to, by itself or what is above it; 0 for none. */
static __always_inline u32 session_of_cgroup(u64 cgroup)
{
    int zero = 0;
    struct room *local = rooms.lookup(&zero);
    u32 *all = all_containers.lookup(&zero);
    if (!local || !all)
        return 0;
    u32 hierarchy = read32(read64(cgroup + OFFSET_CGROUP_ROOT) + OFFSET_HIERARCHY_ID);
#pragma clang loop unroll(disable)
    for (int level = 0; level < CGROUP_LEVELS; level++) {
        if (!cgroup)
            return 0;
        struct cgroup_key key = {.id = read64(read64(cgroup + OFFSET_CGROUP_KN) + OFFSET_KERNFS_ID), .hierarchy = hierarchy};
        u32 *known = cgroups.lookup(&key);
        if (known)
            return *known;
        bool id = name_of(cgroup, local);
        known = names.lookup(&local->key);
        if (known || (id && *all)) {
            u32 number = known ? *known : 0;
            struct session *session = number ? session_at(number) : 0;
            if (session && !session->ended)
                return number;
            return new_session(&local->key);
        }
        cgroup = cgroup_above(cgroup);
    }
    return 0;
}

/* A state to fill in; it lies in a map. */
static __always_inline struct task_state *new_state(u32 state, u32 session)
{
    int zero = 0;
    struct room *local = rooms.lookup(&zero);
    if (!local)
        return 0;
    local->state = local->fresh;
    local->state.state = state;
    local->state.session = session;
    local->state.last_number = ~0u;
    return &local->state;
}

/* The program that a task runs already. */
static __always_inline u32 program_that_runs(u32 number, struct task_struct *task)
{
    u64 file = read64(read64((u64)task + OFFSET_TASK_MM) + OFFSET_MM_EXE);
    return program_of(number, file, 0, false, (u64)task);
}

/* Mark a task that nobody marked. */
static __always_inline bool mark(struct task_struct *task, struct task_state *state, bool runs)
{
    struct session *session = session_at(state->session);
    if (!session || tasks.task_storage_get(task, 0, 0))
        return false;
    if (runs) {
        if (!session->began) {
            note_start(session, state->session, task);
            int zero = 0;
            struct self *own = self.lookup(&zero);
            if (own && own->mounts == read64(read64((u64)task + OFFSET_TASK_NSPROXY) + OFFSET_NSPROXY_MNT_NS)) {
                /* it may have been in a chroot before: paths begin at profgen's root */
                session->top = own->top;
                session->root = own->root;
            }
            tell(NEWS_JOINED, state->session, number_of_thread((u64)task), 0);
        }
        state->program = state->caller = program_that_runs(state->session, task);
        /* a call may be in flight: its end says nothing, but a capability may be checked before that */
        state->number = read32(bpf_task_pt_regs(task) + OFFSET_CALL_NUMBER) & 0xffff;
    }
    state->entered = 1;
    if (!tasks.task_storage_get(task, state, BPF_LOCAL_STORAGE_GET_F_CREATE)) {
        __sync_fetch_and_add(&session->stats[LOST_TASKS], 1);
        return false;
    }
    __sync_fetch_and_add(&session->stats[STAT_LIVE], 1);
#ifdef WITH_USES
    note_member((u64)task, state->session, session->level);
#endif
    u32 tid = number_of_thread((u64)task), one = 1;
    live.update(&tid, &one);
    return true;
}

#define PF_FORKNOEXEC 0x40 /* include/linux/sched.h */
/* A task came into a cgroup, brought by the running thread. */
static __always_inline void came(struct task_struct *task, u64 cgroup, bool by_itself)
{
    u32 number = session_of_cgroup(cgroup);
    struct session *session = number ? session_at(number) : 0;
    if (!session || !read64((u64)task + OFFSET_TASK_MM))
        return;
    /* What forked and has not executed since is its manager's yet: systemd brings the processes of its units so. */
    bool forked = LOAD32(task, OFFSET_TASK_FLAGS) & PF_FORKNOEXEC;
    bool at_once = session->kind != KIND_CONTAINER && !by_itself && !forked;
    struct task_state *state = new_state(at_once ? STATE_RECORDING : STATE_WAITING, number);
    if (!state)
        return;
    state->mounts = mounts_number((void *)bpf_get_current_task_btf());
    if (!mark(task, state, at_once))
        return;
    note_pids(session, task);
    if (read32(LOAD64(task, OFFSET_TASK_SIGNAL) + OFFSET_SIGNAL_THREADS) > 1) {
        u64 group = read64(LOAD64(task, OFFSET_TASK_SIGNAL) + OFFSET_SIGNAL_PIDS + 8);
        int zero = 0;
        struct self *own = self.lookup(&zero);
        tell(NEWS_THREADS, number, read32(group + OFFSET_PID_NUMBERS + 16 * (u64)(own ? own->level & 31 : 0)), 0);
    }
}

/* cgroup_attach_task(cgroup, path, task, threadgroup) */
int on_attach(u64 *ctx)
{
    struct task_struct *task = (void *)CTX(2);
    if (tasks.task_storage_get(task, 0, 0))
        return 0; /* it belongs to a session already: a container within a container stays with the outer one */
    struct task_struct *by = (void *)bpf_get_current_task_btf();
    came(task, CTX(0), LOAD64(task, OFFSET_TASK_SIGNAL) == LOAD64(by, OFFSET_TASK_SIGNAL));
    return 0;
}

/* What the first thread of a thread's process is marked with: whoever comes with several threads has but that one marked, until profgen marks the
 * others. */
static __always_inline struct task_state *state_of_first(struct task_struct *task)
{
    return watched((void *)LOAD64(task, OFFSET_TASK_LEADER));
}

/* clone3(2) with CLONE_INTO_CGROUP, which only version 2 has */
static __always_inline void on_other_fork(struct task_struct *parent, struct task_struct *child)
{
    u64 set = LOAD64(child, OFFSET_TASK_CGROUPS);
    if (set == LOAD64(parent, OFFSET_TASK_CGROUPS))
        return;
    came(child, read64(set + OFFSET_CSS_SET_DEFAULT), true);
}

/* cgroup_mkdir(cgroup, path), before anything can come into it: by name from what is above, as `path` begins at a root that a cgroup namespace
 * does not show. */
int on_mkdir(u64 *ctx)
{
    u64 cgroup = CTX(0), above = cgroup_above(cgroup);
    int zero = 0;
    struct room *local = rooms.lookup(&zero);
    if (!local || !above)
        return 0;
    u64 kn = read64(cgroup + OFFSET_CGROUP_KN);
    u32 hierarchy = read32(read64(cgroup + OFFSET_CGROUP_ROOT) + OFFSET_HIERARCHY_ID);
    local->awaited = local->nothing;
    local->awaited.above = read64(read64(above + OFFSET_CGROUP_KN) + OFFSET_KERNFS_ID);
    local->awaited.hierarchy = hierarchy;
    bpf_probe_read_kernel_str(local->awaited.name, NAME_SIZE, (void *)read64(kn + OFFSET_KERNFS_NAME));
    u32 *at = awaited.lookup(&local->awaited);
    if (!at)
        return 0;
    u32 index = *at;
    struct step *step = steps.lookup(&index);
    if (!step)
        return 0;
    if (step->last) {
        struct cgroup_key key = {.id = read64(kn + OFFSET_KERNFS_ID), .hierarchy = hierarchy};
        u32 session = step->session;
        cgroups.update(&key, &session);
        return 0;
    }
    index++;
    step = steps.lookup(&index);
    if (!step)
        return 0;
    local->awaited.above = read64(kn + OFFSET_KERNFS_ID);
    __builtin_memcpy(local->awaited.name, step->name, NAME_SIZE);
    awaited.update(&local->awaited, &index);
    return 0;
}

/* iter/task(meta, task): run over all tasks by profgen itself, which joins those that it asked for. */
int on_join(u64 *ctx)
{
    int zero = 0;
    struct task_struct *current_task = (void *)bpf_get_current_task_btf(), *task = (void *)CTX(1);
    struct self *own = self.lookup(&zero);
    if (!own || !task)
        return 0;
    own->level = read32(LOAD64(current_task, OFFSET_TASK_THREAD_PID) + OFFSET_PID_LEVEL);
    own->mounts = LOAD64(LOAD64(current_task, OFFSET_TASK_NSPROXY), OFFSET_NSPROXY_MNT_NS);
    u64 fs = LOAD64(current_task, OFFSET_TASK_FS);
    own->top = read64(fs + OFFSET_FS_ROOT_DENTRY);
    own->root = own->top ^ read64(fs + OFFSET_FS_ROOT_MNT);
    if (!read64((u64)task + OFFSET_TASK_MM) || tasks.task_storage_get(task, 0, 0))
        return 0;
    u64 group = read64(LOAD64(task, OFFSET_TASK_SIGNAL) + OFFSET_SIGNAL_PIDS + 8);
    u32 tgid = read32(group + OFFSET_PID_NUMBERS + 16 * (u64)(own->level & 31));
    u32 *found = joining.lookup(&tgid);
    if (!found)
        return 0;
    bool starting = *found & JOIN_STARTING;
    u32 number = *found & ~(JOIN_STARTING | JOIN_THREADS), mounts = 0;
    if (*found & JOIN_THREADS) {
        struct task_state *first = state_of_first(task);
        if (!first || first->session != number)
            return 0; /* it has ended, and another process has its number */
        starting = first->state == STATE_WAITING;
        mounts = first->mounts;
    }
    struct task_state *state = new_state(starting ? STATE_WAITING : STATE_RECORDING, number);
    if (state)
        state->mounts = mounts;
    int marked = MARKED;
    u64 *count = counters.lookup(&marked);
    if (!state || !mark(task, state, !starting))
        return 0;
    struct session *session = session_at(number);
    if (starting && session)
        note_pids(session, task);
    if (count)
        __sync_fetch_and_add(count, 1);
    return 0;
}

#ifdef WITH_DENIALS
BPF_TABLE("hash", struct refused_key, struct refused_value, refused, LIMIT_DENIALS);
BPF_TABLE("hash", struct refused_sort, u32, refused_sorts, LIMIT_DENIALS);
#define REFUSED_ARGUMENTS 16 /* different argument lists of one sort that are kept */

/* A call that ends without having begun: a seccomp filter gave it this error in its place. Filters run before sys_enter, and sys_exit comes in
 * any case (kernel/entry/common.c syscall_trace_enter); the registers still hold the call. */
static __always_inline void note_refused(u64 *ctx, struct task_struct *task, struct task_state *s)
{
    s64 result = CTX(1);
    if (result >= 0 || result < -4095)
        return; /* the first end of a new thread, or a signal in place of the call */
    struct session *session = session_at(s->session);
    if (!session)
        return;
    void *regs = (void *)CTX(0);
    u64 id = LOAD64(regs, OFFSET_CALL_NUMBER);
    u32 abi = ABI_NATIVE;
    if (LOAD32(task, OFFSET_COMPAT_STATUS) & COMPAT_BIT)
        abi = ABI_COMPAT;
#ifdef X32_BIT
    else if (id & X32_BIT && id < 0x80000000) {
        abi = ABI_X32;
        id &= ~X32_BIT;
    }
#endif
    struct refused_key key = {.program = s->state < STATE_STARTING ? session->shared : s->program, .abi = abi, .number = id, .error = -result};
    struct refused_sort sort = {.program = key.program, .abi = abi, .number = id, .error = -result};
    ARGUMENTS(key.a, regs, abi);
    struct refused_value *known = refused.lookup(&key);
    if (known) {
        __sync_fetch_and_add(&known->count, 1);
        return;
    }
    u32 *different = refused_sorts.lookup(&sort), one = 1;
    if (different && *different >= REFUSED_ARGUMENTS) {
        /* one row for all the others */
        key.a[0] = key.a[1] = key.a[2] = key.a[3] = key.a[4] = key.a[5] = 0;
        key.abi |= REFUSED_OTHERS;
        known = refused.lookup(&key);
        if (known) {
            __sync_fetch_and_add(&known->count, 1);
            return;
        }
    }
    if (different)
        __sync_fetch_and_add(different, 1);
    else
        refused_sorts.update(&sort, &one);
    struct refused_value fresh = {.count = 1};
    u64 group = read64(read64((u64)task + OFFSET_TASK_SIGNAL) + OFFSET_SIGNAL_PIDS + 8);
    int zero = 0;
    struct self *own = self.lookup(&zero);
    fresh.pid = read32(group + OFFSET_PID_NUMBERS + 16 * (u64)(own ? own->level & 31 : 0));
    bpf_get_current_comm(fresh.comm, sizeof(fresh.comm));
    if (refused.update(&key, &fresh))
        __sync_fetch_and_add(&session->stats[LOST_DENIALS], 1);
    noted_new();
}
#endif
