"""The order in which the watcher takes what the kernel tells, with a ring that plays a script in place of the
kernel's."""

from __future__ import annotations

import ctypes
import os
import time
from types import SimpleNamespace
from typing import Any

import pytest

from profiler.tracers.ebpf.reader import STATS, Reader
from profiler.tracers.ebpf.shared import constant, structure
from profiler.tracers.ebpf.watcher import EbpfWatcher

MADE, BEGAN, ENDED = (constant(f"NEWS_{name}") for name in ("MADE", "BEGAN", "ENDED"))


class Kernel:
    """One session that has ended. Each time the rings are read there is what the next step has."""

    def __init__(self, watcher: EbpfWatcher, *steps: list[int]) -> None:
        self.watcher, self.steps = watcher, list(steps)

    def consume(self, *_: str) -> None:
        for what in self.steps.pop(0) if self.steps else ():
            told = structure("news")(what=what, session=1, tgid=os.getpid(), time=time.monotonic_ns(), name=b"ab" * 32)
            self.watcher._on_event(ctypes.addressof(told), ctypes.sizeof(told))

    def table(self, _: str) -> Any:
        return self

    def session(self, number: int) -> Any:
        return self[number]

    def __getitem__(self, _: Any) -> Any:
        return SimpleNamespace(shared=2, ended=1, stats=[0] * (len(STATS) + 2))


@pytest.mark.parametrize(
    ("steps", "freed"),
    [
        # what another processor is still writing holds up what comes after it
        ([[MADE], [], [BEGAN, ENDED]], False),
        ([[MADE], [BEGAN]], False),
        ([[MADE]], True),
    ],
    ids=["news that is late", "no news of the end", "no program"],
)
def test_an_end_before_its_news(steps: list[list[int]], freed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = EbpfWatcher()
    let_go: list[str] = []
    monkeypatch.setattr(Reader, "read_calls", lambda *_: None)
    monkeypatch.setattr(watcher, "_free", lambda live: let_go.append(watcher._live.pop(live.number).session.subject))
    watcher._loaded = Kernel(watcher, *steps)  # type: ignore[assignment]
    for turn in range(9):
        watcher._pace.next = float("inf") if turn % 3 else 0.0
        watcher._work()
    assert bool(let_go) == freed
    assert [session.ended for session in watcher.sessions()] == ([] if freed else [True])
