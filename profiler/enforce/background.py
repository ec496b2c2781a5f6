"""A confined run in the background, next to others: started, asked to end, waited for, and never left behind.

A process of its own, the keeper, runs the enforcer and reaps all that the workload leaves. It watches a pipe to
profgen: when that is closed, by profgen or by its end, the keeper kills every descendant.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import select
import signal
import threading
import time
from dataclasses import dataclass

from profiler.enforce.base import Enforcer, Options, Outcome
from profiler.enforce.direct import end, kill
from profiler.errors import ProfgenError
from profiler.policy.model import Policy
from profiler.tracers.base import Workload
from profiler.tracers.launch import FORWARDED

_PR_SET_CHILD_SUBREAPER = 36
_END_SECONDS = 5.0


@dataclass
class Background:
    """A run that was started. Use as a context manager: leaving it ends every process of the run."""

    pid: int
    _pidfd: int
    _lifeline: int
    _result: int
    _outcome: Outcome | BaseException | None = None

    def __enter__(self) -> Background:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def fd(self) -> int:
        """A descriptor that poll(2) reports as readable once the run has ended."""
        return self._pidfd

    def wait(self, seconds: float | None = None) -> Outcome | None:
        """Return the outcome, or None when the run has not ended after ``seconds``. Raises what the enforcer raised."""
        if self._outcome is None:
            if not select.select([self._pidfd], [], [], seconds)[0]:
                return None
            with open(self._result, "rb", closefd=False) as file:
                data = file.read()
            try:
                self._outcome = pickle.loads(data)
            except Exception:
                self._outcome = ProfgenError(
                    "the confined run ended without a result: the process that ran it was killed"
                )
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome

    def terminate(self) -> None:
        """Send SIGTERM to the workload's main process."""
        signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)

    def close(self) -> None:
        """Kill what still runs, and wait until it has ended."""
        if self._lifeline < 0:
            return
        os.close(self._lifeline)
        self._lifeline = -1
        os.waitpid(self.pid, 0)
        os.close(self._pidfd)
        os.close(self._result)


def start(enforcer: Enforcer, policy: Policy, workload: Workload, options: Options, output: int) -> Background:
    """Start a run. ``output``: the descriptor for its standard output and error; its input is empty.

    It runs in a new session, so no signal of the terminal reaches it.
    """
    lifeline_read, lifeline = os.pipe()
    # A file, not a pipe: it is read only after the run.
    result = os.memfd_create("profgen-outcome")
    pid = os.fork()
    if pid == 0:
        try:
            # A copy of another run's lifeline would keep that run from ending.
            kept = sorted({2, output, lifeline_read, result})
            for low, high in zip(kept, [*kept[1:], os.sysconf("SC_OPEN_MAX")], strict=True):
                os.closerange(low + 1, high)
            _keep(enforcer, policy, workload, options, output, lifeline_read, result)
        finally:
            os._exit(0)
    os.close(lifeline_read)
    return Background(pid, os.pidfd_open(pid), lifeline, result)


def _keep(
    enforcer: Enforcer, policy: Policy, workload: Workload, options: Options, output: int, lifeline: int, result: int
) -> None:
    os.setsid()
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1))
    null = os.open(os.devnull, os.O_RDONLY)
    for fd, target in ((null, 0), (output, 1), (output, 2)):
        os.dup2(fd, target)

    def watch() -> None:
        os.read(lifeline, 1)
        # They are not waited for here: the enforcer's thread may be their tracer, and would miss a stop that this
        # thread is told about.
        deadline = time.monotonic() + _END_SECONDS
        while kill(os.getpid()) and time.monotonic() < deadline:
            time.sleep(0.005)
        os._exit(0)  # which kills traced processes too (PTRACE_O_EXITKILL)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
    outcome: Outcome | BaseException
    try:
        outcome = enforcer.run(policy, workload, options)
    except ProfgenError as error:
        outcome = error
    except BaseException as error:
        outcome = ProfgenError(f"internal error: {type(error).__name__}: {error}")
    os.pwrite(result, pickle.dumps(outcome), 0)
    end(os.getpid())  # the other thread, which may be in the middle of this, ends with the process
