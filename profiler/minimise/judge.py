"""Turn runs into verdicts: try each set of entries as often as the search needs, and count earlier runs."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from profiler.minimise.entries import Entry, fingerprint
from profiler.minimise.journal import Journal, Run
from profiler.minimise.search import Verdict
from profiler.minimise.trial import Pool, Result, TestError
from profiler.policy.model import Policy

LEAST_SECONDS = 2.0
TIMES_LONGER = 5.0
"""A run hangs if it takes this many times the median of those that passed, and at least LEAST_SECONDS."""

CONTROL_EVERY = 20
"""After this many failures in a row, the test is tried with everything again."""
CONTROLS = 3
"""Number of such runs; one must pass."""


class TestBroken(TestError):
    """The test now fails with everything, so failures since its last pass mean nothing."""


class OutOfRuns(Exception):
    """The limit of runs is reached."""


@dataclass
class Tally:
    """Runs with one set of entries."""

    passed: int = 0
    failed: int = 0
    why: str = ""
    """How the first failing run failed."""

    def verdict(self, passes: int, fails: int) -> Verdict | None:
        """Return the verdict, None while more runs are needed."""
        if self.passed and self.failed:
            return Verdict.MIXED
        if self.passed >= passes:
            return Verdict.PASSES
        return Verdict.FAILS if self.failed >= fails else None

    def wanted(self, passes: int, fails: int) -> int:
        """Return how many more runs may be needed."""
        return (fails if self.failed else passes) - self.passed - self.failed


class Judge:
    """Tries sets of entries. ``policy_of``: the policy of a set. ``limit``: seconds for a run; None: from the time that
    others took.

    ``made`` and ``seconds``: number and total time of the runs, including those of the journal. ``first_failure``: of
    this process's runs. ``whole``: the set with which the test is known to pass, tried when many runs fail in a row.
    """

    def __init__(
        self,
        policy_of: Callable[[frozenset[Entry]], Policy],
        pool: Pool[str],
        journal: Journal,
        *,
        max_runs: int,
        limit: float | None,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self.made = 0
        self.seconds = 0.0
        self.first_failure: Result | None = None
        self.whole: frozenset[Entry] | None = None
        self._policy_of = policy_of
        self._pool = pool
        self._journal = journal
        self._max_runs = max_runs
        self._limit = limit
        self._tick = tick
        self._tallies: dict[str, Tally] = {}
        self._keys: dict[frozenset[Entry], str] = {}
        self._took: list[float] = []
        self._failing = 0
        if limit is not None:
            pool.seconds = limit
        for run in journal.runs:
            self._count(run)

    def tally(self, kept: frozenset[Entry]) -> Tally:
        """Return the runs so far with a set."""
        return self._tallies.setdefault(self._key(kept), Tally())

    def __call__(self, kept: Sequence[frozenset[Entry]], *, passes: int, fails: int) -> list[Verdict]:
        """See search.Judge. Raises OutOfRuns and TestBroken."""
        policies = {self._key(one): one for one in kept}
        while wanted := [
            (key, tally) for key in policies if (tally := self._known(key)).verdict(passes, fails) is None
        ]:
            under_way = Counter(self._pool.busy)
            # Each set gets its first run before any gets its second: one run may settle a set.
            for nth in range(max(tally.wanted(passes, fails) for _, tally in wanted)):
                for key, tally in wanted:
                    allowed = self._pool.free and self.made + under_way.total() < self._max_runs
                    if allowed and under_way[key] <= nth < tally.wanted(passes, fails):
                        self._pool.start(key, self._policy_of(policies[key]))
                        under_way[key] += 1
            if not self._pool.busy:
                raise OutOfRuns
            self._take()
        while self._pool.busy:
            self._take()
        if self._failing >= CONTROL_EVERY:
            self._control()
        return [self._known(self._key(one)).verdict(passes, fails) or Verdict.MIXED for one in kept]

    def _key(self, kept: frozenset[Entry]) -> str:
        if kept not in self._keys:
            self._keys[kept] = fingerprint(self._policy_of(kept))
        return self._keys[kept]

    def _known(self, key: str) -> Tally:
        return self._tallies.setdefault(key, Tally())

    def _take(self) -> None:
        for key, result in self._pool.wait(self._tick):
            run = Run(key, result.passed, round(result.seconds, 3), result.status, result.why)
            self._journal.add(run)
            self._count(run)
            if result.passed:
                self._failing = 0
            else:
                self._failing += 1
                self.first_failure = self.first_failure or result

    def _control(self) -> None:
        """Raise TestBroken when the test fails with everything, and forget the failures since the last pass. These runs
        are not counted for a set."""
        if self.whole is None:
            return
        for _ in range(CONTROLS):
            self._pool.start("", self._policy_of(self.whole))
            ((_, result),) = self._pool.wait(self._tick)
            self.made += 1
            self.seconds += result.seconds
            if result.passed:
                self._failing = 0
                return
        self._journal.forget_failures()
        raise TestBroken(
            f"the test now fails with the whole policy too ({result.why}): a failed run may have left something "
            "behind; clean up before each run with --before COMMAND",
            result.said,
        )

    def _count(self, run: Run) -> None:
        tally = self._known(run.key)
        if run.passed:
            tally.passed += 1
            self._took.append(run.seconds)
            if self._limit is None:
                self._pool.seconds = max(LEAST_SECONDS, TIMES_LONGER * statistics.median(self._took))
            if run.status is not None:
                # From now on a service must end with the status of its first clean end.
                self._pool.stops = frozenset({run.status})
        else:
            tally.failed += 1
            tally.why = tally.why or run.why
        self.made += 1
        self.seconds += run.seconds
