"""Recognise file systems that a server answers for: FUSE, NFS, autofs and others. A look-up there may wait for ever.

The server may be a process of the workload, which a tracer has stopped, or which hangs. Nothing in this module waits.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import select
import struct
from dataclasses import dataclass, replace

from profiler.kernel.mounts import file_systems

_SERVED_DEVICES = (b"/dev/nbd", b"/dev/ublk")
"""Beginnings of block devices that a process or another machine serves."""
_OCTAL = re.compile(rb"\\([0-7]{3})")
_OWNER = re.compile(rb"\buser_id=(\d+),group_id=(\d+)\b")
_LAYERS = re.compile(rb"(?:^|,)(?:lowerdir|upperdir)\+?=((?:[^,\\]|\\.)*)")

_AT_FDCWD, _AT_SYMLINK_NOFOLLOW, _AT_NO_AUTOMOUNT, _AT_EMPTY_PATH = -100, 0x100, 0x800, 0x1000
_AT_STATX_DONT_SYNC, _STATX_BASIC_STATS = 0x4000, 0x7FF  # include/uapi/linux/fcntl.h, include/uapi/linux/stat.h
_STATX_BYTES = 256
_STATX = struct.Struct("=16xIIIH2xQQ16xq8x16xq8xq8x8xII")
"""struct statx: links, uid, gid, mode, inode, size, times of access, change of status and change, device."""
_libc = ctypes.CDLL(None, use_errno=True)


class WouldAsk(Exception):
    """A look-up was not made, as it may wait for a server."""


def status_of(path: str | int, *, follow: bool = True) -> os.stat_result:
    """Return the status of a file as the kernel knows it, without a question to a server (statx(2)).

    A name must not lead through a file system that has one: the look-up of the name would ask it. Raises OSError.
    """
    buffer = ctypes.create_string_buffer(_STATX_BYTES)
    flags = _AT_STATX_DONT_SYNC | _AT_NO_AUTOMOUNT | (0 if follow else _AT_SYMLINK_NOFOLLOW)
    at, name = (path, b"") if isinstance(path, int) else (_AT_FDCWD, os.fsencode(path))
    if _libc.statx(at, name, flags | (_AT_EMPTY_PATH if not name else 0), _STATX_BASIC_STATS, buffer) != 0:
        code = ctypes.get_errno()
        if code in (errno.ENOSYS, errno.EPERM):  # a seccomp profile, or Linux before 4.11
            return os.stat(path) if isinstance(path, int) else os.stat(path, follow_symlinks=follow)
        raise OSError(code, os.strerror(code), path)
    links, uid, gid, mode, inode, size, accessed, changed, modified, major, minor = _STATX.unpack_from(buffer)
    device = os.makedev(major, minor)
    return os.stat_result((mode, inode, device, links, uid, gid, size, accessed, modified, changed))


def same_file(one: str, other: str) -> bool:
    """Return whether two names lead to the same file, as os.path.samefile does. Raises OSError."""
    return os.path.samestat(status_of(one), status_of(other))


@dataclass(frozen=True)
class Served:
    """A mount with a server. ``point`` is a path of its mount namespace."""

    point: str
    type: str
    nosuid: bool = False
    owner: tuple[int, int] | None = None
    """The uid and gid that a process must have for the server to answer it (fuse(4)); None if any will do."""

    @property
    def still(self) -> bool:
        """Whether what the kernel has cached can be read without a question."""
        return self.type.partition(".")[0] in file_systems().still

    @property
    def mappable(self) -> bool:
        """Whether it has files that a process can map."""
        return self.type != "autofs"


@dataclass(frozen=True)
class Table:
    """The mounts that a process sees: those with a server; ids and devices ((major, minor)) of all others."""

    served: tuple[Served, ...] = ()
    local: frozenset[int] = frozenset()
    devices: frozenset[tuple[int, int]] = frozenset()

    def over(self, path: str) -> Served | None:
        """Return the mount with a server that a resolved path leads through or to; None if it does not."""
        for each in self.served:
            if path.startswith(each.point) and (path[len(each.point) : len(each.point) + 1] in ("", "/")):
                return each
        return None

    @property
    def still(self) -> bool:
        """Whether what the kernel has cached can be read everywhere without a question."""
        return all(each.still for each in self.served)


def table_of(mountinfo: bytes, root: str = "/") -> Table:
    """Return what proc_pid_mountinfo(5) says. ``root``: the root directory of its process, in its mount namespace."""
    served: dict[str, Served] = {}
    local, devices, overlays = set(), set(), []
    for line in mountinfo.splitlines():
        mount, _, about = line.partition(b" - ")
        words, (kind, source, *options) = mount.split(b" "), about.split(b" ")
        device = tuple(map(int, words[2].split(b":")))
        point = os.fsdecode(_plain(words[4]))
        if root != "/":
            point = root if point == "/" else root + point
        nosuid = b"nosuid" in words[5].split(b",")
        row = Served(point, os.fsdecode(kind), nosuid, _owner(b",".join(options)))
        if kind == b"overlay":
            overlays.append((row, int(words[0]), device, b" ".join(options)))
        elif _is_local(row.type, source, b" ".join(options)):
            local.add(int(words[0]))
            devices.add((device[0], device[1]))
        else:
            served[point] = row
    lower = Table(tuple(served.values()))
    for row, number, device, layers in overlays:
        paths = [os.fsdecode(_plain(path)) for found in _LAYERS.findall(layers) for path in found.split(b":")]
        if any(map(lower.over, paths)):
            served[row.point] = row
        else:
            local.add(number)
            devices.add((device[0], device[1]))
    # "" stands for a server of the root itself: every path leads through it.
    rows = tuple(replace(each, point="") if each.point == "/" else each for each in served.values())
    return Table(rows, frozenset(local), frozenset(devices))


def _owner(options: bytes) -> tuple[int, int] | None:
    found = _OWNER.search(options)
    return None if found is None or b"allow_other" in options.split(b",") else (int(found[1]), int(found[2]))


def _is_local(kind: str, source: bytes, options: bytes) -> bool:
    if kind == "9p":  # the machine below a virtual one answers, as for a disk
        return b"trans=virtio" in options.split(b",")
    return kind in file_systems().local and not source.startswith(_SERVED_DEVICES)


def _plain(text: bytes) -> bytes:
    """Return a text without the octal escapes of seq_path (fs/seq_file.c mangle_path)."""
    return _OCTAL.sub(lambda found: bytes([int(found[1], 8)]), text)


class Mounts:
    """The mounts that a process sees, read again when they have changed (poll(2), proc_pid_mountinfo(5))."""

    def __init__(self, path: str, root: str = "/") -> None:
        """``path``: of a mountinfo, or of profgen's own descriptor of one. Raises OSError."""
        _, own, number = path.rpartition("/proc/self/fd/")
        self._fd = os.dup(int(number)) if own else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._root = root
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLPRI)
        self._table: Table | None = None

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            os.close(self._fd)

    def now(self) -> Table:
        """Return the mounts as they are now."""
        if self._poll.poll(0) or self._table is None:
            self._table = table_of(self._read(), self._root)
        return self._table

    def _read(self) -> bytes:
        os.lseek(self._fd, 0, os.SEEK_SET)
        parts = []
        while part := os.read(self._fd, 1 << 16):
            parts.append(part)
        return b"".join(parts)
