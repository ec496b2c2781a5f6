"""Text that fits a number of columns."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.quoting.text import cut, elided, fitted, padded


def columns_of(text: str) -> int:
    """How many columns a text takes, by the letters that the tests use."""
    return sum(0 if unicodedata.combining(letter) else 2 if letter in "漢字" else 1 for letter in text)


@given(st.text("ab 漢字\u0301", max_size=40), st.integers(0, 50))
def test_fitted(text: str, columns: int) -> None:
    shown = fitted(text, columns)
    assert text.startswith(shown)
    assert columns_of(shown) < max(columns, 1)
    rest = text[len(shown) :]
    assert not rest or columns_of(shown + rest[0]) >= columns, "no letter less than fits"


@given(st.text("ab 漢字\u0301", max_size=40), st.integers(0, 50))
def test_cut_and_padded(text: str, columns: int) -> None:
    assert columns_of(cut(text, columns)) <= columns
    assert columns_of(padded(text, columns)) == columns
    assert columns_of(elided(text, columns)) <= columns
    assert (elided(text, columns) == text) is (cut(text, columns) == text)
    assert (cut(text, columns) == text) is (columns_of(text) <= columns)


@pytest.mark.parametrize(
    ("text", "columns", "shown"),
    [
        ("/etc/passwd", 11, "/etc/passwd"),
        ("/etc/passwd", 8, "/etc/pa…"),
        ("漢字", 3, "漢…"),
        ("ab", 1, "…"),
        ("a", 0, ""),
    ],
)
def test_cut(text: str, columns: int, shown: str) -> None:
    assert cut(text, columns) == shown


def test_elided() -> None:
    """Both ends of a path say something."""
    assert elided("read /usr/lib/python3/dist-packages/yaml/loader.py", 24) == "read /us…/yaml/loader.py"
    assert [elided("abcdef", columns) for columns in range(4)] == ["", "…", "…f", "a…f"]
