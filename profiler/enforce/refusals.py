"""Tell the refusals of Landlock from those of the kernel's other checks, which come first and have nothing to do with a
policy: the permissions of files, and which processes a user may signal and inspect."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass

from profiler.kernel.capabilities import number_of
from profiler.kernel.landlock import of_name, of_object
from profiler.trace.model import File, Mount, Signal, Socket, Use

_ERRORS: Mapping[type, frozenset[str]] = {
    File: frozenset({"EACCES", "EXDEV"}),
    Socket: frozenset({"EACCES", "EPERM"}),
    Signal: frozenset({"EPERM"}),
    Mount: frozenset({"EPERM"}),
}
"""What Landlock answers (landlock(7)): EXDEV for a file that would gain rights in another directory."""


@dataclass(frozen=True)
class _Process:
    uid: int
    groups: frozenset[int]
    effective: int

    def has(self, capability: str) -> bool:
        return bool(self.effective >> (number_of(capability) or 0) & 1)


def may_be(row: Use, tid: int) -> bool:
    """Return whether Landlock may have refused this use of a thread, and nothing else did. A no may be wrong: without
    CAP_KILL nothing tells whose refusal of a signal it was."""
    if not _ERRORS.get(type(row), frozenset()).intersection(row.results):
        return False
    process = _process(tid)
    if process is None:
        return False
    if isinstance(row, File):
        wanted = of_object([row.access], [row.kind]) | of_name([row.access], [row.kind])
        return bool(wanted) and not _permissions_refuse(row, process)
    if isinstance(row, Socket):
        return row.port is not None or (row.address or "").startswith("@")
    return process.has("CAP_KILL" if isinstance(row, Signal) else "CAP_SYS_ADMIN")


def _process(tid: int) -> _Process | None:
    try:
        with open(f"/proc/{tid}/status", "rb") as file:
            rows = dict(line.split(b":\t", 1) for line in file.read().split(b"\n") if b":\t" in line)
    except OSError:
        return None
    groups = {int(rows[b"Gid"].split()[3]), *map(int, rows[b"Groups"].split())}
    return _Process(int(rows[b"Uid"].split()[3]), frozenset(groups), int(rows[b"CapEff"], 16))


def _permissions_refuse(row: File, process: _Process) -> bool:
    """Return whether the modes of the file and of its directories refuse the use (path_resolution(7))."""
    if process.has("CAP_DAC_OVERRIDE"):
        return False
    top = parent = posixpath.dirname(row.path)
    changes = row.access in _CHANGE_NAMES or (row.access == "create" and not os.path.lexists(row.path))
    places = [(row.path, _BITS.get(row.access, 0)), (parent, 0o3 if changes else 0o1)]
    while top not in ("/", ""):
        top = posixpath.dirname(top)
        places.append((top, 0o1))
    return any(_mode_refuses(path, bits, process) for path, bits in places)


_CHANGE_NAMES = frozenset({"make", "remove", "rename_from", "rename_to", "link", "bind"})
_BITS = {"read": 0o4, "list": 0o4, "write": 0o2, "append": 0o2, "truncate": 0o2, "execute": 0o1}
"""Accesses to the permission of the file that they take."""


def _mode_refuses(path: str, bits: int, process: _Process) -> bool:
    try:
        found = os.stat(path)
    except OSError:
        return False
    shift = 6 if found.st_uid == process.uid else 3 if found.st_gid in process.groups else 0
    return bits & ~(found.st_mode >> shift) != 0
