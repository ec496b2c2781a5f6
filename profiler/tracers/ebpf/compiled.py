"""recorder.bpf.c as bytecode: compiled by bcc, and kept for the next recording on the same kernel.

Compiling takes several times as long as everything else that a recording starts with. The result depends on the text,
its #defines (which hold all that differs between kernels) and bcc alone, so it is kept under a hash of these, in a
folder that nobody but the user who records can write to: what is loaded from it sees the kernel's memory.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import stat
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from profiler.errors import TracerError
from profiler.tracers.ebpf import bpf
from profiler.tracers.ebpf.bpf import Shape

HERE = Path(__file__).parent
KEPT = 16
"""Results in the folder, at most: kernels, with and without files, and sizes of stores."""

_LOAD_WORD, _MAP = 0x18, 1
"""A load of 64 bits, in two instructions; in the register's place, that it is of a map (BPF_LD | BPF_DW | BPF_IMM,
BPF_PSEUDO_MAP_FD)."""
CALL, KERNEL_FUNCTION = 0x85, 2
"""A call (BPF_JMP | BPF_CALL) of a helper; in the register's place, of a kernel function by its BTF id
(BPF_PSEUDO_KFUNC_CALL)."""
HELPERS = 1000
"""Above all numbers of helpers, below the ids of kernel functions."""
INSTRUCTION = struct.Struct("=BBhi")
"""Operation, registers (source above destination), offset, value: struct bpf_insn, include/uapi/linux/bpf.h."""


@dataclass(frozen=True)
class Compiled:
    """Maps and programs. A load of a map in a program's code has the map's place in ``maps`` in place of a
    descriptor."""

    maps: tuple[Shape, ...]
    programs: Mapping[str, bytes]

    def code(self, function: str, descriptors: Sequence[int]) -> bytes:
        """A program's instructions with the descriptors of ``maps``, in their order."""
        return _with_maps(self.programs[function], dict(enumerate(descriptors)))


def compiled(bcc: ModuleType, source: str, flags: Sequence[str]) -> Compiled:
    """The text compiled with these flags of the compiler, now or before. Raises TracerError with the compiler's first
    complaint."""
    identity = json.dumps([source, list(flags), str(bcc.__version__), os.uname().machine])
    name = f"{hashlib.sha256(identity.encode()).hexdigest()[:40]}.json"
    directory = _directory()
    if directory is None:
        return _compile(bcc, source, flags)
    try:
        found = _read(directory, name)
        if found is None:
            found = _compile(bcc, source, flags)
            _keep(directory, name, found)
        return found
    finally:
        os.close(directory)


def _compile(bcc: ModuleType, source: str, flags: Sequence[str]) -> Compiled:
    with _environment("BCC_KERNEL_SOURCE", str(HERE)), quiet_stderr() as said:
        try:
            module = bcc.BPF(text=source.encode(), cflags=[*flags, f"-I{HERE / 'include'}"])
        except Exception as error:
            complaint = next((line.strip() for line in said().splitlines() if "error:" in line), None)
            raise TracerError(f"bcc cannot compile the recorder: {complaint or error}") from error
    try:
        lib = bcc.libbcc.lib
        # Two that bcc's Python part does not declare: size_t of a module; the name of one of its tables.
        for undeclared, like in (("bpf_num_tables", "bpf_num_functions"), ("bpf_table_name", "bpf_function_name")):
            for part in ("restype", "argtypes"):
                setattr(getattr(lib, undeclared), part, getattr(getattr(lib, like), part))
        names = [lib.bpf_table_name(module.module, number) for number in range(lib.bpf_num_tables(module.module))]
        places = {int(lib.bpf_table_fd(module.module, name)): place for place, name in enumerate(names)}
        maps = tuple(_shape(lib, module.module, name) for name in names)
        functions = [
            lib.bpf_function_name(module.module, number) for number in range(lib.bpf_num_functions(module.module))
        ]
        return Compiled(
            maps, {function.decode(): _with_maps(module.dump_func(function), places) for function in functions}
        )
    finally:
        module.cleanup()


def _shape(lib: Any, module: Any, name: bytes) -> Shape:
    # struct bpf_map_info: type, id, key_size, value_size, max_entries, map_flags
    kind, _, key, value, entries, flags = struct.unpack("=6I", bpf.info(lib.bpf_table_fd(module, name), 24))
    types = [
        json.loads(describe(module, name) or b'"int"') for describe in (lib.bpf_table_key_desc, lib.bpf_table_leaf_desc)
    ]
    # bcc describes a plain type by its name, and a structure by a list that begins with its name.
    key_type, value_type = (described if isinstance(described, str) else described[0] for described in types)
    return Shape(name.decode(), kind, key, value, entries, flags, key_type, value_type)


def _with_maps(code: bytes, numbers: Mapping[int, int]) -> bytes:
    """Instructions with other numbers for their maps, and with calls of kernel functions, which C knows by number
    alone, as such.

    KeyError: a map that is not known.
    """
    changed = bytearray(code)
    at = 0
    while at < len(code):
        operation, registers, offset, value = INSTRUCTION.unpack_from(code, at)
        if operation == _LOAD_WORD and registers >> 4 == _MAP:
            INSTRUCTION.pack_into(changed, at, operation, registers, offset, numbers[value])
        if operation == CALL and registers >> 4 == 0 and value > HELPERS:
            INSTRUCTION.pack_into(changed, at, operation, KERNEL_FUNCTION << 4, offset, value)
        at += 16 if operation == _LOAD_WORD else 8
    return bytes(changed)


# -- what is kept
# --------------------------------------------------------------------------------------------------------


def folder() -> Path:
    """Where results are kept: of the system for root, else of the user."""
    if os.geteuid() == 0:
        return Path("/var/cache/profgen")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "profgen")


def _directory() -> int | None:
    """The folder, opened, made if need be; None when there is none or others can write to it."""
    path = folder()
    try:
        if not path.exists():
            path.mkdir(mode=0o700)
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    if _own(os.fstat(directory)):
        return directory
    os.close(directory)
    return None


def _own(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & (stat.S_IWGRP | stat.S_IWOTH)


def _read(directory: int, name: str) -> Compiled | None:
    """None for what is not there, not ours or not whole."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        with open(fd, "rb") as file:
            status = os.fstat(fd)
            if not (_own(status) and stat.S_ISREG(status.st_mode)):
                return None
            os.utime(fd)  # it is in use
            document = json.load(file)
        maps = tuple(Shape(**shape) for shape in document["maps"])
        return Compiled(
            maps, {function: base64.b64decode(code, validate=True) for function, code in document["programs"].items()}
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _keep(directory: int, name: str, result: Compiled) -> None:
    """Keep a result, and no more than KEPT. A folder that takes nothing is no reason to fail."""
    programs = {function: base64.b64encode(code).decode() for function, code in result.programs.items()}
    document = {"maps": [asdict(shape) for shape in result.maps], "programs": programs}
    draft = f".{os.getpid()}.draft"
    with contextlib.suppress(OSError):
        fd = os.open(
            draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory
        )
        try:
            with open(fd, "w") as file:
                json.dump(document, file)
            os.rename(draft, name, src_dir_fd=directory, dst_dir_fd=directory)
        except OSError:
            os.unlink(draft, dir_fd=directory)
        used = {each: os.stat(each, dir_fd=directory, follow_symlinks=False).st_mtime for each in os.listdir(directory)}
        for each in sorted(used, key=lambda each: used[each])[:-KEPT]:
            os.unlink(each, dir_fd=directory)


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextlib.contextmanager
def quiet_stderr() -> Iterator[Any]:
    """bcc and clang print to the descriptor itself; collect it. Yields a function that gives the text so far."""
    with open(os.memfd_create("profgen-stderr", os.MFD_CLOEXEC), "w+b", buffering=0) as sink:
        saved = os.dup(2)
        os.dup2(sink.fileno(), 2)

        def said() -> str:
            sink.seek(0)
            return sink.read().decode("utf-8", "replace")

        try:
            yield said
        finally:
            os.dup2(saved, 2)
            os.close(saved)
