"""Completion as somebody types it, in bash, zsh and fish on a terminal."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from system.harness import CHECKOUT, TIMEOUT, Profgen, environment
from waiting import eventually

SHELLS = ("bash", "zsh", "fish")
SOURCE = {
    "bash": 'eval "$(profgen completion bash)"; bind "set bell-style none"',
    "zsh": 'autoload -Uz compinit && compinit -D && unsetopt beep && eval "$(profgen completion zsh)"',
    "fish": "profgen completion fish | source",
}
START = {
    "bash": ["bash", "--norc", "--noprofile"],
    "zsh": ["zsh", "-f"],
    "fish": ["fish", "--no-config"],
}
PROMPT = {"bash": "PS1='> '", "zsh": "PS1='> '", "fish": "function fish_prompt; echo '> '; end"}

TRACE = '{\n "schema": "profgen.trace/9",\n'


class Screen:
    """A shell in tmux, in which Tab completes."""

    def __init__(self, shell: str, profgen: Profgen, directory: Path) -> None:
        self.shell = shell
        self._tmux = ["tmux", "-f", "/dev/null", "-S", str(directory / "tmux")]
        (directory / "bin").mkdir()
        profgen.program(directory / "bin" / "profgen")
        place = directory / "place"
        place.mkdir()
        (place / "web.trace.json").write_text(TRACE)
        (place / "long name.trace.json").write_text(TRACE)
        (place / "website.json").write_text("{}")
        env = environment(PATH=f"{directory / 'bin'}:/usr/bin:/bin", HOME=str(directory), TERM="screen")
        command = ["new-session", "-d", "-x", "150", "-y", "40", "-c", str(place), *START[shell]]
        subprocess.run([*self._tmux, *command], env=env, check=True, timeout=TIMEOUT)
        self._type(PROMPT[shell], "Enter")
        self._type(SOURCE[shell], "Enter")
        self._type("echo re''ady", "Enter")
        assert eventually(lambda: "\nready\n" in self.text()), self.text()

    def _type(self, text: str, *keys: str) -> None:
        subprocess.run([*self._tmux, "send-keys", "-l", text], check=True, timeout=TIMEOUT)
        if keys:
            subprocess.run([*self._tmux, "send-keys", *keys], check=True, timeout=TIMEOUT)

    def text(self) -> str:
        words = [*self._tmux, "capture-pane", "-p", "-J"]
        return subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT).stdout

    def line(self) -> str:
        """The line at the cursor, up to it."""
        words = [*self._tmux, "display-message", "-p", "#{cursor_x} #{cursor_y}"]
        column, row = map(int, subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT).stdout.split())
        return self.text().split("\n")[row][:column].ljust(column)

    def _anew(self) -> None:
        # Not Ctrl-C: a signal may overtake or follow what is typed.
        subprocess.run([*self._tmux, "send-keys", "C-e", "C-u", "C-l"], check=True, timeout=TIMEOUT)
        assert eventually(lambda: self.line() == "> "), self.text()

    def completed(self, typed: str, expected: str) -> bool:
        """Whether Tab makes ``expected`` of ``typed``. On a busy machine there may be no answer in time at first."""
        for _ in range(10):
            self._anew()
            self._type(f"profgen {typed}", "Tab")
            if eventually(lambda: self.line() == f"> profgen {expected}", 5):
                return True
        return False

    def after_tab(self, typed: str) -> str:
        """All that is on the screen after a Tab and one more character."""
        self._anew()
        self._type(f"profgen {typed}", "Tab")
        self._type("X")
        assert eventually(lambda: self.line() == f"> profgen {typed}X"), self.text()
        return self.text()

    def close(self) -> None:
        subprocess.run([*self._tmux, "kill-server"], check=True, timeout=TIMEOUT)


@pytest.fixture(scope="module", params=SHELLS)
def screen(
    request: pytest.FixtureRequest, profgen: Profgen, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Screen]:
    assert shutil.which(request.param), "installed by tests/packages.sh"
    found = Screen(request.param, profgen, tmp_path_factory.mktemp("completion"))
    yield found
    found.close()


def test_what_tab_makes(screen: Screen) -> None:
    slash = "\\"
    for typed, expected in (
        ("cov", "coverage "),
        ("record --trac", "record --tracer "),
        ("record --tracer=pt", "record --tracer=ptrace "),
        ("generate -t seccomp,appa", "generate -t seccomp,apparmor "),
        ("generate -O seccomp.act", "generate -O seccomp.action="),
        ("generate -O seccomp.action=k", "generate -O seccomp.action=kill-process "),
        ("generate web", "generate web.trace.json "),
        ("generate long", f"generate long{slash} name.trace.json "),
        ("merge --base=./web.", "merge --base=./web.trace.json "),
        ("record -o x -- setpri", "record -o x -- setpriv "),
        ("record --user roo", "record --user root "),
    ):
        assert screen.completed(typed, expected), f"{screen.shell}: {typed}\n{screen.text()}"


def test_no_message(screen: Screen) -> None:
    for typed in ("explain nothing ", "nonsense "):
        assert screen.after_tab(typed).split() == [">", "profgen", *typed.split(), "X"]


def test_scripts_are_clean() -> None:
    """As the shells read them."""
    shells = CHECKOUT / "profiler/cli/shells"
    subprocess.run(["bash", "-n", shells / "profgen.bash"], check=True, timeout=TIMEOUT)
    subprocess.run(["zsh", "-n", shells / "_profgen"], check=True, timeout=TIMEOUT)
    subprocess.run(["fish", "-n", shells / "profgen.fish"], check=True, timeout=TIMEOUT)
