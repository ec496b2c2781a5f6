"""Work that may wait for a server of a file system, done by processes of its own, so that profgen never waits for it.

A process that waits for a FUSE server cannot be killed once the server has read its request (fs/fuse/dev.c
request_wait_answer), so the work is done in none that profgen needs.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import select
import signal
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from profiler.run import end_with_parent
from profiler.tracers.launch import detach_helper

PATIENCE_SECONDS = 2.0
"""How long profgen waits for an answer while it does nothing else."""
_REST_SECONDS = 30.0
"""How long a server that gave no answer is not asked again."""
_ABANDONED_MAX = 8
"""Processes that may still wait for a server after profgen gave up: with so many, nothing is asked."""
_PR_SET_SECUREBITS = 28  # include/uapi/linux/prctl.h
_SECBIT_NO_SETUID_FIXUP = 1 << 2  # include/uapi/linux/securebits.h
_CLONE_NEWUSER = 0x10000000  # include/uapi/linux/sched.h

_T = TypeVar("_T")


class GaveUp(Exception):
    """There was no answer."""


@dataclass(frozen=True)
class Task:
    """Work for another process. ``key`` tells it from other work for the same call. ``subject``: the mount that it asks
    about. ``kept``: profgen's descriptors that it needs."""

    key: Hashable
    subject: str
    work: Callable[[], Any]
    kept: tuple[int, ...] = ()


class Errands(Protocol):
    """Does work elsewhere."""

    def ask(self, task: Task) -> Any:
        """Return what the work gives. Raises GaveUp, OSError that the work raised, and Waiting (Parking)."""


@dataclass
class _Process:
    """A process that does one task, and the memory file for its result."""

    pid: int
    result: int

    @classmethod
    def start(cls, task: Task) -> _Process:
        result = os.memfd_create("profgen-errand", os.MFD_CLOEXEC)
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                end_with_parent()
                if os.getppid() == parent:
                    detach_helper(result, *task.kept)
                    try:
                        answer: tuple[bool, Any] = True, task.work()
                    except OSError as error:
                        answer = False, error
                    os.write(result, pickle.dumps(answer))
            finally:
                os._exit(0)
        return cls(pid, result)

    def answer(self) -> tuple[bool, Any] | None:
        """Return (True, result) or (False, OSError) of a process that has ended, None if it was killed."""
        try:
            size = os.fstat(self.result).st_size
            found: tuple[bool, Any] = pickle.loads(os.pread(self.result, size, 0))
        except (EOFError, pickle.UnpicklingError):
            return None
        finally:
            os.close(self.result)
        return found


def become(tid: int, owner: tuple[int, int] | None) -> None:
    """Make this process one that the server of a thread's file system answers, as far as profgen may.

    A FUSE server answers processes in the user namespace of its mount or below that; without allow_other, only those of
    its user, and not even root (fs/fuse/dir.c fuse_allow_current_process).
    """
    libc = ctypes.CDLL(None)
    with contextlib.suppress(OSError):
        own, its = (os.open(f"/proc/{each}/ns/user", os.O_RDONLY | os.O_CLOEXEC) for each in ("self", tid))
        if not os.path.sameopenfile(own, its):
            libc.setns(its, _CLONE_NEWUSER)
    if owner is not None:
        libc.prctl(_PR_SET_SECUREBITS, ctypes.c_ulong(_SECBIT_NO_SETUID_FIXUP))  # its capabilities stay
        with contextlib.suppress(OSError):
            os.setresgid(owner[1], owner[1], owner[1])
            os.setresuid(owner[0], owner[0], owner[0])


def _result(answer: tuple[bool, Any] | None) -> Any:
    if answer is None:
        raise GaveUp
    done, result = answer
    if not done:
        raise result
    return result


class Patient:
    """Waits for each answer, but not for long. A server that gave none is left alone for a while."""

    def __init__(self, gave_up: Callable[[str], None] = lambda subject: None) -> None:
        """``gave_up``: called with the mount when there was no answer."""
        self._gave_up = gave_up
        self._silent: dict[str, float] = {}
        """Mounts of servers that gave no answer, and when they may be asked again."""
        self._abandoned: list[int] = []

    def ask(self, task: Task) -> Any:
        """See Errands.ask."""
        self._abandoned = [pid for pid in self._abandoned if not _ended(pid)]
        if time.monotonic() < self._silent.get(task.subject, 0.0) or len(self._abandoned) >= _ABANDONED_MAX:
            self._gave_up(task.subject)
            raise GaveUp
        process = _Process.start(task)
        pidfd = os.pidfd_open(process.pid)
        try:
            in_time = bool(select.select([pidfd], [], [], PATIENCE_SECONDS)[0])
        finally:
            os.close(pidfd)
        if in_time:
            os.waitpid(process.pid, 0)
            return _result(process.answer())
        os.kill(process.pid, signal.SIGKILL)
        os.close(process.result)
        self._abandoned.append(process.pid)
        self._silent[task.subject] = time.monotonic() + _REST_SECONDS
        self._gave_up(task.subject)
        raise GaveUp


def _ended(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return True


class Waiting(Exception):
    """The answer is not known yet. Whoever asked asks again when it is."""

    def __init__(self, key: Hashable, process: _Process) -> None:
        super().__init__()
        self.key = key
        self.process = process


class Parking:
    """Answers for the calls of stopped threads. A thread stays stopped, and all others go on, until its question is
    answered: the server may be one of them.

    No time-out is needed. The thread's own call would wait for the same server.
    """

    def __init__(self) -> None:
        self.tid = 0
        """The thread whose stop is served."""
        self._answers: dict[int, dict[Hashable, tuple[bool, Any] | None]] = {}
        self._running: dict[int, tuple[int, Hashable, _Process, Callable[[], None]]] = {}
        """By the process: thread, key, and what to do next."""
        self._dropped: set[int] = set()
        """Processes that nobody waits for any more, and that have not ended yet."""

    @property
    def busy(self) -> bool:
        """Whether a process of its own may still be there."""
        return bool(self._running or self._dropped)

    def ask(self, task: Task) -> Any:
        """See Errands.ask. Raises Waiting the first time."""
        answers = self._answers.get(self.tid, {})
        if task.key not in answers:
            raise Waiting(task.key, _Process.start(task))
        return _result(answers[task.key])

    def park(self, tid: int, waiting: Waiting, then: Callable[[], None]) -> None:
        """Leave a thread in its stop until its question is answered; then call ``then``, which asks again."""
        self._running[waiting.process.pid] = tid, waiting.key, waiting.process, then

    def done(self, pid: int) -> bool:
        """Go on where the process that has just ended was waited for. Returns False for another process."""
        if pid in self._dropped:
            self._dropped.discard(pid)
            return True
        entry = self._running.pop(pid, None)
        if entry is None:
            return False
        tid, key, process, then = entry
        self._answers.setdefault(tid, {})[key] = process.answer()
        self.tid = tid
        then()
        return True

    def served(self, tid: int) -> None:
        """Forget the answers for a thread that goes on, or has ended; its processes are no longer waited for."""
        self._answers.pop(tid, None)
        for pid in [] if not self._running else [pid for pid, (waiting, *_) in self._running.items() if waiting == tid]:
            self._end(self._running.pop(pid)[2])

    def drop(self, waiting: Waiting) -> None:
        """Do without an answer."""
        self._end(waiting.process)

    def _end(self, process: _Process) -> None:
        os.close(process.result)
        self._dropped.add(process.pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)

    def end(self) -> None:
        """End all processes, without waiting for them."""
        for tid in {waiting for waiting, *_ in self._running.values()}:
            self.served(tid)
