"""What the kernel opens when it executes a program: the interpreters of scripts and the loader of an ELF file."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import struct
from collections.abc import Iterator

from profiler.tracers.paths import Found

SCRIPTS_MAX = 5
"""Scripts that one execution goes through (fs/exec.c exec_binprm)."""

_HEAD_BYTES = 256  # BINPRM_BUF_SIZE, include/uapi/linux/binfmts.h
_HEADERS_MAX = 1 << 16  # fs/binfmt_elf.c load_elf_phdrs
_PT_INTERP = 3


def interpreter_of(found: Found) -> str | None:
    """Return the program that a script names after ``#!`` (fs/binfmt_script.c), "" when it names none.

    None for a file that is not a script, or cannot be read.
    """
    if found.kind != "file" or found.look is None:
        return None
    head = b""
    with contextlib.suppress(OSError), _regular(found.look) as file:
        head = b"" if file is None else file.read(_HEAD_BYTES)
    if not head.startswith(b"#!"):
        return None
    words = head[2:].split(b"\n", 1)[0].split(None, 1)
    return os.fsdecode(words[0]) if words else ""


def loader_of(path: str) -> str | None:
    """Return the ELF interpreter that a program names (PT_INTERP, elf(5)), "" for a static program.

    None when the file cannot be read or is damaged.
    """
    with _regular(path) as file:
        if file is None:
            return None
        try:
            return _loader(file)
        except (OSError, OverflowError, struct.error):
            return None


def _loader(file: io.FileIO) -> str:
    head = file.read(64)
    if head[:4] != b"\x7fELF":
        return ""
    wide, order = head[4:5] == b"\2", "<" if head[5:6] == b"\1" else ">"
    table = struct.unpack_from(order + ("Q" if wide else "I"), head, 32 if wide else 28)[0]
    size, count = struct.unpack_from(order + "HH", head, 54 if wide else 42)
    file.seek(table)
    headers = file.read(min(size * count, _HEADERS_MAX))
    for start in range(0, size * count, max(size, 1)):
        if wide:
            kind, _, offset, _, _, length = struct.unpack_from(order + "IIQQQQ", headers, start)
        else:
            kind, offset, _, _, length = struct.unpack_from(order + "IIIII", headers, start)
        if kind == _PT_INTERP:
            file.seek(offset)
            return os.fsdecode(file.read(min(length, _HEADERS_MAX)).split(b"\0", 1)[0])
    return ""


@contextlib.contextmanager
def _regular(path: str) -> Iterator[io.FileIO | None]:
    """Open a regular file; None for another kind and for a file that cannot be opened.

    A first descriptor, with O_PATH, tells the kind: opening a FIFO would wait, and opening a device may act.
    """
    with contextlib.ExitStack() as stack:
        file = None
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
            stack.callback(os.close, fd)
            if stat.S_ISREG(os.fstat(fd).st_mode):
                file = stack.enter_context(open(f"/proc/self/fd/{fd}", "rb", buffering=0))
        yield file
