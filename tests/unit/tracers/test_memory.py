"""The memory of other processes: strings, ends of mappings, programs that follow one another."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys

import pytest

from profiler.tracers import memory
from profiler.tracers.memory import forget_memory, hides_memory, read_memory, read_string


def test_own_memory() -> None:
    buffer = ctypes.create_string_buffer(b"x" * 5000 + b"\0after", 6000)
    address = ctypes.addressof(buffer)
    assert read_memory(os.getpid(), address, 3) == b"xxx"
    assert read_string(os.getpid(), address + 4000) == b"x" * 1000
    assert read_string(os.getpid(), address, 6000) == b"x" * 5000
    assert read_string(os.getpid(), address, 100) == b"x" * 100
    assert read_string(os.getpid(), address + 5000) == b""


@pytest.mark.parametrize("address", [0, 1, 1 << 47, 1 << 63, (1 << 64) - 1])
def test_unreadable_memory(address: int) -> None:
    assert not read_memory(os.getpid(), address, 8)
    assert read_string(os.getpid(), address) is None


def test_string_at_the_end_of_a_mapping() -> None:
    """A string that ends with its page is read; one that runs past it is not."""
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    size = os.sysconf("SC_PAGE_SIZE")
    base = libc.mmap(None, ctypes.c_size_t(2 * size), 3, 0x22, -1, ctypes.c_long(0))
    assert libc.munmap(ctypes.c_void_p(base + size), ctypes.c_size_t(size)) == 0
    ctypes.memset(base, ord("y"), size)
    assert read_string(os.getpid(), base + size - 10) is None
    ctypes.memset(base + size - 1, 0, 1)
    assert read_string(os.getpid(), base + size - 10) == b"y" * 9
    assert read_memory(os.getpid(), base + size - 10, 100) == b"y" * 9 + b"\0"


def test_memory_of_nobody() -> None:
    assert read_memory(2**22, 4096, 8) is None
    assert read_string(2**22, 4096) is None


SAYS = """
import ctypes, os, sys
text = ctypes.create_string_buffer(sys.argv[1].encode())
print(ctypes.addressof(text), flush=True)
if sys.stdin.readline() == "again\\n":
    os.execv(sys.executable, [sys.executable, "-c", sys.argv[2], "second", ""])
"""


def test_another_program() -> None:
    """The memory is that of the program that runs now, once the former one was forgotten or has ended."""
    argv = [sys.executable, "-c", SAYS, "first", SAYS]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            assert read_string(child.pid, int(child.stdout.readline())) == b"first"
            child.stdin.write("again\n")
            child.stdin.flush()
            assert read_string(child.pid, int(child.stdout.readline())) == b"second"
        finally:
            child.kill()
    assert read_memory(child.pid, 4096, 8) is None
    forget_memory(child.pid)
    forget_memory(child.pid)


def test_the_number_of_open_files_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_FILES_MAX", 3)
    monkeypatch.setattr(memory, "_files", {})
    buffer = ctypes.create_string_buffer(b"text")
    children = [_waiting() for _ in range(5)]
    try:
        for _ in range(2):
            for child in children:
                assert read_string(child, ctypes.addressof(buffer)) == b"text"
            assert len(memory._files) == 3
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            forget_memory(child)
    assert not memory._files


def _waiting() -> int:
    """Start a process with the same memory as this one."""
    child = os.fork()
    if child == 0:
        signal.pause()
    return child


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every memory")
def test_memory_that_is_hidden() -> None:
    child = os.fork()
    if child == 0:
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE
        signal.raise_signal(signal.SIGSTOP)
        os._exit(0)
    try:
        os.waitpid(child, os.WUNTRACED)
        assert hides_memory(child)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert not hides_memory(child)
