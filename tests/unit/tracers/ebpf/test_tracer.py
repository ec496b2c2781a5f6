"""When a recording is over."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any, cast

import pytest

from profiler.tracers.ebpf import tracer
from profiler.tracers.ebpf.reader import STATS


@pytest.mark.parametrize(
    ("lists", "gone"),
    [([[1 << 22], [1 << 22]], True), ([[1 << 22], [os.getpid()]], False), ([[os.getpid()]], False), ([[]], False)],
)
def test_all_are_gone(lists: list[list[int]], gone: bool) -> None:
    """Also of a chain of processes, each of which starts the next and ends while profgen looks."""
    looks = iter(lists)
    run = SimpleNamespace(reader=SimpleNamespace(stats=lambda: [0] * len(STATS)), _live=lambda: next(looks))
    assert tracer._Run._all_gone(cast(Any, run)) is gone
