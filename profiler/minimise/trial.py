"""Run a test under a policy: several runs at a time, each with its own session and a time limit, and leave nothing
behind."""

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

from profiler.denials.describe import described
from profiler.enforce import background
from profiler.enforce.base import Enforcer, Options, Outcome
from profiler.enforce.direct import end
from profiler.errors import InputError, ProfgenError
from profiler.policy.model import Policy
from profiler.tracers.base import GRACE_SECONDS, Workload
from profiler.tracers.launch import shell_status, spawn
from profiler.wording import duration

Token = TypeVar("Token", bound=Hashable)

SLOT = "PROFGEN_SLOT"
"""Environment variable of the test: its number among the runs at the same time, from 0."""
SAID_BYTES = 4096
"""Bytes that are kept of the end of a run's output."""
BEFORE_SECONDS = 60.0
"""Time limit for the command of --before."""
LINE_MAX = 120
"""Characters of the last printed line that are shown with a failure."""
TICK_SECONDS = 0.2
CLEAN_STOPS = frozenset({0, 128 + 15})
"""Statuses of a service after SIGTERM: it has a handler and ends by itself, or has none."""


@dataclass(frozen=True)
class Test:
    """A test. ``command`` runs confined, the others not: ``before`` runs to its end before each run; ``load`` runs next
    to the command, which is then a service that it drives; ``check`` runs at the end. The run passes when all of them
    end with status 0."""

    __test__ = False

    command: Workload
    load: Workload | None = None
    before: Workload | None = None
    check: Workload | None = None


class TestError(InputError):
    """The test cannot be used. ``said``: the end of its output."""

    __test__ = False

    def __init__(self, message: str, said: str = "") -> None:
        super().__init__(message)
        self.said = said


@dataclass(frozen=True)
class Result:
    """The result of a run. ``status``: of the command as a shell shows it, None when it was killed. ``why``: how it
    ended, in words. ``said``: the end of its output."""

    passed: bool
    seconds: float
    status: int | None
    why: str
    said: str


class _Unconfined:
    """An enforcer that enforces nothing, for the commands next to the test."""

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
    """``output`` and ``end``: both ends of the pipe that everything prints to."""
    runs: contextlib.ExitStack
    before: background.Background | None = None
    command: background.Background | None = None
    load: background.Background | None = None
    check: background.Background | None = None
    stopping: bool = False
    said: bytearray = field(default_factory=bytearray)


def _how(status: int) -> str:
    """Return ``status 1`` or ``SIGSEGV``."""
    with contextlib.suppress(ValueError):
        return signal.Signals(status - 128).name
    return f"status {status}"


def _text(said: bytearray) -> str:
    return said.decode("utf-8", "replace")


class Pool(Generic[Token]):
    """Runs trials, at most ``width`` at once. ``seconds``: time limit of one. ``stops``: statuses of a service that
    count as a clean end. Use as a context manager: leaving it ends all trials."""

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
        """How many trials can be started now."""
        return self._width - len(self._trials)

    @property
    def busy(self) -> list[Token]:
        """Tokens of the running trials."""
        return [trial.token for trial in self._trials]

    def start(self, token: Token, policy: Policy) -> None:
        """Start a trial; at least one must be free."""
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
            trial.before = self._start_aside(trial, _Unconfined(), self._test.before)
        else:
            self._begin(trial)

    def _start_aside(self, trial: _Trial[Token], enforcer: Enforcer, workload: Workload) -> background.Background:
        env = {**workload.env, SLOT: str(trial.slot)}
        run = background.start(enforcer, trial.policy, replace(workload, env=env), self._options, trial.end)
        return trial.runs.enter_context(run)

    def _begin(self, trial: _Trial[Token]) -> None:
        trial.begun = time.monotonic()
        trial.deadline = trial.begun + self.seconds
        trial.command = self._start_aside(trial, self._enforcer, self._test.command)
        if self._test.load is not None:
            trial.load = self._start_aside(trial, _Unconfined(), self._test.load)

    def wait(self, tick: Callable[[], None] = lambda: None) -> list[tuple[Token, Result]]:
        """Wait until a trial has ended, and return all that have. ``tick`` is called a few times a second."""
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
                late = f"the command of --before did not end within {duration(BEFORE_SECONDS)}"
                raise TestError(late, _text(trial.said))
            verdict = (False, None, f"it did not end within {duration(self.seconds)}")
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
            for _ in range(16):  # some tests print endlessly
                trial.said += os.read(trial.output, 1 << 16)
                del trial.said[:-SAID_BYTES]

    def _verdict(self, trial: _Trial[Token]) -> tuple[bool, int | None, str] | None:
        """Return whether it passed, the command's status, and why; None while that is not known."""
        if trial.command is None:
            assert trial.before is not None
            prepared = trial.before.wait(0)
            if prepared is None:
                return None
            if prepared.status != 0:
                raise TestError(f"the command of --before ended with status {prepared.status}", _text(trial.said))
            self._begin(trial)
        assert trial.command is not None
        ended = trial.command.wait(0)
        if ended is not None:
            if trial.load is not None and not trial.stopping:
                return False, ended.status, f"{_how(ended.status)} before the load ended"
            passed = next((denial for denial in ended.denials if not denial.refused), None)
            if passed is not None:
                return False, ended.status, f"it used what nothing refused: {described(passed)}"
            well = ended.status == 0 if trial.load is None else ended.status in self.stops
            if not well or self._test.check is None:
                return well, ended.status, _how(ended.status) + (" after SIGTERM" if trial.stopping else "")
            trial.check = trial.check or self._start_aside(trial, _Unconfined(), self._test.check)
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
