"""A live line: one line at the bottom of a terminal, drawn over and over.

It is for a terminal that nothing else uses meanwhile. What profgen itself prints goes above it (:func:`set_aside`).
rich.live is not used: it takes the width from COLUMNS, and does not expect that a narrower terminal wraps what it drew.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator

from profiler.quoting.text import fitted, printable

SECONDS = 0.2
"""The time between two draws."""

_ERASE = "\r\x1b[J"
"""Erase from the start of the line to the end of the screen. The cursor rests at the start of the live line, so this
also erases the rows into which the line was wrapped when the terminal was made narrower."""
_NO_WRAP, _WRAP = "\x1b[?7l", "\x1b[?7h"
"""DECAWM off and on (console_codes(4)): a terminal that is narrower than it just said cuts the line."""

_lock = threading.RLock()
_lines: list[LiveLine] = []
"""The lines that are shown; at most one."""


class LiveLine:
    """A line on a terminal, by default that of standard error. Nothing is drawn while profgen is in the background,
    where writing may stop it (SIGTTOU), nor where the terminal does not tell its width."""

    def __init__(self, fd: int = 2) -> None:
        self._fd = os.dup(fd)  # bcc redirects descriptor 2 while it compiles
        self._drawn = ""
        _lines.append(self)

    def draw(self, text: str) -> None:
        """Show a text in place of the one before."""
        with _lock, contextlib.suppress(OSError):  # the terminal is gone
            row = fitted(f"profgen: {printable(text)}", os.get_terminal_size(self._fd).columns)
            if row != self._drawn and self._write(f"\r{_NO_WRAP}{row}\x1b[J{_WRAP}\r"):
                self._drawn = row

    def erase(self) -> None:
        """Show nothing, until the next draw."""
        with _lock, contextlib.suppress(OSError):
            if self._drawn and self._write(_ERASE):
                self._drawn = ""

    def close(self) -> None:
        """Erase the line for good."""
        with _lock:
            if self in _lines:
                self.erase()
                _lines.remove(self)
                os.close(self._fd)

    def _write(self, text: str) -> bool:
        """Write if profgen is in the foreground, and return whether it is. Raises OSError."""
        if os.tcgetpgrp(self._fd) != os.getpgrp():
            return False
        os.write(self._fd, text.encode())
        return True


@contextlib.contextmanager
def set_aside() -> Iterator[None]:
    """Erase the live line, and draw none while the block prints."""
    with _lock:
        for line in _lines:
            line.erase()
        yield


@contextlib.contextmanager
def live_line(text: Callable[[], str | None], shown: bool) -> Iterator[None]:
    """Show a live line while the block runs. ``text``: what it says, None for no line; called from another thread."""
    if not shown:
        yield
        return
    finished = threading.Event()
    line = LiveLine()

    def draw() -> None:
        while not finished.wait(SECONDS):
            if (now := text()) is None:
                line.erase()
            else:
                line.draw(now)

    thread = threading.Thread(target=draw, name="live line", daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()
        line.close()
