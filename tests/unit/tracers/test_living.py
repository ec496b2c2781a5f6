"""What still runs, with real processes."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator

import pytest
from waiting import until

from profiler.tracers.living import living_thread, takes_signals, thread_lives, why_not_watchable

LEADER_ENDS = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(600,)).start()
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[__import__("os").uname().machine], 0)
"""
"""The first thread ends alone: exit(2) instead of exit_group(2)."""


@pytest.fixture
def zombie() -> Iterator[int]:
    """A process that has ended, and whose status nobody has collected."""
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.close()
    until(lambda: not thread_lives(process.pid), "it ends")
    yield process.pid
    process.wait()


def test_zombie(zombie: int) -> None:
    assert living_thread(zombie) is None
    assert not takes_signals(zombie)
    assert "has ended already" in (why_not_watchable(zombie) or "")


def test_gone() -> None:
    assert not thread_lives(2**22 + 1)
    assert living_thread(2**22 + 1) is None
    assert not takes_signals(2**22 + 1)
    assert "no process" in (why_not_watchable(2**22 + 1) or "")


def test_itself() -> None:
    assert thread_lives(os.getpid())
    assert living_thread(os.getpid()) == os.getpid()
    assert takes_signals(os.getpid())
    assert why_not_watchable(os.getpid()) is None


def test_first_thread_has_ended() -> None:
    """Such a process lives, although /proc calls it a zombie."""
    process = subprocess.Popen(["/usr/bin/python3", "-ISc", LEADER_ENDS])
    try:
        until(lambda: not thread_lives(process.pid), "its first thread ends")
        thread = living_thread(process.pid)
        assert thread not in (None, process.pid)
        assert takes_signals(process.pid)
        assert why_not_watchable(process.pid) is None
    finally:
        process.kill()
        process.wait()


def test_thread_of_a_process() -> None:
    ends = threading.Event()
    other = threading.Thread(target=ends.wait)
    other.start()
    try:
        assert f"--pid {os.getpid()}" in (why_not_watchable(other.native_id or 0) or "")
    finally:
        ends.set()
        other.join()


@pytest.mark.skipif(not os.path.exists("/proc/2/comm"), reason="no thread of the kernel is in sight")
def test_thread_of_the_kernel() -> None:
    with open("/proc/2/comm") as file:
        if file.read() != "kthreadd\n":
            pytest.skip("no thread of the kernel is in sight")
    assert "kernel" in (why_not_watchable(2) or "")
