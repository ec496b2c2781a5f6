"""How often something is done that takes longer the more was seen."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

_SHARE = 20
"""It takes at most one part in so many of a processor's time."""


class Pace:
    """When to do it next. ``least``: seconds between two times."""

    def __init__(self, least: float) -> None:
        self.least = least
        self.next = 0.0

    def due(self) -> bool:
        """Return whether it is time."""
        return time.monotonic() >= self.next

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Measure how long it takes this thread, and set the next time. What other programs take of a busy processor
        counts once only."""
        began, used = time.monotonic(), time.thread_time()
        yield
        now = time.monotonic()
        self.next = began + max(self.least, _SHARE * (time.thread_time() - used), 2 * (now - began))
