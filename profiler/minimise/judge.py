"""Verdicts from runs: each set of entries is tried as often as the search asks, and what was tried before is not tried
again."""

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
"""A run that takes so many times as long as those that passed (their median), and at least LEAST_SECONDS, hangs."""


CONTROL_EVERY = 20
"""Runs that fail one after the other before it is tried whether the test still passes with everything."""
CONTROLS = 3
"""Runs of that, of which one must pass."""


class TestBroken(TestError):
    """The test now fails with everything: what failed since it last passed says nothing."""


class OutOfRuns(Exception):
    """As many runs were made as were allowed."""


@dataclass
class Tally:
    """Runs with one set."""

    passed: int = 0
    failed: int = 0
    why: str = ""
    """How the first that failed did so."""

    def verdict(self, passes: int, fails: int) -> Verdict | None:
        """None while more runs are wanted."""
        if self.passed and self.failed:
            return Verdict.MIXED
        if self.passed >= passes:
            return Verdict.PASSES
        return Verdict.FAILS if self.failed >= fails else None

    def wanted(self, passes: int, fails: int) -> int:
        """How many more runs may be of use."""
        return (fails if self.failed else passes) - self.passed - self.failed


class Judge:
    """Tries sets of entries. ``policy_of``: what to enforce for a set. ``limit``: seconds for a run; None: from how
    long the others took.

    ``made`` counts the runs, those of the journal too, which took ``seconds`` together. ``first_failure``: of this
    process's runs. ``whole``: once it is known that the test passes with all, what is tried when many runs fail one
    after the other.
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
        """What is known of a set."""
        return self._tallies.setdefault(self._key(kept), Tally())

    def __call__(self, kept: Sequence[frozenset[Entry]], *, passes: int, fails: int) -> list[Verdict]:
        """See search.py. Raises OutOfRuns."""
        policies = {self._key(one): one for one in kept}
        while wanted := [
            (key, tally) for key in policies if (tally := self._known(key)).verdict(passes, fails) is None
        ]:
            under_way = Counter(self._pool.busy)
            # The first run of each set before the second of any: one run may settle a set.
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
        """Raises TestBroken, with the failures since the last pass forgotten. They tell of the test, not of a set, and
        are in no tally."""
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
            f"the test now fails with the whole policy too ({result.why}): a run that failed may have left "
            "something behind;"
            " put things in order before each run with --before COMMAND",
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
                # How a service ends when it is well; ending otherwise is a fault from now on.
                self._pool.stops = frozenset({run.status})
        else:
            tally.failed += 1
            tally.why = tally.why or run.why
        self.made += 1
        self.seconds += run.seconds
