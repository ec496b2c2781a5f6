"""What calls do with files (files.yaml), and what their flags and errors mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from profiler.kernel.data import load
from profiler.kernel.errno import number_of as errno_number

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_REMOVEDIR = 0x200
AT_SYMLINK_FOLLOW = 0x400
AT_EMPTY_PATH = 0x1000
"""include/uapi/linux/fcntl.h"""
UMODE_MASK = 0xFFFF  # umode_t (include/linux/types.h): the kernel drops the rest of an argument
RENAME_EXCHANGE = 2  # include/uapi/linux/fs.h
RESOLVE_IN_ROOT = 0x10  # include/uapi/linux/openat2.h
PROT_EXEC, MAP_ANONYMOUS = 0x4, 0x20  # include/uapi/asm-generic/mman-common.h

CONDITIONS = ("how", "creat", "handle", "executable", "protected", "flock", "fcntl_lock", "directory", "found")
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
- ``directory``: the call removes only directories.
- ``found``: the call succeeds as soon as the file is found; a call with a ``mode``, when that is F_OK.

An exclusive lock (LOCK_EX, F_WRLCK) turns ``lock`` into ``lock_exclusive``.
"""


@dataclass(frozen=True)
class FileUse:
    """One use of a file by a call, by positions of arguments; files.yaml explains each member."""

    access: str
    path: int | None = None
    at: int | None = None
    fd: int | None = None
    flags: int | None = None
    follow: bool = True
    make: str | None = None
    mode: int | None = None
    only: str | None = None
    in_memory: str | None = None

    def flags_of(self, args: Sequence[int]) -> int:
        """Return the flags argument; 0 for a call without one."""
        return 0 if self.flags is None else args[self.flags]

    def follows(self, flags: int) -> bool:
        """Whether a call with these AT_* flags follows a symbolic link at the end of the path."""
        return (self.follow and not flags & AT_SYMLINK_NOFOLLOW) or bool(flags & AT_SYMLINK_FOLLOW)

    @property
    def is_of_name(self) -> bool:
        """Whether it is of the name itself: a symbolic link at the end is never followed, even before a slash."""
        return self.access in _NAMES

    @property
    def moves_directories(self) -> bool:
        """Whether a path that exists may lead elsewhere after the call, or its directories let other users through."""
        return self.access in _MOVES


@cache
def file_uses() -> Mapping[str, tuple[FileUse, ...]]:
    """Return the uses of each call, one or two, by syscall name."""
    rows: dict[str, list[dict[str, object]]] = load("files.yaml")
    return {name: tuple(FileUse(**row) for row in uses) for name, uses in rows.items()}  # type: ignore[arg-type]


_NAMES = frozenset({"make", "remove", "rename_from", "rename_to", "link"})
_MOVES = frozenset({"mode", "owner", "xattr", "rename_from", "remove"})

# include/uapi/asm-generic/fcntl.h; these flags are the same on x86 and Arm
O_ACCMODE, O_WRONLY, O_RDWR = 3, 1, 2
O_CREAT, O_EXCL, O_TRUNC, O_APPEND = 0o100, 0o200, 0o1000, 0o2000
O_CLOEXEC, O_PATH = 0o2000000, 0o10000000
O_NOFOLLOW = {"x86_64": 0o400000, "i386": 0o400000, "x32": 0o400000, "aarch64": 0o100000, "arm": 0o100000}
"""O_NOFOLLOW by ABI (arch/arm64/include/uapi/asm/fcntl.h and the file of the same name below arch/arm)."""
CREAT_FLAGS = O_CREAT | O_WRONLY | O_TRUNC


def open_accesses(flags: int) -> tuple[str, ...]:
    """Return the accesses of an open with these flags, in the order of FILE_ACCESSES; none for O_PATH.

    With O_APPEND, ``append`` stands in place of ``write``. Access mode 3 checks for ``read`` and ``write``, and opens
    for neither (open(2)).
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


def open_follows(flags: int, abi: str) -> bool:
    """Whether an open with these flags follows a symbolic link at the end of the path.

    With O_CREAT and O_EXCL a link is never followed: EEXIST (open(2)).
    """
    return not flags & O_NOFOLLOW[abi] and flags & (O_CREAT | O_EXCL) != O_CREAT | O_EXCL


_LOCK_SH, _LOCK_EX, _LOCK_NB, _LOCK_UN = 1, 2, 4, 8  # include/uapi/asm-generic/fcntl.h
F_WRLCK = 1  # include/uapi/asm-generic/fcntl.h: l_type of struct flock
LOCK_COMMANDS = frozenset({6, 7, 13, 14, 37, 38})
"""F_SETLK, F_SETLKW, F_SETLK64, F_SETLKW64, F_OFD_SETLK and F_OFD_SETLKW of fcntl(2)."""


def flock_access(operation: int) -> str | None:
    """Return ``lock`` or ``lock_exclusive`` for an operation of flock(2); None for an unknown operation."""
    return {_LOCK_EX: "lock_exclusive", _LOCK_SH: "lock", _LOCK_UN: "lock"}.get(operation & ~_LOCK_NB)


_ALLOWED_ERRORS = {
    "connect": frozenset({"EINPROGRESS"}),
    "accept": frozenset({"EAGAIN", "EINTR"}),
    "send": frozenset({"EAGAIN", "EINTR"}),
    "receive": frozenset({"EAGAIN", "EINTR"}),
    # A lock that another process holds. POSIX allows EACCES too (fcntl(2)), but on Linux only security modules return
    # it.
    "lock": frozenset({"EAGAIN", "EINTR"}),
    "lock_exclusive": frozenset({"EAGAIN", "EINTR"}),
    # The file was found, but it lacks the attribute, its file system has no attributes, or the buffer is too short
    # (getxattr(2)).
    "look": frozenset({"ENODATA", "ENOTSUP", "ERANGE", "E2BIG"}),
}
"""Errors of calls that were allowed: there was nothing to do yet."""

NO_USE = frozenset({"EFAULT", "ENOSYS", "EBADF"})
"""Errors of calls that did not reach a file, socket or process: they leave no row."""


@cache
def late_looks() -> frozenset[str]:
    """Return the calls of which only a failure leaves a row, and whose success nothing tells in advance."""
    return frozenset(
        name for name, (use, *more) in file_uses().items() if not more and use.access == "look" and use.only is None
    )


@cache
def looked() -> frozenset[int]:
    """Return the errno of the calls that only look for a file and leave no row, with 0 for success."""
    return frozenset({0} | {errno_number(name) or 0 for name in NO_USE | _ALLOWED_ERRORS["look"]})


def allowed(word: str, errno_name: str) -> bool:
    """Whether a use (of FILE_ACCESSES or SOCKET_OPERATIONS) with this result, ``ok`` or an error, was allowed."""
    return errno_name == "ok" or errno_name in _ALLOWED_ERRORS.get(word, ())
