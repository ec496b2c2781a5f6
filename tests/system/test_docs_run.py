"""Every command of the README and of docs/ does what its page shows, typed into a terminal in the order of the page.

Blocks with root's prompt run as root, in a network and with directories of nginx of their own; the others run as the
user nobody. ``console`` says how pages are written. A page that needs root is skipped for an ordinary user. For a page
that names images there is a dockerd, in the same network as root's shell.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import secrets
import select
import shutil
import signal
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from console import Block, Command, blocks, difference, typed, written
from system.harness import CHECKOUT, NOBODY, Profgen, environment, of_session, own_network, why_no_ebpf
from system.lab.pages import PageEngine
from waiting import eventually

PAGES = sorted(
    path.relative_to(CHECKOUT)
    for path in [CHECKOUT / "README.md", *CHECKOUT.glob("docs/**/*.md"), *CHECKOUT.glob("sample_apps/**/*.md")]
    if any(block.language == "console" and "not run" not in block.notes for block in blocks(path.read_text()))
)
SECONDS = 180.0
"""A command that takes longer hangs."""
APART = """
ip link set lo up
for directory in /run /var/lib/nginx /var/log/nginx; do mount -t tmpfs none $directory; done
touch /var/log/nginx/access.log /var/log/nginx/error.log
chown www-data:adm /var/log/nginx/*.log
exec bash --noprofile --norc -m "$0"
"""
ROOT = ["unshare", "--mount", "sh", "-c", APART]
"""Root's shell, in another network: no server is in the way of another test's, and nginx starts as after its
installation."""
USER = ["bash", "--noprofile", "--norc", "-m"]
if os.geteuid() == 0:
    USER = [*own_network(), "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--", *USER]
_CONTROL = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|[\r\n]|[^\x1b\r\n]+|\x1b")
_JOB = re.compile(r"\[\d+\][+-]?  (?:Done|Terminated|Exit \d+|Interrupt|Running)\b.*|.*: line \d+: \d+ Terminated .*")


_LONG = re.compile(r"profgen: (?:(?:compiling|loading|waiting) .* \.\.\.|.* new in the second half; .*)")
"""What profgen says only when something takes long."""


def shown(data: str) -> list[str]:
    """Return the lines that a terminal shows after it was sent a text."""
    lines, row, column = [""], 0, 0
    for found in _CONTROL.finditer(data):
        if found[0] == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif found[0] == "\r":
            column = 0
        elif found[2] == "K":
            lines[row] = "" if found[1] == "2" else lines[row][:column]
        elif found[2] == "J":
            lines[row:] = [lines[row][:column]]
        elif found[2] == "A":
            row = max(0, row - int(found[1] or 1))
        elif not found[2]:
            lines[row] = lines[row][:column].ljust(column) + found[0] + lines[row][column + len(found[0]) :]
            column += len(found[0])
    return [line.rstrip() for line in lines if not _JOB.fullmatch(line) and not _LONG.fullmatch(line)]


class Shell:
    """A shell on a terminal of 120 columns, which reads its commands elsewhere, so that they are not echoed. ``env``:
    more of its environment."""

    def __init__(self, command: Sequence[str], directory: Path, tools: Path, env: Mapping[str, str]) -> None:
        self._script = tools / "typed"
        os.mkfifo(self._script)
        self._commands = os.open(self._script, os.O_RDWR)
        self._terminal, slave = pty.openpty()
        termios.tcsetwinsize(slave, (40, 120))
        modes = termios.tcgetattr(slave)
        modes[3] &= ~termios.ECHO  # of Ctrl-C
        termios.tcsetattr(slave, termios.TCSANOW, modes)
        if command is USER and os.geteuid() == 0:
            for owned in (tools, self._script, slave):
                os.chown(owned, NOBODY, NOBODY)
        path = f"{tools}:{env.get('PATH', '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin')}"
        more = {**env, "PATH": path, "HOME": str(directory), "TERM": "xterm", "LC_ALL": "C.UTF-8", "NO_COLOR": "1"}
        self._directory, self._env = directory, environment(**more)
        self._process = subprocess.Popen(
            ["setsid", "--ctty", *command, str(self._script)],
            cwd=directory,
            env=self._env,
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)

    def prepare(self, text: str) -> None:
        """Run commands that the page does not show, which have to succeed."""
        printed = self.type(f"{text}\necho $?")
        assert printed[-1:] == ["0"], f"{text}\n{printed}"

    def holds(self, condition: str) -> bool:
        """Whether a shell condition holds, while a command has the terminal."""
        inside = ["nsenter", f"--target={self._process.pid}", "--net", "--mount"] if os.geteuid() == 0 else []
        words = [*inside, "sh", "-c", f'cd "$0" && {condition}', self._directory]
        done = subprocess.run(words, env=self._env, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS)
        return done.returncode == 0

    def type(self, text: str, until: Sequence[str] | None = None, ready: Sequence[str] = ()) -> list[str]:
        """Run a command, and return what the terminal shows of it. ``until``: press Ctrl-C when it shows these lines,
        and what is ``ready`` holds."""
        mark = secrets.token_hex(8)
        ended = f"_status=$?; printf '%s' {mark[:8]} {mark[8:]}; (exit $_status)"  # for a command that prints $?
        os.write(self._commands, f"{text}\n{ended}\n".encode())
        data = b""
        end = time.monotonic() + SECONDS
        while mark.encode() not in data:
            if time.monotonic() > end:
                pytest.fail(f"{text!r} takes longer than {SECONDS:.0f} s; the terminal shows {data.decode()}")
            if select.select([self._terminal], [], [], 0.1)[0]:
                try:
                    data += os.read(self._terminal, 65536)
                except OSError:
                    pytest.fail(f"the shell has ended at {text!r}; the terminal shows {data.decode()}")
            seen = shown(data.decode(errors="replace")) if until is not None else []
            if until is not None and not difference([*until, "..."], seen) and all(map(self.holds, ready)):
                os.write(self._terminal, b"\x03")
                # A line that is drawn again stays, as a person saw it.
                data, until = data + (b"\r\n^C\r\n" if seen and seen[-1] else b"^C\r\n"), None
        printed = data.replace(mark.encode(), b"").decode(errors="replace")
        return shown(printed.removesuffix("\n")) if printed else []

    def close(self) -> None:
        """End the shell with all that it has started."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in of_session(self._process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            eventually(lambda: self._process.poll() is not None and not of_session(self._process.pid), 10)
        os.close(self._commands)
        os.close(self._terminal)


class Reader:
    """A person who types what a page shows, beginning in a directory."""

    def __init__(
        self, directory: Path, tools: Path, root: Profgen, user: Profgen, engine: PageEngine | None = None
    ) -> None:
        self._directory = directory
        self._tools = tools
        self._profgen = {True: root, False: user}
        self._engine = engine
        self._shells: dict[bool, Shell] = {}

    def shell(self, root: bool) -> Shell:
        if root not in self._shells:
            tools = self._tools / ("root" if root else "user")
            tools.mkdir()
            self._profgen[root].program(tools / "profgen")
            network = "--net" if self._engine is None else f"--net={self._engine.network}"
            apart = ["unshare" if self._engine is None else "nsenter", network, *ROOT]
            env = {} if self._engine is None else self._engine.client_environment
            self._shells[root] = Shell(apart if root else USER, self._directory, tools, env if root else {})
        return self._shells[root]

    def read(self, block: Block) -> Iterator[tuple[Command, list[str]]]:
        """Type the commands of a block; yield what each prints."""
        for note in block.notes.get("before", ()):
            for root, text in typed(note):
                self.shell(root).prepare(text)
        shell = self.shell(block.root)
        ready = block.notes.get("ready", ())
        for command in block.commands:
            text = command.text + ("\nwait" if re.search(r"\bkill .*%\d+$", command.text) else "")
            until = command.output[: command.output.index("^C")] if "^C" in command.output else None
            yield command, shell.type(text, until, ready)
            if command.text.endswith("&"):
                for condition in ready:
                    shell.prepare(f"until {condition}; do sleep 0.1; done")

    def close(self) -> None:
        for shell in self._shells.values():
            shell.close()
        if self._engine is not None:
            self._engine.clear()


Wrong = dict[Command, tuple[list[str], str]]
"""What commands print, where it is not what the page shows, and the difference."""


def read(
    page: Path,
    run: Sequence[Block],
    directory: Path,
    profgen: Profgen,
    ordinary: Profgen,
    engine: PageEngine | None = None,
) -> Wrong:
    """Do what the blocks of a page show, in a new directory."""
    samples = shutil.ignore_patterns("__pycache__")
    shutil.copytree(CHECKOUT / "sample_apps", directory / "page/sample_apps", ignore=samples)
    if os.geteuid() == 0:
        for path in (directory, *directory.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
    start = directory / "page" / (page.parent if page.parts[0] == "sample_apps" else "")
    reader = Reader(start, directory, profgen, ordinary, engine)
    try:
        return {
            command: (printed, found)
            for block in run
            for command, printed in reader.read(block)
            if (found := difference(command.output, printed, "figures" in block.notes))
        }
    finally:
        reader.close()


@pytest.fixture(scope="module")
def page_engine() -> Iterator[PageEngine]:
    engine = PageEngine()
    yield engine
    engine.close()


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_page(
    page: Path, nobodys_dir: Path, profgen: Profgen, ordinary: Profgen, request: pytest.FixtureRequest
) -> None:
    """What a program does may depend on timing, so a page is read again before it counts as wrong. With
    PROFGEN_WRITE_DOCS=1 the page gets what was printed."""
    text = (CHECKOUT / page).read_text()
    run = [block for block in blocks(text) if block.language == "console" and "not run" not in block.notes]
    if any(block.root for block in run) and (reason := why_no_ebpf()):
        pytest.skip(reason)
    images = {image for block in run for note in block.notes.get("images", ()) for image in note.split()}
    engine: PageEngine | None = request.getfixturevalue("page_engine") if images else None
    if engine is not None:
        engine.provide(images)
    for attempt in ("first", "second"):
        wrong = read(page, run, nobodys_dir / attempt, profgen, ordinary, engine)
        if not wrong:
            return
    if os.environ.get("PROFGEN_WRITE_DOCS"):
        (CHECKOUT / page).write_text(written(text, {command: printed for command, (printed, _) in wrong.items()}))
    pytest.fail("\n\n".join(f"{page}:{command.line}: {command.text}\n{found}" for command, (_, found) in wrong.items()))
