"""What a process is: its command line, working directory and ids."""

from __future__ import annotations

import os
from dataclasses import dataclass

from profiler.files import kernel_text

_CMDLINE_BYTES = 1 << 16


@dataclass(frozen=True)
class Process:
    """A process when it was looked at. Ids as in profgen's user namespace."""

    argv: tuple[str, ...]
    cwd: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    no_new_privs: bool


def look(pid: int) -> Process | None:
    """Return the process as /proc shows it (proc_pid_status(5)); None when it has ended or cannot be seen."""
    try:
        with kernel_text(f"/proc/{pid}/status") as file:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        with open(f"/proc/{pid}/cmdline", "rb") as raw:
            words = raw.read(_CMDLINE_BYTES).rstrip(b"\0").split(b"\0")
        cwd = os.readlink(f"/proc/{pid}/cwd")
        return Process(
            argv=tuple(os.fsdecode(word) for word in words),
            cwd=cwd,
            uid=int(status["Uid"].split()[0]),
            gid=int(status["Gid"].split()[0]),
            groups=tuple(sorted({int(word) for word in status.get("Groups", "").split()})),
            no_new_privs=status.get("NoNewPrivs", "0").strip() == "1",
        )
    except (OSError, KeyError, ValueError, IndexError):
        return None
