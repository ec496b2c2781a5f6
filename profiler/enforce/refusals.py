"""Tell the refusals of Landlock from those of the kernel's other checks, which come first and have nothing to do with a
policy: the permissions of files, and which processes a user may signal and inspect."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from profiler.files import process_stat
from profiler.kernel import syscalls
from profiler.kernel.abi import native_abi
from profiler.kernel.capabilities import number_of
from profiler.kernel.landlock import of_name, of_object
from profiler.kernel.processes import process_calls
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
    """``uids``: real, effective, saved and that for files."""

    uids: tuple[int, ...]
    groups: frozenset[int]
    effective: int

    @property
    def uid(self) -> int:
        return self.uids[3]

    def has(self, capability: str) -> bool:
        return bool(self.effective >> (number_of(capability) or 0) & 1)


def may_be(row: Use, tid: int) -> bool:
    """Return whether Landlock may have refused this use, and nothing else did. ``tid``: the thread, which is stopped
    at the end of its call."""
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
    return _may_signal(tid, process) if isinstance(row, Signal) else process.has("CAP_SYS_ADMIN")


def _may_signal(tid: int, process: _Process) -> bool:
    """Return whether the kernel's own check lets the signal through that a thread's call sends (kill_ok_by_cred,
    kernel/signal.c)."""
    if process.has("CAP_KILL"):
        return True
    others = (_process(target) for target in _targets(tid))
    return any({*process.uids[:2]} & {other.uids[0], other.uids[2]} for other in others if other is not None)


def _targets(tid: int) -> Iterator[int]:
    """Yield the processes that the call of a stopped thread sends a signal to (proc_pid_syscall(5)). It has profgen's
    numbers: what is outside of the workload has none in a pid namespace of the workload's own."""
    try:
        with open(f"/proc/{tid}/syscall", "rb") as file:
            number, *arguments = (int(word, 0) for word in file.read().split())
    except (OSError, ValueError):
        return
    call = process_calls().get(syscalls.name_of(native_abi(), number) or "")
    if call is None or call.signal is None:
        return
    if call.pidfd is not None:
        yield from _of_pidfd(tid, arguments[call.pidfd] & _U32)
        return
    asked = (arguments[call.process[0]] & _U32 ^ _SIGN) - _SIGN
    if asked > 0:
        yield asked
        return
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            if asked == -1 or int(process_stat(entry)[_GROUP]) == -asked:
                yield int(entry)
        except OSError:
            continue


_U32, _SIGN = 0xFFFFFFFF, 1 << 31
_GROUP = 2
"""The place of the process group in process_stat's fields."""


def _of_pidfd(tid: int, fd: int) -> Sequence[int]:
    """Return the process of a descriptor: the only one, or none (proc_pid_fdinfo(5))."""
    try:
        with open(f"/proc/{tid}/fdinfo/{fd}", "rb") as file:
            return [int(line.split()[1]) for line in file if line.startswith(b"Pid:")]
    except OSError:
        return []


def _process(tid: int) -> _Process | None:
    try:
        with open(f"/proc/{tid}/status", "rb") as file:
            rows = dict(line.split(b":\t", 1) for line in file.read().split(b"\n") if b":\t" in line)
    except OSError:
        return None
    groups = {int(rows[b"Gid"].split()[3]), *map(int, rows[b"Groups"].split())}
    return _Process(tuple(map(int, rows[b"Uid"].split())), frozenset(groups), int(rows[b"CapEff"], 16))


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
