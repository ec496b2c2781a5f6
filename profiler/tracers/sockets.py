"""Sockets of other processes: what sort they are of, asked of the socket itself or read from the tables of /proc."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import socket
from collections.abc import Iterable
from functools import cache

from profiler.kernel.data import load
from profiler.tracers.ptrace.threads import Threads, signed

Sort = tuple[int, int, int]
"""Family, type and protocol, by the kernel's numbers."""

_REMEMBERED = 1 << 16
_SOCKET = re.compile(r"socket:\[(\d+)\]$")

_libc = ctypes.CDLL(None, use_errno=True)
_PIDFD_OPEN, _PIDFD_GETFD = 434, 438  # the same on every architecture (include/uapi/asm-generic/unistd.h)
_PIDFD_THREAD = os.O_EXCL  # include/uapi/linux/pidfd.h
_SOL_SOCKET, _SO_TYPE, _SO_PROTOCOL, _SO_DOMAIN = 1, 3, 38, 39  # include/uapi/asm-generic/socket.h


NO_SORT = (
    "sockets that the workload got from elsewhere are not all recorded: this machine refuses pidfd_getfd(2); "
    "in a container, allow it:"
    " --cap-add SYS_PTRACE"
)
"""Told once, when nothing is known of a socket."""


class Sockets:
    """Of one recording: the sort of a socket is asked for once."""

    def __init__(self, threads: Threads, warnings: list[str]) -> None:
        self._threads = threads
        self._warnings = warnings
        self._sorts: dict[str, Sort | None] = {}
        """By the text of a descriptor's link; None when nothing can be known."""

    def sort(self, tid: int, fd: int, made: Sort | None = None) -> tuple[str, Sort] | None:
        """(link text, sort) of a thread's socket; None for another descriptor, and for a socket of which nothing can be
        known.

        ``made``: what was asked of the kernel, for a socket that was just made.
        """
        try:
            link = os.readlink(f"/proc/{tid}/fd/{signed(fd)}")
        except OSError:
            self._threads.unread(tid, "sockets")
            return None
        if not _SOCKET.match(link):
            return None
        if link not in self._sorts or (made and self._sorts[link] is None):
            try:
                sort = socket_sort(tid, signed(fd), self._threads.group(tid))
            except PermissionError:
                sort = self._without_asking(tid, link, made)
            else:
                if sort is None:
                    return None
            if len(self._sorts) >= _REMEMBERED:
                self._sorts.clear()
            self._sorts[link] = sort
        known = self._sorts[link]
        return None if known is None else (link, known)

    def _without_asking(self, tid: int, link: str, made: Sort | None) -> Sort | None:
        sort = socket_in_tables(tid, link) or (made and _by_default(made))
        if sort is None and NO_SORT not in self._warnings:
            self._warnings.append(NO_SORT)
        return sort


def socket_sort(tid: int, fd: int, group: int | None = None) -> Sort | None:
    """(family, type, protocol) of another thread's socket, asked of the socket itself (pidfd_getfd(2), socket(7)); None
    when it is gone.

    ``group``: its process, when it may not be the leader: that has ended, it may be, or the thread has descriptors of
    its own. Raises PermissionError where that is not to be had: Docker's seccomp profile refuses it without
    CAP_SYS_PTRACE, Linux before 5.6 lacks it, and Linux before 6.9 has it of leaders alone.
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


def _by_default(asked: Sort) -> Sort:
    """What the kernel makes of protocol 0 for internet sockets (inet_create, net/ipv4/af_inet.c)."""
    family, kind, protocol = asked
    if family in (socket.AF_INET, socket.AF_INET6) and protocol == 0:
        protocol = {1: 6, 2: 17}.get(kind, 0)  # TCP for SOCK_STREAM, UDP for SOCK_DGRAM
    return family, kind, protocol


_TABLES: tuple[tuple[str, int, int, int], ...] = (
    ("tcp", socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP),
    ("tcp6", socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP),
    ("udp", socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    ("udp6", socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_UDP),
)


def socket_in_tables(tid: int, link: str) -> Sort | None:
    """The same from the tables below /proc/TID/net (proc_pid_net(5)), for a descriptor's link ``socket:[INODE]``.

    They have unix sockets, and those of TCP and UDP that are bound or connected.
    """
    inode = link.removeprefix("socket:[").removesuffix("]")
    with contextlib.suppress(OSError), open(f"/proc/{tid}/net/unix", encoding="ascii", errors="replace") as table:
        # Num RefCount Protocol Flags Type St Inode Path
        for words in map(str.split, table):
            if len(words) > 6 and words[6] == inode:
                return int(socket.AF_UNIX), int(words[4], 16), 0
    for name, family, kind, protocol in _TABLES:
        with contextlib.suppress(OSError), open(f"/proc/{tid}/net/{name}", encoding="ascii", errors="replace") as table:
            if any(len(words) > 9 and words[9] == inode for words in map(str.split, table)):
                return int(family), int(kind), int(protocol)
    return None


def inherited_sockets(pid: int, descriptors: Iterable[int] | None = None) -> set[tuple[str, str, int]]:
    """(family, type, protocol), as trace.model.Socket has them, of the sockets among a process's descriptors that an
    execution leaves open; ``descriptors``: only among these. Pipes and files give nothing: AppArmor lets those pass
    that an unconfined process opened, and asks for sockets at each read and write (aa_file_perm and aa_sock_msg_perm of
    security/apparmor)."""
    sorts = set()
    with contextlib.suppress(OSError):
        for fd in map(int, os.listdir(f"/proc/{pid}/fd")) if descriptors is None else descriptors:
            with contextlib.suppress(OSError):
                link = os.readlink(f"/proc/{pid}/fd/{fd}")
                if not _SOCKET.match(link) or _closes(pid, fd):
                    continue
                try:
                    sort = socket_sort(pid, fd)
                except PermissionError:
                    sort = socket_in_tables(pid, link)
                if sort is not None:
                    sorts.add(sort)
    return {(family_name(family), type_name(kind), protocol) for family, kind, protocol in sorts}


def _closes(pid: int, fd: int) -> bool:
    """Whether an execution closes the descriptor (O_CLOEXEC among the flags of proc_pid_fdinfo(5))."""
    with open(f"/proc/{pid}/fdinfo/{fd}") as file:
        return any(line.startswith("flags:") and int(line.split()[1], 8) & 0o2000000 for line in file)


@cache
def _names() -> tuple[dict[int, str], dict[int, str]]:
    tables = load("constants.yaml")
    families, types = (
        {number: name.partition("_")[2].lower() for name, number in tables[table]["values"].items()}
        for table in ("address_family", "socket_type")
    )
    return families, types


def family_name(number: int) -> str:
    """``inet`` for 2; the number as text where there is no name."""
    return _names()[0].get(number, str(number))


def type_name(number: int) -> str:
    """``stream`` for 1; the number as text where there is no name."""
    return _names()[1].get(number, str(number))


def path_address(text: str) -> str:
    """A unix socket's path as an address is written: one that begins with ``@`` is told from an abstract name."""
    return f"./{text}" if text.startswith("@") else text


def parse_address(family: int, data: bytes) -> tuple[int | None, str | None]:
    """(port, address) of a struct sockaddr: of ip(7) and ipv6(7) the port, of unix(7) the path or ``@name``; else
    neither."""
    if len(data) < 2:
        return None, None
    said = int.from_bytes(data[:2], "little")
    if said in (2, 10) and family in (2, 10) and len(data) >= 4:
        return int.from_bytes(data[2:4], "big"), None
    if said == 1 and family == 1 and len(data) > 2:
        name = data[2:]
        if name[0] == 0:
            return None, "@" + os.fsdecode(name[1:])
        return None, path_address(os.fsdecode(name.split(b"\0", 1)[0]))
    return None, None
