"""profgen in a terminal emulator (tmux), so that a test sees what a person sees."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from system.harness import TIMEOUT, environment

PROMPT = "ready> "


class Pane:
    """A shell in a window of tmux, with a server of its own. ``env`` adds to the environment."""

    def __init__(self, directory: Path, columns: int = 80, rows: int = 24, **env: str) -> None:
        self._tmux = ["tmux", "-f", "/dev/null", "-S", str(directory / f"tmux-{os.urandom(4).hex()}")]
        words = ["new-session", "-d", f"-x{columns}", f"-y{rows}", "-c", str(directory), f"exec env PS1='{PROMPT}' sh"]
        subprocess.run([*self._tmux, *words], env=environment(**env), check=True, timeout=TIMEOUT)
        self.wait(lambda rows: rows[0].startswith(PROMPT.strip()), "the shell is there")

    def ask(self, *words: str) -> str:
        """What a command of tmux prints."""
        return subprocess.run(
            [*self._tmux, *words], capture_output=True, text=True, check=True, timeout=TIMEOUT
        ).stdout  # fmt: skip

    def rows(self) -> list[str]:
        """What the screen shows."""
        return self.ask("capture-pane", "-p").splitlines()

    def run(self, words: Sequence[str]) -> None:
        """Type a command, which is followed by its status."""
        self.text(f"{shlex.join(words)}; echo st''atus=$?")
        self.type("Enter")

    def text(self, text: str) -> None:
        """Type a text."""
        self.ask("send-keys", "-l", "--", text)

    def type(self, *keys: str) -> None:
        """Type keys, by the names that tmux has for them."""
        self.ask("send-keys", "--", *keys)

    def resize(self, columns: int) -> None:
        """Make the window this wide."""
        self.ask("resize-window", f"-x{columns}")

    def wait(self, holds: Callable[[list[str]], object], what: str) -> list[str]:
        """The rows of the screen, once something holds for them."""
        end = time.monotonic() + TIMEOUT
        while not holds(shown := self.rows()):
            if time.monotonic() > end:
                pytest.fail(f"{what}: this did not happen; the screen shows\n" + "\n".join(shown))
            time.sleep(0.05)
        return shown

    def status(self) -> int:
        """The status of the command, once the shell has the terminal again."""
        found = self.wait(lambda rows: any(row.startswith("status=") for row in rows), "it has ended")
        return int(next(row for row in found if row.startswith("status=")).partition("=")[2])

    def close(self) -> None:
        """End the server, as a connection that breaks does."""
        subprocess.run([*self._tmux, "kill-server"], check=False, capture_output=True, timeout=TIMEOUT)
