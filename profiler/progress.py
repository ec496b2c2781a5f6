"""Say what takes long, so that no wait is silent."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

SECONDS = 2.0
"""How long a wait is silent."""

_tell: Callable[[str], None] | None = None


def tell_with(tell: Callable[[str], None] | None) -> None:
    """Choose what prints a line; it is called from other threads. None: nothing is said, as at the start."""
    global _tell
    _tell = tell


@contextlib.contextmanager
def busy(what: str) -> Iterator[None]:
    """Say ``what`` once if the block takes longer than SECONDS. No thread is left after it."""
    if _tell is None:
        yield
        return
    timer = threading.Timer(SECONDS, _tell, (what,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
