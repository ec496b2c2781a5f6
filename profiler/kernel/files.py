"""Which syscalls use files, where their arguments name them, and what open flags request. The data is in files.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from profiler.kernel.data import load

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_SYMLINK_FOLLOW = 0x400
AT_EMPTY_PATH = 0x1000
"""include/uapi/linux/fcntl.h"""

CONDITIONS = ("how", "creat", "handle", "executable", "protected", "flock", "fcntl_lock")
"""The words of ``only`` in files.yaml.

- ``how``: the flags argument points to a struct open_how, which begins with the flags (openat2(2)).
- ``creat``: the flags are those of creat(2).
- ``handle``: only the descriptor that the call returns identifies the file.
- ``executable``: the protection in argument 2 has PROT_EXEC, and the mapping is of a file (no MAP_ANONYMOUS in
  argument 3).
- ``protected``: the protection in argument 2 has PROT_EXEC, and a file is mapped in the memory at argument 0, of
  argument 1 bytes.
- ``flock``: the operation in argument 1 takes or releases a lock.
- ``fcntl_lock``: the command in argument 1 is F_SETLK, F_SETLKW, F_OFD_SETLK or F_OFD_SETLKW, or its 64-bit form.

An exclusive lock (LOCK_EX, F_WRLCK) turns ``lock`` into ``lock_exclusive``.
"""


@dataclass(frozen=True)
class FileUse:
    """One use of a file by a syscall. Positions are those of arguments (files.yaml explains each member)."""

    access: str
    path: int | None = None
    at: int | None = None
    fd: int | None = None
    flags: int | None = None
    follow: bool = True
    make: str | None = None
    mode: int | None = None
    only: str | None = None


@cache
def file_uses() -> Mapping[str, tuple[FileUse, ...]]:
    """Return, by syscall name, its one or two uses of files."""
    rows: dict[str, list[dict[str, object]]] = load("files.yaml")
    return {name: tuple(FileUse(**row) for row in uses) for name, uses in rows.items()}  # type: ignore[arg-type]


# include/uapi/asm-generic/fcntl.h. x86 and arm64 have the same values of all flags that profgen inspects.
O_ACCMODE, O_WRONLY, O_RDWR = 3, 1, 2
O_CREAT, O_TRUNC, O_APPEND = 0o100, 0o1000, 0o2000
O_PATH = 0o10000000
O_NOFOLLOW = {"x86_64": 0o400000, "i386": 0o400000, "x32": 0o400000, "aarch64": 0o100000, "arm": 0o100000}
"""O_NOFOLLOW by ABI (arch/arm64/include/uapi/asm/fcntl.h and the file of the same name below arch/arm)."""
CREAT_FLAGS = O_CREAT | O_WRONLY | O_TRUNC


def open_accesses(flags: int) -> tuple[str, ...]:
    """Return what an open with these flags requests, in the order of FILE_ACCESSES; empty for O_PATH, which requests
    nothing.

    O_APPEND turns ``write`` into ``append`` (in both access modes that write). Access mode 3 needs ``read`` and
    ``write`` and permits neither (open(2)).
    """
    if flags & O_PATH:
        return ()
    mode = flags & O_ACCMODE
    found = ["read"] if mode != O_WRONLY else []
    if mode:
        found.append("append" if flags & O_APPEND else "write")
    if flags & O_CREAT:
        found.append("create")
    if flags & O_TRUNC:
        found.append("truncate")
    return tuple(found)


_MET = {
    "connect": frozenset({"EINPROGRESS"}),
    "accept": frozenset({"EAGAIN", "EINTR"}),
    "send": frozenset({"EAGAIN", "EINTR"}),
    "receive": frozenset({"EAGAIN", "EINTR"}),
    # A lock that another process holds. fcntl(2) allows EACCES here too, but Linux never returns it for this; security
    # modules return it for a refusal.
    "lock": frozenset({"EAGAIN", "EINTR"}),
    "lock_exclusive": frozenset({"EAGAIN", "EINTR"}),
    # The file was found, but it lacks the attribute, its file system has no attributes, or the buffer is too short
    # (getxattr(2)).
    "look": frozenset({"ENODATA", "ENOTSUP", "ERANGE", "E2BIG"}),
}
"""Errors of calls that were allowed, but had nothing to do."""

NO_USE = frozenset({"EFAULT", "ENOSYS", "EBADF"})
"""Errors of calls that reached no file: they are not recorded as uses."""


def allowed(word: str, errno_name: str) -> bool:
    """Return whether a use (a word of FILE_ACCESSES or SOCKET_OPERATIONS) with this result counts as ``ok``."""
    return errno_name == "ok" or errno_name in _MET.get(word, ())
