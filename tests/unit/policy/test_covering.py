"""Which patterns hold which, against texts that fit them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.policy.covering import covers
from profiler.policy.patterns import CLASSES, Class, Literal, Token, dumps, literal, matches

TEXTS = {
    "pid": st.integers(1, 9999999).map(str),
    "tid": st.integers(1, 9999999).map(str),
    "uuid": st.uuids().map(str),
    "hex": st.sampled_from([16, 32, 40, 64]).flatmap(
        lambda length: st.text("0123456789abcdef", min_size=length, max_size=length)
    ),
    "digits": st.text("0123456789", min_size=1, max_size=20),
    "random": st.sampled_from([6, 8, 10]).flatmap(
        lambda length: st.text("abcXYZ019_", min_size=length, max_size=length)
    ),
    "date": st.dates().map(lambda day: f"20{day.year % 100:02}-{day.month:02}-{day.day:02}"),
    "version": st.lists(st.integers(0, 99), min_size=1, max_size=4).map(lambda parts: ".".join(map(str, parts))),
    "name": st.text("ab1.-_", min_size=1, max_size=6),
    "tree": st.lists(st.text("ab1", min_size=1, max_size=3), min_size=1, max_size=3).map("/".join),
    "home": st.sampled_from(["/root", "/home/ann", "/home/1"]),
}


def test_every_class_has_texts() -> None:
    assert TEXTS.keys() == CLASSES.keys()


PIECES = st.sampled_from(
    [
        Literal("/srv"),
        Literal("/"),
        Literal("a"),
        Literal("1"),
        Literal("-"),
        Literal(".so."),
        Literal("/home/"),
        Literal("/root"),
    ]
)
TOKENS: st.SearchStrategy[Token] = PIECES | st.sampled_from(sorted(set(CLASSES) - {"home"})).map(Class)


@st.composite
def patterns(draw: st.DrawFn) -> list[Token]:
    start: Token = draw(st.sampled_from([Class("home"), Literal("/srv/"), Literal("/home/"), Literal("/root")]))
    return [start, *draw(st.lists(TOKENS, max_size=4))]


@settings(max_examples=600)
@given(patterns(), patterns(), st.data())
def test_a_pattern_that_covers_another_fits_all_its_texts(
    outer: list[Token], inner: list[Token], data: st.DataObject
) -> None:
    for one in (outer, [*inner[:1], *outer[1:]], [*inner[:-1], Class("tree")], [*inner[:-1], Class("name")]):
        if covers(dumps(one), dumps(inner)):
            text = "".join(
                token.text if isinstance(token, Literal) else data.draw(TEXTS[token.name]) for token in inner
            )
            assert matches(dumps(inner), text)
            assert matches(dumps(one), text)


@pytest.mark.parametrize(
    ("outer", "inner", "wanted"),
    [
        ("/etc/{name}", "/etc/passwd", True),
        ("/etc/{name}", "/etc/ssl/x", False),
        ("/etc/{tree}", "/etc/ssl/{name}", True),
        ("/etc/{tree}", "/etc", False),
        ("/etc/{name}", "/etc/{tree}", False),
        ("/etc/{tree}", "/etc/{tree}", True),
        ("/etc/{tree}", "/etc/{name}/{tree}", True),
        ("/proc/{pid}/{name}", "/proc/{pid}/stat", True),
        ("/proc/{digits}/stat", "/proc/{pid}/stat", True),
        ("/proc/{pid}/stat", "/proc/{digits}/stat", False),
        ("/proc/{pid}/stat", "/proc/0/stat", False),
        ("/proc/{name}/stat", "/proc/{pid}/stat", True),
        ("/tmp/x{random}", "/tmp/xabc123", True),
        ("/tmp/{name}", "/tmp/x{random}.{digits}", True),
        ("/tmp/x{random}", "/tmp/{name}", False),
        ("{home}/.ssh", "/home/ann/.ssh", True),
        ("{home}/.ssh", "/home/{name}/.ssh", True),
        ("{home}/.ssh", "/root/.ssh", True),
        ("/home/{name}/.ssh", "{home}/.ssh", False),
        ("/{tree}", "/home/{name}", True),
        ("/a{name}b", "/axxb", True),
        ("/a{name}b", "/a{name}c", False),
        (literal("/a{x}\\"), literal("/a{x}\\"), True),
        (literal("/a\udcff") + "{name}", literal("/a\udcffb"), True),
    ],
)
def test_examples(outer: str, inner: str, wanted: bool) -> None:
    assert covers(outer, inner) is wanted
