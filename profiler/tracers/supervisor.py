"""The thread that forwards signals to the workload and ends it when its time is up."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection

from profiler.files import process_status
from profiler.tracers.base import GRACE_SECONDS
from profiler.tracers.launch import FORWARDED
from profiler.tracers.living import takes_signals

_TICK_SECONDS = 0.25

_libc = ctypes.CDLL(None, use_errno=True)
_SET_WORDS = 16
"""The size of the C library's sigset_t: 1024 bits."""


def next_forwarded(seconds: float) -> tuple[int, int] | None:
    """Return (number, si_code) of the next FORWARDED signal, which must be blocked; None if none arrives in time.

    signal.sigtimedwait() cannot be used: if it is stopped (SIGSTOP) until its time is over, it gets EINTR and returns a
    signal that nobody sent, from uninitialised memory (CPython 3.11, Modules/signalmodule.c).
    """
    numbers = (ctypes.c_ulong * _SET_WORDS)(sum(1 << number - 1 for number in FORWARDED))
    information = (ctypes.c_int * 32)()  # siginfo_t: si_signo, si_errno, si_code, 128 bytes in all
    time_out = (ctypes.c_long * 2)(int(seconds), int(seconds % 1 * 1_000_000_000))
    if _libc.sigtimedwait(numbers, information, time_out) <= 0:
        return None
    return information[0], information[2]


def hold_signals() -> frozenset[signal.Signals]:
    """Block the FORWARDED signals in this thread and those started from it, and return the mask before that.

    They stay blocked from before the output file is opened until profgen ends: no signal costs the trace, and one that
    arrives after it was written, which was meant for the workload, does not change the exit status.
    """
    return frozenset(signal.Signals(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED))


class Supervisor:
    """While entered, forward the FORWARDED signals that profgen receives, and that must be blocked, to the workload.

    A signal from the terminal (si_code > 0, sigaction(2)) has already reached the whole foreground process group and is
    not sent twice. When the workload's main process has ended and only descendants remain, a signal ends those. So does
    one that the main process could not take any more, because it was ending.

    ``live``: returns all processes of the workload. They are asked to end after ``duration`` seconds, or as soon as
    another thread sets ``stop``.
    """

    def __init__(
        self, live: Callable[[], Collection[int]], duration: float | None, stop: threading.Event | None = None
    ) -> None:
        self._live = live
        self._duration = duration
        self._stop = stop or threading.Event()
        self._main: int | None = None
        self._main_ended = False
        self.passed: set[int] = set()
        """The signals that the main process was sent. A tracer that sees it take one removes it here."""
        self._untaken = False
        self._finished = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self._finished.set()
        if self._thread is not None:
            assert self._thread.ident is not None
            signal.pthread_kill(self._thread.ident, signal.SIGUSR2)  # interrupts its sigtimedwait
            self._thread.join()

    def start(self, main: int) -> None:
        """Start, once the workload's main process exists."""
        self._main = main
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        self._thread.start()

    def main_ended(self, *, untaken: bool = False) -> None:
        """Note that the main process is gone (its pid may be reused). ``untaken``: it did not take each signal."""
        if untaken:
            self._untaken = True
        self._main_ended = True

    def _run(self) -> None:
        deadline = None if self._duration is None else time.monotonic() + self._duration
        kill_at: float | None = None
        while True:
            received = next_forwarded(_TICK_SECONDS if deadline is None else 0.05)
            if self._finished.is_set():
                return
            now = time.monotonic()
            if received is None:
                self._forget_taken()
            elif not self._main_takes(*received):
                self._untaken = True
            if self._untaken and kill_at is None:
                self._untaken = False
                deadline = now
            if self._stop.is_set() and (deadline is None or deadline > now):
                deadline = now
            if deadline is not None and now >= deadline and kill_at is None:
                kill_at = now + GRACE_SECONDS
                for pid in self._live():
                    _send(pid, signal.SIGTERM)
                    _send(pid, signal.SIGCONT)
            if kill_at is not None and now >= kill_at:
                for pid in self._live():
                    _send(pid, signal.SIGKILL)

    def _main_takes(self, number: int, code: int) -> bool:
        """Pass a signal on, and return whether the main process takes it.

        It may end, or be gone, a moment before main_ended() is called.
        """
        if self._main_ended or self._main is None:
            return False
        if code > 0:
            return True
        self.passed.add(number)
        return takes_signals(self._main) and _send(self._main, number)

    def _forget_taken(self) -> None:
        """Forget the signals that the main process has read instead of handling them (sigwait(3), signalfd(2))."""
        if self._main_ended or not self.passed:
            return
        with contextlib.suppress(OSError):
            status = process_status(str(self._main))
            pending = int(status["ShdPnd"][0], 16)
            # One that is ending drops what it is sent (kernel/signal.c prepare_signal). It does not sleep before that.
            if status["State"][0] in ("S", "D") and takes_signals(self._main or 0):
                self.passed -= {number for number in self.passed if not pending >> number - 1 & 1}


def _send(pid: int, number: int) -> bool:
    """Send a signal to one process, and return whether it exists."""
    if pid <= 0:  # kill(2) would take it for a group
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def note_survivors(count: int) -> None:
    """Say on a terminal why profgen is still running after the command itself has ended."""
    if sys.stderr.isatty():
        one = ("1 process outlives the command and is", "it")
        who, them = one if count == 1 else (f"{count} processes outlive the command and are", "them")
        print(f"profgen: {who} still recorded; Ctrl-C ends {them}", file=sys.stderr)
