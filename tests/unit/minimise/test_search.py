"""The search against tests of every sort: plain, with alternatives, with no sense at all, and flaky."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.minimise.search import Search, Verdict

Test = Callable[[frozenset[int], int], bool]
"""Whether the n-th run with a set passes."""


class Runs:
    """A judge over a test in memory; counts the runs it makes."""

    def __init__(self, test: Test) -> None:
        self.test = test
        self.seen: dict[frozenset[int], list[bool]] = {}
        self.count = 0

    def __call__(self, kept: Sequence[frozenset[int]], *, passes: int, fails: int) -> list[Verdict]:
        return [self._one(each, passes, fails) for each in kept]

    def _one(self, kept: frozenset[int], passes: int, fails: int) -> Verdict:
        runs = self.seen.setdefault(kept, [])
        while True:
            if True in runs and False in runs:
                return Verdict.MIXED
            if runs.count(True) >= passes:
                return Verdict.PASSES
            if runs.count(False) >= fails:
                return Verdict.FAILS
            runs.append(self.test(kept, len(runs)))
            self.count += 1


def searched(groups: Sequence[Sequence[int]], test: Test, repeat: int = 1, width: int = 1) -> tuple[Search[int], Runs]:
    judge = Runs(test)
    everything = frozenset(item for group in groups for item in group)
    assert judge([everything], passes=repeat, fails=1) == [Verdict.PASSES]
    search = Search(groups, judge, repeat=repeat, width=width)
    search.run()
    return search, judge


def in_groups(size: int, cuts: list[int]) -> list[list[int]]:
    edges = [0, *sorted(cut % (size + 1) for cut in cuts), size]
    return [list(range(low, high)) for low, high in pairwise(edges)]


sizes = st.integers(0, 60)
cuts = st.lists(st.integers(0, 1000), max_size=4)
widths = st.integers(1, 5)
repeats = st.integers(1, 3)


@given(sizes, cuts, st.randoms(use_true_random=False), st.floats(0, 1), repeats, widths)
def test_what_is_needed_is_found_and_nothing_else(
    size: int, cuts: list[int], chance: random.Random, share: float, repeat: int, width: int
) -> None:
    wanted = frozenset(item for item in range(size) if chance.random() < share)
    search, _ = searched(in_groups(size, cuts), lambda kept, _: wanted <= kept, repeat, width)
    assert search.kept == search.needed == wanted
    assert not search.flaky


@given(sizes, cuts, st.randoms(use_true_random=False), repeats, widths)
def test_no_entry_that_is_left_can_go(
    size: int, cuts: list[int], chance: random.Random, repeat: int, width: int
) -> None:
    """A test that passes or fails as it likes, only not differently with the same set: the result passes, and with one
    less it fails."""
    everything = frozenset(range(size))
    salt = chance.random()

    def passes(kept: frozenset[int], _: int = 0) -> bool:
        return kept == everything or random.Random(f"{salt}{sorted(kept)}").random() < 0.3

    search, _ = searched(in_groups(size, cuts), passes, repeat, width)
    assert passes(search.kept)
    assert search.needed == search.kept
    assert not any(passes(search.kept - {item}) for item in search.kept)


@given(st.integers(1, 30), st.randoms(use_true_random=False), widths)
def test_alternatives(size: int, chance: random.Random, width: int) -> None:
    """It passes with any one of several sets: one of them is left, whole."""
    ways = [frozenset(item for item in range(size) if chance.random() < 0.3) for _ in range(3)]
    search, _ = searched([range(size)], lambda kept, _: any(way <= kept for way in ways), 2, width)
    assert search.kept in ways


@given(sizes, st.randoms(use_true_random=False), st.integers(2, 4), widths)
def test_flaky_tests_cost_no_needed_entry(size: int, chance: random.Random, repeat: int, width: int) -> None:
    """Runs that fail for no reason leave entries in, never out; what is called needed failed each time."""
    wanted = frozenset(item for item in range(size) if chance.random() < 0.4)
    everything = frozenset(range(size))

    def passes(kept: frozenset[int], _: int) -> bool:
        return kept == everything or (wanted <= kept and chance.random() < 0.9)

    search, judge = searched([range(size)], passes, repeat, width)
    assert wanted <= search.kept
    assert wanted <= search.needed
    assert not search.needed & search.flaky.keys()
    for kept in search.flaky.values():
        assert set(judge.seen[kept]) == {True, False}
    for item in search.needed:
        assert judge.seen[search.kept - {item}] == [False] * repeat
    assert search.sure == all(judge.seen[search.kept])
    assert len(judge.seen[search.kept]) > repeat or not search.sure


def test_an_entry_that_only_some_runs_need_is_kept() -> None:
    """Each second run without it fails: one pass must not be taken for an answer."""
    search, _ = searched([range(20)], lambda kept, run: {3, 7} <= kept and (5 in kept or run % 2 == 0), repeat=2)
    assert search.kept == {3, 5, 7}
    assert search.flaky.keys() == {5}
    assert search.needed == {3, 7}


class Enough(Exception):
    pass


@pytest.mark.parametrize("runs", range(1, 60, 4))
def test_ended_early_everything_found_stays(runs: int) -> None:
    wanted = frozenset(range(0, 40, 4))
    judge = Runs(lambda kept, _: wanted <= kept)

    def limited(kept: Sequence[frozenset[int]], *, passes: int, fails: int) -> list[Verdict]:
        if judge.count >= runs:
            raise Enough
        return judge(kept, passes=passes, fails=fails)

    search = Search([range(20), range(20, 40)], limited, repeat=1)
    with pytest.raises(Enough):
        search.run()
    assert wanted <= search.kept
    assert search.needed <= wanted


def test_spare_groups_go_at_once() -> None:
    """Three groups of which the first and the last are spare altogether: two runs for those, and the rest for the
    middle."""
    search, judge = searched(
        [range(100), range(100, 110), range(110, 200)], lambda kept, _: set(range(100, 110)) <= kept
    )
    assert search.kept == set(range(100, 110))
    assert judge.count < 1 + 2 + 4 * 10


@pytest.mark.parametrize(("size", "needed"), [(200, 5), (200, 50), (200, 150)])
def test_cost(size: int, needed: int) -> None:
    """Never more than three runs for an entry, and few where few are needed."""
    wanted = frozenset(random.Random(1).sample(range(size), needed))
    _, judge = searched([range(size)], lambda kept, _: wanted <= kept)
    assert judge.count <= min(3 * size, 15 * needed)
