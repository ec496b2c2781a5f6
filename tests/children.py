"""Work in a forked child, for what changes a whole process: its user, its signals."""

from __future__ import annotations

import os
import select
import signal
import traceback
from collections.abc import Callable

from waiting import HANG_SECONDS


def in_child(work: Callable[[], None]) -> None:
    """Run the function in a forked child; its failure is the calling test's."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os.write(write, b"ok")
        except BaseException:
            os.write(write, traceback.format_exc().encode()[-4000:])
        finally:
            os._exit(0)
    os.close(write)
    ready, _, _ = select.select([read], [], [], HANG_SECONDS)
    if not ready:
        os.kill(pid, signal.SIGKILL)
    said = os.read(read, 5000).decode() if ready else "it hangs"
    os.close(read)
    os.waitpid(pid, 0)
    assert said == "ok", said
