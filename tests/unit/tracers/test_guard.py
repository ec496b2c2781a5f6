"""Nothing is left behind, however profgen ends."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from waiting import until

from profiler.tracers.guard import guarded


def test_the_end_of_the_block(tmp_path: Path) -> None:
    calls: list[int] = []
    with guarded(lambda: calls.append(os.getpid())):
        assert calls == []
    assert calls == [os.getpid()], "once, and here"


def test_an_error(tmp_path: Path) -> None:
    calls: list[int] = []

    def fail() -> None:
        with guarded(lambda: calls.append(1)):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert calls == [1]


def test_profgen_is_killed(tmp_path: Path) -> None:
    mark, ready = tmp_path / "cleared", tmp_path / "ready"
    pid = os.fork()
    if pid == 0:
        with guarded(mark.touch):
            ready.touch()
            signal.pause()
        os._exit(0)
    until(ready.exists, "the block is entered")
    assert not mark.exists()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    until(mark.exists, "the guard clears")


def test_the_guard_is_no_child_of_profgen() -> None:
    """profgen waits for all of its children, so a child that waits for profgen would hang it."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            with guarded(lambda: None):
                try:
                    os.waitpid(-1, os.WNOHANG)
                except ChildProcessError:
                    status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
