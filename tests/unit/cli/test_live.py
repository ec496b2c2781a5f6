"""The live line fits its terminal at each draw, and takes nothing from anybody."""

from __future__ import annotations

import os
import pty
import re
import select
import termios
import threading
from collections.abc import Iterator

import pytest
from waiting import until

from profiler.cli import live
from profiler.cli.live import LiveLine, live_line, set_aside
from profiler.cli.terminal import say

DRAWN = re.compile(rb"\r\x1b\[\?7l([^\x1b]*)\x1b\[J\x1b\[\?7h\r")
"""A draw: with wrapping off, the text, what is right of it and below erased, back to the line's start."""
ERASED = b"\r\x1b[J"


class Screen:
    """A terminal, and what was written to it."""

    def __init__(self) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(80)
        self.written = b""

    def resize(self, columns: int) -> None:
        termios.tcsetwinsize(self.slave, (24, columns))

    def read(self) -> bytes:
        """What was written since the last read."""
        data = b""
        while select.select([self.master], [], [], 0)[0]:
            data += os.read(self.master, 65536)
        self.written += data
        return data


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Screen]:
    """A terminal on which the tests are in the foreground."""
    made = Screen()
    monkeypatch.setattr(os, "tcgetpgrp", lambda fd: os.getpgrp())
    yield made
    os.close(made.master)
    os.close(made.slave)


@pytest.fixture
def line(screen: Screen) -> Iterator[LiveLine]:
    made = LiveLine(screen.slave)
    yield made
    made.close()


@pytest.mark.parametrize("columns", [1, 2, 20, 40, 80, 200])
def test_a_draw_stays_in_its_row(columns: int, line: LiveLine, screen: Screen) -> None:
    screen.resize(columns)
    line.draw("12s  345 syscalls  6 capabilities  7 programs  890 paths  last new 1s ago")
    rows = DRAWN.findall(screen.read())
    assert [row[:9] for row in rows] == ([] if columns == 1 else [b"profgen: "[: columns - 1]])
    assert all(len(row) < columns for row in rows)


def test_the_width_is_the_terminals(line: LiveLine, screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for at each draw, and not taken from the environment."""
    monkeypatch.setenv("COLUMNS", "500")
    for columns in (60, 30, 90):
        screen.resize(columns)
        line.draw("x" * 300)
        assert DRAWN.findall(screen.read()) == [b"profgen: ".ljust(columns - 1, b"x")]


def test_unknown_width(line: LiveLine, screen: Screen) -> None:
    screen.resize(0)
    line.draw("text")
    line.erase()
    assert screen.read() == b""


def test_the_same_text_is_drawn_once(line: LiveLine, screen: Screen) -> None:
    line.draw("text")
    line.draw("text")
    assert screen.read().count(b"text") == 1
    line.erase()
    line.erase()
    assert screen.read() == ERASED
    line.draw("text")
    assert screen.read().count(b"text") == 1


def test_nothing_is_erased_that_was_not_drawn(line: LiveLine, screen: Screen) -> None:
    line.erase()
    line.close()
    line.close()
    assert screen.read() == b""


def test_in_the_background(line: LiveLine, screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    line.draw("text")
    screen.read()
    monkeypatch.setattr(os, "tcgetpgrp", lambda fd: os.getpgrp() + 1)
    line.draw("other")
    line.close()
    assert screen.read() == b""


def test_another_terminal_than_the_own(line: LiveLine, screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    """tcgetpgrp(3) answers only for the controlling terminal."""

    def refused(fd: int) -> int:
        raise OSError(25, "not a terminal of this session")

    monkeypatch.setattr(os, "tcgetpgrp", refused)
    line.draw("text")
    assert screen.read() == b""


def test_a_terminal_that_is_gone(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    line = LiveLine(screen.slave)
    line.draw("text")
    os.close(screen.master)
    line.draw("other")
    line.close()
    screen.master = os.open(os.devnull, os.O_RDONLY)


def test_hostile_text(line: LiveLine, screen: Screen) -> None:
    line.draw("\x1b[2J\n\r\x07\udcff")
    assert DRAWN.findall(screen.read()) == [rb"profgen: \x1b[2J\n\r\x07\xff"]


def test_messages_go_above(line: LiveLine, screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    line.draw("text")
    screen.read()
    say("a message")
    assert screen.read() == ERASED
    assert capsys.readouterr().err == "profgen: a message\n"


def test_no_draw_within_a_message(line: LiveLine, screen: Screen) -> None:
    drawer = threading.Thread(target=line.draw, args=("text",))
    with set_aside():
        drawer.start()
        drawer.join(0.1)
        assert drawer.is_alive()
        assert screen.read() == b""
    drawer.join()
    assert DRAWN.search(screen.read())


def test_live_line(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    """While its text is None no line is shown."""
    monkeypatch.setattr(live, "SECONDS", 0.001)
    monkeypatch.setattr(live, "LiveLine", lambda: LiveLine(screen.slave))
    texts: list[str | None] = ["one"]
    with live_line(lambda: texts[0], shown=True):
        until(lambda: screen.read() and b"one" in screen.written, "the line is drawn")
        texts[0] = None
        until(lambda: screen.read() and screen.written.endswith(ERASED), "it is erased")
        texts[0] = "two"
        until(lambda: screen.read() and b"two" in screen.written, "it is drawn again")
    screen.read()
    assert screen.written.endswith(ERASED)
    assert DRAWN.sub(b"", screen.written) == ERASED * 2


def test_not_shown() -> None:
    with live_line(lambda: pytest.fail("it was asked for"), shown=False):
        assert live._lines == []
