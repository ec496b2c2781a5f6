"""The colours and the width of reports."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.style import _CODES, PLAIN, Style


@given(st.sampled_from(sorted(_CODES)), st.text())
def test_colours_change_nothing_else(meaning: str, text: str) -> None:
    assert PLAIN(meaning, text) == text
    assert re.sub(r"^\x1b\[[0-9;]+m|\x1b\[0m$", "", Style(on=True)(meaning, text)) == text


def test_nothing_is_not_coloured() -> None:
    assert Style(on=True)("error", "") == ""


def test_an_unknown_meaning() -> None:
    with pytest.raises(KeyError):
        PLAIN("purple", "text")


@given(st.lists(st.text("ab-", min_size=1, max_size=30)), st.integers(40, 110), st.sampled_from(["", "  ", " " * 9]))
def test_lines_fit(words: list[str], width: int, indent: str) -> None:
    lines = Style(width=width).wrapped(" ".join(words), indent, first="> ").splitlines()
    assert all(len(line) <= width for line in lines)
    assert " ".join(lines).removeprefix("> ").split() == words
    assert all(line.startswith(indent) for line in lines[1:])
