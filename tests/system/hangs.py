"""What can be told of processes that hang, for the message of the test that fails."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

_STATUS = ("Name:", "State:", "Tgid:", "PPid:", "TracerPid:", "SigPnd:", "ShdPnd:", "SigBlk:")
"""Lines of proc_pid_status(5) that are told."""


def told(pids: Iterable[int]) -> str:
    """Return for each thread of these processes: what it is, the call and the kernel function that it waits in, its
    proc_pid_stat(5). Files that cannot be read are left out."""
    return "\n".join(_thread(Path(f"/proc/{pid}/task/{tid}")) for pid in pids for tid in _threads(pid))


def _threads(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        return os.listdir(f"/proc/{pid}/task")
    return []


def _thread(task: Path) -> str:
    status = [line for line in _text(task / "status").splitlines() if line.startswith(_STATUS)]
    facts = {"status": " ".join(status), **{name: _text(task / name) for name in ("syscall", "wchan", "stat")}}
    return "\n  ".join([f"{task.name}:", *(f"{name}: {text}" for name, text in facts.items())])


def _text(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(errors="replace").strip().replace("\t", " ")
    return "unreadable"
