"""What the view shows fits its width, whatever it is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.live.items import KINDS, Item
from profiler.live.news import News
from profiler.live.state import ALL, OUTPUT, PAGES, SORTS, State, clock
from profiler.quoting.text import width


def columns_of(text: str) -> int:
    return sum(map(width, text))


def state(*items: Item, **news: object) -> State:
    made = State("app")
    made.take(News(items=items, **{"seconds": 10.0, **news}))  # type: ignore[arg-type]
    return made


PRINTABLE = st.text("ab /漢字\u0301…", max_size=60)
ITEMS = st.builds(Item, st.sampled_from(list(KINDS)), st.floats(0, 90_000), PRINTABLE, PRINTABLE, PRINTABLE)


@given(st.lists(ITEMS, max_size=8), st.integers(30, 220), PRINTABLE)
def test_everything_fits(items: list[Item], columns: int, title: str) -> None:
    shown = state(*items, losses={"paths": 3}, chances={"file": 0.25, "syscall": 0.01}, running=2, fullest=7)
    shown.title = title
    assert columns_of(shown.head(columns)) == columns
    assert all(len(row) == columns for row in shown.curve(columns, 2))
    assert columns_of(shown.saturation(columns)) <= columns
    assert all(columns_of(text) == 20 for text, _ in shown.side(20, 1 << 30))
    for page in PAGES:
        shown.page = page
        assert all(columns_of(shown.row(item, columns)) == columns for item in shown.rows())


def test_pages_and_sorts() -> None:
    a, b = Item("file", 1.0, "read /b", "sh"), Item("syscall", 2.0, "getpid", "app")
    shown = state(a, b)
    found = {}
    for name in SORTS:
        found[shown.sort] = shown.rows()
        assert shown.sort == name
        shown.next_sort()
    assert found == {"newest first": [b, a], "oldest first": [a, b], "by name": [b, a], "by program": [b, a]}
    assert shown.sort == "newest first"
    shown.page = "file"
    assert shown.rows() == [a]
    shown.page = OUTPUT
    assert shown.rows() == []


def test_curve() -> None:
    shown = state(*(Item("file", second, str(second), "") for second in (0.0, 0.0, 5.0, 9.9)))
    low, high = shown.curve(10, 2)[::-1]
    assert low == "█" * 10, "half of them came at once"
    assert high == "    ▄▄▄▄▄█"
    assert State("app").curve(10, 2) == [" " * 10] * 2


@pytest.mark.parametrize(
    ("paused", "asked", "over", "word"),
    [
        (False, False, False, "recording 0:10.0"),
        (True, False, False, "paused, 1 new 0:10.0"),
        (True, True, False, "ending 0:10.0"),
        (True, False, True, "ended, q leaves 0:10.0"),
    ],
)
def test_status(paused: bool, asked: bool, over: bool, word: str) -> None:
    shown = state(Item("file", 1.0, "a", ""))
    if paused:
        shown.pause()
    shown.take(News(items=(Item("file", 2.0, "b", ""),), seconds=10.0))
    shown.asked, shown.over = asked, over
    assert shown.head(40) == f"app{word:>37}"
    assert State("app").head(40).endswith("starting 0:00.0")


def test_side() -> None:
    shown = state(Item("file", 1.0, "a", ""), memory=48 << 20)
    rows = dict(shown.side(20, 2000))
    assert rows["1 all              1"] == ALL
    assert rows["8 output      2.0 kB"] == OUTPUT
    assert "losses          none" in rows
    assert "memory       50.3 MB" in rows
    assert "lost paths         3" in dict(state(losses={"paths": 3}).side(20, 0))


def test_times() -> None:
    assert [clock(at) for at in (0, 9.96, 59.99, 75.5, 754, 3723)] == [
        "0:00.0", "0:09.9", "0:59.9", "1:15.5", "12:34", "1:02:03",
    ]  # fmt: skip


def test_several_subjects() -> None:
    """A wide row has the subject with the program, a narrow one before the text."""
    item = Item("file", 1.0, "read /etc/passwd", "app", "web")
    shown = state(item, running=2)
    shown.page = "file"
    assert shown.row(item, 60).endswith("web: app        ")
    assert shown.row(item, 40).strip() == "0:01.0 web: read /etc/passwd"
    assert "web" not in state(item, running=1).row(item, 60)
