"""The order in which stopped threads are served, with a kernel that tells of the newest first."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any, cast

import pytest

from profiler.tracers.ptrace.births import Births
from profiler.tracers.ptrace.tracer import LOOK_STOPS, Run, Tracee

STOP, END = 0x57F, 0


class Kernel:
    """Stands for waitpid(2): threads with a pending status, the greatest number first. None left: ECHILD."""

    def __init__(self, *pending: tuple[int, int]) -> None:
        self.pending = list(pending)
        self.alive = {tid for tid, _ in pending}

    def waitpid(self, pid: int, options: int) -> tuple[int, int]:
        if not self.alive:
            raise ChildProcessError
        if not self.pending:
            assert options & os.WNOHANG, "the loop waits although nothing can happen"
            return 0, 0
        self.pending.sort(key=lambda each: each[0])  # of one thread, in the order in which they came
        newest = max(tid for tid, _ in self.pending)
        found = next(each for each in self.pending if each[0] == newest)
        self.pending.remove(found)
        if found[1] == END:
            self.alive.discard(found[0])
        return found


def served(kernel: Kernel, monkeypatch: pytest.MonkeyPatch, *tracees: int) -> Iterator[tuple[int, int]]:
    run = object.__new__(Run)
    run.tracees = {tid: Tracee(0) for tid in tracees}
    monkeypatch.setattr(os, "waitpid", kernel.waitpid)
    return run._stops()


def test_each_has_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads stop again as soon as they go on, and all have had their turn before one has the next."""
    kernel = Kernel(*((tid, STOP) for tid in range(1, 6)))
    turns: Counter[int] = Counter()
    for tid, _ in served(kernel, monkeypatch, *range(1, 6)):
        turns[tid] += 1
        if sum(turns.values()) == 100:
            break
        kernel.pending.append((tid, STOP))
    assert set(turns.values()) == {20}


def test_a_thread_that_is_killed_in_its_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stop is over: only what came after it is served."""
    kernel = Kernel((1, STOP), (2, STOP), (2, END))
    stops = served(kernel, monkeypatch, 1, 2)
    assert [next(stops), next(stops)] == [(2, END), (1, STOP)]


def test_a_number_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new thread has the number of one that has ended: both are served."""
    kernel = Kernel((2, END), (2, STOP), (1, STOP))
    kernel.alive = {1, 2, 3}
    stops = served(kernel, monkeypatch, 1, 2, 3)
    assert [next(stops) for _ in range(3)] == [(2, END), (2, STOP), (1, STOP)]


def test_one_thread_needs_no_further_call(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel((1, STOP))
    asked = []
    waitpid = kernel.waitpid
    monkeypatch.setattr(kernel, "waitpid", lambda pid, options: (asked.append(options), waitpid(pid, options))[1])
    assert next(served(kernel, monkeypatch, 1)) == (1, STOP)
    assert len(asked) == 1


def test_a_thread_that_is_busy_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are looked for now and then, and one that wakes is served soon."""
    kernel = Kernel((2, STOP))
    kernel.alive = {1, 2}
    looks = []
    waitpid = kernel.waitpid
    monkeypatch.setattr(
        kernel, "waitpid", lambda pid, options: (looks.append(options & os.WNOHANG), waitpid(pid, options))[1]
    )
    stops = served(kernel, monkeypatch, 1, 2)
    for _ in range(100):
        assert next(stops) == (2, STOP)
        kernel.pending.append((2, STOP))
    assert 0 < sum(map(bool, looks)) <= 100 // LOOK_STOPS + 4
    kernel.pending.append((1, STOP))
    soon = []
    for _ in range(LOOK_STOPS + 2):
        soon.append(next(stops)[0])
        kernel.pending.append((soon[-1], STOP))
    assert 1 in soon
    assert soon[-2:] in ([1, 2], [2, 1]), "from then on they take turns"


def test_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel((1, END), (2, END))
    assert list(served(kernel, monkeypatch, 1, 2)) == [(2, END), (1, END)]


def test_signals_reach_every_thread() -> None:
    """A child that is stopped until its maker announces it, and one that was announced and has not stopped yet, too."""
    run = object.__new__(Run)
    run.tracees = {1: Tracee(0)}
    run.births = Births(cast(Any, None))
    run.births.stopped(2, STOP)
    run.births.announced(3, 0)
    assert run._held() == [1, 2, 3]
