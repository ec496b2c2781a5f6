"""Signals and inspections, by the arguments of the calls that make them."""

from __future__ import annotations

import errno
from collections.abc import Mapping

import pytest

from profiler.tracers.ptrace.processes import Processes
from profiler.tracers.ptrace.rows import Exit, Rows
from profiler.tracers.ptrace.threads import Threads
from profiler.tracers.recording import Recording

ME, FRIEND, STRANGER, PARENT = 100, 200, 300, 400
PIDFDS: Mapping[int, int] = {7: FRIEND, 8: -1}


class Known(Threads):
    """The thread itself and one other process of the workload; a few descriptors."""

    def __init__(self) -> None:
        super().__init__()
        self.groups |= {ME: ME, FRIEND: FRIEND}

    def parent(self, tid: int) -> int:
        return PARENT

    def whom_of_pidfd(self, tid: int, fd: int) -> str | None:
        return self.whom_outer(tid, PIDFDS[fd]) if fd in PIDFDS else None


class Told(Recording):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__("x86_64")
        self.said: list[tuple[object, ...]] = []

    def signal(self, signal: str, whom: str, result: str, program: int, *_: object) -> None:
        self.said.append((signal, whom, result))

    def inspection(self, operation: str, whom: str, result: str, program: int, *_: object) -> None:
        self.said.append((operation, whom, result))


def said(name: str, *args: int, code: int = 0) -> list[tuple[object, ...]]:
    recording = Told()
    enter = Processes(Rows(recording, Known())).watches(name, "x86_64")
    assert enter is not None
    leave = enter(ME, (*args, *[0] * (6 - len(args))))
    if leave is not None:
        leave(Exit(ME, -1 if code else 0, code, 0, 0))
    return recording.said


@pytest.mark.parametrize(
    ("name", "args", "row"),
    [
        ("kill", (ME, 15), ("TERM", "self", "ok")),
        ("kill", (FRIEND, 9), ("KILL", "workload", "ok")),
        ("kill", (STRANGER, 0), ("0", "outside", "ok")),
        ("kill", (0, 1), ("HUP", "group", "ok")),
        ("kill", (0xFFFFFFFF, 1), ("HUP", "group", "ok")),
        ("tgkill", (ME, FRIEND, 34), ("RTMIN+2", "workload", "ok")),
        ("rt_sigqueueinfo", (FRIEND, 10), ("USR1", "workload", "ok")),
        ("pidfd_send_signal", (7, 15), ("TERM", "workload", "ok")),
        ("pidfd_send_signal", (8, 15), ("TERM", "outside", "ok")),
        ("ptrace", (0,), ("traceme", "outside", "ok")),
        ("ptrace", (16, FRIEND), ("trace", "workload", "ok")),
        ("ptrace", (0x4206, STRANGER), ("trace", "outside", "ok")),
        ("process_vm_readv", (FRIEND,), ("read", "workload", "ok")),
        ("process_vm_writev", (ME,), ("trace", "self", "ok")),
        ("kcmp", (ME, FRIEND), ("read", "workload", "ok")),
        ("kcmp", (STRANGER, ME), ("read", "outside", "ok")),
        ("pidfd_getfd", (7,), ("read", "workload", "ok")),
    ],
)
def test_rows(name: str, args: tuple[int, ...], row: tuple[str, str, str]) -> None:
    assert said(name, *args) == [row]


def test_what_leaves_no_row() -> None:
    assert said("ptrace", 7, FRIEND) == [], "PTRACE_CONT begins nothing"
    assert said("pidfd_getfd", 3) == [], "not a pidfd"
    assert said("kill", FRIEND, 15, code=errno.ENOSYS) == []
    assert Processes(Rows(Told(), Known())).watches("getpid", "x86_64") is None


def test_refusals() -> None:
    assert said("kill", STRANGER, 15, code=errno.EPERM) == [("TERM", "outside", "EPERM")]
