"""The terminal that a workload gets, and what is kept of its output."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from waiting import until

from profiler.live import aside
from profiler.live.aside import Aside, plain


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Aside]:
    own = Aside(tmp_path / "out.txt")
    yield own
    os.close(own.master)


def write(own: Aside, data: bytes) -> None:
    """Write as a workload does, on a descriptor of its own, and wait until all has come."""
    fd, before, size = os.open(os.ttyname(own.slave), os.O_WRONLY | os.O_NOCTTY), own.total, len(data)
    if own._thread is None:
        own.start()
    while data:
        data = data[os.write(fd, data) :]
    os.close(fd)
    until(lambda: own.total == before + size, "all of it came")


def test_output_is_kept_and_copied(tmp_path: Path) -> None:
    own = Aside(tmp_path / "out.txt")
    write(own, b"one\n\x1b[31mtwo\x1b[0m\nthree")
    own.close()
    assert own.lines() == ["one", "two", "three"]
    assert (tmp_path / "out.txt").read_bytes() == b"one\n\x1b[31mtwo\x1b[0m\nthree"


def test_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory has the end of it, the file the start."""
    monkeypatch.setattr(aside, "KEPT_BYTES", 1000)
    monkeypatch.setattr(aside, "FILE_BYTES", 3000)
    own = Aside(tmp_path / "out.txt")
    write(own, b"".join(b"%04d\n" % number for number in range(2000)))
    own.close()
    assert own.total == 10000
    assert own.lines()[-1] == "1999"
    assert (tmp_path / "out.txt").stat().st_size == 3000


def test_a_planted_link_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("mine")
    (tmp_path / "out.txt").symlink_to("target")
    own = Aside(tmp_path / "out.txt")
    write(own, b"text")
    own.close()
    assert (tmp_path / "target").read_text() == "mine"
    assert (tmp_path / "out.txt").read_text() == "text"


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    own = Aside(tmp_path / "none" / "out.txt")
    write(own, b"text")
    own.close()
    assert own.failure == "no such file or directory"
    assert own.lines() == ["text"]


def test_no_file_without_output(tmp_path: Path) -> None:
    own = Aside(tmp_path / "out.txt")
    own.start()
    own.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a\tb\n", ["a       b"]),
        ("10%\r20%\r\n", ["20%"]),
        ("\x1b]0;title\x07x\x1b[2J\x1b[1;31my\x1b(B\x1bPdata\x1b\\z", ["xyz"]),
        ("\x1b[31", []),
        ("\udcff\u202e\x9b2J", ["\\xff\\u202e\\x9b2J"]),
        ("", []),
    ],
)
def test_plain(text: str, lines: list[str]) -> None:
    assert plain(text) == lines


@given(st.text(st.sampled_from("a\x1b[]P;\x07\\\r\n\t漢0m")))
def test_nothing_controls_the_terminal(text: str) -> None:
    assert all(line.isprintable() for line in plain(text))


def test_no_echo_and_no_translation(made: Aside) -> None:
    shown = subprocess.run(
        ["stty", "-a"], stdin=made.slave, capture_output=True, text=True, check=True, timeout=60
    ).stdout
    os.close(made.slave)
    assert {"-opost", "-echo"} <= set(shown.replace(";", "").split())
