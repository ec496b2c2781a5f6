"""Words that many messages share."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler import wording
from profiler.wording import alternatives, cause, counted, duration, grouped, listed, shortened, size, suggestion


def test_a_cause_is_what_the_system_says_in_lower_case() -> None:
    assert cause(errno.EACCES) == "permission denied"
    assert cause(OSError(errno.ENOENT, "No such file or directory", "x")) == "no such file or directory"
    assert cause(OSError("Broken in its own way")) == "broken in its own way"


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, "0 calls"), (1, "1 call"), (2, "2 calls"), (1204, "1 204 calls"), (1234567, "1 234 567 calls")],
)
def test_things_are_counted(number: int, expected: str) -> None:
    assert counted(number, "call") == expected


def test_a_plural_may_be_irregular() -> None:
    assert counted(1, "entry", "entries") == "1 entry"
    assert counted(3, "entry", "entries") == "3 entries"


@given(st.integers(0, 1 << 64))
def test_digits_stay_what_they_are(number: int) -> None:
    text = grouped(number)
    assert int(text.replace(" ", "")) == number
    assert all(len(group) == 3 for group in text.split(" ")[1:])


@pytest.mark.parametrize(
    ("number", "expected"), [(0, "0 B"), (830, "830 B"), (12345, "12.3 kB"), (1234567, "1.2 MB"), (5 * 10**9, "5.0 GB")]
)
def test_sizes(number: int, expected: str) -> None:
    assert size(number) == expected


def test_what_was_meant() -> None:
    assert suggestion("opnat", ["openat", "read"]) == " (did you mean openat?)"
    assert suggestion("xyzzy", ["openat", "read"]) == ""
    assert alternatives(["a", "b", "c"]) == " (did you mean a, b or c?)"
    assert alternatives([]) == ""


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0s"),
        (0.0004, "1ms"),
        (0.072, "72ms"),
        (0.1, "0.1s"),
        (1.0, "1s"),
        (12.34, "12.3s"),
        (59.96, "1m"),
        (125, "2m 5s"),
        (3600, "1h"),
        (3859.7, "1h 4m"),
        (90061, "1d 1h"),
    ],
)
def test_times(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


def test_every_time_is_printed_by_one_function() -> None:
    own = re.compile(r"""\.\d[fg]\}\s?(?:ms|s|min)\b|\b(?:seconds|SECONDS)(?::[^}]*)?\} ?s\b""")
    sources = Path(wording.__file__).parent.rglob("*.py")
    assert [path.name for path in sources if own.search(path.read_text(encoding="utf-8"))] == []


def test_lists_are_cut_short() -> None:
    assert listed([], 2) == ""
    assert listed(["a", "b"], 2) == "a, b"
    assert listed(["a", "b", "c", "d"], 2) == "a, b and 2 more"


@given(st.lists(st.text("ab", min_size=1)), st.integers(0, 5))
def test_nothing_is_cut_for_the_sake_of_one(items: list[str], most: int) -> None:
    shown = shortened(items, most)
    if len(items) <= most + 1:
        assert shown == items
    else:
        assert shown == [*items[:most], f"and {len(items) - most} more"]
