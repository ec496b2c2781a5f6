"""Reasons as data: nothing that a program is called can pass for another reason."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.policy.reasons import (
    KINDS,
    NAMED,
    Reason,
    from_data,
    joined,
    named,
    programs_of,
    said,
    sentence,
    three_way,
    to_data,
)

NAMES = st.text(max_size=20) | st.sampled_from(
    ["web: 900 calls, db", "user: ok", "user", "nginx), widened: x (", "a, b", "{observed: [x]}", "\n- user"]
)


@st.composite
def reasons(draw: st.DrawFn) -> Reason:
    kind = draw(st.sampled_from(sorted(KINDS)))
    if KINDS[kind].holds == "text":
        return said(kind, draw(NAMES))
    return named(kind, draw(st.lists(NAMES, max_size=NAMED + 2)))


LISTS = st.lists(reasons(), max_size=5)


def no(what: str) -> None:
    raise ValueError(what)


@given(LISTS.filter(bool))
def test_reads_back(found: list[Reason]) -> None:
    assert from_data(to_data(found), no) == tuple(found)


@given(reasons())
def test_sentences_are_one_line(reason: Reason) -> None:
    text = sentence(reason)
    assert text.isprintable()
    assert KINDS[reason.kind].holds == "text" or text


def test_sentences() -> None:
    assert sentence(named("observed", ["sh", "nginx"])) == "observed (nginx, sh)"
    assert sentence(named("observed", map(str, range(NAMED + 1)))) == "observed"
    assert sentence(named("observed", ["a, b), x ("])) == 'observed ("a, b), x (")'
    assert sentence(named("failed", ["ENOENT", "EPERM"])) == "never seen to succeed (ENOENT, EPERM)"
    assert sentence(said("user", "asked the team")) == '"asked the team"'
    assert sentence(said("widened", "any arguments: {}")) == "widened: any arguments: {}"


@given(LISTS, LISTS, LISTS)
def test_joining(a: list[Reason], b: list[Reason], c: list[Reason]) -> None:
    assert joined([a, b]) == joined([b, a])
    assert joined([joined([a, b]), c]) == joined([a, joined([b, c])]) == joined([a, b, c])
    assert joined([joined([a]), a]) == joined([a])
    assert {reason.key for reason in joined([a, b])} == {reason.key for reason in (*a, *b)}


def test_joined_names() -> None:
    assert joined([[named("observed", ["b"])], [named("observed", ["a"])]]) == (Reason("observed", ("a", "b")),)
    many = [[named("observed", [name])] for name in "abcde"]
    assert joined(many) == (Reason("observed"),)
    assert programs_of(joined(many[:2])) == ("a", "b")


@given(LISTS, LISTS, LISTS)
def test_nothing_is_invented(base: list[Reason], ours: list[Reason], theirs: list[Reason]) -> None:
    found = three_way(base, ours, theirs)
    assert {reason.key for reason in found} <= {reason.key for reason in (*ours, *theirs)}
    assert three_way(base, base, theirs) == tuple(theirs)


def test_names_that_are_not_listed_do_not_look_like_nobody() -> None:
    assert to_data([Reason("observed")]) == {"observed": "unlisted"}
    assert from_data({"observed": "unlisted"}, no) == (Reason("observed"),)
    with pytest.raises(ValueError, match=re.escape("unknown kind of reason 'obsreved' (did you mean observed?)")):
        from_data({"obsreved": ["app"]}, no)


@pytest.mark.parametrize(
    "data",
    [5, None, {}, {"observed": "x"}, {"observed": [5]}, {"widened": []}, {"user": "x"}, {"nothing": []}, {5: []}, [[]],
     {"observed": [], "failed": []}, {"observed": []}, {"widened": "unlisted", "in": "unlisted"}],
)  # fmt: skip
def test_others_are_refused(data: object) -> None:
    with pytest.raises(ValueError, match=r"must be|unknown kind"):
        from_data(data, no)


def test_who_gave_it() -> None:
    assert {kind.by for kind in KINDS.values()} == {"recording", "pass", "refine", "minimise", "user"}
    assert all(kind.holds in ("programs", "errors", "names", "text") for kind in KINDS.values())
