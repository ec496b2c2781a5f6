"""What a recording has seen, as items."""

from __future__ import annotations

import pytest

from profiler.live.items import TEXT_MAX, Item, identity, item
from profiler.tracers.recording import Recording, Row


@pytest.fixture
def recording() -> Recording:
    made = Recording("x86_64")
    program = made.program("/usr/bin/app", None, "app")
    made.rows[program, "x86_64", 39] = Row(calls=3, ok=1, first=0.5)
    return made


def items(recording: Recording) -> list[Item]:
    return [item(recording, seen, seen.first, "") for seen in recording.seen()]


def texts(recording: Recording) -> list[str]:
    return [row.text for row in items(recording) if row.kind not in ("program", "syscall")]


def test_programs_and_syscalls(recording: Recording) -> None:
    assert items(recording) == [Item("program", 0.5, "/usr/bin/app", ""), Item("syscall", 0.5, "getpid", "app")]
    recording.program("/opt/run.sh", "/bin/sh", "run.sh")
    assert items(recording)[1].text == "/opt/run.sh (run by /bin/sh)"


@pytest.mark.parametrize(
    ("verdict", "namespace", "decisive", "outcome"),
    [
        ("granted", "initial", True, "needed"),
        ("granted", "child", True, "needed in a user namespace"),
        ("granted", "initial", False, "checked"),
        ("refused", "initial", True, "refused"),
    ],
)
def test_capabilities(verdict: str, namespace: str, decisive: bool, outcome: str, recording: Recording) -> None:
    recording.check(("CAP_CHOWN", namespace, verdict, True, decisive, False), 0, "chown")
    assert texts(recording) == [f"CAP_CHOWN {outcome}"]


def test_uses(recording: Recording) -> None:
    recording.file("/etc/passwd", "read", "file", "ok", 0)
    recording.socket("inet", "stream", 6, "connect", "ok", 0, port=443)
    recording.socket("unix", "stream", 0, "connect", "ok", 0, address="@bus")
    recording.signal("TERM", "child", "ok", 0)
    recording.inspection("read", "child", "ok", 0)
    recording.mount("mount", "proc", "/proc", "proc", ("nosuid",), "ok", 0)
    assert texts(recording) == [
        "read /etc/passwd",
        "connect inet stream port 443",
        "connect unix stream @bus",
        "send SIGTERM to child",
        "read a process: child",
        "mount -t proc proc /proc (nosuid)",
    ]
    assert {row.kind for row in items(recording)[-3:]} == {"other"}


def test_one_item_for_rows_that_look_alike(recording: Recording) -> None:
    for kind in ("file", "unknown"):
        recording.file("/etc/passwd", "read", kind, "ok", 0)
    assert len({identity(seen) for seen in recording.seen() if seen.kind == "file"}) == 1


def test_hostile_names(recording: Recording) -> None:
    recording.file("/tmp/\x1b[2J\n\u202e\udcff", "read", "file", "ok", 0)
    recording.file("/" + "x" * 4000, "read", "file", "ok", 0)
    first, second = texts(recording)
    assert first == "read /tmp/\\x1b[2J\\n\\u202e\\xff"
    assert second.endswith("x…")
    assert len(second) == TEXT_MAX + 1


def test_before_the_first_program() -> None:
    """The ptrace tracer counts the call that executes it under no program."""
    recording = Recording("x86_64")
    recording.rows[-1, "x86_64", 59] = Row(calls=1)
    assert items(recording) == [Item("syscall", 0.0, "execve", "")]
