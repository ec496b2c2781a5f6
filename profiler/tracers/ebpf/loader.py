"""Loading the programs of recorder.bpf.c: what it is compiled with, its maps, its programs and where they are attached.

bcc compiles, without kernel headers (compiled.py): it asks for a kernel source tree, and the folder ``include`` here is
all of it that is needed. Offsets come from BTF when it starts. Maps are made and programs loaded by bpf(2) itself: bcc
0.26 has no way to load one for a BTF tracepoint, and what was compiled before needs no compiler.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import re
import struct
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

from profiler.errors import TracerError
from profiler.kernel.abi import X32_SYSCALL_BIT, native_abi
from profiler.kernel.capabilities import number_of as capability_number
from profiler.kernel.syscalls import number_of
from profiler.tracers.ebpf import bpf
from profiler.tracers.ebpf.bpf import Map
from profiler.tracers.ebpf.btf import KIND_FUNC, KIND_STRUCT, KIND_TYPEDEF, KernelTypes
from profiler.tracers.ebpf.compiled import CALL, INSTRUCTION, KERNEL_FUNCTION, compiled, quiet_stderr
from profiler.tracers.ebpf.shared import constant
from profiler.wording import cause

HERE = Path(__file__).parent
DIST_PACKAGES = Path("/usr/lib/python3/dist-packages")
"""Where distributions put bcc's Python part (package python3-bpfcc), outside the reach of a virtual environment."""

_INCLUDE = re.compile(r'^#include "(.+)"$', re.MULTILINE)

LICENSE = b"Dual MIT/GPL"

DEFAULT_LIMITS: Mapping[str, int] = {
    "tasks": 32768,
    "programs": 256,
    "syscalls": 4096,
    "results": 16384,
    "arguments": 65536,
    "capabilities": 16384,
    "stacks": 4096,
    "execs": 8192,
    "events": 1024,
    "files": 262144,
    "sockets": 4096,
    "processes": 4096,
    "paths": 1024,
    "sessions": 1,
    "denials": 4096,
}
"""Sizes of the kernel's stores, in entries; ``events`` and ``paths`` in pages of 4 KiB, a power of two."""

PAGES = ("events", "paths")
"""The limits that are sizes of rings."""

_OFFSETS = {
    "TASK_STORAGE": ("task_struct", "bpf_storage"),
    "TASK_REAL_CRED": ("task_struct", "real_cred"),
    "TASK_FS": ("task_struct", "fs"),
    "TASK_MM": ("task_struct", "mm"),
    "TASK_THREAD_PID": ("task_struct", "thread_pid"),
    "PID_LEVEL": ("pid", "level"),
    "PID_NUMBERS": ("pid", "numbers"),
    "MM_ARG_START": ("mm_struct", "arg_start"),
    "CRED_USER_NS": ("cred", "user_ns"),
    "CRED_UID": ("cred", "uid"),
    "CRED_GID": ("cred", "gid"),
    "NS_LEVEL": ("user_namespace", "level"),
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
    "SB_DEV": ("super_block", "s_dev"),
    "SB_FLAGS": ("super_block", "s_flags"),
    "FS_ROOT_DENTRY": ("fs_struct", "root", "dentry"),
    "FS_ROOT_MNT": ("fs_struct", "root", "mnt"),
    "FS_PWD_DENTRY": ("fs_struct", "pwd", "dentry"),
    "FS_PWD_MNT": ("fs_struct", "pwd", "mnt"),
}

_WATCH_OFFSETS = {
    "TASK_FLAGS": ("task_struct", "flags"),
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
"""Members that are read together, with their sizes: one by one where the kernel can, else from the first to the end of
the last."""

_BLOCK_MAX = 160
"""Such a block lies on the stack of a program, which has 512 bytes."""

_SET_IDS = ("setuid", "setreuid", "setresuid", "setfsuid", "setgid", "setregid", "setresgid", "setfsgid")


_CHMODS = ("chmod", "fchmod", "fchmodat", "fchmodat2")


def find_bcc() -> Path | None:
    """The folder of the distribution's bcc package, None when it is not installed. Nothing is imported."""
    folder = DIST_PACKAGES / "bcc"
    return folder if (folder / "libbcc.py").is_file() else None


def import_bcc() -> ModuleType:
    """The distribution's bcc, by its folder: an unrelated package elsewhere bears the same name. Raises TracerError."""
    known = sys.modules.get("bcc")
    if known is not None and hasattr(known, "BPF"):
        return known
    folder = find_bcc()
    if folder is None:
        raise TracerError("bcc is not installed; install it: apt install python3-bpfcc")
    spec = importlib.util.spec_from_file_location(
        "bcc", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bcc"] = module
    try:
        spec.loader.exec_module(module)
    except (ImportError, OSError) as error:
        del sys.modules["bcc"]
        raise TracerError(
            f"bcc does not load ({error}); reinstall it: apt install --reinstall python3-bpfcc libbpfcc"
        ) from error
    return module


def source() -> str:
    """Return the text of recorder.bpf.c with the files that it includes in their places.

    bcc rewrites map accesses in the main file only, and bytecode is kept under a hash of this text.
    """

    def read(name: str) -> str:
        return _INCLUDE.sub(lambda line: read(line[1]), (HERE / name).read_text())

    return read("recorder.bpf.c")


def definitions(
    types: KernelTypes, limits: Mapping[str, int], *, uses: bool = True, watch: bool = False
) -> dict[str, int]:
    """Every #define that recorder.bpf.c leaves open, and with ``uses`` and ``watch`` those of uses.bpf.c and
    watch.bpf.c."""
    native = native_abi()
    offsets = _OFFSETS | (_WATCH_OFFSETS if watch else {})
    values = {f"OFFSET_{name}": types.offset(*path) for name, path in offsets.items()}
    values["OFFSET_CALL_NUMBER"] = types.offset("pt_regs", "orig_ax" if native == "x86_64" else "syscallno")
    if native == "x86_64":
        values["OFFSET_COMPAT_STATUS"] = types.offset("task_struct", "thread_info", "status")
        values["COMPAT_BIT"] = 2  # TS_COMPAT, arch/x86/include/asm/thread_info.h
        values["X32_BIT"] = X32_SYSCALL_BIT
        plain = [types.offset("pt_regs", name) for name in ("di", "si", "dx", "r10", "r8", "r9")]
        compat = [types.offset("pt_regs", name) for name in ("bx", "cx", "dx", "si", "di", "bp")]
    else:
        values["OFFSET_COMPAT_STATUS"] = types.offset("task_struct", "thread_info", "flags")
        values["COMPAT_BIT"] = 1 << 22  # TIF_32BIT, arch/arm64/include/asm/thread_info.h
        plain = compat = [
            types.offset("pt_regs", "orig_x0"),
            *(types.offset("pt_regs", "regs") + 8 * n for n in range(1, 6)),
        ]
    for position in range(6):
        values[f"OFFSET_ARGUMENT_{position}"] = plain[position]
        values[f"OFFSET_COMPAT_ARGUMENT_{position}"] = compat[position]
    for name in ("execve", *_SET_IDS):
        number = number_of(native, name)
        assert number is not None
        values[f"NR_{name.upper()}"] = number
    for name in _CHMODS:  # not every architecture has them all
        number = number_of(native, name)
        values[f"NR_{name.upper()}"] = 0xFFFFFFFF if number is None else number
    for name in ("CAP_SETUID", "CAP_SETGID", "CAP_FSETID"):
        number = capability_number(name)
        assert number is not None
        values[name] = number
    values |= {f"LIMIT_{name.upper()}": limits[name] for name in DEFAULT_LIMITS if name not in PAGES}
    values |= {f"LIMIT_{name.upper().removesuffix('S')}_PAGES": limits[name] for name in PAGES}
    return values | _uses_definitions(types) if uses else values


def _uses_definitions(types: KernelTypes) -> dict[str, int]:
    values = {f"OFFSET_{name}": types.offset(*path) for name, path in _USES_OFFSETS.items()}
    values["OFFSET_DENTRY_INLINE"] = _either(types, ("dentry", "d_shortname"), ("dentry", "d_iname"))
    # 0 for the namespace of a mount that is attached nowhere (fs/mount.h, is_anon_ns)
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
    # numbered without holes on the machines that profgen supports; a processor above the count would find no room to
    # work in
    values["PROCESSORS"] = os.sysconf("SC_NPROCESSORS_CONF")
    cast = _cast(types)
    if cast is not None:
        values["CAST"] = cast
    for block, members in _BLOCKS.items():
        places = {name: (types.offset(*path), size) for name, (path, size) in members.items()}
        if block == "DENTRY":
            places["INLINE"] = values["OFFSET_DENTRY_INLINE"], _INLINE_NAME_BYTES
        start = min(place for place, _ in places.values()) & ~7
        span = max(place + size for place, size in places.values()) - start
        if span > _BLOCK_MAX:
            raise TracerError(f"this kernel's struct {block.lower()} is laid out too widely; use --tracer ptrace")
        values |= {f"{block}_START": start, f"{block}_SPAN": span + 7 & ~7}
        values |= {f"{block}_{name}": place - start for name, (place, _) in places.items()}
        if cast is not None:
            structure = next(iter(members.values()))[0][0]
            number = types.find(structure, KIND_STRUCT)
            assert number is not None
            values |= {f"{block}_TYPE": number} | {f"{block}_AT_{name}": place for name, (place, _) in places.items()}
    return values


def _cast(types: KernelTypes) -> int | None:
    """The id of the kernel's bpf_rdonly_cast (Linux 6.2), tried as the recorder uses it; None where it is not to be
    had."""
    function, file = types.find("bpf_rdonly_cast", KIND_FUNC), types.find("file", KIND_STRUCT)
    target = types.find("btf_trace_sys_exit", KIND_TYPEDEF)
    if function is None or file is None or target is None:
        return None
    instructions = (
        (0xB7, 1, 0, 0),  # r1 = 0
        (0xB7, 2, 0, file),  # r2 = struct file
        (CALL, KERNEL_FUNCTION << 4, 0, function),  # r0 = bpf_rdonly_cast(r1, r2)
        (0x79, 0, types.offset("file", "f_path", "dentry"), 0),  # r0 = r0->f_path.dentry
        (0x79, 0, types.offset("dentry", "d_parent"), 0),  # r0 = r0->d_parent
        (0xB7, 0, 0, 0),  # r0 = 0
        (0x95, 0, 0, 0),  # return
    )
    code = b"".join(INSTRUCTION.pack(*instruction) for instruction in instructions)
    try:
        os.close(bpf.load(code, bpf.PROG_TYPE_TRACING, bpf.ATTACH_TRACE_RAW_TP, target, "cast", LICENSE))
    except OSError:
        return None
    return function


def _either(types: KernelTypes, *paths: tuple[str, ...]) -> int:
    """The offset of the first member that this kernel has: names that changed between versions."""
    for path in paths[:-1]:
        with contextlib.suppress(TracerError):
            return types.offset(*path)
    return types.offset(*paths[-1])


def _register_macros(native: str) -> list[str]:
    registers = (
        ("di", "si", "dx", "cx", "ax")
        if native == "x86_64"
        else ("regs[0]", "regs[1]", "regs[2]", "regs[3]", "regs[0]")
    )
    names = ("PARAMETER_0", "PARAMETER_1", "PARAMETER_2", "PARAMETER_3", "RETURNED")
    return [f"-D{name}(context)=((context)->{register})" for name, register in zip(names, registers, strict=True)]


class Programs:
    """The compiled recorder with its maps; programs are loaded and attached one by one. Closing undoes all."""

    def __init__(
        self, limits: Mapping[str, int], *, uses: bool = False, watch: bool = False, denials: bool = False
    ) -> None:
        """``uses``, ``watch``: with uses.bpf.c, watch.bpf.c. ``denials``: calls that filters refuse are noted. Raises
        TracerError."""
        bcc = import_bcc()
        self.types = KernelTypes()
        self._closed = False
        self._maps: dict[str, Map] = {}
        self._fds: dict[str, list[int]] = {}
        self._loaded: dict[str, int] = {}
        self._kprobes: list[tuple[int, bytes]] = []
        self._rings: dict[str, Any] = {}
        self._callbacks: list[Any] = []
        # bcc reads the kernel's symbols at the first look for one; meanwhile, another processor compiles.
        self._ksym: Callable[[int], bytes] = bcc.BPF.ksym
        self._symbols = threading.Thread(target=self._ksym, args=(0,), daemon=True)
        self._symbols.start()
        try:
            flags = [
                f"-D{name}={value}" for name, value in definitions(self.types, limits, uses=uses, watch=watch).items()
            ]
            flags += [*_register_macros(native_abi()), "-Wno-everything", "-Werror=implicit-function-declaration"]
            parts = {"WITH_USES": uses, "WITH_WATCH": watch, "WITH_DENIALS": denials}
            flags += [f"-D{name}" for name, wanted in parts.items() if wanted]
            self.compiled = compiled(bcc, source(), flags)
            for shape in self.compiled.maps:
                self._maps[shape.name] = Map(shape)
            if uses:
                self.table("seed")[ctypes.c_int(0)] = ctypes.c_uint64(int.from_bytes(os.urandom(8), sys.byteorder))
        except OSError as error:
            self.close()
            raise TracerError(f"the kernel refuses a map of the eBPF recorder ({cause(error)})") from error
        except BaseException:
            self.close()
            raise

    def table(self, name: str) -> Map:
        """A map."""
        return self._maps[name]

    def counter(self, name: str) -> int:
        """Return a counter that all sessions share (``enum counter``)."""
        return int(self._maps["counters"][ctypes.c_int(constant(name))].value)

    def set_counter(self, name: str, value: int) -> None:
        """Set a counter that all sessions share."""
        self._maps["counters"][ctypes.c_int(constant(name))] = ctypes.c_uint64(value)

    def map_fd(self, name: str) -> int:
        """File descriptor of a map."""
        return self._maps[name].fd

    def has(self, name: str) -> bool:
        """Whether there is such a map: it depends on what is recorded."""
        return name in self._maps

    def kernel_bytes(self) -> int:
        """Memory that the kernel holds for the maps."""
        return sum(each.kernel_bytes for each in self._maps.values())

    def members(self, session: int) -> frozenset[int]:
        """The numbers of all threads that a session ever had, in their pid namespaces (struct process_key)."""
        return frozenset(key.nr for key in self._maps["members"] if key.session == session)

    def code(self, function: str) -> bytes:
        """A program's instructions, as they are loaded."""
        return self.compiled.code(function, [self.map_fd(shape.name) for shape in self.compiled.maps])

    def open_ring(self, name: str, callback: Callable[[Any, int, int], object]) -> None:
        """Have `consume` call ``callback`` (context, address, size) for each event of a ring. Raises TracerError."""
        libbcc = sys.modules["bcc.libbcc"]

        def told(context: Any, data: int, size: int) -> int:
            callback(context, data, size)
            return 0

        function = libbcc.lib.bpf_new_ringbuf.argtypes[1](told)
        self._callbacks.append(function)
        ring = libbcc.lib.bpf_new_ringbuf(self.map_fd(name), function, None)
        if not ring:
            raise TracerError(f"the kernel refuses the ring {name} of the eBPF recorder")
        self._rings[name] = ring

    def consume(self, *names: str) -> None:
        """Take what is in these rings, in this order; of those that are not open, nothing."""
        for name in names:
            if name in self._rings:
                sys.modules["bcc.libbcc"].lib.bpf_consume_ringbuf(self._rings[name])

    def load_tracepoints(self, functions: Mapping[str, str]) -> None:
        """Load functions for their BTF tracepoints, several at a time: the kernel's check of them takes longest. Raises
        TracerError.

        No thread is left when this returns (what follows forks).
        """
        targets = {function: self._tracepoint(tracepoint) for function, tracepoint in functions.items()}
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as workers:
            loads = {
                function: workers.submit(
                    self._load, function, bpf.PROG_TYPE_TRACING, bpf.ATTACH_TRACE_RAW_TP, targets[function], tracepoint
                )
                for function, tracepoint in functions.items()
            }
        failures = [error for load in loads.values() if (error := load.exception()) is not None]
        self._loaded |= {function: load.result() for function, load in loads.items() if load.exception() is None}
        self._symbols.join()
        if failures:
            raise failures[0]

    def _tracepoint(self, name: str) -> int:
        target = self.types.find(f"btf_trace_{name}", KIND_TYPEDEF)
        if target is None:
            raise TracerError(f"this kernel has no tracepoint {name}")
        return target

    def attach_tracepoint(self, function: str, tracepoint: str) -> None:
        """Load ``function`` for a BTF tracepoint, unless it is, and attach it. Raises TracerError."""
        self._open(function, bpf.PROG_TYPE_TRACING, bpf.ATTACH_TRACE_RAW_TP, self._tracepoint(tracepoint), tracepoint)

    def attach_lsm(self, function: str, hook: str) -> None:
        """Load ``function`` for an LSM hook and attach it. Raises TracerError."""
        target = self.types.find(f"bpf_lsm_{hook}", KIND_FUNC)
        if target is None:
            raise TracerError(f"this kernel has no LSM hook {hook} for BPF")
        self._open(function, bpf.PROG_TYPE_LSM, bpf.ATTACH_LSM_MAC, target, hook)

    def attach_iterator(self, function: str, what: str) -> None:
        """Load ``function`` for an iterator (``task``), to be run with :meth:`iterate`. Raises TracerError."""
        target = self.types.find(f"bpf_iter_{what}", KIND_FUNC)
        if target is None:
            raise TracerError(f"this kernel has no BPF iterator over {what}s")
        program = self._load(function, bpf.PROG_TYPE_TRACING, bpf.ATTACH_TRACE_ITER, target, what)
        try:
            # union bpf_attr, link_create: prog_fd, target_fd, attach_type, flags
            link = bpf.bpf(bpf.LINK_CREATE, struct.pack("=IIII", program, 0, bpf.ATTACH_TRACE_ITER, 0))
        except OSError as error:
            os.close(program)
            raise TracerError(f"the kernel refuses an iterator over {what}s ({cause(error)})") from error
        self._fds[function] = [program, link]

    def iterate(self, function: str) -> None:
        """Run an attached iterator once over everything."""
        reader = bpf.bpf(bpf.ITER_CREATE, struct.pack("=II", self._fds[function][1], 0))
        try:
            while os.read(reader, 4096):
                pass
        finally:
            os.close(reader)

    def attach_kprobe(self, entry: str, back: str, symbol: str) -> None:
        """Attach a kprobe and a kretprobe. Raises TracerError."""
        lib = sys.modules["bcc.libbcc"].lib
        # The return first: an entry without its return would leave a check half noted.
        for function, back_again in ((back, True), (entry, False)):
            program = self._load(function, bpf.PROG_TYPE_KPROBE, 0, 0, symbol)
            event = f"{'r' if back_again else 'p'}_{symbol}".encode()
            try:
                with quiet_stderr():
                    probe = lib.bpf_attach_kprobe(program, int(back_again), event, symbol.encode(), 0, 0)
            finally:
                os.close(program)  # the probe holds it
            if probe < 0:
                raise TracerError(f"kprobes do not work here: the kernel refuses one on {symbol}")
            self._kprobes.append((probe, event))

    def attached(self, function: str) -> bool:
        """Whether it is attached now."""
        return function in self._fds

    def detach(self, function: str) -> None:
        """Detach a program that ``attach_tracepoint`` or ``attach_lsm`` attached; loading it again is quick."""
        for fd in self._fds.pop(function, []):
            os.close(fd)

    def detach_all(self) -> None:
        """Detach everything; the maps stay."""
        for function in list(self._fds):
            self.detach(function)
        lib = sys.modules["bcc.libbcc"].lib
        for probe, event in self._kprobes:
            lib.bpf_close_perf_event_fd(probe)
            lib.bpf_detach_kprobe(event)
        self._kprobes.clear()

    def missed(self, function: str) -> int:
        """Runs of an attached program that the kernel skipped because it was already running on that processor."""
        with contextlib.suppress(OSError):
            # struct bpf_prog_info.recursion_misses is at 208 (since 5.12)
            missed: int = struct.unpack_from("=Q", bpf.info(self._fds[function][0], 256), 208)[0]
            return missed
        return 0

    def add_tail(self, function: str, index: int) -> None:
        """Let a loaded ``function`` be the one that programs of its tracepoint go on to by this index. Raises
        TracerError."""
        program = self._loaded.pop(function)
        try:
            self.table("tails")[ctypes.c_uint32(index)] = ctypes.c_uint32(program)
        except OSError as error:
            raise TracerError(f"the kernel refuses the eBPF program {function} ({cause(error)})") from error
        finally:
            os.close(program)

    def _load(self, function: str, program_type: int, attach_type: int, target: int, name: str) -> int:
        code = self.code(function)
        try:
            return bpf.load(code, program_type, attach_type, target, function, LICENSE)
        except OSError as error:
            log = ctypes.create_string_buffer(1 << 20)
            with contextlib.suppress(OSError):
                os.close(bpf.load(code, program_type, attach_type, target, function, LICENSE, log))
            lines = log.value.decode("utf-8", "replace").strip().splitlines()
            detail = f": {lines[-2] if len(lines) > 1 else lines[0]}" if lines else ""
            raise TracerError(
                f"the kernel refuses the eBPF program {function} for {name} ({cause(error)}){detail}"
            ) from error

    def _open(self, function: str, program_type: int, attach_type: int, target: int, name: str) -> None:
        program = self._loaded.pop(function, None)
        if program is None:
            program = self._load(function, program_type, attach_type, target, name)
        try:
            link = bpf.bpf(bpf.RAW_TRACEPOINT_OPEN, struct.pack("=QI", 0, program))
        except OSError as error:
            os.close(program)
            raise TracerError(f"the kernel refuses to attach to {name} ({cause(error)})") from error
        self._fds[function] = [program, link]

    def chain(self, addresses: Iterable[int]) -> tuple[str, ...]:
        """Function names of a kernel stack, from the capability check outwards; empty where addresses are hidden
        (kptr_restrict)."""
        names = [self._ksym(address).decode("ascii", "replace") for address in addresses]
        for position, name in enumerate(names):
            if name.startswith(("cap_capable", "security_capable")):
                return tuple(names[position:])
        return tuple(
            name for name in names if name != "[unknown]" and not name.startswith(("bpf_", "__bpf_", "trace_"))
        )

    def close(self) -> None:
        """Detach everything and free the maps. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self.detach_all()
        for program in self._loaded.values():
            os.close(program)
        self._symbols.join()
        for ring in self._rings.values():
            sys.modules["bcc.libbcc"].lib.bpf_free_ringbuf(ring)
        for each in self._maps.values():
            os.close(each.fd)
        self.types.close()
