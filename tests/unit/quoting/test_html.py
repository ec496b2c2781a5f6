"""Text in HTML pages, against Python's HTML parser and a JSON reader."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest
from hypothesis import given
from jinja2 import Environment
from unit.quoting.test_quoting import ARGUMENT

from profiler.quoting.html import FILTERS, SHOWN_MAX, finalize, script, shown

PAGE = (
    "<p title='{{ text }}'>{{ text }}</p><script type='application/json'>{{ {'t': [text]} | script_json }}</script><b>"
)
HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "' onclick='x",
    "&lt;b&gt;",
    "{{ 7 * 7 }}",
    "a\u202egpj.exe",
    "\x1b[31mred",
    "bad\udcffname",
    "a\nb\x00c",
]


class Reader(HTMLParser):
    """Collects tags, and the text in each."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: dict[str, str] = {}
        self.titles: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.titles += [value for name, value in attrs if name == "title"]

    def handle_data(self, data: str) -> None:
        self.texts[self.tags[-1]] = self.texts.get(self.tags[-1], "") + data


def read(text: str) -> Reader:
    environment = Environment(autoescape=True, finalize=finalize)
    environment.filters |= FILTERS
    reader = Reader()
    reader.feed(environment.from_string(PAGE).render(text=text))
    reader.close()
    return reader


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_text(text: str) -> None:
    check(text)


@given(ARGUMENT)
def test_any_text_is_text(text: str) -> None:
    check(text)


def check(text: str) -> None:
    page = read(text)
    assert page.tags == ["p", "script", "b"]
    assert page.titles == [shown(text)]
    assert page.texts.get("p", "") == shown(text)
    assert json.loads(page.texts["script"]) == {"t": [shown(text)]}
    assert shown(text).isprintable()


def test_long_text_loses_its_middle() -> None:
    made = shown("a" * 2000 + "b" * 2096)
    assert made.startswith("a" * (SHOWN_MAX // 2))
    assert made.endswith("b" * (SHOWN_MAX // 2))
    assert f"[... {4096 - SHOWN_MAX} characters ...]" in made
    assert shown("a" * SHOWN_MAX) == "a" * SHOWN_MAX


def test_code_cannot_end_its_element() -> None:
    assert script('x = "</script>" + /<!--/ + "<Script" + (a < b)') == (
        'x = "\\x3c/script>" + /\\x3c!--/ + "\\x3cScript" + (a < b)'
    )
