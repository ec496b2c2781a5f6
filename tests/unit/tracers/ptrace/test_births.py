"""Births: whichever of the two reports comes first, or never, each child is known once and none stays stopped."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.tracers.ptrace.births import Births

STOP = 0x80057F


class Family:
    """Stands for Threads: the process of each thread that lives, and the parent of that."""

    def __init__(self, kin: dict[int, tuple[int, int]]) -> None:
        self.known = kin

    def kin(self, tid: int) -> tuple[int, int] | None:
        return self.known.get(tid)

    def group(self, tid: int) -> int:
        return self.known[tid][0]

    def parent(self, tid: int) -> int:
        return self.known[tid][1]


def made(**kin: tuple[int, int]) -> Births:
    return Births(cast(Any, Family({int(name[1:]): each for name, each in kin.items()})))


def test_announced_first() -> None:
    known = made()
    assert known.announced(11, 3) is None
    assert known.held() == [11]
    assert known.stopped(11, STOP) == 3
    assert known.held() == []


def test_stopped_first() -> None:
    known = made(t10=(10, 1), t11=(11, 10))
    assert known.stopped(11, STOP) is None
    assert known.held() == [11]
    assert known.orphans([10]) == {}
    assert known.announced(11, 3) == STOP
    assert known.held() == []


@pytest.mark.parametrize(
    ("child", "maker"),
    [
        pytest.param((11, 10), (10, 1), id="process"),
        pytest.param((10, 1), (10, 1), id="thread"),
        pytest.param((11, 1), (10, 1), id="sibling"),
    ],
)
def test_orphan(child: tuple[int, int], maker: tuple[int, int]) -> None:
    """A child waits for every thread that may announce it, and for no other."""
    known = made(t20=child, t21=maker, t30=(30, 29))
    known.stopped(20, STOP)
    assert known.orphans([30, 21]) == {}
    assert known.orphans([30]) == {20: STOP}
    assert known.held() == []


def test_killed_while_it_waits() -> None:
    """Its end is about to be reported."""
    known = made()
    known.stopped(11, STOP)
    assert known.orphans([]) == {}
    known.ended(11)
    assert known.held() == []


@pytest.mark.parametrize("stops", [False, True])
def test_ended_before_it_was_announced(stops: bool) -> None:
    """No signal may go to its number, which another process may have next."""
    known = made()
    if stops:
        known.stopped(11, STOP)
    known.ended(11)
    assert known.announced(11, 3) is None
    assert known.held() == []


def test_announced_and_ended_at_once() -> None:
    known = made()
    known.announced(11, 3)
    known.ended(11)
    assert known.held() == []
    known.announced(11, 4)  # another thread with the same number
    assert known.stopped(11, STOP) == 4


@given(st.lists(st.sampled_from(["announced", "stopped", "ended", "adopted"]), max_size=12))
def test_a_child_is_held_or_known(events: list[str]) -> None:
    """In any order of reports, a stopped child goes on when it is announced or adopted, and is held until then."""
    known = made(t11=(11, 10))
    waits = False
    for event in events:
        if event == "announced":
            assert (known.announced(11, 3) == STOP) is waits
            waits = False
        elif event == "stopped" and not waits:
            waits = known.stopped(11, STOP) is None
        elif event == "ended":
            known.ended(11)
            waits = False
        elif event == "adopted":
            assert known.orphans([]) == ({11: STOP} if waits else {})
            waits = False
        assert (11 in known.early) is waits
