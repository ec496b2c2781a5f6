"""Search for a least set of entries that a test passes with: pure decisions on verdicts from a judge.

First whole groups are left out, then ever smaller parts of groups that cannot go as a whole (delta debugging, Zeller
and Hildebrandt, IEEE TSE 28(2), 2002). At the end each remaining entry is left out alone: removing one more breaks the
test, so the result is 1-minimal for any test, even if one entry can stand in for another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Generic, Protocol, TypeVar

Item = TypeVar("Item")
_Tried = TypeVar("_Tried", contravariant=True)


class Verdict(Enum):
    """The verdict of the runs with one set of entries. ``MIXED``: some passed and some failed."""

    PASSES = "passes"
    FAILS = "fails"
    MIXED = "mixed"


class Judge(Protocol[_Tried]):
    """Gives verdicts. An exception that it raises ends the search, which keeps its results so far."""

    def __call__(self, kept: Sequence[frozenset[_Tried]], *, passes: int, fails: int) -> Sequence[Verdict]:
        """Return for each set: PASSES after ``passes`` runs that passed, FAILS after ``fails`` runs that failed, MIXED
        after one of each.

        Earlier runs with the same set count. The sets may be tried at the same time.
        """
        ...


class Search(Generic[Item]):
    """A search. ``kept``: the smallest set so far that passed, at first all items. ``needed``: removing any of these
    alone from ``kept`` failed in each of ``repeat`` runs. ``flaky``: items that are kept because the test both passed
    and failed without them, each with the set of those runs. ``sure``: ``kept`` passed each time, also at the end.

    ``groups`` are tried in their order, each as a whole before its parts. ``width``: how many sets are judged at once.
    """

    def __init__(
        self, groups: Iterable[Sequence[Item]], judge: Judge[Item], *, repeat: int = 1, width: int = 1
    ) -> None:
        self.groups = [list(group) for group in groups]
        self.kept = frozenset(item for group in self.groups for item in group)
        self.needed: set[Item] = set()
        self.flaky: dict[Item, frozenset[Item]] = {}
        self.sure = False
        self._ahead = 0
        self._later = 0
        self._swept = False
        self._judge = judge
        self._repeat = repeat
        self._width = width

    def run(self) -> None:
        """Search to the end. The caller must know that all items together pass each time."""
        # One pass is enough to continue with a smaller set, and for most searches this suffices. If the result does not
        # pass each time, something that only some runs need was left out, and the search starts again with more passes
        # for each set; earlier runs count.
        for passes in sorted({1, self._repeat}):
            self._reduce(passes)
            # Checked before the long rest, which needs a set that passes each time.
            if (
                self._judge([self.kept], passes=self._repeat, fails=1)[0] is not Verdict.PASSES
                and passes < self._repeat
            ):
                continue
            for fails in sorted({1, self._repeat}):
                self._settle(passes, fails)
            # One pass more than for any set so far forces a run at the very end: if something outside the policy had
            # changed meanwhile, every later run would have failed, and its entries would have been called needed.
            self.sure = self._judge([self.kept], passes=self._repeat + 1, fails=1)[0] is Verdict.PASSES
            if self.sure:
                return

    def _reduce(self, passes: int) -> None:
        """Leave out groups and their parts."""
        self.kept = frozenset(item for group in self.groups for item in group)
        self.needed.clear()
        self._swept = False
        self._later = len(self.kept)
        for group in self.groups:
            self._later -= len(group)
            self._sweep(group, passes)
        self._swept = True

    def expected_runs(self) -> float:
        """Estimate how many runs are left, if untried entries are needed as often as those that were tried."""
        if self._swept:
            return self._ahead + (len(self.kept) - len(self.needed)) * (self._repeat - 1)
        ahead = self._ahead + self._later
        total = sum(map(len, self.groups))
        share = (len(self.kept) - ahead) / (total - ahead) if total > ahead else 0.5
        left = len(self.kept) - ahead * (1 - share)
        return ahead * (0.2 + share) + left * self._repeat

    def _sweep(self, group: Sequence[Item], passes: int) -> None:
        """Leave out parts of a group: twice as large after a part that could go, half as large after one that could
        not."""
        waiting = [item for item in group if item not in self.flaky]
        size = len(waiting)
        while waiting:
            self._ahead = len(waiting)
            size = min(size, len(waiting))
            parts = [waiting[at : at + size] for at in range(0, min(len(waiting), size * self._width), size)]
            passing, failing = self._try(parts, passes, fails=1)
            gone = self._drop(passing, passes)
            settled = gone | {part[0] for part in failing if len(part) == 1}
            waiting = [item for item in waiting if item not in settled]
            size = max(1, size // 2) if failing else size * 2

    def _settle(self, passes: int, fails: int) -> None:
        """Leave out each entry alone, until no single one can go."""
        waiting = deque(item for group in self.groups for item in group if item in self.kept and item not in self.flaky)
        found: list[Item] = []
        while waiting:
            self._ahead = len(waiting)
            parts = [[waiting.popleft()] for _ in range(min(self._width, len(waiting)))]
            passing, failing = self._try(parts, passes, fails)
            found += [part[0] for part in failing if part[0] not in self.flaky]
            if fails == self._repeat:
                self.needed.update(found)
            if passing:
                gone = self._drop(passing, passes)
                waiting.extendleft(part[0] for part in reversed(passing) if part[0] not in gone)
                # Results with more entries must be found again with fewer.
                waiting.extend(found)
                found.clear()
                self.needed.clear()

    def _try(self, parts: list[list[Item]], passes: int, fails: int) -> tuple[list[list[Item]], list[list[Item]]]:
        """Return the parts that can go, and those that cannot; a single item with both results is flaky."""
        passing: list[list[Item]] = []
        failing: list[list[Item]] = []
        verdicts = self._judge([self.kept.difference(part) for part in parts], passes=passes, fails=fails)
        for part, verdict in zip(parts, verdicts, strict=True):
            if verdict is Verdict.MIXED and len(part) == 1:
                self.flaky[part[0]] = self.kept.difference(part)
            (passing if verdict is Verdict.PASSES else failing).append(part)
        return passing, failing

    def _drop(self, parts: list[list[Item]], passes: int) -> set[Item]:
        """Leave out parts that can each go: together if that passes too, else only the first. Return what went."""
        gone = {item for part in parts for item in part}
        if len(parts) > 1 and self._judge([self.kept - gone], passes=passes, fails=1)[0] is not Verdict.PASSES:
            gone = set(parts[0])
        self.kept -= gone
        return gone
