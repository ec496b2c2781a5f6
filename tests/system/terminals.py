"""profgen on a pseudo-terminal, as its controlling terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import termios
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from system.harness import TIMEOUT, Profgen, environment


class Terminal:
    """A command line of profgen that runs on a terminal of its own. ``columns``: the terminal's width. ``redirected``:
    how a shell redirects its streams. ``env`` adds to the environment."""

    def __init__(
        self,
        profgen: Profgen,
        args: Sequence[str | bytes],
        cwd: Path,
        *,
        columns: int = 80,
        redirected: str = "",
        **env: str,
    ) -> None:
        self.master, slave = pty.openpty()
        self.resize(columns)
        self.output = b""
        self.process = subprocess.Popen(
            ["setsid", "--ctty", "sh", "-c", f'exec "$@" {redirected}', "sh", *profgen.command, *args],
            cwd=cwd,
            env=environment(**{"TERM": "xterm", **env}),
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)

    def resize(self, columns: int) -> None:
        """Make the terminal this wide; its foreground processes get SIGWINCH."""
        termios.tcsetwinsize(self.master, (24, columns))

    def type(self, data: bytes) -> None:
        os.write(self.master, data)

    def read_until(self, text: bytes | Callable[[bytes], object] | None) -> bytes:
        """All output so far, once it contains ``text`` or ``text`` holds for it; None means until the terminal is
        closed by its last user."""

        def arrived() -> object:
            return text is not None and (text(self.output) if callable(text) else text in self.output)

        end = time.monotonic() + TIMEOUT
        while not arrived():
            if not select.select([self.master], [], [], max(0, end - time.monotonic()))[0]:
                self.close()
                pytest.fail(f"{text!r} did not come; the terminal shows {self.output!r}")
            try:
                data = os.read(self.master, 65536)
            except OSError:
                data = b""
            if not data:
                if text is None:
                    break
                self.close()
                pytest.fail(f"{text!r} did not come before the end; the terminal shows {self.output!r}")
            self.output += data
        return self.output

    def status(self) -> int:
        self.read_until(None)
        return self.process.wait(timeout=TIMEOUT)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
