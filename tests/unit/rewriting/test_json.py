"""Editing JSON in place: the value is set, every other byte stays."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.rewriting.json import Unreadable, insert, loads, put

KEYS = st.sampled_from(["a", "b", "process", 'q"}{', "é", ""])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5).filter(str.isprintable),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


def with_member(document: dict[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    """The same document with one member set."""
    inner = value if len(path) == 1 else with_member(document.get(path[0], {}), path[1:], value)
    return {**document, path[0]: inner}


@given(
    st.dictionaries(KEYS, VALUES, max_size=4),
    st.lists(KEYS, min_size=1, max_size=3),
    VALUES,
    st.sampled_from([None, 0, 1, 4, "\t"]),
    st.booleans(),
)
def test_only_the_member_changes(
    document: dict[str, Any], path: list[str], value: Any, indent: Any, crlf: bool
) -> None:
    place: Any = document
    for key in path[:-1]:
        place = place.get(key, {})
        if not isinstance(place, dict):
            return
    text = json.dumps(document, indent=indent)
    text = text.replace("\n", "\r\n") if crlf else text
    made = put(text, path, value)
    assert json.loads(made) == with_member(document, path, value)
    assert list(json.loads(made)) == list(with_member(document, path, value)), "the order of members stays"
    assert put(made, path, value) == made
    if crlf:
        assert "\n" not in made.replace("\r\n", "")


@given(
    st.none() | st.lists(VALUES, max_size=4),
    st.integers(0, 5),
    VALUES,
    st.sampled_from([None, 0, 1, 4, "\t"]),
    st.booleans(),
)
def test_only_one_item_comes_in(rows: list[Any] | None, index: int, value: Any, indent: Any, crlf: bool) -> None:
    """In a list of an object in an object; a list that is missing is made."""
    document: dict[str, Any] = {"a": {"b": 1, **({} if rows is None else {"rows": rows}), "c": [1]}, "d": {}}
    text = json.dumps(document, indent=indent)
    text = text.replace("\n", "\r\n") if crlf else text
    made = insert(text, ["a", "rows"], index, value)
    expected = list(rows or [])
    expected.insert(index, value)
    assert json.loads(made)["a"].pop("rows") == expected
    for key in ("b", "c"):
        assert json.loads(made)["a"][key] == document["a"][key]
    assert json.loads(made)["d"] == {}
    if crlf:
        assert "\n" not in made.replace("\r\n", "")
    if rows and indent not in (None, 0):
        assert made.replace("\r\n", "\n") == json.dumps(json.loads(made), indent=indent), "laid out as the others"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff", "not UTF-8 (byte 0)"),
        (b"", "Expecting value"),
        (b"\xef\xbb\xbf{}", "begins with a byte-order mark"),
        (b"[1]", "not a JSON object"),
        (b"{} {}", "something follows"),
        (b'{"a": 1, "a": 2}', "'a' is given twice"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_what_readers_would_not_take_alike_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(Unreadable) as raised:
        loads(data)
    assert message in str(raised.value)
