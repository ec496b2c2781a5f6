/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What a watched workload uses besides system calls: files, sockets, other processes, mounts. Follows recorder.bpf.c, in one text.
 *
 * All of it is taken at a call's exit, by programs that on_sys_exit goes on to (tail calls: each is checked and limited on
 * its own). A use is counted in a map; only the first of its sort is sent as an event, with the names that user space needs:
 * the path of a file by its directory entries, or the text of a path argument with the path of the directory it starts from.
 */


#define DATA_MASK 0x7fff
/* What is used at each call comes first: it lies together, on one page. */
struct work {
    u64 a[8]; /* the call's arguments */
    s64 result;
    u32 spec, session;
    u64 tag; /* of the short cut to the use */
    volatile u64 plain; /* see PLAIN */
    u64 jiffies, now;
    u64 message; /* of several (sendmmsg) */
    u64 goes_on; /* the way up of a path, in another turn of on_count */
    u64 mounts; /* the thread's namespace */
    u64 mount_root, mount_point, mount_above; /* of the mount on the way */
    u64 length;
    u64 piece;
    u64 at_dentry, at_mnt, at_names;
    u64 start[PIECES];
    u64 dentry[PIECES];
    u64 mnt[PIECES];
    u64 text_length[TEXTS];
    struct use_event e;
    char data[DATA_MASK + 1 + 2 * TEXT];
    u64 name[32], zero[32];
    char block[DENTRY_SPAN];
    u64 text[TEXTS][TEXT / 8];
};

/* From a chain of directory entries as the kernel has it to the hash of their names, which takes ten times as long to find. */
#define SHORTCUTS 1024
struct shortcut { u64 tag; u64 hash; };


BPF_TABLE("hash", struct use_key, struct use_value, uses, LIMIT_FILES);
BPF_TABLE("hash", struct socket_key, struct use_value, sockets, LIMIT_SOCKETS);
BPF_TABLE("hash", struct contact_key, struct use_value, contacts, LIMIT_PROCESSES);
BPF_PERCPU_ARRAY(shortcuts, struct shortcut, SHORTCUTS);
BPF_TABLE("lru_hash", u32, u64, links, 4096); /* last components of symbolic links that the workload made */
BPF_ARRAY(seed, u64, 1); /* random, of this recording: what a workload names its files cannot make two of them look like one */
BPF_RINGBUF_OUTPUT(paths, LIMIT_PATH_PAGES);
BPF_ARRAY(works, struct work, PROCESSORS); /* one for each: larger than the kernel's own per-processor arrays hold */

/*
 * Parts of kernel structures. BLOCK opens one; PART64, PART32 and PART16 are its members. Where the kernel has bpf_rdonly_cast (Linux 6.2) each
 * is a load that the kernel makes safe; else they are copied at once.
 */
#define OF64(block, part) (*(u64 *)((block) + (part)))
#define READ(block, address) bpf_probe_read_kernel(block, sizeof(block), (void *)(address))
#ifdef CAST
static void *(*cast)(const void *address, u32 type) = (void *)CAST; /* loader.py makes it a call of the kernel function */
#define BLOCK(name, TYPE, address) void *name = cast((void *)(address), TYPE##_TYPE)
#define PART64(name, TYPE, member) LOAD64(name, TYPE##_AT_##member)
#define PART32(name, TYPE, member) LOAD32(name, TYPE##_AT_##member)
#define PART16(name, TYPE, member) LOAD16(name, TYPE##_AT_##member)
#else
#define BLOCK(name, TYPE, address) char name[TYPE##_SPAN] __attribute__((aligned(8))); READ(name, (address) + TYPE##_START)
#define PART64(name, TYPE, member) OF64(name, TYPE##_##member)
#define PART32(name, TYPE, member) (*(u32 *)((name) + TYPE##_##member))
#define PART16(name, TYPE, member) (*(u16 *)((name) + TYPE##_##member))
#endif
/* A pointer as a number that can be reckoned with: the verifier takes what comes out of a map for no more than that. */
#define PLAIN(w, pointer) ({ (w)->plain = (u64)(pointer); asm volatile("" ::: "memory"); (w)->plain; })
#define KEEP(value) asm volatile("" : "+r"(value)) /* the compiler knows too much for the verifier's taste */

static __always_inline u64 mix(u64 hash, u64 word)
{
    hash = (hash ^ word) * 0x9e3779b97f4a7c15ull;
    return hash ^ hash >> 32;
}

/* The first `left` bytes of a word. Without a branch: the verifier would go both ways at each. */
static __always_inline u64 mix_tail(u64 hash, u64 word, s64 left)
{
    s64 whole = 7 - left, none = left;
    KEEP(whole);
    KEEP(none);
    whole >>= 63;
    none >>= 63;
    KEEP(whole);
    KEEP(none);
    return mix(hash, word & (whole | (((1ull << (8 * (left & 7))) - 1) & ~none)));
}

static __always_inline bool failed(s64 result)
{
    return result < 0 && result >= -4095;
}

static __always_inline struct work *this_work(void)
{
    int processor = bpf_get_smp_processor_id();
    return works.lookup(&processor);
}

struct use_in { struct task_struct *task; struct spec *spec; struct work *w; s64 result; };

/* The call that has just ended, as on_sys_exit left it; false if there is nothing to say of it. */
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

/* From on_sys_exit: to the program that looks at what the call used. */
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
    w->e.key.call = s->abi << 16 | s->number;
    w->e.key.flags = 0;
    w->e.key.detail = failed(result) ? -result & DETAIL_ERROR : 0;
    w->e.mode = 0;
    tails.call(ctx, route);
}

/* Nothing but the first text or path. */
static __always_inline void only_first(struct work *w)
{
    w->text_length[1] = w->text_length[2] = 0;
    w->dentry[1] = w->dentry[2] = w->dentry[3] = 0;
    w->e.facts = 0;
}

#define ARGUMENT(w, position) ((w)->a[(position) & 7])

/* Older calls of i386 have their arguments in memory. */
static __always_inline void arguments_in_memory(struct work *w, u64 place)
{
    u32 words[6] = {};
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
    u64 table = LOAD64(LOAD64(task, OFFSET_TASK_FILES), OFFSET_FILES_TABLE);
    if (fd >= LOAD32(table, OFFSET_TABLE_MAX))
        return 0;
    BLOCK(slot, SLOT, LOAD64(table, OFFSET_TABLE_FD) + 8 * (u64)fd);
    return PART64(slot, SLOT, FIRST);
}

/* The same where it is rare, or made many times over by a loop. The kernel takes milliseconds to check each LOAD of a thread's members
 * (it looks for types by name, one after the other: btf_find_by_name_kind), so a program has them where speed matters only. */
static __always_inline u64 file_read(struct task_struct *task, u32 fd)
{
    u64 table = read64(read64((u64)task + OFFSET_TASK_FILES) + OFFSET_FILES_TABLE);
    if (fd >= read32(table + OFFSET_TABLE_MAX))
        return 0;
    return read64(read64(table + OFFSET_TABLE_FD) + 8 * (u64)fd);
}

static __always_inline u32 fsuid_of(struct task_struct *task)
{
    return LOAD32(LOAD64(task, OFFSET_TASK_CRED), OFFSET_CRED_FSUID);
}

static __always_inline void read_mount(struct work *w, u64 mnt)
{
    BLOCK(mount, MOUNT, mnt - OFFSET_MOUNT_MNT);
    w->mount_root = PART64(mount, MOUNT, ROOT);
    w->mount_point = PART64(mount, MOUNT, POINT);
    w->mount_above = PART64(mount, MOUNT, ABOVE);
    asm volatile("" ::: "memory");
}

/* A thread's mount namespace. */
static __always_inline u64 mounts_of(struct task_struct *task)
{
    return read64(read64((u64)task + OFFSET_TASK_NSPROXY) + OFFSET_NSPROXY_MNT_NS);
}

/* Whether a mount with nothing above it is on no tree of a mount namespace (is_mounted() and is_anon_ns() of fs/mount.h); `own`: the thread's. */
static __always_inline bool on_no_tree(u64 own, u64 mnt)
{
    u64 ns = read64(mnt - OFFSET_MOUNT_MNT + OFFSET_MOUNT_NS);
    if (ns == own)
        return false;
    return !ns || ns >= (u64)-4095 || !read64(ns + OFFSET_MNT_NS_ID);
}

/* What an event says of the thread, and the thread's root as its last path if it is not the one that the workload began with. */
static __always_inline void describe(struct task_struct *task, struct work *w)
{
    int zero = 0;
    struct session *session = session_at(w->session);
    struct self *profgen = self.lookup(&zero);
    if (!session || !profgen)
        return;
    w->start[0] = w->start[1] = w->start[2] = w->start[3] = 0;
    w->e.path_length[0] = w->e.path_length[1] = w->e.path_length[2] = w->e.path_length[3] = 0;
    w->e.fsuid = fsuid_of(task);
    u64 at = profgen->level & 31;
    u64 pid = read64((u64)task + OFFSET_TASK_THREAD_PID);
    u64 group = read64(read64((u64)task + OFFSET_TASK_SIGNAL) + OFFSET_SIGNAL_PIDS + 8); /* PIDTYPE_TGID */
    u64 own = read32(pid + OFFSET_PID_LEVEL) & 31;
    w->e.tid = read32(pid + OFFSET_PID_NUMBERS + 16 * at);
    w->e.tgid = read32(group + OFFSET_PID_NUMBERS + 16 * at);
    w->e.own_tid = read32(pid + OFFSET_PID_NUMBERS + 16 * own);
    w->e.own_tgid = read32(group + OFFSET_PID_NUMBERS + 16 * own);
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
    if (profgen->mounts != mounts_of(task))
        w->e.facts |= FACT_OTHER_MOUNTS;
}

/* Members of the workload are known by their numbers in the pid namespace that it began in, and in their own. */
static __always_inline u32 whom_of(struct task_struct *task, struct process_key *key)
{
    u64 *group = members.lookup(key);
    if (!group)
        return WHOM_OUTSIDE;
    return *group == read64((u64)task + OFFSET_TASK_SIGNAL) ? WHOM_SELF : WHOM_WORKLOAD;
}

/* A number as the thread itself uses it. */
static __always_inline u32 whom_of_number(struct task_struct *task, u32 session, u32 number)
{
    u64 pid = read64((u64)task + OFFSET_TASK_THREAD_PID);
    struct process_key key = {.nr = number, .session = session};
    key.ns = read64(pid + OFFSET_PID_NUMBERS + 16 * (u64)(read32(pid + OFFSET_PID_LEVEL) & 31) + 8);
    return whom_of(task, &key);
}

static __always_inline u32 whom_of_pid(struct task_struct *task, u32 session, u64 pid)
{
    struct process_key key = {.session = session};
    u64 place = pid + OFFSET_PID_NUMBERS + 16 * (u64)(read32(pid + OFFSET_PID_LEVEL) & 31);
    key.nr = read32(place);
    key.ns = read64(place + 8);
    return whom_of(task, &key);
}

static __always_inline u64 seeded(u64 word)
{
    int zero = 0;
    u64 *value = seed.lookup(&zero);
    return mix(value ? *value : 0, word);
}

/* The time, by up to a jiffy (10 ms) late: reading the clock takes as long as finding the use. */
static __always_inline u64 about_now(struct work *w)
{
    u64 jiffies = bpf_jiffies64();
    if (w->jiffies != jiffies) {
        w->jiffies = jiffies;
        w->now = bpf_ktime_get_ns();
    }
    return w->now;
}

/* What a path is made of, from where the kernel has it; 0 where that does not tell. A name's hash depends on the directory's address, and so does what is found here. */
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
            return 0; /* a name that was never looked up: of a memfd, of a file made without one */
        tag = mix(tag, hash << 32 | length << 1 | !PART64(entry, DENTRY, HASHED));
        if (parent == dentry)
            return tag;
        dentry = parent;
    }
    return 0;
}

/* Count the use of what a descriptor leads to, if this processor has met it. */
static __always_inline bool count_known(struct task_struct *task, struct work *w)
{
    struct use_key key = w->e.key;
    w->mounts = LOAD64(LOAD64(task, OFFSET_TASK_NSPROXY), OFFSET_NSPROXY_MNT_NS);
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
    struct use_value *v = uses.lookup(&key);
    if (!v)
        return false;
    __sync_fetch_and_add(&v->count, 1);
    v->last = about_now(w);
    return true;
}

/* The file is what a descriptor leads to: after a successful open, or for calls that take one. */
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
    if ((only == ONLY_EXECUTABLE || only == ONLY_OLD_MMAP) && (!(w->a[2] & 4) || w->a[3] & 0x20))
        return 0; /* PROT_EXEC, MAP_ANONYMOUS */
    if (only == ONLY_PROTECTED && !(w->a[2] & 4))
        return 0;
    if (only == ONLY_FLOCK) {
        u32 asked = w->a[1] & ~4u; /* LOCK_NB */
        if (asked != 1 && asked != 2 && asked != 8)
            return 0;
        w->e.mode = asked == 2; /* LOCK_EX */
    }
    if (only == ONLY_FCNTL_LOCK) {
        u32 command = w->a[1];
        if (command != 6 && command != 7 && command != 37 && command != 38 && (!(w->e.key.call >> 16) || command < 13 || command > 14))
            return 0; /* F_SETLK, F_SETLKW, F_OFD_SETLK, F_OFD_SETLKW; F_SETLK64, F_SETLKW64 of 32-bit ABIs */
        u16 type = 0;
        read_user(&type, sizeof(type), (void *)w->a[2]);
        w->e.mode = type == 1; /* F_WRLCK */
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
    if (fd == (u32)-100) { /* AT_FDCWD */
        u64 fs = read64((u64)in.task + OFFSET_TASK_FS);
        dentry = read64(fs + OFFSET_FS_PWD_DENTRY);
        mnt = read64(fs + OFFSET_FS_PWD_MNT);
        inode = read64(dentry + OFFSET_DENTRY_INODE);
    } else {
        u64 file;
        if (only == ONLY_PROTECTED)
            file = file_at(read64((u64)in.task + OFFSET_TASK_MM), w->a[0], w->name);
        else if (only == ONLY_EXECUTE && !w->text_length[0])
            file = read64(read64((u64)in.task + OFFSET_TASK_MM) + OFFSET_MM_EXE);
        else
            file = file_of(in.task, fd);
        if (!file) {
            if (in.spec->route == ROUTE_OPEN)
                add(LOST_PATHS, 1); /* another thread closed it already */
            return 0;
        }
        BLOCK(of_file, FILE, file);
        if (PART32(of_file, FILE, MODE) & 0x4000 && in.spec->route == ROUTE_OPEN)
            return 0; /* FMODE_PATH: opened for no use */
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
    u32 detail = (PART16(of_inode, INODE, MODE) >> 12 & 15) << DETAIL_KIND_SHIFT;
    if (PART64(of_super, SUPER, FLAGS) & 1ul << 31) { /* SB_NOUSER: pipes, sockets, memfd (tmpfs, hugetlbfs) */
        if (magic != 0x01021994 && magic != 0x958458f6)
            return 0;
        detail |= DETAIL_PSEUDO;
    }
    detail |= PART32(of_inode, INODE, UID) == fsuid_of(in.task) ? DETAIL_OWN : DETAIL_OTHERS;
    if (magic == 0x9fa0) { /* PROC_SUPER_MAGIC */
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

#define TEXT_PROC_SE 0x65732f636f72702full /* "/proc/se" in memory order */
#define TEXT_LF_FD 0x2f64662f666cull       /* "lf/fd/" */
/* /proc/self/fd/N leads straight to the descriptor's file, and nowhere once the thread is gone; -1 for another text. */
static __always_inline int own_descriptor(u64 *text)
{
    if (text[0] != TEXT_PROC_SE || (text[1] & 0xffffffffffff) != TEXT_LF_FD)
        return -1;
    u64 digits = text[1] >> 48 | text[2] << 16;
    int number = 0;
    for (int i = 0; i < 8; i++) {
        u32 digit = digits & 255;
        if (!digit)
            return i ? number : -1;
        if (digit < '0' || digit > '9')
            return -1;
        number = 10 * number + digit - '0';
        digits >>= 8;
    }
    return -1;
}

/* The file is named by the text of an argument. */
int on_text(u64 *ctx)
{
    struct use_in in;
    if (!use_in(&in))
        return 0;
    struct work *w = in.w;
    u64 flags = 0;
    if (in.spec->only == ONLY_HOW)
        read_user(&flags, sizeof(flags), (void *)w->a[2]);
    else if (in.spec->flags != NO_ARGUMENT)
        flags = ARGUMENT(w, in.spec->flags);
    w->e.key.flags = flags & in.spec->flags_mask;
    w->e.mode = in.spec->mode == NO_ARGUMENT ? 0 : ARGUMENT(w, in.spec->mode) & 0170000; /* S_IFMT */
    only_first(w);
    w->dentry[0] = 0;
    u64 fs = LOAD64(in.task, OFFSET_TASK_FS);
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
            if (in.spec->only == ONLY_EXECUTE) /* failed when the old memory was gone already, and the text with it */
                tails.call(ctx, TAIL_DESCRIPTOR);
            if (optional)
                continue;
            add(LOST_PATHS, 1);
            return 0;
        }
        if (length >= TEXT) {
            add(LOST_PATHS, 1); /* PATH_MAX: the kernel took none of it */
            return 0;
        }
        w->text_length[i] = length;
        if (in.spec->plain >> i & 1)
            continue;
        if (length <= 1) {
            if (i == 0 && in.spec->fd != NO_ARGUMENT && (in.spec->flags == NO_ARGUMENT || flags & 0x1000)) /* AT_EMPTY_PATH */
                tails.call(ctx, TAIL_DESCRIPTOR);
            if (!optional)
                return 0;
        }
        int at = in.spec->at[i] == NO_ARGUMENT ? -100 : (int)ARGUMENT(w, in.spec->at[i]);
        if ((u8)w->text[i][0] == '/') {
            if (!(in.spec->follow >> i & 1) || flags & 0x100) { /* AT_SYMLINK_NOFOLLOW */
                if (!(in.spec->follow >> i & 2) || !(flags & 0x400)) /* AT_SYMLINK_FOLLOW */
                    continue;
            }
            at = own_descriptor(w->text[i]);
            if (at < 0)
                continue;
            w->text[i][0] = 0;
            w->text_length[i] = 1;
        }
        u64 path = at == -100 ? fs + OFFSET_FS_PWD_MNT : file_read(in.task, at) + OFFSET_FILE_MNT;
        u64 where[2] = {};
        READ(where, path);
        if (!where[1])
            return 0; /* no such descriptor */
        w->mnt[i] = where[0];
        w->dentry[i] = where[1];
    }
    tails.call(ctx, TAIL_COUNT);
    return 0;
}

/* The last component of a text; of a long one its end. */
static __always_inline u32 last_name(struct work *w, u64 length)
{
    u64 word = 0, name = 0;
    u64 at = length > 9 ? length - 9 : 0;
    KEEP(at);
    if (at > TEXT - 16)
        return 0;
    bpf_probe_read_kernel(&word, sizeof(word), (char *)w->text[0] + at);
    for (int i = 0; i < 8; i++) {
        u64 byte = word >> (8 * i) & 255;
        if (!byte)
            break;
        name = byte == '/' ? 0 : name << 8 | byte;
    }
    return seeded(name) >> 32;
}

/* Is this use the first of its sort? No inode number and no address is in a path's hash: a file that is made again and again stays one. */
int on_count(u64 *ctx)
{
    struct task_struct *task = (void *)bpf_get_current_task_btf();
    struct work *w = this_work();
    if (!w)
        return 0;
    u64 hash = w->e.key.hash;
    if (!w->goes_on) {
        w->length = w->piece = w->at_dentry = 0;
        w->mounts = LOAD64(LOAD64(task, OFFSET_TASK_NSPROXY), OFFSET_NSPROXY_MNT_NS);
        hash = seeded(w->e.mode);
    }
    if (!w->goes_on && !(w->e.facts & FACT_DESCRIPTOR)) {
        u64 fs = read64((u64)task + OFFSET_TASK_FS);
        hash = mix(hash, read64(fs + OFFSET_FS_ROOT_DENTRY) ^ read64(fs + OFFSET_FS_ROOT_MNT));
        hash = mix(hash, w->mounts);
        struct session *session = session_at(w->session);
        hash = mix(hash, session ? session->generation : 0);
        for (int i = 0; i < TEXTS; i++) {
            u64 length = w->text_length[i];
            hash = mix(hash, length);
            for (u32 word = 0; word < TEXT / 8 && 8 * word < length; word++)
                hash = mix_tail(hash, w->text[i][word], length - 8 * word);
        }
    }
    w->e.key.hash = hash;
    u32 turn;
    for (turn = 0; turn < CHAIN_TURNS; turn++) {
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
            u64 parent = OF64(block, DENTRY_PARENT), name = OF64(block, DENTRY_NAME);
            u32 length = *(u32 *)(block + DENTRY_LENGTH);
            hash = mix(w->e.key.hash, length);
            if (name == dentry + OFFSET_DENTRY_INLINE) {
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
            } else {
                READ(w->name, w->zero);
                bpf_probe_read_kernel_str(w->name, sizeof(w->name), (void *)name);
#pragma clang loop unroll(disable)
                for (int i = 0; i < 32; i++)
                    hash = mix(hash, w->name[i]);
            }
            w->e.key.hash = hash;
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
    if (w->piece < TEXTS) { /* a long way up */
        w->goes_on = 1;
        tails.call(ctx, TAIL_COUNT);
        w->e.key.hash = mix(w->e.key.hash, w->at_dentry); /* longer than the kernel allows tail calls: on_walk gives up too */
    }
    w->e.key.hash = mix(w->e.key.hash, w->e.facts);
    w->goes_on = 0;
    w->piece = 0;
    struct use_key key = w->e.key;
    struct use_value *v = uses.lookup(&key);
    if (v) {
        __sync_fetch_and_add(&v->count, 1);
        v->last = about_now(w);
        if (!(w->e.facts & FACT_DESCRIPTOR)) {
            tails.call(ctx, TAIL_NAMES);
            add(LOST_PATHS, 1); /* there are no more tail calls */
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
    struct use_value fresh = {.count = 1, .first = now, .last = now};
    if (uses.update(&key, &fresh)) {
        add(LOST_FILES, 1);
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

/* What is now found under a text may be another file than before: then all texts count as new. */
int on_names(u64 *ctx)
{
    struct use_in in;
    if (!use_in(&in) || failed(in.result))
        return 0;
    struct work *w = in.w;
    u32 only = in.spec->only;
    u64 one = 1;
    struct session *session = session_at(w->session);
    if (only == ONLY_MESSAGES && (s64)w->message < in.result) {
        tails.call(ctx, TAIL_SOCKET);
        add(LOST_SOCKETS, 1); /* there are no more tail calls */
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

/* Append the names of each of the event's paths, leaf first, each with its NUL, up to the top of its mount namespace; then send. */
#define WALK_TURNS 24
int on_walk(u64 *ctx)
{
    struct work *w = this_work();
    if (!w)
        return 0;
    u64 mounts = mounts_of((void *)bpf_get_current_task_btf());
    for (int turn = 0; turn < WALK_TURNS; turn++) {
        u64 piece = w->piece;
        if (piece >= PIECES) {
            u64 size = w->length;
            KEEP(size);
            size &= DATA_MASK;
            if (paths.ringbuf_output(&w->e, sizeof(struct use_event) + size, 0)) {
                struct use_key key = w->e.key;
                uses.delete(&key); /* the next one is the first again */
                add(LOST_PATHS, 1);
            }
            if (!(w->e.facts & FACT_DESCRIPTOR)) {
                tails.call(ctx, TAIL_NAMES);
                add(LOST_PATHS, 1);
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
                s64 got = bpf_probe_read_kernel_str(w->data + length, 256, (void *)read64(dentry + OFFSET_DENTRY_NAME));
                if (got <= 0 || length + got - w->start[piece] >= TEXT - 1) {
                    add(LOST_PATHS, 1); /* PATH_MAX: no path that the process could have used is longer (path_resolution(7)) */
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
    add(LOST_PATHS, 1); /* more turns than the kernel allows tail calls */
    return 0;
}

static __always_inline void count_contact(struct use_in *in, u32 number, u32 whom)
{
    struct contact_key key = {.program = in->w->e.key.program, .call = in->w->e.key.call, .number = number, .whom = whom};
    key.error = failed(in->result) ? -in->result : 0;
    u64 now = about_now(in->w);
    struct use_value *v = contacts.lookup(&key);
    if (v) {
        __sync_fetch_and_add(&v->count, 1);
        v->last = now;
        return;
    }
    struct use_value fresh = {.count = 1, .first = now, .last = now};
    if (contacts.update(&key, &fresh))
        add(LOST_PROCESSES, 1);
    else
        noted_new();
}

/* Signals to other processes, and looks into them: `path[0]` is the argument with the process, `path[1]` with a second one,
 * `at[0]` with a descriptor that stands for it, `mode` with the signal or the request. */
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
        u64 pid = read64(file + OFFSET_FILE_PRIVATE);
        if (!pid) /* since Linux 6.9 (fs/pidfs.c) */
            pid = read64(read64(file + OFFSET_FILE_INODE) + OFFSET_INODE_PRIVATE);
        whom = whom_of_pid(in.task, w->session, pid);
    } else {
        s32 pid = ARGUMENT(w, in.spec->path[0]);
        if (in.spec->only == ONLY_PTRACE && number == 0) /* PTRACE_TRACEME: by the parent */
            whom = whom_of_pid(in.task, w->session, read64(read64((u64)in.task + OFFSET_TASK_PARENT) + OFFSET_TASK_THREAD_PID));
        else if (pid > 0)
            whom = whom_of_number(in.task, w->session, pid);
        if (whom != WHOM_OUTSIDE && in.spec->path[1] != NO_ARGUMENT) { /* of two, the one that is further away counts */
            u32 other = whom_of_number(in.task, w->session, ARGUMENT(w, in.spec->path[1]));
            whom = other > whom ? other : whom;
        }
    }
    count_contact(&in, number, whom);
    return 0;
}

#define ADDRESS_MAX 128 /* struct sockaddr_storage */
#define MESSAGES_TURNS 32 /* sendmmsg(2) sends up to 1024 messages (UIO_MAXIOV), and there are 33 tail calls */

/* Operations on sockets: `fd` is the argument with the descriptor; `path[0]` and `path[1]` with an address and its length, or `at[0]` with a
 * struct msghdr. socket(2) and socketpair(2) have the descriptor when they succeed, else only what was asked for. */
int on_socket(u64 *ctx)
{
    struct use_in in;
    if (!use_in(&in))
        return 0;
    struct work *w = in.w;
    if (in.spec->only == ONLY_SOCKETCALL) { /* net/socket.c: a number, and where the arguments are; a row of its own in `specs` */
        u32 number = w->a[0];
        if (number < 1 || number > 20)
            return 0;
        w->spec = ABI_COMPAT * NUMBERS + SOCKETCALLS + number;
        w->e.key.call = ABI_COMPAT << 16 | (SOCKETCALLS + number);
        arguments_in_memory(w, w->a[1]);
        int index = w->spec;
        in.spec = specs.lookup(&index);
        if (!in.spec)
            return 0;
    }
    struct socket_key key = {.program = w->e.key.program, .call = w->e.key.call, .port = ~0u};
    key.error = failed(in.result) ? -in.result : 0;
    s32 fd = in.spec->fd == NO_ARGUMENT ? in.result : ARGUMENT(w, in.spec->fd);
    if (in.spec->only == ONLY_PAIR && !failed(in.result))
        read_user(&fd, sizeof(fd), (void *)w->a[3]);
    if ((in.spec->only == ONLY_PAIR || in.spec->fd == NO_ARGUMENT) && failed(in.result)) {
        key.family = w->a[0];
        key.type = w->a[1] & 15; /* SOCK_TYPE_MASK */
        key.protocol = w->a[2];
    } else {
        u64 file = file_of(in.task, fd);
        if (!file)
            return 0;
        BLOCK(of_file, FILE, file);
        BLOCK(of_inode, INODE, PART64(of_file, FILE, INODE));
        if ((PART16(of_inode, INODE, MODE) & 0170000) != 0140000)
            return 0; /* no socket: the call failed with ENOTSOCK */
        BLOCK(held, HELD, file);
        BLOCK(of_socket, SOCKET, PART64(held, HELD, PRIVATE));
        u64 sk = PART64(of_socket, SOCKET, SK);
        if (!sk)
            return 0;
        BLOCK(of_sock, SOCK, sk);
        BLOCK(of_kind, KIND, sk);
        key.family = PART16(of_sock, SOCK, FAMILY);
        key.type = PART16(of_kind, KIND, TYPE);
        key.protocol = PART16(of_kind, KIND, PROTOCOL);
    }
    for (int turn = 0; turn < MESSAGES_TURNS; turn++) {
        u64 address = 0;
        u32 length = 0;
        key.port = ~0u;
        if (in.spec->path[0] != NO_ARGUMENT) {
            address = ARGUMENT(w, in.spec->path[0]);
            length = ARGUMENT(w, in.spec->path[1]);
        } else if (in.spec->at[0] != NO_ARGUMENT) {
            u64 message = ARGUMENT(w, in.spec->at[0]) + w->message * (w->e.key.call >> 16 == ABI_COMPAT ? 32 : 64);
            if (w->e.key.call >> 16 == ABI_COMPAT) {
                u32 head[2] = {};
                read_user(head, sizeof(head), (void *)message);
                address = head[0];
                length = head[1];
            } else {
                u64 head[2] = {};
                read_user(head, sizeof(head), (void *)message);
                address = head[0];
                length = head[1];
            }
        }
        if (in.spec->only == ONLY_MESSAGES)
            w->message++;
        if (address && length >= 2) {
            if (length > ADDRESS_MAX)
                length = ADDRESS_MAX;
            KEEP(length);
            length &= 255;
            if (length > ADDRESS_MAX || read_user(w->name, length, (void *)address))
                return 0;
            u16 family = w->name[0];
            if ((family == 2 || family == 10) && length >= 4) { /* AF_INET, AF_INET6: the port is in the same place */
                u32 port = w->name[0] >> 16 & 0xffff;
                key.port = (port & 255) << 8 | port >> 8;
            } else if (family == 1 && length > 2) { /* AF_UNIX: a path, or an abstract name after a NUL */
                only_first(w);
                w->dentry[0] = 0;
                w->e.key.flags = key.type << 16 | (key.protocol & 0xffff);
                u64 size = length - 2;
                KEEP(size);
                size &= 255;
                bpf_probe_read_kernel(w->text[0], size, (char *)w->name + 2);
                if ((u8)w->text[0][0]) {
                    /* A path ends at its NUL, or with the structure (unix(7)). */
                    ((char *)w->text[0])[size & 255] = 0;
                    s64 text = bpf_probe_read_kernel_str(w->name, ADDRESS_MAX, w->text[0]);
                    size = text > 0 ? text : 0;
                    if ((u8)w->text[0][0] != '/') {
                        u64 fs = read64((u64)in.task + OFFSET_TASK_FS);
                        w->dentry[0] = read64(fs + OFFSET_FS_PWD_DENTRY);
                        w->mnt[0] = read64(fs + OFFSET_FS_PWD_MNT);
                    }
                }
                w->text_length[0] = size;
                tails.call(ctx, TAIL_COUNT); /* on_names goes on with the next message */
                add(LOST_SOCKETS, 1);
                return 0;
            }
        }
        u64 now = about_now(w);
        struct use_value *v = sockets.lookup(&key);
        if (v) {
            __sync_fetch_and_add(&v->count, 1);
            v->last = now;
        } else {
            struct use_value fresh = {.count = 1, .first = now, .last = now};
            if (sockets.update(&key, &fresh))
                add(LOST_SOCKETS, 1);
            else
                noted_new();
        }
        if (in.spec->only != ONLY_MESSAGES || (s64)w->message >= in.result)
            return 0;
    }
    tails.call(ctx, TAIL_SOCKET);
    add(LOST_SOCKETS, 1);
    return 0;
}
