"""A terminal of its own for the workload, and what the workload prints there: kept aside, and shown on request.

The workload still writes to a terminal, so it behaves as it does without the view. Nobody types there.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import select
import signal
import termios
import threading
from collections import deque
from pathlib import Path

from profiler.files import as_invoking_user, open_directory
from profiler.quoting.text import printable
from profiler.wording import cause

KEPT_BYTES = 250_000
"""How much of the end of the output can be shown."""
FILE_BYTES = 64_000_000
"""How much of the start of the output is in the file."""

_TIOCSIG = 0x40045436
"""Send a signal to the foreground process group of a pseudo-terminal (include/uapi/asm-generic/ioctls.h)."""
_READ_BYTES = 1 << 16
_TAB = 8
_SEQUENCES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]?"  # CSI
    r"|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC, DCS, SOS, PM, APC
    r"|[ -/]*[0-~]?)"
)
"""Control sequences of a terminal (ECMA-48)."""


class Aside:
    """The terminal of a workload, and its output. ``path``: the file that gets a copy, None for no file."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.total = 0
        """How many bytes came."""
        self.failure = ""
        """Why the file does not have them."""
        self.master, self.slave = os.openpty()
        attributes = termios.tcgetattr(self.slave)
        attributes[1] &= ~termios.OPOST  # the file gets what the workload wrote
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(self.slave, termios.TCSANOW, attributes)
        self._file = -1
        self._kept: deque[bytes] = deque()
        self._kept_bytes = 0
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def resize(self, rows: int, columns: int) -> None:
        """Give the terminal a size; the workload gets SIGWINCH."""
        with contextlib.suppress(OSError):
            termios.tcsetwinsize(self.master, (rows, columns))

    def take_over(self) -> None:
        """Make it the terminal of this process, in a session of its own, in place of the one that it has. Standard
        input becomes empty. A stream that leads elsewhere stays."""
        os.close(self.master)
        os.setsid()
        fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)
        streams = [fd for fd in range(3) if os.isatty(fd)]
        null = os.open(os.devnull, os.O_RDONLY)
        for fd in streams:
            os.dup2(self.slave if fd else null, fd)
        os.close(null)
        os.close(self.slave)

    def start(self) -> None:
        """Begin to read what is written, in a thread, once the other process has taken over."""
        os.close(self.slave)
        self._thread = threading.Thread(target=self._run, name="output", daemon=True)
        self._thread.start()

    def interrupt(self, number: signal.Signals) -> bool:
        """Send SIGINT or SIGQUIT as the keys of a terminal do, and return whether anybody could get it."""
        try:
            fcntl.ioctl(self.master, _TIOCSIG, number)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Read what is left and stop. Nobody writes any more."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        os.close(self.master)
        if self._file >= 0:
            os.close(self._file)

    def lines(self) -> list[str]:
        """Return the end of the output as lines that can be printed."""
        with self._lock:
            data = b"".join(self._kept)
        return plain(data.decode("utf-8", "surrogateescape"))

    def _run(self) -> None:
        while True:
            over = self._over.is_set()
            if not select.select([self.master], [], [], 0 if over else 0.1)[0]:
                if over:
                    return
                continue
            try:
                data = os.read(self.master, _READ_BYTES)
            except OSError as error:
                if error.errno != errno.EIO:  # nobody has it open
                    raise
                if over:
                    return
                self._over.wait(0.1)
                continue
            self._take(data)

    def _take(self, data: bytes) -> None:
        with self._lock:
            self._kept.append(data)
            self._kept_bytes += len(data)
            while self._kept_bytes - len(self._kept[0]) >= KEPT_BYTES:
                self._kept_bytes -= len(self._kept.popleft())
        room = max(0, FILE_BYTES - self.total)
        self.total += len(data)
        if self.path is not None and not self.failure and room:
            try:
                if self._file < 0:
                    self._file = _opened(self.path)
                os.write(self._file, data[:room])
            except OSError as error:
                self.failure = cause(error)


def _opened(path: Path) -> int:
    """Make a new file in place of an older one, without following a link there. Raises OSError."""
    with as_invoking_user():
        directory = open_directory(path.parent)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path.name, dir_fd=directory)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            return os.open(path.name, flags, 0o666, dir_fd=directory)
        finally:
            os.close(directory)


def plain(text: str) -> list[str]:
    """Return what a terminal would show of a text, roughly: lines without control sequences. What a carriage return
    overwrites is left out."""
    lines = _SEQUENCES.sub("", text).split("\n")
    shown = [line.rstrip("\r").rpartition("\r")[2].expandtabs(_TAB) for line in lines]
    if shown and not shown[-1]:
        shown.pop()
    return [printable(line) for line in shown]


def window_size(fd: int) -> tuple[int, int]:
    """Return the rows and columns of a terminal, 24 and 80 if it does not tell."""
    rows, columns = termios.tcgetwinsize(fd)
    return rows or 24, columns or 80
