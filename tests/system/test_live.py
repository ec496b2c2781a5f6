"""The live view in a terminal emulator: what it shows, and how it ends."""
# ruff: noqa: F811 - the fixture that is imported is an argument of a test

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from system.harness import TIMEOUT, Profgen, Until
from system.lab.fixtures import Runtimes, lab  # noqa: F401
from system.lab.processes import run
from system.lab.runtimes import Docker
from system.panes import PROMPT, Pane

MakePane = Callable[..., Pane]
KEYS = "q quit"
"""In the last row of the view."""
WORKLOAD = r"""
echo start; printf 'one\rtwo\n'; printf '\033[31mred\033[0m\n' >&2
test -t 0 && echo 'a terminal is the input'
cat; mkfifo go; : > "$(printf 'e\033[2Jvil')"; read x < go
echo stop
"""
"""Prints, reads its input, makes a file with a hostile name, and ends when somebody writes into ``go``."""


@pytest.fixture
def pane(tmp_path: Path) -> Iterator[MakePane]:
    made: list[Pane] = []

    def make(columns: int = 80, **env: str) -> Pane:
        made.append(Pane(tmp_path, columns, **env))
        return made[-1]

    yield make
    for each in made:
        each.close()


def record(profgen: Profgen, script: str, *options: str) -> list[str]:
    return [*profgen.command, "record", "--live", "--tracer", "ptrace", "-o", "t.trace.json", *options, "--",
            "sh", "-c", script]  # fmt: skip


def shown(rows: list[str]) -> bool:
    """Whether the view is on the screen, and has seen something."""
    return KEYS in rows[-1] and any(re.match(r"1 all +[1-9]", row) for row in rows)


def restored(pane: Pane) -> None:
    """The shell has the terminal as it was: its screen, the cursor, no reports of mouse or focus, and its modes."""
    state = pane.ask("display-message", "-p", "#{alternate_on} #{cursor_flag} #{mouse_any_flag} #{wrap_flag}")
    assert state.split() == ["0", "1", "0", "1"]
    pane.text("clear; stty -a | grep -ow -e -icanon -e -echo -e -isig; echo modes")
    pane.type("Enter")
    found = pane.wait(lambda rows: "modes" in rows, "the shell works")
    assert not [row for row in found if row.startswith("-")]


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_the_view(columns: int, profgen: Profgen, pane: MakePane, tmp_path: Path) -> None:
    window = pane(columns, COLUMNS="500")
    window.text("echo before")
    window.type("Enter")
    window.run(record(profgen, WORKLOAD))
    rows = window.wait(shown, "the view is there")
    assert rows[0].startswith("sh -c ")
    assert re.search(r"recording \d:\d\d\.\d$", rows[0])
    for width in (100, 45, columns):
        window.resize(width)
        # One row may be as long as the window is wide, and none is wrapped.
        rows = window.wait(
            lambda rows, width=width: shown(rows) and len(rows[0]) == width, f"it fits {width} columns"
        )  # fmt: skip
        assert all(len(row) <= width for row in rows)
    window.type("5")
    window.wait(lambda rows: any(r"e\x1b[2Jvil" in row for row in rows), "the page has a hostile name as text")
    window.type("o")
    rows = window.wait(lambda rows: any(row.endswith("red") for row in rows), "the output is shown")
    assert [row.rpartition("│")[2] for row in rows[4:7]] == ["start", "two", "red"]
    (tmp_path / "go").write_text("\n")
    assert window.status() == 0
    text = "\n".join(window.rows())
    assert "before" in text, "what was on the screen is there again"
    assert "profgen: wrote t.trace.json" in text.replace("\n", "")
    assert (tmp_path / "t.output.txt").read_bytes() == b"start\none\rtwo\n\x1b[31mred\x1b[0m\nstop\n"
    assert {"stdin_null", "stdout_terminal"} <= set(
        json.loads((tmp_path / "t.trace.json").read_bytes())["meta"]["standing"]
    )
    restored(window)


TRAPS = "trap 'exit 3' INT; trap 'exit 4' TERM; trap 'exit 5' HUP; echo ready; while :; do sleep 0.1; done"


def pids(window: Pane) -> tuple[int, int]:
    """The processes of the view and of the recorder."""
    shell = int(window.ask("display-message", "-p", "#{pane_pid}"))
    (view,) = children(shell)
    (recorder,) = children(view)
    return view, recorder


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("C-c", 3),
        ("q", 4),
        (signal.SIGTERM, 4),
        ("recorder", 128 + signal.SIGKILL),
    ],
    ids=["ctrl-c", "q", "sigterm", "recorder killed"],
)  # fmt: skip
def test_ends(end: str | signal.Signals, status: int, profgen: Profgen, pane: MakePane, tmp_path: Path) -> None:
    window = pane()
    window.run(record(profgen, TRAPS))
    window.wait(shown, "the view is there")
    if isinstance(end, signal.Signals):
        os.kill(pids(window)[0], end)
    elif end == "recorder":
        os.kill(pids(window)[1], signal.SIGKILL)
    else:
        window.type(end)
    assert window.status() == status
    assert (tmp_path / "t.trace.json").exists() is (end != "recorder")
    restored(window)


@pytest.mark.parametrize("gone", ["terminal", "view"])
def test_the_view_is_gone(gone: str, profgen: Profgen, pane: MakePane, tmp_path: Path, until: Until) -> None:
    """A connection that breaks, and a view that is killed: the workload is told, and the trace is written."""
    window = pane()
    window.run(record(profgen, TRAPS))
    window.wait(shown, "the view is there")
    view, recorder = pids(window)
    if gone == "terminal":
        window.close()
    else:
        os.kill(view, signal.SIGKILL)
    until((tmp_path / "t.trace.json").exists, "the trace is written")
    status = json.loads((tmp_path / "t.trace.json").read_bytes())["meta"]["exit_status"]
    assert status == (5 if gone == "terminal" else 4)
    until(lambda: not Path(f"/proc/{recorder}").exists(), "the recorder has ended")


def test_a_paused_view_stays(profgen: Profgen, pane: MakePane, tmp_path: Path) -> None:
    window = pane()
    window.run(record(profgen, "mkfifo go; read x < go; id"))
    window.wait(shown, "the view is there")
    window.type("p")
    window.wait(lambda rows: "paused" in rows[0], "it is paused")
    (tmp_path / "go").write_text("\n")
    rows = window.wait(lambda rows: "ended, q leaves" in rows[0], "the recording is over")
    assert not any("program    " in row and row.endswith("/id") for row in rows), "what is shown is held"
    window.type("s")
    window.wait(lambda rows: any("oldest first" in row for row in rows), "keys work")
    window.type("q")
    assert window.status() == 0
    restored(window)


def test_watch(ebpf: str, profgen: Profgen, pane: MakePane, tmp_path: Path) -> None:
    """Nothing is written."""
    process = subprocess.Popen(["sh", "-c", "while :; do ls /etc >/dev/null; sleep 0.1; done"], start_new_session=True)
    try:
        window = pane()
        window.run([*profgen.command, "watch", "--pid", str(process.pid)])
        window.wait(shown, "the view is there")
        window.type("2")
        rows = window.wait(lambda rows: any(row.endswith("/ls") for row in rows), "the page shows a program")
        assert rows[0].startswith(f"pid {process.pid} ")
        window.type("q")
        assert window.status() == 0
        assert "no trace was written" in "\n".join(window.rows())
        assert not list(tmp_path.glob("*.json"))
        restored(window)
        assert process.poll() is None, "what is watched goes on"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_watch_containers(ebpf: str, lab: Runtimes, profgen: Profgen, pane: MakePane, tmp_path: Path) -> None:
    """Two start while they are watched. One ends, and the view goes on with the other until that ends too."""
    docker = lab["docker"]
    assert isinstance(docker, Docker)
    names = [f"profgen-watch-{os.getpid()}-{number}" for number in (1, 2)]
    options = ("--detach", "--network=none", "--volume=/usr:/usr:ro")
    window = pane(**docker.client_environment)
    window.run([*profgen.command, "watch", "--wait", *names])
    window.wait(lambda rows: any(row.startswith("kernel stores") for row in rows), "it waits for them")
    window.type("2")
    try:
        for name, program in zip(names, ("ls", "id"), strict=True):
            script = f"while :; do {program}; sleep 0.1; done"
            run(docker._tool("run", "--name", name, *options, docker.image, "sh", "-c", script))
            window.wait(lambda rows, program=program: any(row.endswith(f"/{program}") for row in rows), name)
        run(docker._tool("rm", "--force", names[0]))
        window.wait(lambda rows: any(re.match("ended +1 ", row) for row in rows), "one has ended")
        run(docker._tool("exec", names[1], "uname"))
        window.wait(lambda rows: any(row.endswith("/uname") for row in rows), "the other is still watched")
        run(docker._tool("rm", "--force", names[1]))
        assert window.status() == 0
    finally:
        for name in names:
            run(docker._tool("rm", "--force", name), check=False)
    assert not list(tmp_path.glob("*.json"))
    restored(window)


@pytest.mark.parametrize(("env", "reason"), [({"TERM": "dumb"}, "can draw"), ({"TERM": "xterm"}, "there is none here")])
def test_no_view_without_a_terminal(env: dict[str, str], reason: str, profgen: Profgen, tmp_path: Path) -> None:
    done = subprocess.run(
        ["setsid", "--wait", *record(profgen, "true")],
        cwd=tmp_path, env={**os.environ, **env}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=TIMEOUT,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("profgen: the live view needs a terminal")
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1


# -- without a view: the terminal is the workload's --------------------------------------------------------------------

Step = tuple[str, str]
"""What is on the screen, and what is typed then: a name of a key, or a text."""


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.parametrize(
    ("command", "steps"),
    [
        (["bash", "-c", 'echo first; read -p "name? " x; echo "[$x]"'], [("name? ", "me"), ("name? me", "Enter")]),
        (
            ["python3", "-I", "-q"],
            [(">>> ", "6 * 7"), (">>> 6 * 7", "Enter"), ("42", "C-c"), ("KeyboardInterrupt", "C-d")],
        ),
    ],
    ids=["read", "python"],
)
def test_an_interactive_command(
    columns: int, command: Sequence[str], steps: Sequence[Step], profgen: Profgen, pane: MakePane
) -> None:
    """The screen shows what it shows without profgen, and below that what profgen says at the end."""

    def screen(words: Sequence[str]) -> list[str]:
        window = pane(columns)
        window.run(words)
        for text, key in steps:
            window.wait(lambda rows, text=text: any(row.startswith(text.strip()) for row in rows), text)
            for width in (columns - 20, columns):
                window.resize(width)
            time.sleep(0.25)  # a line would be drawn in this time
            window.type(key) if key in ("Enter", "C-c", "C-d") else window.text(key)
        assert window.status() == 0
        rows = window.rows()
        start = next(index for index, row in enumerate(rows) if "echo st''atus" in rows[index] + rows[index + 1])
        own = rows[start : next(index for index, row in enumerate(rows) if row.startswith(("profgen: ", "status=")))]
        return [row for row in own if "atus=$?" not in row and PROMPT.strip() not in row]

    words = [*profgen.command, "record", "--tracer", "ptrace", "-o", "t.json", "--", *command]
    assert screen(words)[-len(screen(command)) :] == screen(command)
