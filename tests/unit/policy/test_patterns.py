"""Patterns: text and back, what fits, and that no file name passes for a class."""

from __future__ import annotations

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.errors import InputError
from profiler.policy.patterns import (
    CLASSES,
    Class,
    Literal,
    Token,
    dumps,
    is_literal,
    literal,
    matches,
    opens,
    parse,
    path_of,
    sort_of,
)

NAMES = (
    st.binary(min_size=1, max_size=20)
    | st.text(min_size=1, max_size=20).map(lambda text: text.encode("utf-8", "ignore"))
).map(os.fsdecode)
AWKWARD = st.sampled_from(
    ["{pid}", "\\{pid\\}", "\\", "{", "}", "\\x41", "\n", "a\x00b", "é", "\udcff", "\u2028", "\\\\{", "{home}", "*?[a]"]
)
TEXTS = st.lists(NAMES | AWKWARD, max_size=4).map("".join).map(lambda text: os.fsdecode(os.fsencode(text)))
SIZED = ["hex:2", "hex:1-16", "digits:10", "lower:7-13", "upper:26", "random:6", "base64:21"]
OTHERS = [*sorted(CLASSES.keys() - {"home"}), *SIZED]
TOKENS = st.lists(
    st.builds(Literal, TEXTS.filter(bool)) | st.sampled_from([Class(name) for name in OTHERS]), max_size=6
)


def joined(tokens: list[Token]) -> tuple[Token, ...]:
    """The same with neighbouring literals as one."""
    found: list[Token] = []
    for token in tokens:
        if found and isinstance(token, Literal) and isinstance(found[-1], Literal):
            token = Literal(os.fsdecode(os.fsencode(found.pop().text + token.text)))  # type: ignore[union-attr]
        found.append(token)
    return tuple(found)


@given(TOKENS, st.booleans())
def test_text_and_back(tokens: list[Token], home: bool) -> None:
    tokens = [Class("home"), *tokens] if home else tokens
    text = dumps(tokens)
    assert parse(text) == joined(tokens)
    assert dumps(parse(text)) == text
    assert text.isprintable()


@given(TEXTS, TEXTS)
def test_a_literal_fits_its_path_only(path: str, other: str) -> None:
    text = literal(path)
    assert text.isprintable()
    assert is_literal(text)
    assert path_of(text) == path
    assert matches(text, path)
    assert matches(text, other) == (path == other)
    assert not matches(text, path + "/")
    assert not matches(text, path + "\n")
    assert opens(text) == ""


@given(st.text(alphabet="{}\\xab04/pidhome\udcff\ud800\n", max_size=12))
def test_any_text_is_a_pattern_or_refused_in_one_line(text: str) -> None:
    try:
        tokens, problem = parse(text), ""
    except InputError as error:
        tokens, problem = (), str(error)
    assert problem.isprintable()
    assert parse(dumps(tokens)) == tokens


@pytest.mark.parametrize(
    "text",
    [
        *("{hex:}", "{hex:0}", "{hex:08}", "{hex:9-8}", "{hex:8-8}", "{hex:129}", "{pid:3}", "{x:3}", "{hex:1-}"),
        *("{:1}", "{", "}", "{pid", "{}", "{PID}", "{nothing}", "a{home}", "\\", "\\n", "\\x4", "\\xg0", "/a\ud800"),
    ],
)
def test_no_pattern(text: str) -> None:
    with pytest.raises(InputError, match=r"is not a (pattern|path)"):
        parse(text)
    if "\ud800" not in text:
        assert path_of(literal(text)) == text


def test_escapes() -> None:
    assert literal("/a{b}\\c\n\udcffé") == "/a\\{b\\}\\\\c\\x0a\\xffé"
    assert parse("\\x41\\xc3\\xa9") == (Literal("Aé"),)
    assert literal("\u2028") == "\\xe2\\x80\\xa8"
    with pytest.raises(InputError):
        literal("/\ud800")
    with pytest.raises(InputError):
        dumps([Class("nothing")])


UUID = "123e4567-e89b-12d3-a456-426614174000"
FITTING = {
    "pid": (["1", "999", "4194304"], ["0", "01", "", "12a", "1/", "12345678", "self"]),
    "tid": (["7"], ["0", "x"]),
    "uuid": ([UUID, UUID.upper()], [UUID[:-1], UUID + "0", UUID.replace("-", "")]),
    "hex": (["0" * 16, "aB" * 16, "f" * 40, "f" * 38, "0" * 128], ["0" * 15, "0" * 17, "g" * 16, ""]),
    "digits": (["0", "007", "1" * 20], ["", "1" * 21, "1.2", "a", "١"]),
    "random": (["aB3xYz", "abcd_123", "aB3xYz1234"], ["abc", "abcdefg", "abc-ef", "abcdé1", "aB3xYz12345"]),
    "date": (
        [
            "2025_05_28_06_46_38",
            "2026-01-31",
            "20260131",
            "2026-01-31T23:59:59",
            "20260131235959",
            "2026-01-31_23-59-59",
            "20260131-2359",
        ],
        ["2026-13-01", "20261301", "26-01-01", "2026-01-32", "2026-01-31T25:00:00", "20260131x", "2026_01_31"],
    ),
    "version": (["1", "1.2.3", "6.0.30"], ["", "1.", ".1", "1.2.3.4.5", "1.2a", "123456789"]),
    "name": (["a", "a b\n", "\udcff", "."], ["", "a/b", "/"]),
    "tree": (["a", "a/b/c", "a\n/b"], [""]),
    "hex:2": (["a0", "FF", "00"], ["a", "abc", "g0"]),
    "hex:1-16": (["a", "0123456789abcdef"], ["", "x", "0" * 17]),
    "digits:10": (["0000000001"], ["1", "000000000a", "0" * 11]),
    "lower:7-13": (["abc1234", "a" * 13], ["abc123", "ABC1234", "a" * 14, "a_b1234"]),
    "upper:26": (["01ARZ3NDEKTSV4RRFFQ69G5FAV"], ["01arz3ndektsv4rrffq69g5fav", "A" * 25]),
    "random:6": (["aB3xYz", "a_b1c2"], ["aB3xY", "aB3xYz1", "aB-xYz"]),
    "base64:21": (["V1StGXR8_Z5jdHi6B-myT"], ["V1StGXR8_Z5jdHi6B.myT", "a"]),
}


@pytest.mark.parametrize("name", OTHERS)
def test_classes(name: str) -> None:
    good, bad = FITTING[name]
    for text in good:
        assert matches(f"/x/{{{name}}}", f"/x/{text}"), text
        assert not matches(f"/x/{{{name}}}", f"/y/{text}"), text
        if name not in ("tree", "name"):
            assert not matches(f"/x/{{{name}}}", f"/x/{text}/more"), text
            assert not matches(f"/x/{{{name}}}", f"/x/{text}\n"), text
    for text in bad:
        assert not matches(f"/x/{{{name}}}", f"/x/{text}"), text
    sort = sort_of(name)
    assert sort is not None
    assert opens(f"/x/{{{name}}}") == sort.words


def test_home() -> None:
    assert matches("{home}/x", "/root/x")
    assert matches("{home}/x", "/home/anna/x")
    assert not matches("{home}/x", "/home/x")
    assert not matches("{home}/x", "/home/anna/b/x")
    assert opens("{home}/{digits}-{digits}") == "any user's home directory, any number of up to 20 digits"


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_the_table_is_sound(name: str) -> None:
    assert re.compile(CLASSES[name].regex).groups == 0
    assert CLASSES[name].words.isprintable()
    if name not in ("tree", "home"):
        assert not re.compile(CLASSES[name].regex).search("/")
