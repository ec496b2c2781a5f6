/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Which program a thread runs: by its file, by the path of that file, and by a script's name. A program that is met for
 * the first time is sent to user space with its paths.
 */
#pragma once

#define PATH_LEVELS 48 /* components and mounts on the way up from a file; a longer way counts as lost */

/* Write the components of a path from the leaf up to the top of its mount namespace, each with its NUL. Returns their
 * length, 0 when they do not fit. */
static __always_inline u32 walk(struct scratch *local, u8 *out, u64 dentry, u64 mnt)
{
    /* The length lies in a map: the verifier does not know its value, so all turns of the loop look alike to it. */
    local->length = 0;
    for (int depth = 0; depth < PATH_LEVELS; depth++) {
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
            /* A file on no tree (memfd) has only its name. The top itself has a slash for its name. */
            local->length = bpf_probe_read_kernel_str(out, NAME_SIZE, (void *)read64(dentry + OFFSET_DENTRY_NAME));
            return local->length;
        }
        void *name = (void *)read64(dentry + OFFSET_DENTRY_NAME);
        int got = bpf_probe_read_kernel_str(out + (length & (TEXT - 1)), NAME_SIZE, name);
        if (got <= 0)
            return 0;
        length += got;
        if (length >= TEXT)
            return 0; /* longer than PATH_MAX: the process cannot have used it (path_resolution(7)) */
        local->length = length;
        dentry = parent;
    }
    return 0;
}

#ifdef WITH_USES
struct where {
    u64 dentry;
    u64 mnt;
};

/* The path that a mapped file was opened by. On overlayfs a mapping has a file of the layer, which either keeps the
 * user's path next to its own (struct backing_file of fs/file_table.c, Linux 6.7) or has it in place of its own. Its
 * inode is the layer's in both cases. Among mapped files only these are FMODE_NOACCOUNT; the bit of FMODE_BACKING moved
 * in Linux 6.14. */
static __always_inline struct where mapped_by(u64 file)
{
    u64 aside = 0;
#ifdef OFFSET_BACKING_PATH
    if (read32(file + OFFSET_FILE_MODE) & FMODE_NOACCOUNT)
        aside = OFFSET_BACKING_PATH - OFFSET_FILE_PATH;
#endif
    return (struct where){
        .dentry = read64(file + aside + OFFSET_FILE_DENTRY),
        .mnt = read64(file + aside + OFFSET_FILE_MNT),
    };
}
#endif

#if defined(WITH_USES) && defined(OFFSET_MM_TREE)
/* The file that is mapped at an address: a walk down the tree of mappings (lib/maple_tree.c, mtree_lookup_walk).
 * `node`: MAPLE_NODE_WORDS words of room. */
static __always_inline u64 file_at(u64 mm, u64 address, u64 *node)
{
    u64 below = read64(mm + OFFSET_MM_TREE);
    for (int depth = 0; depth < MAPLE_LEVELS; depth++) {
        u32 type = below >> MAPLE_TYPE_SHIFT & MAPLE_TYPE_MASK;
        if (below <= XA_ZERO_ENTRY_END || type < MAPLE_LEAF_64 || type > MAPLE_ARANGE_64)
            return 0;
        bpf_probe_read_kernel(node, MAPLE_NODE_SIZE, (void *)(below & ~(u64)MAPLE_NODE_MASK));
        u32 slots = type == MAPLE_ARANGE_64 ? WIDE_SLOTS : NARROW_SLOTS, pivots = slots - TREE_PIVOTS - 1, at;
        for (at = 0; at < pivots; at++) {
            u64 last = node[(TREE_PIVOTS + at) & (MAPLE_NODE_WORDS - 1)];
            if (last >= address || (!last && at))
                break;
        }
        below = node[(slots + at) & (MAPLE_NODE_WORDS - 1)];
        if (type == MAPLE_LEAF_64)
            return below && (below & 3) == 0 ? read64(below + OFFSET_VMA_FILE) : 0;
    }
    return 0;
}

/* The file that the kernel mapped to load a program that has just been executed (PT_INTERP): the one at AT_BASE of
 * getauxval(3). 0 for a static program. */
static __always_inline u64 loader_of(u64 mm, struct scratch *local)
{
    u64 *words = (u64 *)local->text, base = 0;
    bpf_probe_read_kernel(words, 8 * AUXV_WORDS, (void *)(mm + OFFSET_MM_AUXV));
    bool wide = !(words[0] >> 32); /* a 32-bit program has type and value in one word */
    for (int i = 0; i < AUXV_WORDS && !base; i++) {
        if (wide && !(i & 1) && words[i] == AT_BASE)
            base = words[i + 1];
        if (!wide && (u32)words[i] == AT_BASE)
            base = words[i] >> 32;
    }
    return base ? file_at(mm, base, words) : 0;
}
#else
#define file_at(mm, address, node) 0 /* Linux before 6.1 has no such tree */
#endif

/* A number for another program of a session; LIMIT_PROGRAMS when none is left. */
static __always_inline u32 new_program(u32 session)
{
    u64 *next = counter_at(NEXT_PROGRAM);
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

/* A hash of the names of a path, from the leaf up to the top of its mount namespace, and of whether it is deleted. It
 * starts from an address, which a workload cannot predict. */
static __always_inline u64 names_of(struct scratch *local, u64 dentry, u64 mnt)
{
    u64 *words = (u64 *)local->text;
    local->hash = mnt ^ !read64(dentry + OFFSET_DENTRY_HASHED);
    for (int depth = 0; depth < PATH_LEVELS; depth++) {
        u64 parent = read64(dentry + OFFSET_DENTRY_PARENT);
        if (dentry == read64(mnt + OFFSET_VFSMOUNT_ROOT)) {
            u64 mount = mnt - OFFSET_MOUNT_MNT, above = read64(mount + OFFSET_MOUNT_PARENT);
            if (above == mount)
                break;
            dentry = read64(mount + OFFSET_MOUNT_POINT);
            mnt = above + OFFSET_MOUNT_MNT;
            continue;
        }
        __builtin_memset(words, 0, NAME_SIZE);
        bpf_probe_read_kernel_str(words, NAME_SIZE, (void *)read64(dentry + OFFSET_DENTRY_NAME));
        u64 hash = local->hash;
#pragma unroll
        for (int i = 0; i < NAME_SIZE / 8; i++)
            hash = mix(hash, words[i]);
        local->hash = hash;
        if (dentry == parent)
            break;
        dentry = parent;
    }
    return local->hash;
}

/* Fill in the key of a program's file. */
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

static __always_inline bool is_relative(struct event *e)
{
    return e->script && e->name[0] != '/';
}

/* Send a program to user space. */
static __always_inline void tell_program(struct session *session, u32 number, u32 program, u64 file, u64 name,
                                         bool script, u64 task, struct scratch *local)
{
    struct self *own = profgen();
    if (!own)
        return;
    struct event *e = events.ringbuf_reserve(sizeof(struct event));
    if (!e) {
        __sync_fetch_and_add(&session->stats[LOST_EVENTS], 1);
        return;
    }
    u64 dentry = read64(file + OFFSET_FILE_DENTRY), mnt = read64(file + OFFSET_FILE_MNT);
    u64 inode = read64(file + OFFSET_FILE_INODE);
    u64 fs = read64(task + OFFSET_TASK_FS);
    u64 root_dentry = read64(fs + OFFSET_FS_ROOT_DENTRY), root_mnt = read64(fs + OFFSET_FS_ROOT_MNT);
    e->program = program;
    e->session = number;
    e->generation = session->generation;
    e->script = script;
    e->truncated = 0;
    e->foreign = session->root != (root_dentry ^ root_mnt);
    e->other_mounts = own->mounts != mounts_of(task);
    e->tid = e->tgid = number_of_thread(task); /* after execve(2) a process has its leader only */
    e->deleted = dentry != read64(mnt + OFFSET_VFSMOUNT_ROOT) && !read64(dentry + OFFSET_DENTRY_HASHED);
    e->pseudo = (read64(read64(inode + OFFSET_INODE_SB) + OFFSET_SB_FLAGS) & SB_NOUSER) != 0;
    e->uid = read32(inode + OFFSET_INODE_UID);
    e->fsuid = read32(read64(task + OFFSET_TASK_CRED) + OFFSET_CRED_FSUID);
    e->cwd_length = e->root_length = 0;
    e->exe_length = walk(local, e->exe, dentry, mnt);
    e->name[0] = 0;
    if (name)
        bpf_probe_read_kernel_str(e->name, TEXT, (void *)name);
    /* From here on conditions are read from the event, where the verifier does not know them: what it knows it follows
     * to the end, each combination on its own. */
    asm volatile("" ::: "memory");
    if (is_relative(e))
        e->cwd_length = walk(local, e->cwd, read64(fs + OFFSET_FS_PWD_DENTRY), read64(fs + OFFSET_FS_PWD_MNT));
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
    asm volatile("" ::: "memory");
    if (!e->exe_length || (is_relative(e) && !e->cwd_length) || (e->foreign && !e->root_length)) {
        e->truncated = 1;
        __sync_fetch_and_add(&session->stats[LOST_PATHS], 1);
    }
    e->argv0[0] = 0;
    if (name) {
        u64 arguments_at = read64(read64(task + OFFSET_TASK_MM) + OFFSET_MM_ARG_START);
        read_user_text(e->argv0, sizeof(e->argv0), (void *)arguments_at);
    }
    events.ringbuf_submit(e, 0);
}

/* The number of a program, new or known, that a thread of a session runs from `file`. `name`: as given to execve(2),
 * or 0; `script`: it is a script, and `file` is its interpreter. */
static __always_inline u32 program_of(u32 number, u64 file, u64 name, bool script, u64 task)
{
    int zero = 0;
    struct scratch *local = scratch.lookup(&zero);
    struct session *session = session_at(number);
    if (!local || !session)
        return PROGRAM_SHARED;
    struct file_key *key = &local->key;
    identify(local, number, file);
    if (script) {
        u64 fs = read64(task + OFFSET_TASK_FS);
        key->directory = names_of(local, read64(fs + OFFSET_FS_PWD_DENTRY), read64(fs + OFFSET_FS_PWD_MNT));
        u32 length = bpf_probe_read_kernel_str(local->text, TEXT, (void *)name);
        u32 skipped = length > SCRIPT_TEXT ? length - SCRIPT_TEXT : 0;
        bpf_probe_read_kernel_str(key->script, SCRIPT_TEXT, (void *)(name + skipped));
    }
    u32 *known = files.lookup(key);
    u32 program = known ? *known : new_program(number);
    if (program >= LIMIT_PROGRAMS || (!known && files.update(key, &program))) {
        __sync_fetch_and_add(&session->stats[LOST_PROGRAMS], 1);
        return session->shared;
    }
    int index = program;
    struct program_state *p = programs.lookup(&index);
    /* A script is sent again once its name may lead to another file. */
    if (!p || (known && (!script || p->generation == session->generation)))
        return program;
    p->generation = session->generation;
    session->stats[STAT_LAST_NEW] = bpf_ktime_get_ns();
    tell_program(session, number, program, file, name, script, task, local);
    return program;
}
