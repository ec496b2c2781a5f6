/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Watching what profgen does not start. Included by recorder.bpf.c.
 *
 * A thread that is brought into a watched cgroup waits. It is recorded from its first exec that belongs to the workload
 * and not to the runtime, which the order of events and namespaces tell, never names. What runs already is joined
 * (on_join).
 */

#define AWAITED 256 /* steps to cgroups that are not there yet */
#define WATCHED_CGROUPS 65536
#define AWAITED_NAMES 4096 /* names of containers that have not started yet */
#define START_PAGES 16
#define CGROUP_LEVELS 32 /* a cgroup below more levels is not seen */

/* What the stack of a program has no room for. */
struct room {
    struct name_key key;
    struct name_key zero;
    char text[NAME_SIZE];
    struct task_state state;
    struct task_state fresh;
    struct awaited_key awaited;
    struct awaited_key nothing;
};

BPF_TABLE("hash", struct name_key, u32, names, LIMIT_SESSIONS + AWAITED_NAMES);
BPF_TABLE("hash", struct cgroup_key, u32, cgroups, WATCHED_CGROUPS); /* to their session */
BPF_TABLE("hash", u32, u32, joining, LIMIT_TASKS); /* processes by profgen's number, to their session and JOIN_* */
BPF_ARRAY(all_containers, u32, 1);
BPF_TABLE("hash", struct awaited_key, u32, awaited, AWAITED);
BPF_ARRAY(steps, struct step, AWAITED);
BPF_PERCPU_ARRAY(rooms, struct room, 1);
BPF_RINGBUF_OUTPUT(starts, START_PAGES);

static __always_inline struct room *this_room(void)
{
    int zero = 0;
    return rooms.lookup(&zero);
}

static __always_inline void count_lost_session(void)
{
    u64 *count = counter_at(LOST_SESSIONS);
    if (count)
        __sync_fetch_and_add(count, 1);
}

static __always_inline void tell(u32 what, u32 number, u32 tgid, struct name_key *name)
{
    struct start start = {.session = number, .tgid = tgid, .time = bpf_ktime_get_ns()};
    if (what == NEWS_BEGAN)
        starts.ringbuf_output(&start, sizeof(start), 0);
    struct news *news = events.ringbuf_reserve(sizeof(struct news));
    if (!news) {
        struct session *session = session_at(number);
        if (what == NEWS_MADE || what == NEWS_BEGAN)
            count_lost_session();
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

/* The inode number of a thread's mount namespace. */
static __always_inline u32 mounts_number(struct task_struct *task)
{
    return read32(mounts_of((u64)task) + OFFSET_MNT_NS_INUM);
}

/* A pid namespace that was made for a waiting thread belongs to the container. */
static __always_inline void note_pids(struct session *session, struct task_struct *task)
{
    u64 own = own_upid(pid_of((u64)task));
    if (read32(own) == 1 && !session->began)
        session->pids = read64(own + UPID_NS);
}

/* Whether an exec that has just succeeded is the workload's first. For a container: it is in a mount namespace that is
 * neither the host's nor its runtime's, and it is the first process of the pid namespace that was made for it. All that
 * runs before is the runtime and its hooks. */
static __always_inline bool is_entry(struct task_struct *task, struct task_state *s, struct session *session)
{
    if (session->kind != KIND_CONTAINER)
        return true;
    struct self *own = profgen();
    u32 mounts = mounts_number(task);
    if (mounts == s->mounts || (own && mounts == own->host_mounts))
        return false;
    u64 upid = own_upid(pid_of((u64)task));
    return session->began || session->pids != read64(upid + UPID_NS) || read32(upid) == 1;
}

static __always_inline u64 cgroup_above(u64 cgroup)
{
    u64 css = read64(cgroup + OFFSET_CGROUP_SELF + OFFSET_CSS_PARENT);
    return css ? css - OFFSET_CGROUP_SELF : 0;
}

static __always_inline u32 hierarchy_of(u64 cgroup)
{
    return read32(read64(cgroup + OFFSET_CGROUP_ROOT) + OFFSET_HIERARCHY_ID);
}

static __always_inline u64 cgroup_id(u64 cgroup)
{
    return read64(read64(cgroup + OFFSET_CGROUP_KN) + OFFSET_KERNFS_ID);
}

static __always_inline u64 cgroup_name(u64 cgroup)
{
    return read64(read64(cgroup + OFFSET_CGROUP_KN) + OFFSET_KERNFS_NAME);
}

/* Up to eight bytes of a text in one word, in memory order. */
#define SCOPE ".scope"
#define SCOPE_WORD 0x65706f63732eull
#define CONMON "conmon-"
#define CONMON_WORD 0x2d6e6f6d6e6f63ull
static __always_inline u64 word_at(u64 text, u32 length)
{
    u64 word = 0;
    bpf_probe_read_kernel(&word, length, (void *)text);
    return word;
}

/* What a container is called in its cgroup's name: its id in ID, docker-ID.scope, libpod-ID.scope,
 * cri-containerd-ID.scope and the like, but not in libpod-conmon-ID.scope; else the whole name. Returns whether it is
 * an id. */
static __always_inline bool name_of(u64 cgroup, struct room *out)
{
    u64 name = cgroup_name(cgroup);
    out->key = out->zero;
    s64 length = bpf_probe_read_kernel_str(out->text, sizeof(out->text), (void *)name) - 1;
    if (length <= 0)
        return false;
    s64 scope = sizeof(SCOPE) - 1, conmon = sizeof(CONMON) - 1;
    if (length > scope && word_at(name + length - scope, scope) == SCOPE_WORD)
        length -= scope;
    if (length >= ID_TEXT) {
        u64 id = name + length - ID_TEXT;
        bpf_probe_read_kernel(out->key.text, ID_TEXT, (void *)id);
        /* Negative: not a hexadecimal digit. Without a branch, as the verifier would go both ways at each. */
        s64 other = 0;
#pragma clang loop unroll(disable)
        for (int i = 0; i < ID_TEXT; i++) {
            s64 c = (u8)out->key.text[i];
            other |= ((c - '0') | ('9' - c)) & ((c - 'a') | ('f' - c));
        }
        if (length > ID_TEXT && word_at(id - 1, 1) != '-')
            other = -1;
        if (length >= ID_TEXT + conmon && word_at(id - conmon, conmon) == CONMON_WORD)
            other = -1;
        if (other >= 0)
            return true;
        out->key = out->zero;
    }
    bpf_probe_read_kernel_str(out->key.text, ID_TEXT, (void *)name);
    return false;
}

/* A new session of a container, for a process that its runtime brings there; 0 when there is no room. */
static __always_inline u32 new_session(struct name_key *name, struct task_struct *task)
{
    u64 *next = counter_at(NEXT_SESSION);
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
        count_lost_session();
        if (number)
            free_sessions.push(&number, 0);
        return 0;
    }
    __builtin_memset(session, 0, sizeof(*session));
    session->shared = shared;
    session->kind = KIND_CONTAINER;
    names.update(name, &number);
    tell(NEWS_MADE, number, number_of_process((u64)task), name);
    return number;
}

/* The session that a cgroup belongs to, by itself or by a cgroup above it; 0 for none. A task comes into it. */
static __always_inline u32 session_of_cgroup(u64 cgroup, struct task_struct *task)
{
    int zero = 0;
    struct room *local = this_room();
    u32 *all = all_containers.lookup(&zero);
    if (!local || !all)
        return 0;
    u32 hierarchy = hierarchy_of(cgroup);
#pragma clang loop unroll(disable)
    for (int level = 0; level < CGROUP_LEVELS; level++) {
        if (!cgroup)
            return 0;
        struct cgroup_key key = {.id = cgroup_id(cgroup), .hierarchy = hierarchy};
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
            return new_session(&local->key, task);
        }
        cgroup = cgroup_above(cgroup);
    }
    return 0;
}

/* A state to fill in; it lies in a map. */
static __always_inline struct task_state *new_state(u32 state, u32 session)
{
    struct room *local = this_room();
    if (!local)
        return 0;
    local->state = local->fresh;
    local->state.state = state;
    local->state.session = session;
    local->state.last_number = NO_NUMBER;
    return &local->state;
}

/* The program that a thread runs already. */
static __always_inline u32 program_that_runs(u32 number, struct task_struct *task)
{
    u64 file = read64(read64((u64)task + OFFSET_TASK_MM) + OFFSET_MM_EXE);
    return program_of(number, file, 0, false, (u64)task);
}

/* Mark a thread that is not marked yet. `runs`: it is the workload already, and does not wait for it. `born`: it is
 * new, and begins at the end of a call. */
static __always_inline bool mark(struct task_struct *task, struct task_state *state, bool runs, bool born)
{
    struct session *session = session_at(state->session);
    if (!session || tasks.task_storage_get(task, 0, 0))
        return false;
    if (runs) {
        if (!session->began) {
            note_start(session, state->session, (u64)task);
            struct self *own = profgen();
            if (own && own->mounts == mounts_of((u64)task)) {
                /* It may have called chroot(2) before: its paths begin at profgen's root. */
                session->top = own->top;
                session->root = own->root;
            }
            tell(NEWS_JOINED, state->session, number_of_thread((u64)task), 0);
        }
        state->program = state->caller = program_that_runs(state->session, task);
        /* A call may be in flight. Its end is not recorded while on_sys_enter is attached, but a capability may be
         * checked before that. */
        state->number = read32(bpf_task_pt_regs(task) + OFFSET_CALL_NUMBER) & CALL_NUMBER_OF_ORIG;
    }
    state->guarded = entries();
    state->entered = born || state->guarded;
    note_unusual(task, ABI_NATIVE);
    if (!tasks.task_storage_get(task, state, BPF_LOCAL_STORAGE_GET_F_CREATE)) {
        __sync_fetch_and_add(&session->stats[LOST_TASKS], 1);
        return false;
    }
    __sync_fetch_and_add(&session->stats[STAT_LIVE], 1);
    if (runs)
        count_task(session);
#ifdef WITH_USES
    note_member((u64)task, state->session, session->level);
#endif
    u32 tid = number_of_thread((u64)task), one = 1;
    live.update(&tid, &one);
    return true;
}

/* A thread came into a cgroup, brought by the running thread. */
static __always_inline void came(struct task_struct *task, u64 cgroup, bool by_itself, bool born)
{
    u32 number = session_of_cgroup(cgroup, task);
    struct session *session = number ? session_at(number) : 0;
    if (!session || !read64((u64)task + OFFSET_TASK_MM))
        return;
    /* A process that has not executed since its fork still belongs to its manager: systemd starts units like this. */
    bool forked = LOAD32(task, OFFSET_TASK_FLAGS) & PF_FORKNOEXEC;
    bool at_once = session->kind != KIND_CONTAINER && !by_itself && !forked;
    struct task_state *state = new_state(at_once ? STATE_RECORDING : STATE_WAITING, number);
    if (!state)
        return;
    state->mounts = mounts_number((void *)bpf_get_current_task_btf());
    if (!mark(task, state, at_once, born))
        return;
    note_pids(session, task);
    if (read32(read64((u64)task + OFFSET_TASK_SIGNAL) + OFFSET_SIGNAL_THREADS) > 1)
        tell(NEWS_THREADS, number, number_of_process((u64)task), 0);
}

/* cgroup_attach_task(cgroup, path, task, threadgroup) */
int on_attach(u64 *ctx)
{
    struct task_struct *task = (void *)CTX(2);
    if (tasks.task_storage_get(task, 0, 0))
        return 0; /* it belongs to a session: a container within a container stays with the outer one */
    struct task_struct *by = (void *)bpf_get_current_task_btf();
    came(task, CTX(0), read64((u64)task + OFFSET_TASK_SIGNAL) == read64((u64)by + OFFSET_TASK_SIGNAL), false);
    return 0;
}

/* The state of the first thread of a thread's process. Of a process that comes with several threads only the first is
 * marked, until profgen marks the others. */
static __always_inline struct task_state *state_of_first(struct task_struct *task)
{
    return watched((void *)LOAD64(task, OFFSET_TASK_LEADER));
}

/* clone3(2) with CLONE_INTO_CGROUP, which only version 2 has. */
static __always_inline void on_other_fork(struct task_struct *parent, struct task_struct *child)
{
    u64 set = read64((u64)child + OFFSET_TASK_CGROUPS);
    if (set == read64((u64)parent + OFFSET_TASK_CGROUPS))
        return;
    came(child, read64(set + OFFSET_CSS_SET_DEFAULT), true, true);
}

/* cgroup_mkdir(cgroup, path), before anything can come into it. The cgroup is found by its name and the cgroup above,
 * since `path` begins at a root that a cgroup namespace does not show. */
int on_mkdir(u64 *ctx)
{
    u64 cgroup = CTX(0), above = cgroup_above(cgroup);
    struct room *local = this_room();
    if (!local || !above)
        return 0;
    local->awaited = local->nothing;
    local->awaited.above = cgroup_id(above);
    local->awaited.hierarchy = hierarchy_of(cgroup);
    bpf_probe_read_kernel_str(local->awaited.name, NAME_SIZE, (void *)cgroup_name(cgroup));
    u32 *at = awaited.lookup(&local->awaited);
    if (!at)
        return 0;
    u32 index = *at;
    struct step *step = steps.lookup(&index);
    if (!step)
        return 0;
    if (step->last) {
        struct cgroup_key key = {.id = cgroup_id(cgroup), .hierarchy = local->awaited.hierarchy};
        u32 session = step->session;
        cgroups.update(&key, &session);
        return 0;
    }
    index++;
    step = steps.lookup(&index);
    if (!step)
        return 0;
    local->awaited.above = cgroup_id(cgroup);
    __builtin_memcpy(local->awaited.name, step->name, NAME_SIZE);
    awaited.update(&local->awaited, &index);
    return 0;
}

/* iter/task(meta, task): run over all threads by profgen itself, which joins those that it has put into `joining`. */
int on_join(u64 *ctx)
{
    struct task_struct *task = (void *)CTX(1);
    u64 running = (u64)bpf_get_current_task_btf();
    struct self *own = profgen();
    if (!own || !task)
        return 0;
    own->level = read32(pid_of(running) + OFFSET_PID_LEVEL);
    own->mounts = mounts_of(running);
    u64 fs = read64(running + OFFSET_TASK_FS);
    own->top = read64(fs + OFFSET_FS_ROOT_DENTRY);
    own->root = own->top ^ read64(fs + OFFSET_FS_ROOT_MNT);
    if (!read64((u64)task + OFFSET_TASK_MM) || tasks.task_storage_get(task, 0, 0))
        return 0;
    if (read32((u64)task + OFFSET_TASK_FLAGS) & PF_EXITING)
        return 0; /* sched_process_exit may be over: it would count as living for ever */
    u32 tgid = number_of_process((u64)task);
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
    if (!state || !mark(task, state, !starting, false))
        return 0;
    struct session *session = session_at(number);
    if (starting && session)
        note_pids(session, task);
    u64 *count = counter_at(MARKED);
    if (count)
        __sync_fetch_and_add(count, 1);
    return 0;
}

#ifdef WITH_DENIALS
#define REFUSED_ARGUMENTS 16 /* argument lists of one call with one error that are kept apart */

BPF_TABLE("hash", struct refused_key, struct refused_value, refused, LIMIT_DENIALS);
BPF_TABLE("hash", struct refused_sort, u32, refused_sorts, LIMIT_DENIALS);

/* Note a call that ends without having begun: a seccomp filter answered it with this error. Filters run before
 * sys_enter, and sys_exit comes in any case (kernel/entry/common.c, syscall_trace_enter). The registers still hold the
 * call. */
static __always_inline void note_refused(u64 *ctx, struct task_struct *task, struct task_state *s)
{
    s64 result = CTX(1);
    if (!failed(result))
        return; /* the first end of a new thread, or a signal in place of the call */
    struct session *session = session_at(s->session);
    if (!session)
        return;
    void *regs = (void *)CTX(0);
    u64 number = LOAD64(regs, OFFSET_CALL_NUMBER);
    u32 abi = abi_of(task, &number), program = s->state < STATE_STARTING ? session->shared : s->program;
    struct refused_key key = {.program = program, .abi = abi, .number = number, .error = -result};
    struct refused_sort sort = {.program = program, .abi = abi, .number = number, .error = -result};
    ARGUMENTS(key.a, regs, abi);
    struct refused_value *known = refused.lookup(&key);
    if (known) {
        __sync_fetch_and_add(&known->count, 1);
        return;
    }
    u32 *different = refused_sorts.lookup(&sort), one = 1;
    if (different && *different >= REFUSED_ARGUMENTS) {
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
    struct refused_value fresh = {.count = 1, .pid = number_of_process((u64)task)};
    bpf_get_current_comm(fresh.comm, sizeof(fresh.comm));
    if (refused.update(&key, &fresh))
        __sync_fetch_and_add(&session->stats[LOST_DENIALS], 1);
    noted_new();
}
#endif
