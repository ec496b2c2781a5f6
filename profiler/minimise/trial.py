"""Trying a test under a policy: several at a time, each in its own session, with a time limit, and nothing left of it
afterwards."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Generic, TypeVar

from profiler.enforce import beside
from profiler.enforce.base import Enforcer, Options, Outcome
from profiler.enforce.direct import end
from profiler.errors import InputError, ProfgenError
from profiler.policy.model import Policy
from profiler.tracers.base import GRACE_SECONDS, Workload
from profiler.tracers.launch import shell_status, spawn

Token = TypeVar("Token", bound=Hashable)

SLOT = "PROFGEN_SLOT"
"""Environment variable of the test: which of the runs at the same time it is, from 0."""
SAID_BYTES = 4096
"""Of the end of what a run printed."""
BEFORE_SECONDS = 60.0
"""For what comes before a run."""
LINE_MAX = 120
"""Characters of the last printed line that are told with a failure."""
TICK_SECONDS = 0.2
CLEAN_STOPS = frozenset({0, 128 + 15})
"""Statuses of a service that was asked to end (SIGTERM): it ends by itself, or has no handler."""


@dataclass(frozen=True)
class Test:
    """``command`` runs confined. The others do not: ``before`` runs to its end before each run; ``load`` runs beside
    the command, which is then a service that the load drives; ``check`` runs at the end. The run passes when all that
    there are end with status 0.
    """

    __test__ = False

    command: Workload
    load: Workload | None = None
    before: Workload | None = None
    check: Workload | None = None


class TestError(InputError):
    """The test is of no use. ``said``: the end of what it printed."""

    __test__ = False

    def __init__(self, message: str, said: str = "") -> None:
        super().__init__(message)
        self.said = said


@dataclass(frozen=True)
class Result:
    """``status``: of the command as a shell shows it, None when it was killed. ``why``: in words. ``said``: the end of
    what was printed."""

    passed: bool
    seconds: float
    status: int | None
    why: str
    said: str


class _Unconfined:
    """An enforcer that enforces nothing, for the load and what comes before."""

    name = "none"

    def unavailable(self, policy: Policy, options: Options) -> str | None:
        return None

    def run(self, policy: Policy, workload: Workload, options: Options) -> Outcome:
        child = spawn(workload)
        child.release()
        failure = child.exec_failure()
        _, status = os.waitpid(child.pid, 0)
        end(os.getpid())
        if failure is not None:
            raise failure
        return Outcome(shell_status(status))


@dataclass
class _Trial(Generic[Token]):
    token: Token
    policy: Policy
    slot: int
    begun: float
    deadline: float
    output: int
    end: int
    """The pipe that everything prints to: our end, and theirs."""
    runs: contextlib.ExitStack
    before: beside.Beside | None = None
    command: beside.Beside | None = None
    load: beside.Beside | None = None
    check: beside.Beside | None = None
    stopping: bool = False
    said: bytearray = field(default_factory=bytearray)


def _how(status: int) -> str:
    """``status 1``, ``SIGSEGV``."""
    with contextlib.suppress(ValueError):
        return signal.Signals(status - 128).name
    return f"status {status}"


def _text(said: bytearray) -> str:
    return said.decode("utf-8", "replace")


class Pool(Generic[Token]):
    """At most ``width`` trials at once. ``seconds``: how long one may take. ``stops``: statuses of a service that count
    as a clean end.

    Use as a context manager: at its end no trial is left.
    """

    def __init__(self, enforcer: Enforcer, options: Options, test: Test, width: int) -> None:
        self.seconds = 60.0
        self.stops = CLEAN_STOPS
        self._enforcer = enforcer
        self._options = options
        self._test = test
        self._width = width
        self._trials: list[_Trial[Token]] = []

    def __enter__(self) -> Pool[Token]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for trial in self._trials:
            self._close(trial)
        self._trials.clear()

    @property
    def free(self) -> int:
        """How many more trials can be started now."""
        return self._width - len(self._trials)

    @property
    def busy(self) -> list[Token]:
        """Tokens of the trials under way."""
        return [trial.token for trial in self._trials]

    def start(self, token: Token, policy: Policy) -> None:
        """Begin a trial. Only while there is one free."""
        slot = min(set(range(self._width)) - {trial.slot for trial in self._trials})
        output, end = os.pipe()
        os.set_blocking(output, False)
        runs = contextlib.ExitStack()
        runs.callback(os.close, output)
        runs.callback(os.close, end)
        now = time.monotonic()
        trial = _Trial(token, policy, slot, now, now + max(self.seconds, BEFORE_SECONDS), output, end, runs)
        self._trials.append(trial)
        if self._test.before is not None:
            trial.before = self._beside(trial, _Unconfined(), self._test.before)
        else:
            self._begin(trial)

    def _beside(self, trial: _Trial[Token], enforcer: Enforcer, workload: Workload) -> beside.Beside:
        env = {**workload.env, SLOT: str(trial.slot)}
        run = beside.start(enforcer, trial.policy, replace(workload, env=env), self._options, trial.end)
        return trial.runs.enter_context(run)

    def _begin(self, trial: _Trial[Token]) -> None:
        trial.begun = time.monotonic()
        trial.deadline = trial.begun + self.seconds
        trial.command = self._beside(trial, self._enforcer, self._test.command)
        if self._test.load is not None:
            trial.load = self._beside(trial, _Unconfined(), self._test.load)

    def wait(self, tick: Callable[[], None] = lambda: None) -> list[tuple[Token, Result]]:
        """The trials that have ended, at least one of those under way. ``tick`` is called a few times a second."""
        tick()
        while self._trials:
            ended = []
            for trial in list(self._trials):
                result = self._look(trial)
                if result is not None:
                    self._trials.remove(trial)
                    self._close(trial)
                    ended.append((trial.token, result))
            if ended:
                return ended
            fds = [fd for trial in self._trials for fd in self._awaited(trial)]
            due = min(trial.deadline for trial in self._trials) - time.monotonic()
            if not select.select(fds, [], [], max(0.0, min(due, TICK_SECONDS)))[0]:
                tick()
        return []

    def _awaited(self, trial: _Trial[Token]) -> list[int]:
        if trial.command is None:
            runs = [trial.before]
        elif trial.check is not None:
            runs = [trial.check]
        else:
            runs = [trial.command, None if trial.stopping else trial.load]
        return [trial.output, *(run.fd for run in runs if run is not None)]

    def _close(self, trial: _Trial[Token]) -> None:
        trial.runs.close()

    def _look(self, trial: _Trial[Token]) -> Result | None:
        self._listen(trial)
        try:
            verdict = self._verdict(trial)
        except TestError:
            raise
        except ProfgenError as error:
            verdict = (False, None, str(error))
        if verdict is None and time.monotonic() >= trial.deadline:
            if trial.command is None:
                raise TestError(f"what --before runs is not done after {BEFORE_SECONDS:.3g} s", _text(trial.said))
            verdict = (False, None, f"not done after {self.seconds:.3g} s")
        if verdict is None:
            return None
        seconds = time.monotonic() - trial.begun
        self._listen(trial)
        passed, status, why = verdict
        said = _text(trial.said)
        last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "")
        if not passed and last:
            why += f": {last[-LINE_MAX:]}"
        return Result(passed, seconds, status, why, said)

    def _listen(self, trial: _Trial[Token]) -> None:
        with contextlib.suppress(BlockingIOError):
            for _ in range(16):  # some print without end
                trial.said += os.read(trial.output, 1 << 16)
                del trial.said[:-SAID_BYTES]

    def _verdict(self, trial: _Trial[Token]) -> tuple[bool, int | None, str] | None:
        """Whether it passed, the command's status, and why; None while it is not known."""
        if trial.command is None:
            assert trial.before is not None
            prepared = trial.before.wait(0)
            if prepared is None:
                return None
            if prepared.status != 0:
                raise TestError(f"what --before runs ended with status {prepared.status}", _text(trial.said))
            self._begin(trial)
        assert trial.command is not None
        ended = trial.command.wait(0)
        if ended is not None:
            if trial.load is not None and not trial.stopping:
                return False, ended.status, f"{_how(ended.status)} before the load was over"
            well = ended.status == 0 if trial.load is None else ended.status in self.stops
            if not well or self._test.check is None:
                return well, ended.status, _how(ended.status) + (" after SIGTERM" if trial.stopping else "")
            trial.check = trial.check or self._beside(trial, _Unconfined(), self._test.check)
            checked = trial.check.wait(0)
            return (
                None if checked is None else (checked.status == 0, ended.status, f"the check: {_how(checked.status)}")
            )
        if trial.load is None or trial.stopping:
            return None
        loaded = trial.load.wait(0)
        if loaded is None:
            return None
        if loaded.status != 0:
            return False, None, f"the load: {_how(loaded.status)}"
        trial.command.terminate()
        trial.stopping = True
        trial.deadline = max(trial.deadline, time.monotonic() + GRACE_SECONDS)
        return None
