"""What /proc shows of a process."""

from __future__ import annotations

import os
import subprocess
import sys

from waiting import until

from profiler.tracers.process import look


def test_look() -> None:
    found = look(os.getpid())
    assert found is not None
    assert (found.uid, found.gid, found.cwd) == (os.getuid(), os.getgid(), os.getcwd())
    assert found.groups == tuple(sorted(set(os.getgroups())))
    assert look(1 << 22 | 1) is None


def test_arguments_are_any_bytes() -> None:
    words = ["-c", "import time; time.sleep(60)", "", "\udcff\n\x1b[2J", "x" * 5000]
    with subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL) as process:
        try:
            until(lambda: (found := look(process.pid)) is not None and found.argv[1:] == tuple(words), "its arguments")
        finally:
            process.kill()
