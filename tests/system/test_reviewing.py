"""``--review`` at a terminal: keys, colours, width, names of strangers, and how it ends."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from system.harness import Profgen
from system.terminals import Terminal
from unit.cli.test_refine import AA, AUDIT, GETPGID, PTRACE, log
from unit.denials.test_propose import policy

from profiler.policy.document import dumps, read_policy
from profiler.policy.model import FileRule
from profiler.targets.apparmor.naming import profile_name

ASKED = "({}/{}) Take this change "


def denied(path: str, mask: str, serial: int) -> str:
    text = AA.replace('"/etc/x y"', path).replace('"web"', f'"{profile_name(policy())}"').replace('"r"', f'"{mask}"')
    return "type=AVC msg=" + AUDIT.replace("254", str(serial)) + text


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "policy.yaml").write_text(dumps(policy()).replace("    read: {", "    # mine\n    read: {"))
    log(tmp_path, GETPGID, PTRACE, denied('"/var/lib/app/1234567.json"', "rw", 300))
    return tmp_path


@contextmanager
def reviewing(profgen: Profgen, place: Path, *args: str, **options: object) -> Iterator[Terminal]:
    command = args or ("refine", "policy.yaml", "--from", "log", "--review")
    terminal = Terminal(profgen, command, place, **options)  # type: ignore[arg-type]
    try:
        yield terminal
    finally:
        terminal.close()


def answer(terminal: Terminal, *keys: str) -> None:
    """Type each key when it is asked for."""
    for key in keys:
        terminal.read_until(lambda output: re.search(rb"\]\? (?:\x1b\[0m)?\Z", output))
        terminal.output += b"\n"
        terminal.type(f"{key}\n".encode())


def test_one_change_at_a_time(profgen: Profgen, place: Path) -> None:
    with reviewing(profgen, place, NO_COLOR="1") as terminal:
        answer(terminal, "y", "e", "n", "+", "-", "-", "-", "?", "y")
        assert terminal.status() == 0
    shown = terminal.output.decode()
    assert "\x1b" not in shown
    assert shown.index("ptrace, high risk") < shown.index("getpgid, low risk"), "the riskiest first"
    assert "danger: " not in shown, "the risk says it"
    assert "holes: " in shown
    assert "not as proposed: for /var/lib/app/{digits}.json" in shown
    assert "not as proposed: without write" in shown
    assert "there is nothing narrower to choose" in shown
    assert "q - quit" in shown
    assert "took 2 of 3 changes" in shown
    made = read_policy(place / "policy.yaml")
    assert "ptrace" in {row.name for row in made.syscalls}
    assert "getpgid" not in {row.name for row in made.syscalls}
    assert [row.access for row in made.files if row.pattern == "/var/lib/app/1234567.json"] == [("read",)]
    assert "    # mine\n    read: {" in (place / "policy.yaml").read_text()


def test_the_rest_is_taken_but_for_what_is_risky(profgen: Profgen, place: Path) -> None:
    with reviewing(profgen, place) as terminal:
        answer(terminal, "j", "a", "n")
        assert terminal.status() == 0
    assert b"\x1b[31madded syscall ptrace, high risk" in terminal.output
    assert b"took 2 of 3 changes" in terminal.output
    names = {row.name for row in read_policy(place / "policy.yaml").syscalls}
    assert "getpgid" in names
    assert "ptrace" not in names


@pytest.mark.parametrize(("keys", "taken"), [("q", 0), ("d", 0), ("nyq", 1), ("jyq", 1)])
def test_quitting_keeps_what_was_taken(profgen: Profgen, place: Path, keys: str, taken: int) -> None:
    before = (place / "policy.yaml").read_text()
    with reviewing(profgen, place) as terminal:
        answer(terminal, *keys)
        assert terminal.status() == 0
    assert f"took {taken} of 3 changes".encode() in terminal.output
    assert ((place / "policy.yaml").read_text() == before) == (not taken)


def test_ctrl_c_changes_nothing(profgen: Profgen, place: Path) -> None:
    before = (place / "policy.yaml").read_text()
    with reviewing(profgen, place) as terminal:
        answer(terminal, "y")
        terminal.read_until(ASKED.format(2, 3).encode())
        terminal.type(b"\x03")
        assert terminal.status() == 130
    assert b"profgen: interrupted" in terminal.output
    assert (place / "policy.yaml").read_text() == before


def test_names_of_strangers_at_60_columns(profgen: Profgen, place: Path) -> None:
    name = "/srv/" + "\x1b[2J\n\u202e::set-output " + "x" * 180
    log(place, denied(name.encode().hex().upper(), "r", 400))
    with reviewing(profgen, place, columns=60, NO_COLOR="1") as terminal:
        answer(terminal, "y")
        assert terminal.status() == 0
    shown = terminal.output.decode()
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    lines = shown[: shown.index("(1/1)")].replace("\r", "").splitlines()
    assert [line for line in lines if len(line) > 60 and "x" * 180 not in line] == []
    assert any(rule.pattern.startswith("/srv/\\x1b[2J\\x0a") for rule in read_policy(place / "policy.yaml").files)


def test_a_log_on_standard_input(profgen: Profgen, place: Path) -> None:
    args = ("refine", "policy.yaml", "--from", "-", "--review", "-o", "new.yaml")
    with reviewing(profgen, place, *args, redirected="<log") as terminal:
        answer(terminal, "n", "y", "q")
        assert terminal.status() == 0
    assert "getpgid" in {row.name for row in read_policy(place / "new.yaml").syscalls}


def test_a_terminal_is_needed(profgen: Profgen, place: Path) -> None:
    args = ("refine", "policy.yaml", "--from", "log", "--review")
    done = profgen(*args, cwd=place)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "--review asks at a terminal" in done.stderr
    subprocess.run(["cp", "policy.yaml", "other.yaml"], cwd=place, check=True, timeout=60)
    done = profgen("merge", "policy.yaml", "other.yaml", "--review", cwd=place)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_merging(profgen: Profgen, place: Path) -> None:
    old = policy()
    shadow = FileRule("/etc/shadow", ("read",))
    new = replace(old, files=(*old.files, shadow, FileRule("/srv/page", ("read",))))
    (place / "new.yaml").write_text(dumps(new))
    args = ("merge", "policy.yaml", "new.yaml", "-o", "merged.yaml", "--review")
    with reviewing(profgen, place, *args) as terminal:
        answer(terminal, "n", "y")
        assert terminal.status() == 0
    assert b"/etc/shadow, high risk" in terminal.output or b"/etc/shadow, critical risk" in terminal.output
    patterns = {rule.pattern for rule in read_policy(place / "merged.yaml").files}
    assert "/srv/page" in patterns
    assert "/etc/shadow" not in patterns
    assert "# mine" in (place / "merged.yaml").read_text()
