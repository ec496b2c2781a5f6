"""Programs that tests write and then execute.

A process that another thread forks at the wrong moment inherits the descriptor that a program is written through, and
executing the program fails with ETXTBSY until that process executes something itself. So another process writes it.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from waiting import HANG_SECONDS


def write_program(path: Path, content: str | bytes, mode: int = 0o755) -> Path:
    """Write an executable file, new or in place of an older one; return its path."""
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    command = ["/bin/sh", "-c", 'rm -f -- "$0" && cat >"$0" && chmod "$1" -- "$0"', os.fspath(path), f"{mode:o}"]
    subprocess.run(command, input=data, env={"PATH": "/usr/bin:/bin"}, check=True, timeout=HANG_SECONDS)
    return path


def copy_program(source: str | os.PathLike[str], path: Path, mode: int = 0o755) -> Path:
    """Copy a program; return the copy's path."""
    return write_program(path, Path(source).read_bytes(), mode)
