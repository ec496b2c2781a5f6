"""Clean up even when profgen is killed, which no handler of profgen can do: in a process of its own."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Iterator

from profiler.tracers.launch import FORWARDED

_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37
_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def guarded(clear: Callable[[], None]) -> Iterator[None]:
    """Call ``clear`` at the end of the block; if profgen is killed in it, a waiting process calls it.

    That process is not a child of profgen, which waits for all of its children.
    """
    read, write = os.pipe()
    reaper = ctypes.c_int(0)
    _libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(reaper))
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(0))
    try:
        pid = os.fork()
        if pid == 0:
            try:
                if os.fork() == 0:
                    _watch(read, clear)
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
    finally:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(reaper.value))
    os.close(read)
    try:
        yield
    finally:
        try:
            clear()
        finally:
            with contextlib.suppress(BrokenPipeError):  # that process was killed
                os.write(write, b"x")
            os.close(write)


def _watch(read: int, clear: Callable[[], None]) -> None:
    for low, high in ((2, read), (read, os.sysconf("SC_OPEN_MAX"))):
        os.closerange(low + 1, high)
    # In a new session no signal of the terminal reaches it.
    os.setsid()
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    if os.read(read, 1) == b"":
        clear()
