"""Text in XML against real parsers."""

from __future__ import annotations

import xml.etree.ElementTree as tree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.quoting.test_quoting import ARGUMENT, NASTY

from profiler.quoting.text import printable
from profiler.quoting.xml import xml

TEXT = ARGUMENT | st.text(st.sampled_from("]]><&\"'\n\r\t\x00\x1b\x85\u2028\ufffe\udcffa;#"), max_size=20)


def check(text: str) -> None:
    written = xml(text)
    found = tree.fromstring(f'<a b="{written}">{written}</a>'.encode())
    expected = "\n".join(map(printable, text.split("\n")))
    assert (found.get("b"), found.text or "") == (expected, expected)
    assert len(list(found)) == 0
    assert written.isprintable()


@given(TEXT)
def test_parsers_give_back_the_text(text: str) -> None:
    check(text)


@pytest.mark.parametrize("text", [*NASTY, "]]>", "<!-- x -->", "<?xml?>", "&lt;", "&#27;", "</failure>"])
def test_nasty_text(text: str) -> None:
    check(text)
