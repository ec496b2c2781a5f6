/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What the kernel notes of a watched workload.
 *
 * Watched threads carry a task storage; every other thread leaves each program after one load. Names, argument values,
 * results and capability checks are counted in maps, so no single one can be dropped, and whatever does not fit is
 * counted in the session's `stats`. Only a program that is executed for the first time is sent as an event.
 *
 * loader.py puts the included files in their places, because bcc rewrites map accesses in its main file only, and
 * defines what is open here: LIMIT_* (sizes of maps), OFFSET_* (from BTF), NR_* (numbers of calls), registers.
 */

#include "shared.h"
#include "kernel.h"
#include "common.h"
#include "programs.h"
#ifdef WITH_USES
#include "uses.bpf.c"
#endif
#ifdef WITH_WATCH
#include "watch.bpf.c"
#endif

/* -- capability sets ----------------------------------------------------------------------------------------------*/

static __always_inline void note_claim(struct claim_key *key)
{
    u64 now = bpf_ktime_get_ns();
    struct tally *v = claims.lookup(key);
    if (v) {
        tally_again(v, now);
        return;
    }
    struct tally fresh = {.count = 1, .first = now, .last = now};
    if (claims.update(key, &fresh))
        count_loss(LOST_CAPABILITIES);
    else
        noted_new();
}

/* A claim by the call in flight, with the sets that its thread has now. */
static __always_inline struct claim_key claim_of(struct task_state *s, u64 cred)
{
    struct session *session = session_at(s->session);
    return (struct claim_key){
        .program = s->program,
        .abi = s->abi,
        .number = s->number,
        .child = session && below_start(session, read64(cred + OFFSET_CRED_USER_NS)),
        .looked = s->looked,
        .had_effective = read64(cred + OFFSET_CRED_EFFECTIVE_SET),
        .had_permitted = read64(cred + OFFSET_CRED_PERMITTED_SET),
        .had_inheritable = read64(cred + OFFSET_CRED_INHERITABLE_SET),
        .bounding = read64(cred + OFFSET_CRED_BOUNDING_SET),
    };
}

/* capset(2): struct __user_cap_header_struct, and one or two of struct __user_cap_data_struct by its version. */
static __always_inline void note_capset(struct task_state *s, u64 cred, u64 header, u64 data)
{
    u32 version = 0, words[6] = {};
    if (read_user(&version, sizeof(version), (void *)header))
        return;
    u32 size = version == CAPABILITY_VERSION_1 ? sizeof(words) / 2 : sizeof(words);
    if (read_user(words, size, (void *)data))
        return;
    struct claim_key key = claim_of(s, cred);
    key.effective = words[0] | (u64)words[3] << 32;
    key.permitted = words[1] | (u64)words[4] << 32;
    key.inheritable = words[2] | (u64)words[5] << 32;
    u64 known = (2ull << CAP_LAST) - 1;
    key.effective &= known;
    key.permitted &= known;
    key.inheritable &= known;
    if (!(key.effective & ~key.permitted)) /* else EPERM (security/commoncap.c cap_capset) */
        note_claim(&key);
}

/* PR_CAP_AMBIENT_RAISE wants the capability in two sets (security/commoncap.c cap_task_prctl). */
static __always_inline void note_ambient(struct task_state *s, u64 cred, u64 option, u64 operation, u64 cap)
{
    if ((u32)option != PR_CAP_AMBIENT || operation != PR_CAP_AMBIENT_RAISE || cap > CAP_LAST)
        return;
    struct claim_key key = claim_of(s, cred);
    key.permitted = 1ull << cap;
    if (key.had_inheritable & key.permitted)
        note_claim(&key);
}

static __always_inline u64 extent_of(u64 ns, u32 member)
{
    return read32(ns + OFFSET_NS_UID_EXTENT + member);
}

/* After a write to a map of ids: a thread that maps its parent namespace's root into its own namespace must have had
 * CAP_SETFCAP when it made that (kernel/user_namespace.c verify_root_map, Linux 5.12). Such a thread can map one id. */
static __always_inline void note_map(struct task_state *s, u64 cred)
{
    u64 ns = s->mapped;
    s->mapped = 0;
    struct session *session = session_at(s->session);
    if (!session || read64(cred + OFFSET_CRED_USER_NS) != ns || !read32(ns + OFFSET_NS_UID_EXTENTS))
        return;
    u64 parent = read64(ns + OFFSET_NS_PARENT);
    if (extent_of(parent, EXTENT_FIRST) || extent_of(ns, EXTENT_LOWER) != extent_of(parent, EXTENT_LOWER))
        return;
    struct claim_key key = claim_of(s, cred);
    key.child = below_start(session, parent);
    key.permitted = 1ull << CAP_SETFCAP;
    note_claim(&key);
}

/* seccomp(2) with a listener: what the filter's supervisor answers never begins for sys_enter. A question whether the
 * kernel knows the flag has no filter. */
static __always_inline void note_filter(u64 operation, u64 flags, u64 filter)
{
    if ((u32)operation == SECCOMP_SET_MODE_FILTER && flags & SECCOMP_FILTER_FLAG_NEW_LISTENER && filter)
        count_loss(LOST_HIDDEN);
}

static __always_inline void note_sets(struct task_struct *task, struct task_state *s, u32 sets, u64 *a)
{
    if (sets == SETS_LOOK) {
        if (a[1])
            s->looked = 1; /* without room for an answer it only asks for the version */
        return;
    }
    if (sets == SETS_FILTER) {
        note_filter(a[0], a[1], a[2]);
        return;
    }
    u64 cred = read64((u64)task + OFFSET_TASK_CRED);
    if (sets == SETS_CHANGE)
        note_capset(s, cred, a[0], a[1]);
    else
        note_ambient(s, cred, a[0], a[1], a[2]);
}

/* What a program that has just been executed gained by its file: it runs with the file's ids, or a user other than root
 * has capabilities that it did not keep as ambient ones. */
static __always_inline u32 gained_by(u64 cred, u64 file)
{
    u64 inode = read64(file + OFFSET_FILE_INODE);
    u32 mode = read32(inode + OFFSET_INODE_MODE), gained = 0;
    u32 uid = read32(cred + OFFSET_CRED_UID + CRED_EFFECTIVE), gid = read32(cred + OFFSET_CRED_GID + CRED_EFFECTIVE);
    if (mode & S_ISUID && uid == read32(inode + OFFSET_INODE_UID) && uid != read32(cred + OFFSET_CRED_UID))
        gained |= GAINED_SETUID;
    if (mode & S_ISGID && mode & S_IXGRP && gid == read32(inode + OFFSET_INODE_GID) &&
        gid != read32(cred + OFFSET_CRED_GID))
        gained |= GAINED_SETGID;
    if (uid && read64(cred + OFFSET_CRED_PERMITTED_SET) & ~read64(cred + OFFSET_CRED_AMBIENT_SET))
        gained |= GAINED_CAPABILITIES;
    return gained;
}

/* -- calls, their arguments and results ---------------------------------------------------------------------------- */

static __always_inline void note_values(struct task_state *s, u32 abi, u64 number, struct spec *spec, u64 *a)
{
    struct argument_key key = {.program = s->program, .abi = abi, .number = number};
    if (spec->pointer) {
        u64 word = 0;
        if (read_user(&word, sizeof(word), (void *)a[0]))
            return; /* the kernel cannot read it either: EFAULT */
        key.value[0] = word & spec->mask[0];
    } else {
        key.value[0] = a[spec->position[0] & ARGUMENT_MASK] & spec->mask[0];
        if (spec->count > 1)
            key.value[1] = a[spec->position[1] & ARGUMENT_MASK] & spec->mask[1];
        if (spec->count > 2)
            key.value[2] = a[spec->position[2] & ARGUMENT_MASK] & spec->mask[2];
    }
    if (s->last_number == number && s->last_abi == abi && s->last_values[0] == key.value[0] &&
        s->last_values[1] == key.value[1] && s->last_values[2] == key.value[2])
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
        return; /* user space reports an overflow and no list */
    u8 one = 1;
    if (arguments.update(&key, &one)) {
        count_loss(LOST_ARGUMENTS);
        return;
    }
    __sync_fetch_and_add(count, 1);
    noted_new();
}

/* The bit of a number in a bitmap of program_state, and the word that it is in. */
#define BIT_OF(number) (1ull << ((number) & 63))
#define WORD_OF(number) ((number) >> 6 & (NUMBER_WORDS - 1))

/* Count a call. Returns whether its result is wanted; negative when there was no room. */
static __always_inline int count_call(int program, u32 abi, u64 number)
{
    if (number < NUMBERS && abi == ABI_NATIVE) {
        struct counts *c = counts.lookup(&program);
        struct program_state *p = programs.lookup(&program);
        if (!c || !p)
            return -1;
        u64 at = number;
        KEEP(at); /* Linux 6.1 does not find the bound again in a copy of the number */
        at &= NUMBERS - 1;
        c->calls[at]++;
        u64 bit = BIT_OF(at);
        u32 word = WORD_OF(at);
        if (!(p->seen[word] & bit)) {
            p->first[at] = noted_new();
            __sync_fetch_and_or(&p->seen[word], bit);
        }
        return !(p->ok[word] & bit);
    }
    struct syscall_key key = {.program = program, .abi = abi, .number = number};
    struct syscall_value *v = others.lookup(&key);
    if (!v) {
        struct syscall_value fresh = {.first = noted_new()};
        others.update(&key, &fresh);
        v = others.lookup(&key);
        if (!v) {
            count_loss(LOST_SYSCALLS);
            return -1;
        }
    }
    __sync_fetch_and_add(&v->calls, 1);
    return !v->ok;
}

static __always_inline void note_success(int program, u32 number)
{
    struct program_state *p = programs.lookup(&program);
    if (p)
        __sync_fetch_and_or(&p->ok[WORD_OF(number)], BIT_OF(number));
}

/* Commands of fcntl(2) that lock. Numbers 13 and 14 do so under 32-bit ABIs only. */
#define LOCK_COMMANDS                                                                                                  \
    (1ull << F_SETLK | 1ull << F_SETLKW | 1ull << F_SETLK64 | 1ull << F_SETLKW64 | 1ull << F_OFD_SETLK |               \
     1ull << F_OFD_SETLKW)

/* Whether a call's arguments say that it uses something: most calls of some sorts do not. */
static __always_inline bool may_use(u32 only, u64 *a)
{
    if (only == ONLY_FCNTL_LOCK) {
        u32 command = a[1];
        return command <= F_OFD_SETLKW && LOCK_COMMANDS >> command & 1;
    }
    if (only == ONLY_EXECUTABLE)
        return a[2] & PROT_EXEC && !(a[3] & MAP_ANONYMOUS);
    return only != ONLY_PROTECTED || a[2] & PROT_EXEC;
}

/* The number of a call whose end restored all registers. It was one of two under a 32-bit ABI: both are counted. */
static __always_inline u64 number_of_sigreturn(struct task_struct *task, struct task_state *s)
{
    if (LOAD32(task, OFFSET_COMPAT_STATUS) & COMPAT_BIT) {
        count_call(s->program, ABI_COMPAT, NR_COMPAT_SIGRETURN);
        return NR_COMPAT_RT_SIGRETURN;
    }
#ifdef X32_BIT
    if (s->abi == ABI_X32)
        return X32_BIT | NR_X32_RT_SIGRETURN;
#endif
    return NR_RT_SIGRETURN;
}

/* Count a call with its arguments, and note what its end is looked at for. At its beginning, or later where
 * on_sys_enter did not see that. `own`: the thread is the running one, and its memory can be read. */
static __always_inline void begin(struct task_struct *task, struct task_state *s, void *regs, u64 number, bool own)
{
    u32 abi = abi_of(task, &number);
    note_unusual(task, abi);
    s->entered = 1;
    if (s->state < STATE_STARTING) {
        /* The workload may begin with this call. */
        s->abi = abi;
        s->number = number;
        /* Between fork and exec the child is still profgen; the workload begins with its execve. */
        if (s->state != STATE_ARMED || number != NR_EXECVE || abi != ABI_NATIVE)
            return;
        struct session *session = session_at(s->session);
        struct self *tracer = profgen();
        if (!session || !tracer)
            return;
        s->state = STATE_STARTING;
        note_start(session, s->session, (u64)task);
        tracer->level = session->level;
        tracer->mounts = mounts_of((u64)task);
    }
    if (s->mapped)
        note_map(s, read64((u64)task + OFFSET_TASK_CRED));
    s->caller = s->program;
    s->abi = abi;
    s->number = number;
    int wanted = count_call(s->program, abi, number);
    if (wanted < 0)
        return;
    s->wanted = wanted;
    s->route = ROUTE_NONE;
    if (number >= NUMBERS)
        return;
    int index = abi * NUMBERS + number;
    struct spec *spec = specs.lookup(&index);
    if (!spec)
        return;
    s->route = spec->route;
    if (!spec->reads)
        return;
    if (spec->pointer && !own) {
        s->entered = 0; /* its end counts it once more, with its arguments */
        return;
    }
    u64 a[ARGUMENT_PLACES] = {};
    ARGUMENTS(a, regs, abi);
    if (spec->count)
        note_values(s, abi, number, spec, a);
    if (spec->sets)
        note_sets(task, s, spec->sets, a);
    if (!may_use(spec->only, a))
        s->route = ROUTE_NONE;
}

/* sys_enter(regs, id) */
int on_sys_enter(u64 *ctx)
{
    struct task_struct *task = (void *)bpf_get_current_task_btf();
    struct task_state *s = watched(task);
    if (!s)
        return 0;
    s->guarded = entries();
    begin(task, s, (void *)CTX(0), CTX(1), true);
    return 0;
}

static __always_inline void note_result(struct task_state *s, s64 result)
{
    int program = s->caller;
    if (!failed(result)) {
        if (s->abi == ABI_NATIVE && s->number < NUMBERS) {
            note_success(program, s->number);
        } else {
            struct syscall_key key = {.program = program, .abi = s->abi, .number = s->number};
            struct syscall_value *v = others.lookup(&key);
            if (v)
                v->ok = 1;
        }
        return;
    }
    struct result_key key = {.program = program, .abi = s->abi, .number = s->number, .error = -result};
    u64 *known = results.lookup(&key), one = 1;
    if (known)
        __sync_fetch_and_add(known, 1);
    else if (results.update(&key, &one))
        count_loss(LOST_RESULTS);
}

/* Whether a call has no result yet and is made again. */
static __always_inline bool restarts(s64 result)
{
    return result == -ERESTARTSYS || result == -ERESTARTNOINTR || result == -ERESTARTNOHAND ||
           result == -ERESTART_RESTARTBLOCK;
}

/* Whether a call that was not counted by now was answered before it began: by a seccomp filter, which runs before
 * on_sys_enter. */
static __always_inline bool never_began(struct task_state *s)
{
    u32 number = entries();
    return number && s->guarded == number;
}

/* sys_exit(regs, result) */
int on_sys_exit(u64 *ctx)
{
    struct task_struct *task = (void *)bpf_get_current_task_btf();
    struct task_state *s = watched(task);
    if (!s)
        return 0;
    if (!s->entered) {
        if (never_began(s)) {
#ifdef WITH_DENIALS
            note_refused(ctx, task, s);
#endif
            return 0;
        }
        void *regs = (void *)CTX(0);
        u64 number = LOAD64(regs, OFFSET_CALL_NUMBER);
        if ((u32)number == NO_CALL && (s64)CTX(1) != -ENOSYS && s->state >= STATE_STARTING)
            number = number_of_sigreturn(task, s);
        begin(task, s, regs, number, true);
    }
    s->entered = 0;
    if (s->state < STATE_STARTING)
        return 0;
    u32 wanted = s->wanted, route = s->route;
    if (!wanted && !route)
        return 0;
    s->wanted = s->route = 0;
    s64 result = CTX(1);
    if (restarts(result))
        return 0;
    if (wanted)
        note_result(s, result);
#ifdef WITH_USES
    if (!route || result == -EFAULT || result == -ENOSYS)
        return 0; /* nothing was looked at */
    if (route & ROUTE_FAILURES && !failed(result))
        return 0;
    route &= ROUTE_FAILURES - 1;
    if (route == ROUTE_OPEN)
        route = failed(result) ? TAIL_TEXT : TAIL_DESCRIPTOR;
    go_on(ctx, s, route, result);
#endif
    return 0;
}

/* emulate_vsyscall(which): x86-64's legacy page stands for three calls. The kernel emulates them without entering a
 * call, but asks filters about them (arch/x86/entry/vsyscall/vsyscall_64.c). */
int on_vsyscall(u64 *ctx)
{
    struct task_struct *task = (void *)bpf_get_current_task_btf();
    struct task_state *s = recorded(task);
    if (!s)
        return 0;
    u64 which = CTX(0);
    u64 number = which == 0 ? NR_GETTIMEOFDAY : which == 1 ? NR_TIME : NR_GETCPU;
    if (number < NUMBERS && count_call(s->program, ABI_NATIVE, number) > 0)
        note_success(s->program, number);
    return 0;
}

/* sched_prepare_exec(task, bprm), or a kprobe on begin_new_exec: the registers of a call that executes a program hold
 * its number and arguments for the last time. */
int on_exec_prepared(void *ctx)
{
    struct task_struct *task = (void *)bpf_get_current_task_btf();
    struct task_state *s = watched(task);
    if (!s || s->entered)
        return 0;
    void *regs = (void *)bpf_task_pt_regs(task);
    begin(task, s, regs, LOAD64(regs, OFFSET_CALL_NUMBER), true);
    return 0;
}

#ifdef WITH_WATCH
/* iter/task(meta, task): count the calls in which threads wait, whose ends may come after the recording's. */
int on_in_flight(u64 *ctx)
{
    struct task_struct *task = (void *)CTX(1);
    if (!task)
        return 0;
    struct task_state *s = tasks.task_storage_get(task, 0, 0);
    if (!s || s->state != STATE_RECORDING || s->entered || never_began(s) || !LOAD32(task, OFFSET_TASK_STATE))
        return 0;
    void *regs = (void *)bpf_task_pt_regs(task);
    u64 number = LOAD64(regs, OFFSET_CALL_NUMBER);
    if ((u32)number != NO_CALL)
        begin(task, s, regs, number, false);
    return 0;
}
#endif

/* -- threads and programs ------------------------------------------------------------------------------------------ */

/* sched_process_fork(parent, child): for threads too, and before the child runs. */
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
    struct task_state copy = {
        .state = s->state,
        .program = s->program,
        .last_number = NO_NUMBER,
        .session = s->session,
        .mounts = s->mounts,
        .looked = s->looked,
        .entered = BORN_IN_CALL,
        .guarded = s->guarded,
    };
    if (!tasks.task_storage_get(child, &copy, BPF_LOCAL_STORAGE_GET_F_CREATE)) {
        count_loss(LOST_TASKS);
        return 0;
    }
    struct session *session = session_at(s->session);
    if (!session)
        return 0;
    __sync_fetch_and_add(&session->stats[STAT_LIVE], 1);
    if (s->state == STATE_RECORDING)
        count_task(session);
#ifdef WITH_WATCH
    if (s->state == STATE_WAITING)
        note_pids(session, child);
#endif
#ifdef WITH_USES
    note_member((u64)child, s->session, session->level);
    if (mounts_of((u64)child) != mounts_of((u64)task))
        tell_new_mounts(child, s->program, mounts_of((u64)task));
#endif
    u32 tid = number_of_thread((u64)child), one = 1;
    if (live.update(&tid, &one))
        count_loss(LOST_TASKS); /* recorded, but --duration and signals cannot reach it */
    return 0;
}

/* sched_process_exit(task) */
int on_exit(u64 *ctx)
{
    struct task_struct *task = (void *)bpf_get_current_task_btf();
    struct task_state *s = watched(task);
    if (!s)
        return 0;
    /* Only exit(2) and exit_group(2) end a thread without a signal, and they never come to on_sys_exit. */
    if (s->state >= STATE_STARTING && !s->entered && !never_began(s) &&
        !(LOAD32(task, OFFSET_TASK_FLAGS) & PF_SIGNALED)) {
        void *regs = (void *)bpf_task_pt_regs(task);
        u64 number = LOAD64(regs, OFFSET_CALL_NUMBER);
        u32 abi = abi_of(task, &number);
        count_call(s->program, abi, number);
    }
    u32 tid = number_of_thread((u64)task);
    live.delete(&tid);
    struct session *session = session_at(s->session);
    if (!session)
        return 0;
    if (s->state == STATE_RECORDING)
        __sync_fetch_and_add(&session->stats[STAT_TASKS], -1);
    u64 before = __sync_fetch_and_add(&session->stats[STAT_LIVE], -1);
#ifdef WITH_WATCH
    if (before == 1)
        session_ended(s->session);
#endif
    return 0;
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
        if (!session->began) {
            note_start(session, s->session, (u64)task);
            tell(NEWS_BEGAN, s->session, number_of_thread((u64)task), 0);
        }
    }
#endif
    u64 bprm = CTX(2), name = read64(bprm + OFFSET_BPRM_FILENAME), file = read64(bprm + OFFSET_BPRM_FILE);
    key.program = program_of(s->session, file, name, read64(bprm + OFFSET_BPRM_INTERP) != name, (u64)task);
#ifdef WITH_WATCH
    if (waited) {
        /* The call that is about to end is the first of the workload. */
        s->caller = key.program;
        s->wanted = count_call(key.program, s->abi, s->number) > 0;
        s->route = ROUTE_NONE;
        s->entered = 1;
    }
#endif
    struct session *own = session_at(s->session);
    if (own && s->state != STATE_RECORDING)
        count_task(own);
    s->state = STATE_RECORDING;
    s->program = key.program;
    s->last_number = NO_NUMBER;
    s->looked = 0;
    s->mapped = 0;
    u64 cred = read64((u64)task + OFFSET_TASK_CRED);
    key.child = own && below_start(own, read64(cred + OFFSET_CRED_USER_NS));
    key.gained = gained_by(cred, file);
    if (key.child)
        key.gained &= ~GAINED_CAPABILITIES; /* its root need not be the user 0 */
    u64 *known = execs.lookup(&key), first = 1;
    if (known)
        __sync_fetch_and_add(known, 1);
    else if (execs.update(&key, &first))
        count_loss(LOST_EXECS);
    /* A thread other than the leader takes the leader's number, which the old leader's exit took off the list. */
    u32 tid = number_of_thread((u64)task), one = 1;
    live.update(&tid, &one);
    return 0;
}

/* -- capability checks --------------------------------------------------------------------------------------------- */

/* Whether an id of a set*id call is NO_ID, or the real, saved or effective one. */
static __always_inline bool among(u64 id, u64 cred, u32 offset)
{
    u32 value = id;
    return value == NO_ID || value == read32(cred + offset) || value == read32(cred + offset + CRED_SAVED) ||
           value == read32(cred + offset + CRED_EFFECTIVE);
}

/* set*id calls check the capability first, even when the ids are the caller's own (kernel/sys.c). */
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

/* chmod calls check CAP_FSETID for every file of a foreign group; it matters only for a mode with the set-group-ID bit
 * (fs/attr.c). */
static __always_inline bool sets_no_group_id(u32 number, u64 a1, u64 a2)
{
    if (number == NR_CHMOD || number == NR_FCHMOD)
        return !(a1 & S_ISGID);
    return (number == NR_FCHMODAT || number == NR_FCHMODAT2) && !(a2 & S_ISGID);
}

/* Whether a refusal is the work of who set the bounding set: without that, root has every capability. A workload that
 * does not begin as root may have been given some, but one that has none is refused files every day. */
static __always_inline bool taken_away(struct session *session, u64 cred, u32 cap)
{
    if (read64(cred + OFFSET_CRED_BOUNDING_SET) >> cap & 1)
        return false;
    bool everyday =
        !read64(cred + OFFSET_CRED_EFFECTIVE_SET) && (cap == CAP_DAC_OVERRIDE || cap == CAP_DAC_READ_SEARCH);
    return is_root(cred) || !(session->root_user || everyday);
}

/* Whether anybody may choose this congestion control; the check comes before the name is looked at (net/ipv4/tcp.c
 * do_tcp_setsockopt, tcp(7)). */
static __always_inline bool chosen_freely(u64 name, u64 length)
{
    u64 text = 0;
    if (read_user(&text, length < sizeof(text) ? length & 7 : sizeof(text), (void *)name))
        return false;
    for (int i = 0; i < ALGORITHMS; i++) {
        int index = i;
        u64 *allowed = algorithms.lookup(&index);
        if (allowed && *allowed && *allowed == text)
            return true;
    }
    return false;
}

/* Whether a message queue is within the limits for everybody; the check comes first (ipc/mqueue.c mqueue_get_inode). */
static __always_inline bool ordinary_queue(u64 attributes)
{
    s64 words[MQ_FLAGS_AND_SIZES] = {};
    if (!attributes)
        return true;
    return !read_user(words, sizeof(words), (void *)attributes) && words[1] <= MQ_MAX && words[2] <= MQ_SIZE_MAX;
}

/* Whether a call ends in the same way for a program that has not the capability: the kernel asks before it looks what
 * is wanted. A forced size of a socket's buffer has an unforced second way, up to net.core.wmem_max (socket(7)). */
static __always_inline bool settles_nothing(u64 cred, u32 number, u32 cap, u64 regs)
{
    u64 a0 = read64(regs + OFFSET_ARGUMENT_0), a1 = read64(regs + OFFSET_ARGUMENT_1);
    u64 a2 = read64(regs + OFFSET_ARGUMENT_2), a3 = read64(regs + OFFSET_ARGUMENT_3);
    if (cap == CAP_FSETID)
        return sets_no_group_id(number, a1, a2);
    if (cap == CAP_SETUID || cap == CAP_SETGID)
        return changes_nothing(cred, number, a0, a1, a2);
    if (cap == CAP_NET_ADMIN && number == NR_SETSOCKOPT) {
        u32 level = a1, option = a2;
        if (level == SOL_TCP && option == TCP_CONGESTION)
            return chosen_freely(a3, (u32)read64(regs + OFFSET_ARGUMENT_4));
        return level == SOL_SOCKET && (option == SO_SNDBUFFORCE || option == SO_RCVBUFFORCE);
    }
    return cap == CAP_SYS_RESOURCE && number == NR_MQ_OPEN && ordinary_queue(a3);
}

static __always_inline void note_check(struct task_struct *task, struct task_state *s, u64 cred, u64 ns, u32 cap,
                                       bool refused, u32 audited, u64 stack)
{
    struct session *session = session_at(s->session);
    if (!session)
        return;
    void *regs = (void *)bpf_task_pt_regs(task);
    u64 call = LOAD64(regs, OFFSET_CALL_NUMBER);
    if (!s->entered && (u32)call != NO_CALL)
        begin(task, s, regs, call, true); /* capset(2) changes what its arguments are compared with */
    struct check_key key = {
        .program = s->program,
        .abi = s->abi,
        .number = s->number,
        .cap = cap,
        .refused = refused,
        .audited = audited,
        .stack = stack,
    };
    key.child = below_start(session, ns);
    /* The first check of every write to a map of ids (kernel/user_namespace.c map_write). */
    if (cap == CAP_SYS_ADMIN && key.child && !refused && ns == read64(cred + OFFSET_CRED_USER_NS) &&
        !read32(ns + OFFSET_NS_UID_EXTENTS))
        s->mapped = ns;
    key.overridden = cred != read64((u64)task + OFFSET_TASK_REAL_CRED);
    key.taken = refused && taken_away(session, cred, cap);
    key.idle = s->abi == ABI_NATIVE && settles_nothing(cred, s->number, cap, (u64)regs);
    u64 now = bpf_ktime_get_ns();
    struct tally *v = checks.lookup(&key);
    if (v) {
        tally_again(v, now);
        return;
    }
    struct tally fresh = {.count = 1, .first = now, .last = now};
    if (checks.update(&key, &fresh))
        count_loss(LOST_CAPABILITIES);
    else
        noted_new();
}

/* The key of the kernel stack in `stacks`: a hash of its addresses. */
static __always_inline u64 stack_of(void *ctx)
{
    int zero = 0;
    struct stack *stack = stack_scratch.lookup(&zero);
    if (!stack)
        return 0;
    int length = bpf_get_stack(ctx, stack, sizeof(*stack), 0);
    u64 hash = 1;
    for (int i = 0; i < FRAMES; i++) {
        if (length < 0 || i * 8 >= length)
            stack->address[i] = 0;
        hash = mix(hash, stack->address[i]);
    }
    if (!stacks.lookup(&hash) && stacks.update(&hash, stack))
        count_loss(LOST_STACKS);
    return hash;
}

/* tp_btf/cap_capable(cred, target_ns, capable_ns, cap, result), Linux 6.14 and newer */
int on_cap_tracepoint(u64 *ctx)
{
    struct task_struct *task = (void *)bpf_get_current_task_btf();
    struct task_state *s = recorded(task);
    if (s) {
        u64 stack = stack_of(ctx);
        note_check(task, s, CTX(0), CTX(1), CTX(3), (s32)CTX(4) != 0, AUDITED_UNKNOWN, stack);
    }
    return 0;
}

static __always_inline u32 audited_by(u64 options)
{
    return options & CAP_OPT_NOAUDIT ? AUDITED_NO : AUDITED_YES;
}

/* kprobe/cap_capable(cred, target_ns, cap, options), Linux 5.1 and newer */
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

/* kretprobe/cap_capable */
int on_cap_return(struct pt_regs *ctx)
{
    struct task_struct *task = (void *)bpf_get_current_task_btf();
    struct task_state *s = recorded(task);
    if (!s || !s->check_cred)
        return 0;
    u64 cred = s->check_cred;
    s->check_cred = 0;
    bool refused = (s32)RETURNED(ctx) != 0;
    note_check(task, s, cred, s->check_ns, s->check_cap, refused, audited_by(s->check_options), s->check_stack);
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
        note_check(task, s, CTX(0), CTX(1), CTX(2), (s32)result != 0, audited_by(CTX(3)), stack);
    }
    return 0;
}
