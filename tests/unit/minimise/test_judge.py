"""Verdicts from runs, and the journal that keeps them."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.errors import InputError, OutputError
from profiler.minimise.entries import Entry
from profiler.minimise.journal import Journal, Run
from profiler.minimise.judge import CONTROL_EVERY, CONTROLS, Judge, OutOfRuns, TestBroken
from profiler.minimise.search import Search, Verdict
from profiler.minimise.trial import Pool, Result
from profiler.policy.model import Allowed, Policy, Workload

NAMES = ("accept", "bind", "chdir", "dup", "fsync", "getcwd", "ioctl", "kill", "listen", "mkdir")
ENTRIES = [Entry("syscalls.observed", name) for name in NAMES]


def policy_of(kept: frozenset[Entry]) -> Policy:
    rows = tuple(Allowed("observed", "x86_64", entry.item, ("seen",)) for entry in sorted(kept))
    return Policy(Workload(("app",), 0, 1, "ptrace", "6.18"), ("x86_64",), True, "none", rows)


class InMemory:
    """What Judge wants of a Pool: runs end in any order."""

    def __init__(
        self, passes: Callable[[frozenset[str], int], bool], width: int = 1, chance: random.Random | None = None
    ) -> None:
        self.seconds, self.stops = 60.0, frozenset({0, 143})
        self.passes, self.width, self.chance = passes, width, chance or random.Random(0)
        self.under_way: list[tuple[str, Policy]] = []
        self.most = 0
        self.runs = 0

    @property
    def free(self) -> int:
        return self.width - len(self.under_way)

    @property
    def busy(self) -> list[str]:
        return [token for token, _ in self.under_way]

    def start(self, token: str, policy: Policy) -> None:
        assert self.free
        self.under_way.append((token, policy))
        self.most = max(self.most, len(self.under_way))

    def wait(self, tick: Callable[[], None]) -> list[tuple[str, Result]]:
        tick()
        token, policy = self.under_way.pop(self.chance.randrange(len(self.under_way)))
        self.runs += 1
        passed = self.passes(frozenset(row.name for row in policy.syscalls), self.runs)
        return [(token, Result(passed, 0.5, 0 if passed else 1, "status", "said"))]


def judge_of(pool: InMemory, journal: Journal, max_runs: int = 1000, limit: float | None = None) -> Judge:
    return Judge(policy_of, cast("Pool[str]", pool), journal, max_runs=max_runs, limit=limit)


@pytest.fixture
def journal(tmp_path: Path) -> Any:
    with Journal(tmp_path / "journal", "d") as opened:
        yield opened


@given(st.randoms(use_true_random=False), st.integers(1, 4), st.integers(1, 3))
def test_as_many_runs_as_asked_for_and_no_more(
    tmp_path_factory: pytest.TempPathFactory, chance: random.Random, width: int, repeat: int
) -> None:
    wanted = {"bind", "kill"}
    pool = InMemory(lambda kept, _: wanted <= kept, width, chance)
    with Journal(tmp_path_factory.mktemp("j") / "journal", "d") as journal:
        judge = judge_of(pool, journal)
        everything = frozenset(ENTRIES)
        assert judge([everything], passes=repeat, fails=1) == [Verdict.PASSES]
        assert pool.runs == repeat
        search = Search([ENTRIES], judge, repeat=repeat, width=width)
        search.run()
        assert {entry.item for entry in search.needed} == {entry.item for entry in search.kept} == wanted
        assert search.sure
        assert pool.most <= width
        assert judge.made == pool.runs
        for entry in search.needed:
            assert judge.tally(search.kept - {entry}).failed == repeat
            assert judge.tally(search.kept - {entry}).why == "status"


def test_a_search_goes_on_where_it_ended(tmp_path: Path) -> None:
    """With any number of runs allowed at a time: in the end as many runs as at once, and the same result."""
    path = tmp_path / "journal"

    def attempt(max_runs: int) -> tuple[Search[Entry], InMemory, bool]:
        pool = InMemory(lambda kept, _: {"dup", "listen"} <= kept)
        with Journal(path, "d") as journal:
            judge = judge_of(pool, journal, max_runs)
            search = Search([ENTRIES], judge, repeat=2)
            try:
                judge([frozenset(ENTRIES)], passes=2, fails=1)
                search.run()
            except OutOfRuns:
                return search, pool, False
        return search, pool, True

    whole, pool, finished = attempt(1000)
    assert finished
    at_once = pool.runs
    path.unlink()
    total, allowed = 0, 0
    while not finished or not total:
        allowed += 7
        search, pool, finished = attempt(allowed)
        assert pool.runs <= 7
        total += pool.runs
    assert total == at_once
    assert search.kept == whole.kept
    assert search.needed == whole.needed


def test_how_long_a_run_may_take(journal: Journal) -> None:
    pool = InMemory(lambda kept, _: True)
    judge_of(pool, journal)([frozenset(ENTRIES)], passes=1, fails=1)
    assert pool.seconds == 2.5
    assert pool.stops == {0}
    other = InMemory(lambda kept, _: True)
    judge_of(other, journal, limit=1.5)([frozenset(ENTRIES[1:])], passes=1, fails=1)
    assert other.seconds == 1.5


def test_a_test_that_breaks_is_noticed(tmp_path: Path) -> None:
    """From some run on all fail: what failed since the last pass does not give a verdict, and is not in the journal."""
    path = tmp_path / "journal"
    pool = InMemory(lambda kept, run: run < 4)
    with Journal(path, "d") as journal:
        judge = judge_of(pool, journal)
        judge([frozenset(ENTRIES)], passes=3, fails=1)
        judge.whole = frozenset(ENTRIES)
        with pytest.raises(TestBroken, match="--before"):
            Search([ENTRIES], judge, repeat=3).run()
        assert CONTROL_EVERY + CONTROLS <= pool.runs - 3 < CONTROL_EVERY + CONTROLS + 3
    with Journal(path, "d") as journal:
        assert [run.passed for run in journal.runs] == [True] * 3


def test_many_failures_are_no_fault_while_the_whole_passes(journal: Journal) -> None:
    pool = InMemory(lambda kept, _: len(kept) == len(NAMES))
    judge = judge_of(pool, journal)
    judge.whole = frozenset(ENTRIES)
    search = Search([ENTRIES], judge, repeat=9)
    search.run()
    assert search.needed == frozenset(ENTRIES)


RUN = Run("0" * 64, True, 0.25, 0, "status 0")


def test_the_journal_keeps_runs(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with Journal(path, "d") as journal:
        assert not journal.runs
        journal.add(RUN)
        journal.add(Run("1" * 64, False, 9.0, None, "naïve\n\x1b[31m"))
        with pytest.raises(InputError, match="another profgen"):
            Journal(path, "d")
    with Journal(path, "d") as journal:
        assert journal.runs == [RUN, Run("1" * 64, False, 9.0, None, "naïve\n\x1b[31m")]
        journal.remove()
    assert not path.exists()


@given(st.integers(0, 400))
def test_a_journal_cut_off_anywhere_goes_on(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("j") / "journal"
    with Journal(path, "d") as journal:
        for _ in range(2):
            journal.add(RUN)
    data = path.read_bytes()
    path.write_bytes(data[:cut])
    whole = data[:cut].count(b"\n")
    with Journal(path, "d") as journal:
        assert journal.runs == [RUN] * max(0, whole - 1)
        journal.add(RUN)
    with Journal(path, "d") as journal:
        assert journal.runs == [RUN] * (max(0, whole - 1) + 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"something else\n", "not a journal"),
        (b"\xff\xfe\n", "not a journal"),
        (b"[" * 100_000 + b"\n", "not a journal"),
        (b'{"schema": "profgen.minimise/1", "search": "other"}\n', "another policy, test or options"),
        (b'{"schema": "profgen.minimise/1", "search": "d"}\n{"key": 1}\n', "line 2 is not a run"),
        (b'{"schema": "profgen.minimise/1", "search": "d"}\n\n', "line 2 is not a run"),
    ],
)
def test_what_is_no_journal_of_this_search(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "journal"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        Journal(path, "d")
    assert path.read_bytes() == content, "a file of somebody else's stays as it is"


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("j") / "journal"
    path.write_bytes(b'{"schema": "profgen.minimise/1", "search": "d"}\n' + data)
    with contextlib.suppress(InputError), Journal(path, "d") as journal:
        assert all(isinstance(run, Run) for run in journal.runs)


def test_no_journal_through_a_link_or_into_a_device(tmp_path: Path) -> None:
    target = tmp_path / "target"
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(OutputError, match="-o"):
        Journal(tmp_path / "link", "d")
    assert not target.exists()
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(InputError, match="not a journal"):
        Journal(tmp_path / "fifo", "d")
