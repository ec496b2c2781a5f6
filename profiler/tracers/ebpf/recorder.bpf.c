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

/* sys_enter(regs, id) */
int on_sys_enter(u64 *ctx)
{
    struct task_struct *task = (void *)bpf_get_current_task_btf();
    struct task_state *s = watched(task);
    if (!s)
        return 0;
    u64 number = CTX(1);
    u64 abi = abi_of(task, &number);
    if (s->state < STATE_STARTING) {
        /* The workload may begin with this call. */
        s->abi = abi;
        s->number = number;
        s->entered = 1;
        /* Between fork and exec the child is still profgen; the workload begins with its execve. */
        if (s->state != STATE_ARMED || number != NR_EXECVE || abi != ABI_NATIVE)
            return 0;
        struct session *session = session_at(s->session);
        struct self *own = profgen();
        if (!session || !own)
            return 0;
        s->state = STATE_STARTING;
        note_start(session, s->session, (u64)task);
        own->level = session->level;
        own->mounts = mounts_of((u64)task);
    }
#ifdef WITH_DENIALS
    s->entered = 1;
#endif
    s->caller = s->program;
    s->abi = abi;
    s->number = number;
    int wanted = count_call(s->program, abi, number);
    if (wanted < 0)
        return 0;
    s->wanted = wanted;
    s->route = ROUTE_NONE;
    if (number >= NUMBERS)
        return 0;
    int index = abi * NUMBERS + number;
    struct spec *spec = specs.lookup(&index);
    if (spec)
        s->route = spec->route;
    if (spec && spec->count) {
        void *regs = (void *)CTX(0);
        u64 a[ARGUMENT_PLACES] = {};
        ARGUMENTS(a, regs, abi);
        note_values(s, abi, number, spec, a);
    }
    return 0;
}

static __always_inline void note_result(struct task_state *s, s64 result)
{
    int program = s->caller;
    if (!failed(result)) {
        if (s->abi == ABI_NATIVE && s->number < NUMBERS) {
            struct program_state *p = programs.lookup(&program);
            if (p)
                __sync_fetch_and_or(&p->ok[WORD_OF(s->number)], BIT_OF(s->number));
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

/* sys_exit(regs, result) */
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
    };
    if (!tasks.task_storage_get(child, &copy, BPF_LOCAL_STORAGE_GET_F_CREATE)) {
        count_loss(LOST_TASKS);
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
    u32 tid = number_of_thread((u64)task);
    live.delete(&tid);
    struct session *session = session_at(s->session);
    if (!session)
        return 0;
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
    s->state = STATE_RECORDING;
    s->program = key.program;
    s->last_number = NO_NUMBER;
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

static __always_inline void note_check(struct task_struct *task, struct task_state *s, u64 cred, u64 ns, u32 cap,
                                       bool refused, u32 audited, u64 stack)
{
    struct session *session = session_at(s->session);
    if (!session)
        return;
    struct check_key key = {
        .program = s->program,
        .abi = s->abi,
        .number = s->number,
        .cap = cap,
        .refused = refused,
        .audited = audited,
        .stack = stack,
    };
    /* What counts is the namespace that the workload began in, or one above it (user_namespaces(7)). */
    key.child = ns != session->ns && read32(ns + OFFSET_NS_LEVEL) > session->ns_level;
    key.overridden = cred != LOAD64(task, OFFSET_TASK_REAL_CRED);
    key.taken = refused && taken_away(session, cred, cap);
    if (s->abi == ABI_NATIVE && (cap == CAP_SETGID || cap == CAP_SETUID || cap == CAP_FSETID)) {
        u64 regs = bpf_task_pt_regs(task);
        u64 a0 = read64(regs + OFFSET_ARGUMENT_0), a1 = read64(regs + OFFSET_ARGUMENT_1);
        u64 a2 = read64(regs + OFFSET_ARGUMENT_2);
        key.idle =
            cap == CAP_FSETID ? sets_no_group_id(s->number, a1, a2) : changes_nothing(cred, s->number, a0, a1, a2);
    }
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
