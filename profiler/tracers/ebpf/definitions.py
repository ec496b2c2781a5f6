"""What recorder.bpf.c is compiled with: offsets of kernel structures, numbers of calls, sizes of maps, registers."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping

from profiler.errors import TracerError
from profiler.kernel.abi import SUB_ABIS, X32_SYSCALL_BIT, native_abi
from profiler.kernel.capabilities import CAPABILITIES
from profiler.kernel.capabilities import number_of as capability_number
from profiler.kernel.syscalls import number_of
from profiler.tracers.ebpf import bpf
from profiler.tracers.ebpf.btf import KIND_FUNC, KIND_STRUCT, KIND_TYPEDEF, KernelTypes
from profiler.tracers.ebpf.limits import DEFAULT_LIMITS, RINGS
from profiler.tracers.ebpf.shared import constant

_OFFSETS = {
    "TASK_STORAGE": ("task_struct", "bpf_storage"),
    "TASK_REAL_CRED": ("task_struct", "real_cred"),
    "TASK_FS": ("task_struct", "fs"),
    "TASK_MM": ("task_struct", "mm"),
    "TASK_THREAD_PID": ("task_struct", "thread_pid"),
    "TASK_FLAGS": ("task_struct", "flags"),
    "PID_LEVEL": ("pid", "level"),
    "PID_NUMBERS": ("pid", "numbers"),
    "MM_ARG_START": ("mm_struct", "arg_start"),
    "CRED_USER_NS": ("cred", "user_ns"),
    "CRED_UID": ("cred", "uid"),
    "CRED_GID": ("cred", "gid"),
    "CRED_BOUNDING_SET": ("cred", "cap_bset"),
    "CRED_EFFECTIVE_SET": ("cred", "cap_effective"),
    "CRED_PERMITTED_SET": ("cred", "cap_permitted"),
    "CRED_INHERITABLE_SET": ("cred", "cap_inheritable"),
    "CRED_AMBIENT_SET": ("cred", "cap_ambient"),
    "NS_LEVEL": ("user_namespace", "level"),
    "NS_PARENT": ("user_namespace", "parent"),
    "NS_UID_EXTENT": ("user_namespace", "uid_map", "extent"),
    "NS_UID_EXTENTS": ("user_namespace", "uid_map", "nr_extents"),
    "TASK_CRED": ("task_struct", "cred"),
    "TASK_NSPROXY": ("task_struct", "nsproxy"),
    "CRED_FSUID": ("cred", "fsuid"),
    "NSPROXY_MNT_NS": ("nsproxy", "mnt_ns"),
    "DENTRY_HASHED": ("dentry", "d_hash", "pprev"),
    "DENTRY_PARENT": ("dentry", "d_parent"),
    "DENTRY_NAME": ("dentry", "d_name", "name"),
    "DENTRY_INODE": ("dentry", "d_inode"),
    "VFSMOUNT_ROOT": ("vfsmount", "mnt_root"),
    "MOUNT_MNT": ("mount", "mnt"),
    "MOUNT_PARENT": ("mount", "mnt_parent"),
    "MOUNT_POINT": ("mount", "mnt_mountpoint"),
    "BPRM_FILE": ("linux_binprm", "file"),
    "BPRM_FILENAME": ("linux_binprm", "filename"),
    "BPRM_INTERP": ("linux_binprm", "interp"),
    "FILE_DENTRY": ("file", "f_path", "dentry"),
    "FILE_MNT": ("file", "f_path", "mnt"),
    "FILE_INODE": ("file", "f_inode"),
    "INODE_SB": ("inode", "i_sb"),
    "INODE_INO": ("inode", "i_ino"),
    "INODE_UID": ("inode", "i_uid"),
    "INODE_GID": ("inode", "i_gid"),
    "INODE_MODE": ("inode", "i_mode"),
    "SB_DEV": ("super_block", "s_dev"),
    "SB_FLAGS": ("super_block", "s_flags"),
    "FS_ROOT_DENTRY": ("fs_struct", "root", "dentry"),
    "FS_ROOT_MNT": ("fs_struct", "root", "mnt"),
    "FS_PWD_DENTRY": ("fs_struct", "pwd", "dentry"),
    "FS_PWD_MNT": ("fs_struct", "pwd", "mnt"),
}

_WATCH_OFFSETS = {
    "TASK_LEADER": ("task_struct", "group_leader"),
    "TASK_SIGNAL": ("task_struct", "signal"),
    "TASK_CGROUPS": ("task_struct", "cgroups"),
    "SIGNAL_PIDS": ("signal_struct", "pids"),
    "SIGNAL_THREADS": ("signal_struct", "nr_threads"),
    "MM_EXE": ("mm_struct", "exe_file"),
    "CSS_SET_DEFAULT": ("css_set", "dfl_cgrp"),
    "CSS_PARENT": ("cgroup_subsys_state", "parent"),
    "CGROUP_SELF": ("cgroup", "self"),
    "CGROUP_KN": ("cgroup", "kn"),
    "CGROUP_ROOT": ("cgroup", "root"),
    "HIERARCHY_ID": ("cgroup_root", "hierarchy_id"),
    "KERNFS_ID": ("kernfs_node", "id"),
    "KERNFS_NAME": ("kernfs_node", "name"),
    "MNT_NS_INUM": ("mnt_namespace", "ns", "inum"),
}

_USES_OFFSETS = {
    "TASK_FILES": ("task_struct", "files"),
    "TASK_SIGNAL": ("task_struct", "signal"),
    "MM_EXE": ("mm_struct", "exe_file"),
    "TASK_PARENT": ("task_struct", "real_parent"),
    "SIGNAL_PIDS": ("signal_struct", "pids"),
    "FILES_TABLE": ("files_struct", "fdt"),
    "TABLE_MAX": ("fdtable", "max_fds"),
    "TABLE_FD": ("fdtable", "fd"),
    "FILE_PRIVATE": ("file", "private_data"),
    "INODE_PRIVATE": ("inode", "i_private"),
    "MOUNT_NS": ("mount", "mnt_ns"),
    "PROC_PID": ("proc_inode", "pid"),
    "PROC_VFS_INODE": ("proc_inode", "vfs_inode"),
}

_INLINE_NAME_BYTES = 16
_BLOCKS: Mapping[str, Mapping[str, tuple[tuple[str, ...], int]]] = {
    "DENTRY": {
        "HASHED": (("dentry", "d_hash", "pprev"), 8),
        "PARENT": (("dentry", "d_parent"), 8),
        "HASH": (("dentry", "d_name", "hash"), 4),
        "LENGTH": (("dentry", "d_name", "len"), 4),
        "NAME": (("dentry", "d_name", "name"), 8),
    },
    "FILE": {
        "MODE": (("file", "f_mode"), 4),
        "INODE": (("file", "f_inode"), 8),
        "MNT": (("file", "f_path", "mnt"), 8),
        "DENTRY": (("file", "f_path", "dentry"), 8),
    },
    "HELD": {"PRIVATE": (("file", "private_data"), 8)},
    "INODE": {"MODE": (("inode", "i_mode"), 2), "UID": (("inode", "i_uid"), 4), "SUPER": (("inode", "i_sb"), 8)},
    "SUPER": {"FLAGS": (("super_block", "s_flags"), 8), "MAGIC": (("super_block", "s_magic"), 8)},
    "MOUNT": {
        "ABOVE": (("mount", "mnt_parent"), 8),
        "POINT": (("mount", "mnt_mountpoint"), 8),
        "ROOT": (("mount", "mnt", "mnt_root"), 8),
    },
    "SLOT": {"FIRST": (("hlist_head", "first"), 8)},  # any structure that begins with a pointer
    "SOCKET": {"SK": (("socket", "sk"), 8)},
    "SOCK": {"FAMILY": (("sock", "__sk_common", "skc_family"), 2)},
    "KIND": {"TYPE": (("sock", "sk_type"), 2), "PROTOCOL": (("sock", "sk_protocol"), 2)},
}
"""Members that are read together, with their sizes: one by one where the kernel can, else copied from the first to the
end of the last."""

_BLOCK_MAX = 160
"""A copied block lies on the stack of a program, which has 512 bytes."""

_CALLS = (
    "execve",
    "setuid",
    "setreuid",
    "setresuid",
    "setfsuid",
    "setgid",
    "setregid",
    "setresgid",
    "setfsgid",
    "setsockopt",
    "mq_open",
)
_CALLS_OF_SOME = ("chmod", "fchmod", "fchmodat", "fchmodat2", "gettimeofday", "time", "getcpu")
"""Calls that not every architecture has."""
_CAPABILITIES = (
    "CAP_SETUID",
    "CAP_SETGID",
    "CAP_FSETID",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_SETFCAP",
    "CAP_SYS_ADMIN",
    "CAP_NET_ADMIN",
    "CAP_SYS_RESOURCE",
)

_TS_COMPAT = 2
"""arch/x86/include/asm/thread_info.h"""
_WORK_OTHERS = 1 << 0 | 1 << 2 | 1 << 3
"""SECCOMP, SYSCALL_TRACE, SYSCALL_EMU: include/linux/thread_info.h"""
_TIF_32BIT = 1 << 22
_TIF_OTHERS = 1 << 8 | 1 << 11 | 1 << 12
"""TIF_SYSCALL_TRACE, TIF_SECCOMP, TIF_SYSCALL_EMU: arch/arm64/include/asm/thread_info.h"""


def flags(types: KernelTypes, limits: Mapping[str, int], *, uses: bool, watch: bool, denials: bool) -> list[str]:
    """Return the compiler's flags for the recorder with these parts. Raises TracerError."""
    parts = {"WITH_USES": uses, "WITH_WATCH": watch, "WITH_DENIALS": denials}
    values = definitions(types, limits, uses=uses, watch=watch)
    return [
        *(f"-D{name}={value}" for name, value in values.items()),
        *_register_macros(native_abi()),
        *(f"-D{name}" for name, wanted in parts.items() if wanted),
        "-Wno-everything",
        "-Werror=implicit-function-declaration",
    ]


def definitions(
    types: KernelTypes, limits: Mapping[str, int], *, uses: bool = True, watch: bool = False
) -> dict[str, int]:
    """Return the numbers that recorder.bpf.c leaves open; with ``uses`` and ``watch`` those of uses.bpf.c and
    watch.bpf.c too.

    Raises TracerError when the kernel lacks a structure or a member.
    """
    native = native_abi()
    offsets = _OFFSETS | (_WATCH_OFFSETS if watch else {}) | (_USES_OFFSETS if uses else {})
    values = {f"OFFSET_{name}": types.offset(*path) for name, path in offsets.items()}
    if watch:
        values["OFFSET_TASK_STATE"] = _either(types, ("task_struct", "__state"), ("task_struct", "state"))
    values |= _registers(types, native)
    with contextlib.suppress(TracerError):  # a kernel without seccomp filters, or older than 5.0
        filters = {
            "TASK_FILTER": ("task_struct", "seccomp", "filter"),
            "FILTER_ABOVE": ("seccomp_filter", "prev"),
            "FILTER_NOTIF": ("seccomp_filter", "notif"),
        }
        values |= {f"OFFSET_{name}": types.offset(*path) for name, path in filters.items()}
    for name in _CALLS:
        number = number_of(native, name)
        assert number is not None
        values[f"NR_{name.upper()}"] = number
    for name in _CALLS_OF_SOME:
        number = number_of(native, name)
        values[f"NR_{name.upper()}"] = constant("NO_NUMBER") if number is None else number
    for name in _CAPABILITIES:
        number = capability_number(name)
        assert number is not None
        values[name] = number
    values["CAP_LAST"] = len(CAPABILITIES) - 1
    values |= {f"LIMIT_{name.upper()}": limits[name] for name in DEFAULT_LIMITS if name not in RINGS}
    values |= {f"LIMIT_{name.upper().removesuffix('S')}_PAGES": limits[name] for name in RINGS}
    return values | _uses_definitions(types) if uses else values


def _registers(types: KernelTypes, native: str) -> dict[str, int]:
    """Return where the number and the arguments of a call are, and how its ABI is told."""
    values = {}
    if native == "x86_64":
        values["OFFSET_CALL_NUMBER"] = types.offset("pt_regs", "orig_ax")
        values["OFFSET_COMPAT_STATUS"] = types.offset("task_struct", "thread_info", "status")
        values["OFFSET_SYSCALL_WORK"] = types.offset("task_struct", "thread_info", "syscall_work")
        values["SYSCALL_WORK_OTHERS"] = _WORK_OTHERS
        values["COMPAT_BIT"] = _TS_COMPAT
        values["X32_BIT"] = X32_SYSCALL_BIT
        plain = [types.offset("pt_regs", name) for name in ("di", "si", "dx", "r10", "r8", "r9")]
        compat = [types.offset("pt_regs", name) for name in ("bx", "cx", "dx", "si", "di", "bp")]
    else:
        values["OFFSET_CALL_NUMBER"] = types.offset("pt_regs", "syscallno")
        values["OFFSET_COMPAT_STATUS"] = types.offset("task_struct", "thread_info", "flags")
        values["OFFSET_SYSCALL_WORK"] = values["OFFSET_COMPAT_STATUS"]
        values["SYSCALL_WORK_OTHERS"] = _TIF_OTHERS
        values["COMPAT_BIT"] = _TIF_32BIT
        registers = types.offset("pt_regs", "regs")
        plain = compat = [types.offset("pt_regs", "orig_x0"), *(registers + 8 * number for number in range(1, 6))]
    narrow = SUB_ABIS[native][0]
    for name, abi in (("RT_SIGRETURN", native), ("X32_RT_SIGRETURN", "x32"), ("COMPAT_RT_SIGRETURN", narrow)):
        number = number_of(abi, "rt_sigreturn")
        assert number is not None
        values[f"NR_{name}"] = number
    values["NR_COMPAT_SIGRETURN"] = number_of(narrow, "sigreturn") or 0
    # A new thread comes to on_sys_exit at the end of the call that made it (arch/x86/entry: ret_from_fork).
    values["BORN_IN_CALL"] = int(native == "x86_64")
    values |= {f"OFFSET_ARGUMENT_{position}": offset for position, offset in enumerate(plain)}
    return values | {f"OFFSET_COMPAT_ARGUMENT_{position}": offset for position, offset in enumerate(compat)}


def _register_macros(native: str) -> list[str]:
    """Return macros for the parameters and the result of a function that a kprobe is on."""
    registers = (
        ("di", "si", "dx", "cx", "ax")
        if native == "x86_64"
        else ("regs[0]", "regs[1]", "regs[2]", "regs[3]", "regs[0]")
    )
    names = ("PARAMETER_0", "PARAMETER_1", "PARAMETER_2", "PARAMETER_3", "RETURNED")
    return [f"-D{name}(context)=((context)->{register})" for name, register in zip(names, registers, strict=True)]


def _uses_definitions(types: KernelTypes) -> dict[str, int]:
    values = {"OFFSET_DENTRY_INLINE": _either(types, ("dentry", "d_shortname"), ("dentry", "d_iname"))}
    # It is 0 for the namespace of a mount that is attached nowhere (fs/mount.h, is_anon_ns).
    values["OFFSET_MNT_NS_ID"] = _either(types, ("mnt_namespace", "seq"), ("mnt_namespace", "ns", "ns_id"))
    with contextlib.suppress(TracerError):  # Linux 6.1
        tree = types.offset("mm_struct", "mm_mt", "ma_root")
        values["OFFSET_MM_AUXV"] = types.offset("mm_struct", "saved_auxv")
        values["OFFSET_VMA_FILE"] = types.offset("vm_area_struct", "vm_file")
        values["TREE_PIVOTS"] = types.offset("maple_range_64", "pivot") // 8
        values["NARROW_SLOTS"] = types.offset("maple_range_64", "slot") // 8
        values["WIDE_SLOTS"] = types.offset("maple_arange_64", "slot") // 8
        values["OFFSET_MM_TREE"] = tree
    with contextlib.suppress(TracerError):  # Linux 6.7
        values["OFFSET_BACKING_PATH"] = types.offset("backing_file", "user_path")
        values["OFFSET_FILE_PATH"] = types.offset("file", "f_path")
        values["OFFSET_FILE_MODE"] = types.offset("file", "f_mode")
    # The machines that profgen supports number processors without holes. One above the count would have no room to
    # work in.
    values["PROCESSORS"] = os.sysconf("SC_NPROCESSORS_CONF")
    cast = _cast(types)
    if cast is not None:
        task = types.find("task_struct", KIND_STRUCT)
        assert task is not None
        values["CAST"], values["TASK_TYPE"] = cast, task
    for block, members in _BLOCKS.items():
        values |= _block(types, block, members, values["OFFSET_DENTRY_INLINE"], cast is not None)
    return values


def _block(
    types: KernelTypes, block: str, members: Mapping[str, tuple[tuple[str, ...], int]], inline_name: int, cast: bool
) -> dict[str, int]:
    """Return where a block begins, its size and its members' places in it; with ``cast`` also its structure's BTF id
    and the members' places in that. Raises TracerError when it is too large."""
    places = {name: (types.offset(*path), size) for name, (path, size) in members.items()}
    if block == "DENTRY":
        places["INLINE"] = inline_name, _INLINE_NAME_BYTES
    start = min(place for place, _ in places.values()) & ~7
    span = max(place + size for place, size in places.values()) - start
    if span > _BLOCK_MAX:
        raise TracerError(f"this kernel's struct {block.lower()} is laid out too widely; use --tracer ptrace")
    values = {f"{block}_START": start, f"{block}_SPAN": span + 7 & ~7}
    values |= {f"{block}_{name}": place - start for name, (place, _) in places.items()}
    if cast:
        structure = next(iter(members.values()))[0][0]
        number = types.find(structure, KIND_STRUCT)
        assert number is not None
        values |= {f"{block}_TYPE": number} | {f"{block}_AT_{name}": place for name, (place, _) in places.items()}
    return values


def _cast(types: KernelTypes) -> int | None:
    """Return the BTF id of the kernel's bpf_rdonly_cast (Linux 6.2), None where a program cannot use it.

    It is tried as the recorder uses it, with a program that reads r0 = ((struct file *)0)->f_path.dentry->d_parent.
    """
    function, file = types.find("bpf_rdonly_cast", KIND_FUNC), types.find("file", KIND_STRUCT)
    target = types.find("btf_trace_sys_exit", KIND_TYPEDEF)
    if function is None or file is None or target is None:
        return None
    instructions = (
        (bpf.MOVE, 1, 0, 0),
        (bpf.MOVE, 2, 0, file),
        (bpf.CALL, bpf.KERNEL_FUNCTION << 4, 0, function),
        (bpf.LOAD, 0, types.offset("file", "f_path", "dentry"), 0),
        (bpf.LOAD, 0, types.offset("dentry", "d_parent"), 0),
        (bpf.MOVE, 0, 0, 0),
        (bpf.EXIT, 0, 0, 0),
    )
    code = b"".join(bpf.INSTRUCTION.pack(*instruction) for instruction in instructions)
    try:
        os.close(bpf.load(code, bpf.PROG_TYPE_TRACING, bpf.ATTACH_TRACE_RAW_TP, target, "cast"))
    except OSError:
        return None
    return function


def _either(types: KernelTypes, *paths: tuple[str, ...]) -> int:
    """Return the offset of the first of these members that the kernel has: their names changed between versions."""
    for path in paths[:-1]:
        with contextlib.suppress(TracerError):
            return types.offset(*path)
    return types.offset(*paths[-1])
