"""How long the program at every call's end is attached, and how often the maps are read."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest

from profiler.errors import TracerError
from profiler.tracers.ebpf import attaching
from profiler.tracers.ebpf.attaching import LEARNING_SECONDS, Pace, ResultHook


class Kernel:
    """One program, attached at first."""

    def __init__(self, refuses: bool = False) -> None:
        self.here, self.refuses, self.tried = True, refuses, 0

    def attached(self, _: str) -> bool:
        return self.here

    def missed(self, *_: str) -> int:
        return 3

    def detach(self, _: str) -> None:
        self.here = False

    def attach_tracepoint(self, *_: str) -> None:
        self.tried += 1
        if self.refuses:
            raise TracerError("refused")
        self.here = True


OLD = int((LEARNING_SECONDS + 1) * 1e9)


def test_results_are_learnt_while_something_is_new() -> None:
    kernel = Kernel()
    hook = ResultHook(cast(Any, kernel), always=False)
    for age, here, missed in ((0, True, 0), (OLD, False, 3), (OLD, False, 3), (0, True, 3), (OLD, False, 6)):
        hook.follow(time.monotonic_ns() - age)
        assert (kernel.here, hook.missed) == (here, missed)
    assert not hook.failed


def test_what_other_things_need_stays() -> None:
    kernel = Kernel()
    ResultHook(cast(Any, kernel), always=True).follow(time.monotonic_ns() - OLD)
    assert kernel.here


def test_a_refusal_is_told_and_not_repeated() -> None:
    kernel = Kernel(refuses=True)
    hook = ResultHook(cast(Any, kernel), always=False)
    hook.follow(time.monotonic_ns() - OLD)
    for _ in range(3):
        hook.follow(time.monotonic_ns())
    assert hook.failed
    assert kernel.tried == 1


@pytest.mark.parametrize(("took", "expected"), [(0.0, 0.25), (0.01, 0.25), (1.0, 20.0)])
def test_pace(took: float, expected: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow reading is repeated late, so that it takes a twentieth of a processor at most."""
    now = [100.0]
    monkeypatch.setattr(attaching.time, "monotonic", lambda: now[0])
    pace = Pace(0.25)
    assert pace.due()
    with pace.turn():
        now[0] += took
    assert pace.next == pytest.approx(100.0 + expected)
    now[0] = pace.next - 0.001
    assert not pace.due()
    now[0] = pace.next
    assert pace.due()
