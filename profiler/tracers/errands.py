"""Work that may wait for a server of a file system, done by processes of its own, so that profgen never waits for it.

A process that waits for a FUSE server cannot be killed once the server has read its request (fs/fuse/dev.c
request_wait_answer), so the work is done in none that profgen needs. Most tasks have a process of their own. Under
ptrace, where each name that the workload uses is a question, processes last.
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
from dataclasses import dataclass, replace
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
_IDLE_MAX = 16
"""Processes that last and have nothing to do: more are ended."""
_REQUEST_BYTES = 1 << 17
_CLONE_NEWUSER = 0x10000000  # include/uapi/linux/sched.h

_T = TypeVar("_T")


class GaveUp(Exception):
    """There was no answer."""


Answer = tuple[bool, Any]
"""(True, result) or (False, OSError)."""


@dataclass(frozen=True)
class Guise:
    """Whom a server is asked as: a thread, in the user namespace of which it is asked, and Served.owner."""

    tid: int
    owner: tuple[int, int] | None

    def take(self) -> None:
        """Make this process one that the server answers, as far as profgen may.

        A FUSE server answers processes in the user namespace of its mount or below that; without allow_other, only
        those of its user, and not even root (fs/fuse/dir.c fuse_allow_current_process).
        """
        libc = ctypes.CDLL(None)
        with contextlib.suppress(OSError):
            own, its = (os.open(f"/proc/{each}/ns/user", os.O_RDONLY | os.O_CLOEXEC) for each in ("self", self.tid))
            if not os.path.sameopenfile(own, its):
                libc.setns(its, _CLONE_NEWUSER)
        if self.owner is not None:
            uid, gid = self.owner
            libc.prctl(_PR_SET_SECUREBITS, ctypes.c_ulong(_SECBIT_NO_SETUID_FIXUP))  # its capabilities stay
            with contextlib.suppress(OSError):
                os.setresgid(gid, gid, gid)
                os.setresuid(uid, uid, uid)


@dataclass(frozen=True)
class Task:
    """Work for another process. ``key`` tells it from other work for the same call. ``subject``: the mount that it asks
    about. ``kept``: profgen's descriptors that it needs. ``lasts``: a process that does other tasks too can do it,
    because ``work`` can be pickled and needs no descriptor."""

    key: Hashable
    subject: str
    work: Callable[[], Any]
    kept: tuple[int, ...] = ()
    guise: Guise | None = None
    lasts: bool = False


class Errands(Protocol):
    """Does work elsewhere."""

    def ask(self, task: Task) -> Any:
        """Return what the work gives. Raises GaveUp, OSError that the work raised, and Waiting (Parking)."""


class _Process:
    """A process that does one task and ends."""

    def __init__(self, task: Task) -> None:
        self._result = os.memfd_create("profgen-errand", os.MFD_CLOEXEC)
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                detach_helper(self._result, *task.kept)
                if task.guise is not None:
                    task.guise.take()
                end_with_parent()  # after a change of ids, which undoes it
                if os.getppid() == parent:
                    self._do(task)
            finally:
                os._exit(0)

    def _do(self, task: Task) -> None:
        self._put(task.work)

    def _put(self, work: Callable[[], Any]) -> None:
        try:
            answer: Answer = True, work()
        except OSError as error:
            answer = False, error
        os.pwrite(self._result, pickle.dumps(answer), 0)

    def answer(self) -> Answer | None:
        """Return what it has answered, None if it was killed before."""
        try:
            found: Answer = pickle.loads(os.pread(self._result, os.fstat(self._result).st_size, 0))
        except (EOFError, pickle.UnpicklingError):
            return None
        return found

    def kill(self) -> None:
        """Kill it, without waiting for its end."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Close profgen's descriptors of it."""
        os.close(self._result)


class _Lasting(_Process):
    """A process that does one task after the other for one mount and guise, and stops itself after each.

    A tracer waits for stops and ends of its children anyway. Starting a process takes ten times as long as an answer.
    """

    def __init__(self, task: Task, place: Hashable) -> None:
        import socket  # most recordings have no use for it

        self.place = place
        self._ours, self._its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        super().__init__(replace(task, kept=(self._its.fileno(),)))
        self._its.close()

    def _do(self, task: Task) -> None:
        while request := self._its.recv(_REQUEST_BYTES):
            self._put(pickle.loads(request))
            os.kill(os.getpid(), signal.SIGSTOP)
            # Others may continue it, a shell for example, before profgen has seen the stop.
            while not select.select([self._its], [], [], 0)[0]:
                os.kill(os.getpid(), signal.SIGSTOP)

    def send(self, work: Callable[[], Any]) -> None:
        """Give it work to do. Raises OSError if it has ended."""
        os.ftruncate(self._result, 0)
        self._ours.send(pickle.dumps(work))
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """Close profgen's descriptors of it."""
        super().close()
        self._ours.close()


def _result(answer: Answer | None) -> Any:
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
        process = _Process(task)
        pidfd = os.pidfd_open(process.pid)
        try:
            if select.select([pidfd], [], [], PATIENCE_SECONDS)[0]:
                os.waitpid(process.pid, 0)
                return _result(process.answer())
        finally:
            os.close(pidfd)
            process.close()
        process.kill()
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
        self._answers: dict[int, dict[Hashable, Answer | None]] = {}
        self._running: dict[int, tuple[int, Hashable, _Process, Callable[[], None]]] = {}
        """By the process: thread, key, and what to do next."""
        self._idle: dict[int, _Lasting] = {}
        """Processes that have answered and were not asked again, by their number."""
        self._dropped: set[int] = set()
        """Processes that nobody waits for any more, and that have not ended yet."""

    @property
    def used(self) -> bool:
        """Whether a process of its own may still be there."""
        return bool(self._running or self._idle or self._dropped)

    @property
    def busy(self) -> bool:
        """Whether one of them may wait for a server."""
        return bool(self._running or self._dropped)

    def ask(self, task: Task) -> Any:
        """See Errands.ask. Raises Waiting the first time."""
        answers = self._answers.get(self.tid, {})
        if task.key not in answers:
            raise Waiting(task.key, self._lasting(task) if task.lasts else _Process(task))
        return _result(answers[task.key])

    def _lasting(self, task: Task) -> _Lasting:
        """Give a task to a process that is idle, or to a new one."""
        assert task.guise is not None
        namespace = ""
        with contextlib.suppress(OSError):
            namespace = os.readlink(f"/proc/{task.guise.tid}/ns/user")
        place = task.subject, namespace, task.guise.owner
        for process in [each for each in self._idle.values() if each.place == place]:
            del self._idle[process.pid]
            try:
                process.send(task.work)
                return process
            except OSError:  # it was killed
                self._end(process)
        process = _Lasting(task, place)
        process.send(task.work)
        return process

    def park(self, tid: int, waiting: Waiting, then: Callable[[], None]) -> None:
        """Leave a thread in its stop until its question is answered; then call ``then``, which asks again."""
        self._running[waiting.process.pid] = tid, waiting.key, waiting.process, then

    def done(self, pid: int, *, ended: bool) -> bool:
        """Go on where the process was waited for that has just stopped or ended. Returns False for another process."""
        if pid in self._dropped:
            if ended:
                self._dropped.discard(pid)
            return True
        if pid in self._idle:
            if ended:
                self._idle.pop(pid).close()
            return True
        if pid not in self._running:
            return False
        tid, key, process, then = self._running[pid]
        answer = process.answer()
        if answer is None and not ended:  # others have stopped it
            os.kill(pid, signal.SIGCONT)
            return True
        del self._running[pid]
        self._answers.setdefault(tid, {})[key] = answer
        if ended:
            process.close()
        elif isinstance(process, _Lasting) and len(self._idle) < _IDLE_MAX:
            self._idle[pid] = process
        else:
            self._end(process)
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
        process.close()
        self._dropped.add(process.pid)
        process.kill()

    def end(self) -> None:
        """End all processes, without waiting for them."""
        for tid in {waiting for waiting, *_ in self._running.values()}:
            self.served(tid)
        for process in self._idle.values():
            self._end(process)
        self._idle.clear()
