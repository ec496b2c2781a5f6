"""Whether threads and processes still run, as /proc shows it."""

from __future__ import annotations

import contextlib
import os

from profiler.files import process_stat

_ENDED = b"ZX"
"""States of proc_pid_stat(5): a zombie, which has ended and whose status was not collected; dead."""
_PF_EXITING, _PF_KTHREAD = 0x00000004, 0x00200000  # include/linux/sched.h


def thread_lives(thread: int | str) -> bool:
    """Whether a thread has not ended. ``thread``: its number, or PID/task/TID."""
    try:
        return process_stat(thread)[0] not in _ENDED
    except OSError:
        return False


def living_thread(pid: int) -> int | None:
    """Return a thread of a process that has not ended, the first one if possible; None when the process has ended.

    The first thread may end before the others. It then stays as a zombie until they have ended too.
    """
    if thread_lives(pid):
        return pid
    with contextlib.suppress(OSError):
        for tid in os.listdir(f"/proc/{pid}/task"):
            if thread_lives(f"{pid}/task/{tid}"):
                return int(tid)
    return None


def takes_signals(pid: int) -> bool:
    """Return whether a process can still take a signal. One that is ending cannot, although kill(2) succeeds."""
    thread = living_thread(pid)
    try:
        return thread is not None and not int(process_stat(f"{pid}/task/{thread}")[6]) & _PF_EXITING
    except OSError:
        return False


def why_not_watchable(pid: int) -> str | None:
    """Return why there is nothing to watch under this number, None when it is a process that lives."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            process = next((int(line.split()[1]) for line in file if line.startswith(b"Tgid:")), pid)
        flags = int(process_stat(pid)[6])
    except OSError:
        return f"there is no process {pid}"
    if process != pid:
        return f"{pid} is a thread of the process {process}; record the process: --pid {process}"
    if flags & _PF_KTHREAD:
        return f"{pid} is a thread of the kernel, which makes no system calls"
    if living_thread(pid) is None:
        return f"the process {pid} has ended already (it is a zombie: its parent has not collected its status)"
    return None
