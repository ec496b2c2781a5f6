"""Sockets of other processes: family, type and protocol, read from the socket itself or from tables below /proc."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
from collections.abc import Iterable

from profiler.files import kernel_text
from profiler.kernel.files import O_CLOEXEC
from profiler.kernel.sockets import (
    AF_INET,
    AF_INET6,
    AF_UNIX,
    IPPROTO_TCP,
    IPPROTO_UDP,
    SOCK_DGRAM,
    SOCK_STREAM,
    Sort,
    family_name,
    type_name,
)

_LINK = re.compile(r"socket:\[(\d+)\]\Z")

_libc = ctypes.CDLL(None, use_errno=True)
_PIDFD_OPEN, _PIDFD_GETFD = 434, 438  # the same on every architecture (include/uapi/asm-generic/unistd.h)
_PIDFD_THREAD = os.O_EXCL  # include/uapi/linux/pidfd.h
_SOL_SOCKET, _SO_TYPE, _SO_PROTOCOL, _SO_DOMAIN = 1, 3, 38, 39  # include/uapi/asm-generic/socket.h


def is_socket(link: str) -> bool:
    """Whether a descriptor's link in procfs has the text of a socket's: ``socket:[INODE]``."""
    return _LINK.match(link) is not None


def socket_sort(tid: int, fd: int, group: int | None = None) -> Sort | None:
    """Read the sort of another thread's socket from a copy of the descriptor (pidfd_getfd(2), socket(7)).

    None when the socket is gone. ``group``: the thread's process, when the thread may not be its leader; the leader may
    have ended, or the thread may have descriptors of its own. Raises PermissionError where the call is unavailable:
    Docker's seccomp profile refuses it without CAP_SYS_PTRACE, Linux before 5.6 does not have it, and Linux before 6.9
    has it for leaders only.
    """
    leader = group is None or group == tid
    pidfd = _libc.syscall(_PIDFD_OPEN, tid, 0 if leader else _PIDFD_THREAD)
    if pidfd < 0 and not leader and ctypes.get_errno() == errno.EINVAL:
        if not _same(f"/proc/{tid}/fd/{fd}", f"/proc/{group}/fd/{fd}"):
            raise PermissionError(errno.EPERM, "pidfd_open")
        pidfd = _libc.syscall(_PIDFD_OPEN, group, 0)
    if pidfd < 0:
        return None
    try:
        copy = _libc.syscall(_PIDFD_GETFD, pidfd, fd, 0)
        if copy < 0:
            if ctypes.get_errno() in (errno.EPERM, errno.ENOSYS):
                raise PermissionError(errno.EPERM, "pidfd_getfd")
            return None
        try:
            values = []
            for option in (_SO_DOMAIN, _SO_TYPE, _SO_PROTOCOL):
                value, size = ctypes.c_int(), ctypes.c_uint32(4)
                if _libc.getsockopt(copy, _SOL_SOCKET, option, ctypes.byref(value), ctypes.byref(size)) != 0:
                    return None
                values.append(value.value)
            return values[0], values[1], values[2]
        finally:
            os.close(copy)
    finally:
        os.close(pidfd)


def _same(link: str, other: str) -> bool:
    try:
        return os.readlink(link) == os.readlink(other)
    except OSError:
        return False


_TABLES = (
    ("tcp", (AF_INET, SOCK_STREAM, IPPROTO_TCP)),
    ("tcp6", (AF_INET6, SOCK_STREAM, IPPROTO_TCP)),
    ("udp", (AF_INET, SOCK_DGRAM, IPPROTO_UDP)),
    ("udp6", (AF_INET6, SOCK_DGRAM, IPPROTO_UDP)),
)


def socket_in_tables(tid: int, link: str) -> Sort | None:
    """Look up the sort of a socket in the tables below /proc/TID/net (proc_pid_net(5)), by its descriptor's link.

    The tables have all unix sockets, and the TCP and UDP sockets that are bound or connected. None for any other.
    """
    inode = link.removeprefix("socket:[").removesuffix("]")
    with contextlib.suppress(OSError), kernel_text(f"/proc/{tid}/net/unix") as table:
        # Num RefCount Protocol Flags Type St Inode Path
        for words in map(str.split, table):
            if len(words) > 6 and words[6] == inode:
                return AF_UNIX, int(words[4], 16), 0
    for name, sort in _TABLES:
        with contextlib.suppress(OSError), kernel_text(f"/proc/{tid}/net/{name}") as table:
            if any(len(words) > 9 and words[9] == inode for words in map(str.split, table)):
                return sort
    return None


def inherited_sockets(pid: int, descriptors: Iterable[int] | None = None) -> set[tuple[str, str, int]]:
    """Return the sockets that a process's next execution leaves open, each (family, type, protocol) as in a trace.

    ``descriptors``: look only at these. Pipes and files are left out: AppArmor allows the use of those that an
    unconfined process opened, but checks sockets at each read and write (aa_file_perm and aa_sock_msg_perm of
    security/apparmor).
    """
    sorts = set()
    with contextlib.suppress(OSError):
        for fd in map(int, os.listdir(f"/proc/{pid}/fd")) if descriptors is None else descriptors:
            with contextlib.suppress(OSError):
                link = os.readlink(f"/proc/{pid}/fd/{fd}")
                if not is_socket(link) or _closes(pid, fd):
                    continue
                try:
                    sort = socket_sort(pid, fd)
                except PermissionError:
                    sort = socket_in_tables(pid, link)
                if sort is not None:
                    sorts.add(sort)
    return {(family_name(family), type_name(kind), protocol) for family, kind, protocol in sorts}


def _closes(pid: int, fd: int) -> bool:
    """Whether an execution closes the descriptor (O_CLOEXEC in the flags of proc_pid_fdinfo(5))."""
    with kernel_text(f"/proc/{pid}/fdinfo/{fd}") as file:
        return any(line.startswith("flags:") and int(line.split()[1], 8) & O_CLOEXEC for line in file)
