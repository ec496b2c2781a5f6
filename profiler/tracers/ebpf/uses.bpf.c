/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What a watched workload uses besides system calls: files, sockets, other processes, mounts. Included by
 * recorder.bpf.c.
 *
 * All of it is taken at a call's exit, by programs that on_sys_exit goes on to (tail calls: the kernel checks and
 * limits each on its own). A use is counted in a map. Only the first of its kind is sent as an event, with the names
 * that user space needs: the path of a file by its directory entries, or the text of a path argument with the path of
 * the directory that it starts from.
 */

#define DATA_SIZE 0x8000 /* of the texts and paths of an event */
#define DATA_MASK (DATA_SIZE - 1)
#define WORD_BYTES 8
#define NAME_WORDS (NAME_SIZE / WORD_BYTES)

/* Room for one call in flight: a processor has one at most. The members that all calls use come first, on one page. */
struct work {
    u64 a[ARGUMENT_PLACES]; /* the call's arguments */
    s64 result;
    u32 spec; /* index of its row in `specs` */
    u32 session;
    u64 tag;            /* of the shortcut to the use */
    volatile u64 plain; /* see PLAIN */
    u64 jiffies, now;   /* see about_now */
    u64 message;        /* of several (sendmmsg) */
    u64 goes_on;        /* on_count continues a path in another turn */
    u64 mounts;         /* the thread's mount namespace */
    u64 mount_root;     /* of the mount on the way */
    u64 mount_point;
    u64 mount_above;
    u64 length;    /* of `data` so far */
    u64 piece;     /* the path in work */
    u64 at_dentry; /* where on_count is on it */
    u64 at_mnt;
    u64 at_names;      /* its leaf is done */
    u64 start[PIECES]; /* where in `data` a path begins, plus one */
    u64 dentry[PIECES];
    u64 mnt[PIECES];
    u64 text_length[TEXTS];
    struct use_event e;
    char data[DATA_SIZE + 2 * TEXT]; /* follows `e` in the ring */
    u64 name[NAME_WORDS], zero[NAME_WORDS];
    char block[DENTRY_SPAN];
    u64 text[TEXTS][TEXT / WORD_BYTES];
};

/* From a chain of directory entries as the kernel has it to the hash of their names: ten times as fast as hashing. */
#define SHORTCUTS 1024
struct shortcut {
    u64 tag;
    u64 hash;
};

#define LINKS 4096

BPF_TABLE("hash", struct use_key, struct tally, uses, LIMIT_FILES);
BPF_TABLE("hash", struct socket_key, struct tally, sockets, LIMIT_SOCKETS);
BPF_TABLE("hash", struct contact_key, struct tally, contacts, LIMIT_PROCESSES);
BPF_PERCPU_ARRAY(shortcuts, struct shortcut, SHORTCUTS);
BPF_TABLE("lru_hash", u32, u64, links, LINKS); /* last components of symbolic links that the workload made */
/* Random, so that a workload cannot choose names whose hashes are equal. */
BPF_ARRAY(seed, u64, 1);
BPF_RINGBUF_OUTPUT(paths, LIMIT_PATH_PAGES);
BPF_ARRAY(works, struct work, PROCESSORS); /* larger than the kernel's own per-processor arrays can hold */

/*
 * Parts of kernel structures. BLOCK opens one; PART64, PART32 and PART16 are its members. Where the kernel has
 * bpf_rdonly_cast (Linux 6.2) each is a load that the kernel makes safe; otherwise they are copied together. TASK is a
 * thread whose members are loaded so: to check the load of a pointer through a pointer that it trusts, the kernel looks
 * for types by name, one after the other, which takes a millisecond (kernel/bpf/verifier.c type_is_rcu).
 */
#define OF64(block, part) (*(u64 *)((block) + (part)))
#define OF32(block, part) (*(u32 *)((block) + (part)))
#define OF16(block, part) (*(u16 *)((block) + (part)))
#define READ(block, address) bpf_probe_read_kernel(block, sizeof(block), (void *)(address))
#ifdef CAST
/* loader.py makes it a call of the kernel function. */
static void *(*cast)(const void *address, u32 type) = (void *)CAST;
#define TASK(task) cast(task, TASK_TYPE)
#define BLOCK(name, TYPE, address) void *name = cast((void *)(address), TYPE##_TYPE)
#define PART64(name, TYPE, member) LOAD64(name, TYPE##_AT_##member)
#define PART32(name, TYPE, member) LOAD32(name, TYPE##_AT_##member)
#define PART16(name, TYPE, member) LOAD16(name, TYPE##_AT_##member)
#else
#define TASK(task) (task)
#define BLOCK(name, TYPE, address)                                                                                     \
    char name[TYPE##_SPAN] __attribute__((aligned(8)));                                                                \
    READ(name, (address) + TYPE##_START)
#define PART64(name, TYPE, member) OF64(name, TYPE##_##member)
#define PART32(name, TYPE, member) OF32(name, TYPE##_##member)
#define PART16(name, TYPE, member) OF16(name, TYPE##_##member)
#endif
/* A pointer as a number that arithmetic is allowed on: the verifier takes what comes out of a map for a number. */
#define PLAIN(w, pointer)                                                                                              \
    ({                                                                                                                 \
        (w)->plain = (u64)(pointer);                                                                                   \
        asm volatile("" ::: "memory");                                                                                 \
        (w)->plain;                                                                                                    \
    })

/* Mix in the first `left` bytes of a word. Without a branch, as the verifier would go both ways at each. */
static __always_inline u64 mix_tail(u64 hash, u64 word, s64 left)
{
    s64 whole = WORD_BYTES - 1 - left, none = left;
    KEEP(whole);
    KEEP(none);
    whole >>= 63;
    none >>= 63;
    KEEP(whole);
    KEEP(none);
    return mix(hash, word & (whole | (((1ull << (8 * (left & 7))) - 1) & ~none)));
}

static __always_inline struct work *this_work(void)
{
    int processor = bpf_get_smp_processor_id();
    return works.lookup(&processor);
}

struct use_in {
    struct task_struct *task;
    struct spec *spec;
    struct work *w;
    s64 result;
};

/* The call that has just ended, as go_on left it; false if there is nothing to record of it. */
static __always_inline bool use_in(struct use_in *in)
{
    in->task = (void *)bpf_get_current_task_btf();
    in->w = this_work();
    if (!in->w)
        return false;
    int index = in->w->spec;
    in->spec = specs.lookup(&index);
    in->result = in->w->result;
    return in->spec;
}

/* Go on from on_sys_exit to the program that looks at what the call used. */
static __always_inline void go_on(u64 *ctx, struct task_state *s, u32 route, s64 result)
{
    struct work *w = this_work();
    if (!w)
        return;
    void *regs = (void *)CTX(0);
    ARGUMENTS(w->a, regs, s->abi);
    w->result = result;
    w->spec = s->abi * NUMBERS + s->number;
    w->session = s->session;
    w->message = w->goes_on = w->text_length[0] = 0;
    w->e.key.program = s->caller;
    w->e.key.call = s->abi << CALL_ABI_SHIFT | s->number;
    w->e.key.flags = 0;
    w->e.key.detail = failed(result) ? -result & DETAIL_ERROR : 0;
    w->e.mode = 0;
    tails.call(ctx, route);
}

static __always_inline u32 abi_in(struct work *w)
{
    return w->e.key.call >> CALL_ABI_SHIFT;
}

/* Leave nothing but the first text or path. */
static __always_inline void only_first(struct work *w)
{
    w->text_length[1] = w->text_length[2] = 0;
    w->dentry[1] = w->dentry[2] = w->dentry[3] = 0;
    w->e.facts = 0;
}

#define ARGUMENT(w, position) ((w)->a[(position) & ARGUMENT_MASK])

/* Older calls of i386 have their arguments in memory. */
static __always_inline void arguments_in_memory(struct work *w, u64 place)
{
    u32 words[ARGUMENTS_MAX] = {};
    read_user(words, sizeof(words), (void *)place);
    w->a[0] = words[0];
    w->a[1] = words[1];
    w->a[2] = words[2];
    w->a[3] = words[3];
    w->a[4] = words[4];
    w->a[5] = words[5];
}

static __always_inline u64 file_of(struct task_struct *task, u32 fd)
{
    u64 table = LOAD64(LOAD64(TASK(task), OFFSET_TASK_FILES), OFFSET_FILES_TABLE);
    if (fd >= LOAD32(table, OFFSET_TABLE_MAX))
        return 0;
    BLOCK(slot, SLOT, LOAD64(table, OFFSET_TABLE_FD) + 8 * (u64)fd);
    return PART64(slot, SLOT, FIRST);
}

/* The same where it is rare, or where a loop repeats it. */
static __always_inline u64 file_read(struct task_struct *task, u32 fd)
{
    u64 table = read64(read64((u64)task + OFFSET_TASK_FILES) + OFFSET_FILES_TABLE);
    if (fd >= read32(table + OFFSET_TABLE_MAX))
        return 0;
    return read64(read64(table + OFFSET_TABLE_FD) + 8 * (u64)fd);
}

static __always_inline u32 fsuid_of(struct task_struct *task)
{
    return LOAD32(LOAD64(TASK(task), OFFSET_TASK_CRED), OFFSET_CRED_FSUID);
}

static __always_inline void read_mount(struct work *w, u64 mnt)
{
    BLOCK(mount, MOUNT, mnt - OFFSET_MOUNT_MNT);
    w->mount_root = PART64(mount, MOUNT, ROOT);
    w->mount_point = PART64(mount, MOUNT, POINT);
    w->mount_above = PART64(mount, MOUNT, ABOVE);
    asm volatile("" ::: "memory");
}

/* The number of a mount namespace, which is never used again (fs/namespace.c alloc_mnt_ns). */
static __always_inline u64 number_of_mounts(u64 ns)
{
    return read64(ns + OFFSET_MNT_NS_ID);
}

/* Tell user space that a thread has a mount namespace of its own now, a copy of another one. */
static __always_inline void tell_new_mounts(struct task_struct *task, u32 program, u64 before)
{
    struct self *own = profgen();
    struct use_event e = {.key = {.program = program, .call = CALL_NEW_MOUNTS}};
    if (!own)
        return;
    e.mounts = number_of_mounts(mounts_of((u64)task));
    e.mounts_before = number_of_mounts(before);
    e.facts = before == own->mounts ? 0 : FACT_OTHER_MOUNTS;
    e.tgid = number_of_process((u64)task);
    if (paths.ringbuf_output(&e, sizeof(e), 0))
        count_loss(LOST_NAMES);
}

/* Whether a mount with nothing above it is on no tree of a mount namespace (fs/mount.h: is_mounted, is_anon_ns). `own`:
 * the thread's mount namespace. */
static __always_inline bool on_no_tree(u64 own, u64 mnt)
{
    u64 ns = read64(mnt - OFFSET_MOUNT_MNT + OFFSET_MOUNT_NS);
    if (ns == own)
        return false;
    return !ns || ns >= (u64)-MAX_ERRNO || !number_of_mounts(ns);
}

/* Fill in an event's members about the thread. Its root is the last path, unless the workload began with it. */
static __always_inline void describe(struct task_struct *task, struct work *w)
{
    struct session *session = session_at(w->session);
    struct self *own = profgen();
    if (!session || !own)
        return;
    w->start[0] = w->start[1] = w->start[2] = w->start[3] = 0;
    w->e.path_length[0] = w->e.path_length[1] = w->e.path_length[2] = w->e.path_length[3] = 0;
    w->e.fsuid = fsuid_of(task);
    u64 pid = pid_of((u64)task), group = process_pid_of((u64)task);
    w->e.tid = read32(upid_at(pid, own->level));
    w->e.tgid = read32(upid_at(group, own->level));
    w->e.mounts = number_of_mounts(mounts_of((u64)task));
    u32 level = read32(pid + OFFSET_PID_LEVEL);
    w->e.own_tid = read32(upid_at(pid, level));
    w->e.own_tgid = read32(upid_at(group, level));
    u64 fs = read64((u64)task + OFFSET_TASK_FS);
    u64 dentry = read64(fs + OFFSET_FS_ROOT_DENTRY), mnt = read64(fs + OFFSET_FS_ROOT_MNT);
    w->e.root = dentry ^ mnt;
    if (session->root != w->e.root) {
        w->e.facts |= FACT_OTHER_ROOT;
        w->dentry[PIECES - 1] = dentry;
        w->mnt[PIECES - 1] = mnt;
    }
    if (session->top == dentry)
        w->e.facts |= FACT_SAME_TOP;
    if (own->mounts != mounts_of((u64)task))
        w->e.facts |= FACT_OTHER_MOUNTS;
}

/* Members of the workload are known by their numbers in their own pid namespace and in the workload's first. */
static __always_inline u32 whom_of(struct task_struct *task, struct process_key *key)
{
    u64 *group = members.lookup(key);
    if (!group)
        return WHOM_OUTSIDE;
    return *group == read64((u64)task + OFFSET_TASK_SIGNAL) ? WHOM_SELF : WHOM_WORKLOAD;
}

/* Of a number that the thread itself uses. */
static __always_inline u32 whom_of_number(struct task_struct *task, u32 session, u32 number)
{
    u64 ns = read64(own_upid(pid_of((u64)task)) + UPID_NS);
    struct process_key key = {.nr = number, .session = session, .ns = ns};
    return whom_of(task, &key);
}

static __always_inline u32 whom_of_pid(struct task_struct *task, u32 session, u64 pid)
{
    u64 place = own_upid(pid);
    struct process_key key = {.nr = read32(place), .session = session, .ns = read64(place + UPID_NS)};
    return whom_of(task, &key);
}

static __always_inline u64 seeded(u64 word)
{
    int zero = 0;
    u64 *value = seed.lookup(&zero);
    return mix(value ? *value : 0, word);
}

/* The time, up to a jiffy (10 ms) late: reading the clock takes as long as finding the use. */
static __always_inline u64 about_now(struct work *w)
{
    u64 jiffies = bpf_jiffies64();
    if (w->jiffies != jiffies) {
        w->jiffies = jiffies;
        w->now = bpf_ktime_get_ns();
    }
    return w->now;
}

/* A hash of a path's directory entries as the kernel has them; 0 where they do not tell. The kernel's hash of a name
 * depends on the directory's address, so this one does too. */
#define CHAIN_TURNS 20
static __always_inline u64 tag_of(struct work *w, u64 tag)
{
    u64 dentry = w->dentry[0], mnt = w->mnt[0];
    read_mount(w, mnt);
    for (int turn = 0; turn < CHAIN_TURNS; turn++) {
        tag = mix(tag, dentry);
        if (dentry == w->mount_root) {
            if (w->mount_above == mnt - OFFSET_MOUNT_MNT)
                return mix(tag, read64(w->mount_above + OFFSET_MOUNT_NS));
            dentry = w->mount_point;
            mnt = w->mount_above + OFFSET_MOUNT_MNT;
            read_mount(w, mnt);
            continue;
        }
        BLOCK(entry, DENTRY, dentry);
        u64 parent = PLAIN(w, PART64(entry, DENTRY, PARENT));
        u64 length = PART32(entry, DENTRY, LENGTH), hash = PART32(entry, DENTRY, HASH);
        if (!hash)
            return 0; /* a name that was never looked up: of a memfd, or of a file made without a name */
        tag = mix(tag, hash << 32 | length << 1 | !PART64(entry, DENTRY, HASHED));
        if (parent == dentry)
            return tag;
        dentry = parent;
    }
    return 0;
}

/* Count the use of what a descriptor leads to. Returns whether this processor has met it before. */
static __always_inline bool count_known(struct task_struct *task, struct work *w)
{
    struct use_key key = w->e.key;
    w->mounts = LOAD64(LOAD64(TASK(task), OFFSET_TASK_NSPROXY), OFFSET_NSPROXY_MNT_NS);
    asm volatile("" ::: "memory");
    u64 tag = seeded(w->mounts);
    tag = mix(tag, (u64)key.program << 32 | key.call);
    tag = mix(tag, (u64)key.flags << 32 | key.detail);
    w->tag = tag = tag_of(w, mix(tag, w->e.mode));
    int at = tag & (SHORTCUTS - 1);
    struct shortcut *known = shortcuts.lookup(&at);
    if (!tag || !known || known->tag != tag)
        return false;
    key.hash = known->hash;
    struct tally *v = uses.lookup(&key);
    if (!v)
        return false;
    tally_again(v, about_now(w));
    return true;
}

/* -- files of descriptors ------------------------------------------------------------------------------------------ */

/* The file is what a descriptor leads to: after a successful open, or for calls that take a descriptor. */
int on_descriptor(u64 *ctx)
{
    struct use_in in;
    if (!use_in(&in))
        return 0;
    struct work *w = in.w;
    u32 only = in.spec->only;
    u64 flags = 0;
    if (only == ONLY_OLD_MMAP)
        arguments_in_memory(w, w->a[0]);
    if ((only == ONLY_EXECUTABLE || only == ONLY_OLD_MMAP) && (!(w->a[2] & PROT_EXEC) || w->a[3] & MAP_ANONYMOUS))
        return 0;
    if (only == ONLY_PROTECTED && !(w->a[2] & PROT_EXEC))
        return 0;
    if (only == ONLY_FLOCK) {
        u32 lock = w->a[1] & ~(u32)LOCK_NB;
        if (lock != LOCK_SH && lock != LOCK_EX && lock != LOCK_UN)
            return 0;
        w->e.mode = lock == LOCK_EX;
    }
    if (only == ONLY_FCNTL_LOCK) {
        u32 command = w->a[1];
        bool compat = abi_in(w) != ABI_NATIVE && command >= F_SETLK64 && command <= F_SETLKW64;
        if (command != F_SETLK && command != F_SETLKW && command != F_OFD_SETLK && command != F_OFD_SETLKW && !compat)
            return 0;
        u16 type = 0;
        read_user(&type, sizeof(type), (void *)w->a[2]);
        w->e.mode = type == F_WRLCK;
    }
    if (only == ONLY_HOW)
        read_user(&flags, sizeof(flags), (void *)w->a[2]);
    else if (in.spec->route == ROUTE_OPEN && in.spec->flags != NO_ARGUMENT)
        flags = ARGUMENT(w, in.spec->flags);
    w->e.key.flags = flags & in.spec->flags_mask;
    u32 fd = in.spec->fd == NO_ARGUMENT ? in.result : ARGUMENT(w, in.spec->fd);
    if (only == ONLY_PROTECTED || (only == ONLY_EXECUTE && !w->text_length[0]))
        fd = 0;
    u64 dentry, mnt, inode;
    if (fd == (u32)AT_FDCWD) {
        u64 fs = read64((u64)in.task + OFFSET_TASK_FS);
        dentry = read64(fs + OFFSET_FS_PWD_DENTRY);
        mnt = read64(fs + OFFSET_FS_PWD_MNT);
        inode = read64(dentry + OFFSET_DENTRY_INODE);
    } else {
        u64 file; /* in a function of its own, the kernel's check takes twice as long */
        if (only == ONLY_PROTECTED)
            file = file_at(read64((u64)in.task + OFFSET_TASK_MM), w->a[0], w->name);
        else if (only == ONLY_EXECUTE && !w->text_length[0])
            file = read64(read64((u64)in.task + OFFSET_TASK_MM) + OFFSET_MM_EXE);
        else
            file = file_of(in.task, fd);
        if (!file) {
            if (in.spec->route == ROUTE_OPEN)
                count_loss(LOST_PATHS); /* another thread closed it already */
            return 0;
        }
        BLOCK(of_file, FILE, file);
        if (PART32(of_file, FILE, MODE) & FMODE_PATH && in.spec->route == ROUTE_OPEN)
            return 0; /* opened with O_PATH: not a use */
        dentry = PART64(of_file, FILE, DENTRY);
        mnt = PART64(of_file, FILE, MNT);
        inode = PART64(of_file, FILE, INODE);
        if (only == ONLY_PROTECTED) {
            struct where at = mapped_by(file);
            dentry = at.dentry;
            mnt = at.mnt;
            inode = read64(dentry + OFFSET_DENTRY_INODE);
        }
    }
    w->dentry[0] = dentry;
    w->mnt[0] = mnt;
    BLOCK(of_inode, INODE, inode);
    BLOCK(of_super, SUPER, PART64(of_inode, INODE, SUPER));
    u64 magic = PART64(of_super, SUPER, MAGIC);
    u32 detail = PART16(of_inode, INODE, MODE) & DETAIL_KIND;
    if (magic == NSFS_MAGIC) { /* a namespace has no path but that of its link below /proc */
        if (in.spec->route == ROUTE_OPEN)
            tails.call(ctx, TAIL_TEXT);
        return 0;
    }
    if (PART64(of_super, SUPER, FLAGS) & SB_NOUSER) { /* pipes, sockets, memfd */
        if (magic != TMPFS_MAGIC && magic != HUGETLBFS_MAGIC)
            return 0;
        detail |= DETAIL_PSEUDO;
    }
    detail |= PART32(of_inode, INODE, UID) == fsuid_of(in.task) ? DETAIL_OWN : DETAIL_OTHERS;
    if (magic == PROC_SUPER_MAGIC) {
        u64 pid = read64(PLAIN(w, inode) - OFFSET_PROC_VFS_INODE + OFFSET_PROC_PID);
        if (pid)
            detail |= whom_of_pid(in.task, w->session, pid) << DETAIL_WHOSE_SHIFT;
    }
    w->e.key.detail |= detail;
    if (count_known(in.task, w))
        return 0;
    only_first(w);
    w->e.facts = FACT_DESCRIPTOR;
    tails.call(ctx, TAIL_COUNT);
    return 0;
}

/* -- files of texts ------------------------------------------------------------------------------------------------ */

/* "/proc/self/fd/" and "/proc/thread-self/fd/" in memory order */
#define PROC_SE 0x65732f636f72702full
#define LF_FD 0x2f64662f666cull
#define LF_FD_BITS 48
#define PROC_TH 0x68742f636f72702full
#define READ_SEL 0x6c65732d64616572ull
#define F_FD 0x2f64662f66ull
#define F_FD_BITS 40
#define LF_EXE 0x6578652f666cull /* "lf/exe" and its NUL, of /proc/self/exe */
#define DIGITS 8
#define LOW_BITS(bits) ((1ull << (bits)) - 1)
/* The number N of a text /proc/self/fd/N or /proc/self/fd/N/..., which leads straight to the descriptor's file, and
 * nowhere once the thread is gone; -1 for another text. `below`: the text goes on. */
static __always_inline int own_descriptor(u64 *text, bool *below)
{
    u64 digits;
    if (text[0] == PROC_SE && (text[1] & LOW_BITS(LF_FD_BITS)) == LF_FD)
        digits = text[1] >> LF_FD_BITS | text[2] << (64 - LF_FD_BITS);
    else if (text[0] == PROC_TH && text[1] == READ_SEL && (text[2] & LOW_BITS(F_FD_BITS)) == F_FD)
        digits = text[2] >> F_FD_BITS | text[3] << (64 - F_FD_BITS);
    else
        return -1;
    int number = 0;
    for (int i = 0; i < DIGITS; i++) {
        u32 digit = digits & 255;
        *below = digit == '/';
        if (!digit || *below)
            return i ? number : -1;
        if (digit < '0' || digit > '9')
            return -1;
        number = 10 * number + digit - '0';
        digits >>= 8;
    }
    return -1;
}

/* Whether a link at the end of text i is followed. */
static __always_inline bool follows(struct spec *spec, int i, u64 flags)
{
    u32 follow = spec->follow >> i;
    return (follow & 1 && !(flags & AT_SYMLINK_NOFOLLOW)) || (follow & 2 && flags & AT_SYMLINK_FOLLOW);
}

/* The file is named by the text of an argument. */
int on_text(u64 *ctx)
{
    struct use_in in;
    if (!use_in(&in))
        return 0;
    struct work *w = in.w;
    u64 flags = 0, in_root = 0;
    w->e.mode = in.spec->mode == NO_ARGUMENT ? 0 : ARGUMENT(w, in.spec->mode) & S_IFMT;
    if (in.spec->only == ONLY_HOW) {
        u64 how[3] = {}; /* struct open_how: flags, mode, resolve */
        read_user(how, sizeof(how), (void *)w->a[2]);
        flags = how[0];
        w->e.mode = in_root = how[2] & RESOLVE_IN_ROOT;
    } else if (in.spec->flags != NO_ARGUMENT) {
        flags = ARGUMENT(w, in.spec->flags);
    }
    w->e.key.flags = flags & in.spec->flags_mask;
    only_first(w);
    w->dentry[0] = 0;
    u64 fs = read64((u64)in.task + OFFSET_TASK_FS);
    if (in.spec->only == ONLY_CHROOT && !failed(in.result)) {
        w->dentry[0] = read64(fs + OFFSET_FS_ROOT_DENTRY);
        w->mnt[0] = read64(fs + OFFSET_FS_ROOT_MNT);
        tails.call(ctx, TAIL_COUNT);
        return 0;
    }
    for (int i = 0; i < TEXTS; i++) {
        u32 position = in.spec->path[i];
        if (position == NO_ARGUMENT)
            continue;
        u64 pointer = ARGUMENT(w, position);
        bool optional = in.spec->optional >> i & 1;
        if (!pointer && i == 0 && in.spec->fd != NO_ARGUMENT)
            tails.call(ctx, TAIL_DESCRIPTOR);
        if (!pointer && optional)
            continue;
        s64 length = read_user_text(w->text[i], TEXT, (void *)pointer);
        if (length < 0) {
            if (in.spec->only == ONLY_EXECUTE) /* it failed after the old memory was gone, and the text with it */
                tails.call(ctx, TAIL_DESCRIPTOR);
            if (optional)
                continue;
            if (!failed(in.result))
                count_loss(LOST_PATHS); /* else the kernel did not come to read it, or could not */
            return 0;
        }
        if (length >= TEXT)
            return 0; /* longer than PATH_MAX: ENAMETOOLONG, and no file is meant */
        w->text_length[i] = length;
        if (in.spec->plain >> i & 1)
            continue;
        if (length <= 1) {
            bool empty_path = in.spec->flags == NO_ARGUMENT || flags & AT_EMPTY_PATH;
            if (i == 0 && in.spec->fd != NO_ARGUMENT && empty_path)
                tails.call(ctx, TAIL_DESCRIPTOR);
            if (!optional)
                return 0;
        }
        int at = in.spec->at[i] == NO_ARGUMENT ? AT_FDCWD : (int)ARGUMENT(w, in.spec->at[i]);
        bool own_program = false;
        if ((u8)w->text[i][0] == '/' && !in_root) {
            bool below = false;
            own_program = w->text[i][0] == PROC_SE && w->text[i][1] == LF_EXE;
            at = own_descriptor(w->text[i], &below);
            if ((at < 0 && !own_program) || (!below && !follows(in.spec, i, flags)))
                continue;
            if (!below) {
                w->text[i][0] = 0;
                w->text_length[i] = 1;
            }
        }
        u64 path = fs + OFFSET_FS_PWD_MNT;
        if (own_program)
            path = read64(read64((u64)in.task + OFFSET_TASK_MM) + OFFSET_MM_EXE) + OFFSET_FILE_MNT;
        else if (at != AT_FDCWD)
            path = file_read(in.task, at) + OFFSET_FILE_MNT;
        u64 where[2] = {}; /* struct path: mnt, dentry */
        READ(where, path);
        if (!where[1])
            return 0; /* no such descriptor */
        w->mnt[i] = where[0];
        w->dentry[i] = where[1];
    }
    tails.call(ctx, TAIL_COUNT);
    return 0;
}

/* A hash of the last component of the first text; of a long component only its last bytes count. */
static __always_inline u32 last_name(struct work *w, u64 length)
{
    u64 word = 0, name = 0;
    u64 at = length > WORD_BYTES + 1 ? length - (WORD_BYTES + 1) : 0;
    KEEP(at);
    if (at > TEXT - 2 * WORD_BYTES)
        return 0;
    bpf_probe_read_kernel(&word, sizeof(word), (char *)w->text[0] + at);
    for (int i = 0; i < WORD_BYTES; i++) {
        u64 byte = word >> (8 * i) & 255;
        if (!byte)
            break;
        name = byte == '/' ? 0 : name << 8 | byte;
    }
    return seeded(name) >> 32;
}

/* -- counting a use, and telling its names ------------------------------------------------------------------------- */

/* Mix in what the texts of a call mean: the root and the mounts that they are looked up in, and the texts. */
static __always_inline u64 mix_texts(struct task_struct *task, struct work *w, u64 hash)
{
    u64 fs = read64((u64)task + OFFSET_TASK_FS);
    hash = mix(hash, read64(fs + OFFSET_FS_ROOT_DENTRY) ^ read64(fs + OFFSET_FS_ROOT_MNT));
    hash = mix(hash, w->mounts);
    struct session *session = session_at(w->session);
    hash = mix(hash, session ? session->generation : 0);
    for (int i = 0; i < TEXTS; i++) {
        u64 length = w->text_length[i];
        hash = mix(hash, length);
        for (u32 word = 0; word < TEXT / WORD_BYTES && WORD_BYTES * word < length; word++)
            hash = mix_tail(hash, w->text[i][word], length - WORD_BYTES * word);
    }
    return hash;
}

/* Mix in the name of a directory entry, which is in `block`. Short names lie in the entry itself. */
static __always_inline u64 mix_name(struct work *w, u64 dentry, u64 hash)
{
    char *block = w->block;
    u64 name = OF64(block, DENTRY_NAME);
    u32 length = OF32(block, DENTRY_LENGTH);
    hash = mix(hash, length);
    if (name != dentry + OFFSET_DENTRY_INLINE) {
        READ(w->name, w->zero);
        bpf_probe_read_kernel_str(w->name, sizeof(w->name), (void *)name);
#pragma clang loop unroll(disable)
        for (int i = 0; i < NAME_WORDS; i++)
            hash = mix(hash, w->name[i]);
        return hash;
    }
    hash = mix_tail(hash, OF64(block, DENTRY_INLINE), length);
    if (length > 8)
        hash = mix_tail(hash, OF64(block, DENTRY_INLINE + 8), (s64)length - 8);
    if (length > 16) {
        u64 rest[3] = {};
        READ(rest, name + 16);
        hash = mix_tail(hash, rest[0], (s64)length - 16);
        hash = mix_tail(hash, rest[1], (s64)length - 24);
        hash = mix_tail(hash, rest[2], (s64)length - 32);
    }
    return hash;
}

/* Count a use, and tell user space if it is the first of its kind. Neither inode numbers nor addresses are in the hash
 * of a path: a file that is made again and again stays one. */
int on_count(u64 *ctx)
{
    struct task_struct *task = (void *)bpf_get_current_task_btf();
    struct work *w = this_work();
    if (!w)
        return 0;
    u64 hash = w->e.key.hash;
    if (!w->goes_on) {
        w->length = w->piece = w->at_dentry = 0;
        w->mounts = mounts_of((u64)task);
        hash = seeded(w->e.mode);
    }
    if (!w->goes_on && !(w->e.facts & FACT_DESCRIPTOR))
        hash = mix_texts(task, w, hash);
    w->e.key.hash = hash;
    for (u32 turn = 0; turn < CHAIN_TURNS; turn++) {
        u64 piece = w->piece, dentry = w->at_dentry, mnt = w->at_mnt;
        if (piece >= TEXTS)
            break;
        if (!dentry) {
            dentry = w->dentry[piece];
            if (!dentry) {
                w->piece = piece + 1;
                continue;
            }
            w->at_mnt = mnt = w->mnt[piece];
            w->at_names = 0;
            read_mount(w, mnt);
        }
        u32 facts = 0;
        bool top = dentry == w->mount_root;
        if (top && w->mount_above != mnt - OFFSET_MOUNT_MNT) {
            w->at_dentry = w->mount_point;
            w->at_mnt = mnt = w->mount_above + OFFSET_MOUNT_MNT;
            w->at_names = 1;
            read_mount(w, mnt);
            continue;
        }
        if (top) {
            if (on_no_tree(w->mounts, mnt))
                facts = FACT_DETACHED;
        } else {
            char *block = w->block;
            READ(w->block, dentry + DENTRY_START);
            u64 parent = OF64(block, DENTRY_PARENT);
            w->e.key.hash = mix_name(w, dentry, w->e.key.hash);
            top = parent == dentry;
            facts = top ? FACT_DETACHED : w->at_names || OF64(block, DENTRY_HASHED) ? 0 : FACT_DELETED;
            w->at_names = 1;
            w->at_dentry = parent;
        }
        w->e.facts |= facts << (FACT_PIECE_BITS * piece);
        if (top) {
            w->e.key.hash = mix(w->e.key.hash, piece);
            w->at_dentry = 0;
            w->piece = piece + 1;
        }
    }
    if (w->piece < TEXTS) {
        w->goes_on = 1;
        tails.call(ctx, TAIL_COUNT);
        w->e.key.hash = mix(w->e.key.hash, w->at_dentry); /* no tail call is left: on_walk gives up too */
    }
    w->e.key.hash = mix(w->e.key.hash, w->e.facts);
    w->goes_on = 0;
    w->piece = 0;
    struct use_key key = w->e.key;
    struct tally *v = uses.lookup(&key);
    if (v) {
        tally_again(v, about_now(w));
        if (!(w->e.facts & FACT_DESCRIPTOR)) {
            tails.call(ctx, TAIL_NAMES);
            count_loss(LOST_PATHS); /* no tail call is left */
            return 0;
        }
        int at = w->tag & (SHORTCUTS - 1);
        struct shortcut *next = shortcuts.lookup(&at);
        if (next) {
            next->hash = key.hash;
            next->tag = w->tag;
        }
        return 0;
    }
    u64 now = bpf_ktime_get_ns();
    struct tally fresh = {.count = 1, .first = now, .last = now};
    if (uses.update(&key, &fresh)) {
        count_loss(LOST_FILES);
        return 0;
    }
    noted_new();
    describe(task, w);
    for (int i = 0; i < TEXTS; i++) {
        u64 length = w->text_length[i], at = w->length & DATA_MASK;
        w->e.text_length[i] = length;
        KEEP(length);
        length &= 2 * TEXT - 1;
        bpf_probe_read_kernel(w->data + at, length, w->text[i]);
        w->length = at + length;
    }
    tails.call(ctx, TAIL_WALK);
    return 0;
}

/* Note that names may now lead to other files than before: from then on all texts count as new. */
int on_names(u64 *ctx)
{
    struct use_in in;
    if (!use_in(&in) || failed(in.result))
        return 0;
    struct work *w = in.w;
    u32 only = in.spec->only;
    u64 one = 1;
    struct session *session = session_at(w->session);
    if (only == ONLY_UNSHARE) {
        if (w->a[0] & CLONE_NEWNS)
            tell_new_mounts(in.task, w->e.key.program, mounts_of(read64((u64)in.task + OFFSET_TASK_PARENT)));
        return 0;
    }
    if (only == ONLY_MESSAGES && (s64)w->message < in.result) {
        tails.call(ctx, TAIL_SOCKET);
        count_loss(LOST_SOCKETS); /* no tail call is left */
    }
    if (!session || only < ONLY_SYMLINK || only > ONLY_MOUNT)
        return 0;
    u32 name = 0;
    if (only == ONLY_SYMLINK || only == ONLY_NAMES) {
        s64 length = read_user_text(w->text[0], TEXT, (void *)ARGUMENT(w, in.spec->path[0]));
        name = last_name(w, length);
    }
    if (only == ONLY_SYMLINK)
        links.update(&name, &one);
    if (only == ONLY_NAMES) {
        if (!links.lookup(&name))
            return 0;
        if (in.spec->path[1] != NO_ARGUMENT) {
            s64 length = read_user_text(w->text[0], TEXT, (void *)ARGUMENT(w, in.spec->path[1]));
            name = last_name(w, length);
            links.update(&name, &one);
        }
    }
    __sync_fetch_and_add(&session->generation, 1);
    return 0;
}

/* Append the names of each of the event's paths, leaf first, each with its NUL, up to the top of its mount namespace;
 * then send the event. */
#define WALK_TURNS 24
int on_walk(u64 *ctx)
{
    struct work *w = this_work();
    if (!w)
        return 0;
    u64 mounts = mounts_of((u64)bpf_get_current_task_btf());
    for (int turn = 0; turn < WALK_TURNS; turn++) {
        u64 piece = w->piece;
        if (piece >= PIECES) {
            u64 size = w->length;
            KEEP(size);
            size &= DATA_MASK;
            if (paths.ringbuf_output(&w->e, sizeof(struct use_event) + size, 0)) {
                struct use_key key = w->e.key;
                uses.delete(&key); /* the next one is the first again */
                count_loss(LOST_NAMES);
            }
            if (!(w->e.facts & FACT_DESCRIPTOR)) {
                tails.call(ctx, TAIL_NAMES);
                count_loss(LOST_PATHS);
            }
            return 0;
        }
        u64 dentry = w->dentry[piece], mnt = w->mnt[piece], length = w->length & DATA_MASK;
        if (!dentry) {
            w->piece = piece + 1;
            continue;
        }
        if (!w->start[piece]) {
            w->start[piece] = length + 1;
            read_mount(w, mnt);
        }
        bool top = false;
        if (dentry == w->mount_root) {
            if (w->mount_above != mnt - OFFSET_MOUNT_MNT) {
                w->dentry[piece] = w->mount_point;
                w->mnt[piece] = mnt = w->mount_above + OFFSET_MOUNT_MNT;
                read_mount(w, mnt);
                continue;
            }
            if (piece == PIECES - 1 && on_no_tree(mounts, mnt))
                w->e.facts |= FACT_DETACHED << (FACT_PIECE_BITS * (PIECES - 1));
            top = true;
        } else {
            u64 parent = read64(dentry + OFFSET_DENTRY_PARENT);
            if (parent != dentry || length + 1 == w->start[piece]) {
                void *name = (void *)read64(dentry + OFFSET_DENTRY_NAME);
                s64 got = bpf_probe_read_kernel_str(w->data + length, NAME_SIZE, name);
                if (got <= 0 || length + got - w->start[piece] >= TEXT - 1) {
                    count_loss(LOST_PATHS); /* longer than PATH_MAX: the process cannot have used it */
                    return 0;
                }
                w->length = length + got;
            }
            top = parent == dentry;
            w->dentry[piece] = parent;
        }
        if (top) {
            length = w->length & DATA_MASK;
            KEEP(length);
            w->data[length & DATA_MASK] = 0;
            w->length = length + 1;
            w->e.path_length[piece] = length + 2 - w->start[piece];
            w->start[piece] = 0;
            w->piece = piece + 1;
        }
    }
    tails.call(ctx, TAIL_WALK);
    count_loss(LOST_PATHS); /* no tail call is left */
    return 0;
}

/* -- other processes ----------------------------------------------------------------------------------------------- */

static __always_inline u32 error_of(s64 result)
{
    return failed(result) ? -result : 0;
}

static __always_inline void count_contact(struct use_in *in, u32 number, u32 whom)
{
    struct contact_key key = {
        .program = in->w->e.key.program,
        .call = in->w->e.key.call,
        .number = number,
        .whom = whom,
        .error = error_of(in->result),
    };
    u64 now = about_now(in->w);
    struct tally *v = contacts.lookup(&key);
    if (v) {
        tally_again(v, now);
        return;
    }
    struct tally fresh = {.count = 1, .first = now, .last = now};
    if (contacts.update(&key, &fresh))
        count_loss(LOST_PROCESSES);
    else
        noted_new();
}

/* The struct pid that a pidfd stands for, or a directory /proc/PID (fs/proc/base.c tgid_pidfd_to_pid). */
static __always_inline u64 pid_of_pidfd(u64 file)
{
    u64 inode = read64(file + OFFSET_FILE_INODE);
    u64 super = read64(inode + INODE_START + INODE_SUPER);
    if (read64(super + SUPER_START + SUPER_MAGIC) == PROC_SUPER_MAGIC)
        return read64(inode - OFFSET_PROC_VFS_INODE + OFFSET_PROC_PID);
    u64 pid = read64(file + OFFSET_FILE_PRIVATE);
    if (!pid) /* since Linux 6.9 (fs/pidfs.c) */
        pid = read64(inode + OFFSET_INODE_PRIVATE);
    return pid;
}

/* Signals to other processes, and looks into them: `path[0]` is the argument with the process, `path[1]` with a second
 * one, `at[0]` with a pidfd, `mode` with the signal or the request. */
int on_process(u64 *ctx)
{
    struct use_in in;
    if (!use_in(&in))
        return 0;
    struct work *w = in.w;
    u32 number = in.spec->mode == NO_ARGUMENT ? 0 : ARGUMENT(w, in.spec->mode), whom = WHOM_NONE;
    if (in.spec->at[0] != NO_ARGUMENT) {
        u64 file = file_read(in.task, ARGUMENT(w, in.spec->at[0]));
        if (!file)
            return 0;
        whom = whom_of_pid(in.task, w->session, pid_of_pidfd(file));
    } else {
        s32 pid = ARGUMENT(w, in.spec->path[0]);
        if (in.spec->only == ONLY_PTRACE && number == PTRACE_TRACEME) /* by the parent */
            whom = whom_of_pid(in.task, w->session, pid_of(read64((u64)in.task + OFFSET_TASK_PARENT)));
        else if (pid > 0)
            whom = whom_of_number(in.task, w->session, pid);
        if (whom != WHOM_OUTSIDE && in.spec->path[1] != NO_ARGUMENT) {
            u32 other = whom_of_number(in.task, w->session, ARGUMENT(w, in.spec->path[1]));
            whom = other > whom ? other : whom;
        }
    }
    count_contact(&in, number, whom);
    return 0;
}

/* -- sockets ------------------------------------------------------------------------------------------------------- */

#define MESSAGES_TURNS 32 /* sendmmsg(2) sends up to 1024 messages (UIO_MAXIOV), and there are 33 tail calls */
#define ADDRESS_MASK (2 * ADDRESS_MAX - 1)

/* Take a call of socketcall(2) for the call that it stands for, which has a row of its own in `specs`. */
static __always_inline bool unpack_socketcall(struct use_in *in)
{
    struct work *w = in->w;
    u32 number = w->a[0];
    if (number < 1 || number > SOCKETCALL_MAX)
        return false;
    w->spec = ABI_COMPAT * NUMBERS + SOCKETCALLS + number;
    w->e.key.call = ABI_COMPAT << CALL_ABI_SHIFT | (SOCKETCALLS + number);
    arguments_in_memory(w, w->a[1]);
    int index = w->spec;
    in->spec = specs.lookup(&index);
    return in->spec;
}

/* Fill in what kind of socket a call is about: from the descriptor, or for a failed socket(2) or socketpair(2) from its
 * arguments. False if it is not a socket. */
static __always_inline bool kind_of_socket(struct use_in *in, struct socket_key *key)
{
    struct work *w = in->w;
    bool pair = in->spec->only == ONLY_PAIR;
    if ((pair || in->spec->fd == NO_ARGUMENT) && failed(in->result)) {
        key->family = w->a[0];
        key->type = w->a[1] & SOCK_TYPE_MASK;
        key->protocol = w->a[2];
        return true;
    }
    s32 fd = in->spec->fd == NO_ARGUMENT ? in->result : ARGUMENT(w, in->spec->fd);
    if (pair)
        read_user(&fd, sizeof(fd), (void *)w->a[3]);
    u64 file = file_of(in->task, fd);
    if (!file)
        return false;
    BLOCK(of_file, FILE, file);
    BLOCK(of_inode, INODE, PART64(of_file, FILE, INODE));
    if ((PART16(of_inode, INODE, MODE) & S_IFMT) != S_IFSOCK)
        return false; /* the call failed with ENOTSOCK */
    BLOCK(held, HELD, file);
    BLOCK(of_socket, SOCKET, PART64(held, HELD, PRIVATE));
    u64 sk = PART64(of_socket, SOCKET, SK);
    if (!sk)
        return false;
    BLOCK(of_sock, SOCK, sk);
    BLOCK(of_kind, KIND, sk);
    key->family = PART16(of_sock, SOCK, FAMILY);
    key->type = PART16(of_kind, KIND, TYPE);
    key->protocol = PART16(of_kind, KIND, PROTOCOL);
    /* This option makes an IPv4 socket of an IPv6 one: that is what the call was about (ipv6(7)). */
    if (in->spec->only == ONLY_OPTION && !failed(in->result) && (u32)w->a[1] == IPPROTO_IPV6 &&
        (u32)w->a[2] == IPV6_ADDRFORM)
        key->family = AF_INET6;
    return true;
}

struct address {
    u64 at;
    u32 length;
};

/* Where a call's address is: in its arguments, or in a struct msghdr or mmsghdr. */
static __always_inline struct address address_of(struct use_in *in)
{
    struct work *w = in->w;
    struct address found = {};
    if (in->spec->path[0] != NO_ARGUMENT) {
        found.at = ARGUMENT(w, in->spec->path[0]);
        found.length = ARGUMENT(w, in->spec->path[1]);
    } else if (in->spec->at[0] != NO_ARGUMENT) {
        bool compat = abi_in(w) == ABI_COMPAT;
        u64 message = ARGUMENT(w, in->spec->at[0]) + w->message * (compat ? COMPAT_MMSGHDR_SIZE : MMSGHDR_SIZE);
        if (compat) {
            u32 head[2] = {}; /* msg_name, msg_namelen */
            read_user(head, sizeof(head), (void *)message);
            found.at = head[0];
            found.length = head[1];
        } else {
            u64 head[2] = {};
            read_user(head, sizeof(head), (void *)message);
            found.at = head[0];
            found.length = head[1];
        }
    }
    return found;
}

/* Take the address of a unix socket, which lies in `name`, for the first text: a path with the directory that it starts
 * from, or an abstract name after a NUL. */
static __always_inline void take_unix_address(struct use_in *in, struct socket_key *key, u32 length)
{
    struct work *w = in->w;
    only_first(w);
    w->dentry[0] = 0;
    w->e.key.flags = key->type << UNIX_TYPE_SHIFT | (key->protocol & UNIX_PROTOCOL_MASK);
    u64 size = length - FAMILY_SIZE;
    KEEP(size);
    size &= ADDRESS_MASK;
    bpf_probe_read_kernel(w->text[0], size, (char *)w->name + FAMILY_SIZE);
    if ((u8)w->text[0][0]) {
        /* A path ends at its NUL, or with the structure (unix(7)). */
        ((char *)w->text[0])[size & ADDRESS_MASK] = 0;
        s64 text = bpf_probe_read_kernel_str(w->name, ADDRESS_MAX, w->text[0]);
        size = text > 0 ? text : 0;
        u64 path = 0; /* that the text starts from: the working directory, or a descriptor's */
        bool below = false;
        if ((u8)w->text[0][0] != '/') {
            path = read64((u64)in->task + OFFSET_TASK_FS) + OFFSET_FS_PWD_MNT;
        } else {
            int fd = own_descriptor(w->text[0], &below);
            if (fd >= 0 && below)
                path = file_read(in->task, fd) + OFFSET_FILE_MNT;
        }
        u64 where[2] = {}; /* struct path: mnt, dentry */
        if (path)
            READ(where, path);
        w->mnt[0] = where[0];
        w->dentry[0] = where[1];
    }
    w->text_length[0] = size;
}

static __always_inline void count_socket(struct work *w, struct socket_key *key)
{
    u64 now = about_now(w);
    struct tally *v = sockets.lookup(key);
    if (v) {
        tally_again(v, now);
        return;
    }
    struct tally fresh = {.count = 1, .first = now, .last = now};
    if (sockets.update(key, &fresh))
        count_loss(LOST_SOCKETS);
    else
        noted_new();
}

/* Operations on sockets: `fd` is the argument with the descriptor; `path[0]` and `path[1]` with an address and its
 * length, or `at[0]` with a struct msghdr. */
int on_socket(u64 *ctx)
{
    struct use_in in;
    if (!use_in(&in))
        return 0;
    struct work *w = in.w;
    if (in.spec->only == ONLY_SOCKETCALL && !unpack_socketcall(&in))
        return 0;
    struct socket_key key = {.program = w->e.key.program, .call = w->e.key.call, .error = error_of(in.result)};
    if (!kind_of_socket(&in, &key))
        return 0;
    bool several = in.spec->only == ONLY_MESSAGES;
    for (int turn = 0; turn < MESSAGES_TURNS; turn++) {
        struct address address = address_of(&in);
        u32 length = address.length;
        key.port = NO_PORT;
        if (several)
            w->message++;
        if (address.at && length >= FAMILY_SIZE) {
            if (length > ADDRESS_MAX)
                length = ADDRESS_MAX;
            KEEP(length);
            length &= ADDRESS_MASK;
            if (length > ADDRESS_MAX || read_user(w->name, length, (void *)address.at))
                return 0;
            u16 family = w->name[0];
            if ((family == AF_INET || family == AF_INET6) && length >= PORT_END) {
                key.port = __builtin_bswap16(w->name[0] >> 16); /* it is in network byte order */
            } else if (family == AF_UNIX && length > FAMILY_SIZE) {
                take_unix_address(&in, &key, length);
                tails.call(ctx, TAIL_COUNT); /* on_names goes on with the next message */
                count_loss(LOST_SOCKETS);
                return 0;
            }
        }
        count_socket(w, &key);
        if (!several || (s64)w->message >= in.result)
            return 0;
    }
    tails.call(ctx, TAIL_SOCKET);
    count_loss(LOST_SOCKETS); /* no tail call is left */
    return 0;
}
