"""What the view is told: each item once, and figures."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from waiting import HANG_SECONDS, until

from profiler.live.feed import END, Feed
from profiler.live.items import KINDS, Item
from profiler.live.news import News, chances, dumps, loads
from profiler.tracers.recording import Recording, Row
from profiler.watch.metrics import Figures, figures_of


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair()
    yield here, there
    here.close()
    there.close()


@pytest.fixture
def recording() -> Recording:
    made = Recording("x86_64")
    made.rows[made.program("/bin/app", None, "app"), "x86_64", 39] = Row(calls=1, first=0.2)
    return made


def figures(*recordings: Recording, names: str = "ab") -> Figures:
    rows = tuple(figures_of(name, name, one) for name, one in zip(names, recordings, strict=False))
    return Figures(rows, begun=len(rows), losses={"paths": 2, "uses": 0}, stores={"uses": (3, 4)}, memory=5)


def test_each_item_once(ends: tuple[socket.socket, socket.socket], recording: Recording) -> None:
    feed = Feed(ends[1])
    first = feed.news(figures(recording))
    assert [row.text for row in first.items] == ["/bin/app", "getpid"]
    assert (first.losses, first.fullest, first.memory, first.running) == ({"paths": 2}, 75, 5, 1)
    recording.file("/etc/passwd", "read", "file", "ok", 0)
    assert [row.text for row in feed.news(figures(recording)).items] == ["read /etc/passwd"]
    assert feed.news(figures(recording)).items == ()


def test_several_recordings(ends: tuple[socket.socket, socket.socket], recording: Recording) -> None:
    """The second one begins later, and its items say where they come from."""
    other = Recording("x86_64")
    other.began = recording.began + 10
    other.rows[other.program("/bin/db", None, "db"), "x86_64", 39] = Row(calls=1, first=0.5)
    rows = Feed(ends[1]).news(figures(recording, other)).items
    assert [(row.text, row.by, row.subject, row.first) for row in rows if row.kind == "syscall"] == [
        ("getpid", "app", "a", 0.2),
        ("getpid", "db", "b", 10.5),
    ]


def test_the_thread_tells_and_listens(ends: tuple[socket.socket, socket.socket], recording: Recording) -> None:
    here, there = ends
    feed = Feed(there)
    with feed.showing(lambda: figures(recording)):
        assert loads(here.makefile("rb").readline()).items[0].text == "/bin/app"
        here.send(END)
        until(feed.stop.is_set, "the end was asked for")


@pytest.mark.parametrize("gone", [True, False], ids=["gone", "stopped"])
def test_a_view_that_does_not_listen(gone: bool, ends: tuple[socket.socket, socket.socket]) -> None:
    """A terminal may be stopped (Ctrl-S), or the view may have failed: the recording ends all the same."""
    here, there = ends
    there.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    large = Recording("x86_64")
    for number in range(2000):
        large.file(f"/tmp/{number}", "read", "file", "ok", large.program("/bin/app", None, "app"))
    if gone:
        here.close()
    began = time.monotonic()
    with Feed(there).showing(lambda: figures(large)):
        pass
    assert time.monotonic() - began < HANG_SECONDS


ITEMS = st.builds(Item, st.sampled_from(list(KINDS)), st.floats(0, 1e6), st.text(), st.text(), st.text())


@given(st.lists(ITEMS), st.dictionaries(st.text(), st.integers()), st.none() | st.integers())
def test_messages_are_lines(items: list[Item], losses: dict[str, int], fullest: int | None) -> None:
    news = News(items=tuple(items), seconds=1.5, losses=losses, fullest=fullest, chances={"file": 0.5})
    line = dumps(news)
    assert line.count(b"\n") == 1
    assert loads(line) == news


def test_chances() -> None:
    """Uses of one item by several programs are added; there is no estimate from a few uses."""
    rows = [("syscall", 1, 20), ("syscall", 1, 20), ("syscall", 2, 1), ("file", "a", 1)]
    assert chances(rows) == {"syscall": 1 / 41}
