"""Accepted findings: rows with a reason, their limits, and what is said of rows that accept nothing."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from unit.review.reports import NASTY, finding, report

from profiler.errors import InputError
from profiler.review.findings import Report
from profiler.review.ignores import FILE, Ignore, applied, path_for, read, with_row

KNOWN = ("one", "two-b", "three")
TODAY = datetime.date(2026, 11, 30)
PLACE = Path(FILE)


def after(found: Report, *rows: Ignore) -> Report:
    return applied(found, rows, PLACE, TODAY)


@pytest.mark.parametrize(
    ("about", "rows", "accepted"),
    [
        ((), (Ignore("one", "r"),), True),
        (("a",), (Ignore("one", "r"),), True),
        (("a",), (Ignore("one", "r", "a"),), True),
        (("a",), (Ignore("one", "r", "b"),), False),
        ((), (Ignore("one", "r", "a"),), False),
        (("a", "b"), (Ignore("one", "r", "a"),), False),
        (("a", "b"), (Ignore("one", "r", "a"), Ignore("one", "s", "b")), True),
        (("a",), (Ignore("two-b", "r", "a"),), False),
        (("a",), (Ignore("one", "r", "a", until=TODAY),), True),
        (("a",), (Ignore("one", "r", "a", until=TODAY - datetime.timedelta(1)),), False),
        (("a",), (Ignore("one", "r", file="policy.yaml"),), True),
        (("a",), (Ignore("one", "r", file="seccomp.json"),), False),
    ],
)
def test_what_is_accepted(about: tuple[str, ...], rows: tuple[Ignore, ...], accepted: bool) -> None:
    found = after(report(finding(about=about), finding(rule="two-b", about=("z",))), *rows)
    assert [row.finding.rule for row in found.accepted] == (["one"] if accepted else [])
    assert ("one" in [row.rule for row in found.findings]) is not accepted


def test_a_part_is_accepted() -> None:
    found = after(report(finding(about=("a", "b"))), Ignore("one", "r", "a"))
    assert [row.what for row in found.findings] == ["what it is (accepted: a)"]
    assert found.fingerprints == report(finding(about=("a", "b"))).fingerprints


def test_reasons_are_kept() -> None:
    found = after(report(finding(about=("a", "b"))), Ignore("one", "r", "a"), Ignore("one", "s", "b"))
    assert found.accepted[0].reason == "r; s"


def test_a_row_that_accepts_nothing_is_a_finding() -> None:
    past = TODAY - datetime.timedelta(1)
    rows = (Ignore("one", "r", "gone", line=3), Ignore("one", "r", "a", until=past, line=7), Ignore("three", "r"))
    found = after(report(finding(about=("a",)), failing=("error", "warning")), *rows)
    assert [(row.rule, row.level, row.file, row.line) for row in found.findings] == [
        ("one", "error", "", 1),
        ("unused-ignore", "note", FILE, 3),
        ("expired-ignore", "warning", FILE, 7),
    ], "a row of a rule that this command does not have is for another one"
    assert {row.rule for row in found.findings} <= found.rules.keys()


def test_the_file(tmp_path: Path) -> None:
    path = tmp_path / FILE
    assert read(path, KNOWN) == ()
    path.write_text(
        "# why\nignore:\n- rule: one\n  entry: CAP_KILL\n  reason: it reaps\n  until: 2027-01-31\n"
        "- {rule: two-b, reason: x, file: a.json}\n"
    )
    assert read(path, KNOWN) == (
        Ignore("one", "it reaps", "CAP_KILL", until=datetime.date(2027, 1, 31), line=3),
        Ignore("two-b", "x", file="a.json", line=7),
    )
    path.write_text("ignore:\n")
    assert read(path, KNOWN) == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ignore: [{rule: one}]", "'reason' is missing"),
        ("ignore: [{rule: one, reason: ' '}]", "say why"),
        ("ignore: [{rule: onee, reason: x}]", "did you mean one?"),
        ("ignore: [{rule: one, reason: x, why: y}]", "unknown key 'why'"),
        ("ignore: [{rule: one, reason: x, until: soon}]", "must be a date"),
        ("ignore: [{rule: one, reason: x, until: 2027-01-31 10:00:00}]", "must be a date"),
        ("ignore: {rule: one}", "must be a list"),
        ("- rule: one", "must be a mapping"),
        ("ignores: []", "'ignore' is missing"),
        ("ignore: [", "cannot be read as YAML"),
    ],
)
def test_a_wrong_file_is_refused(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.write_text(text)
    with pytest.raises(InputError, match="\\" + FILE) as error:
        read(path, KNOWN)
    assert words in str(error.value)


def test_where_it_is() -> None:
    assert path_for("app/policy.yaml") == Path("app/.profgen.yaml")
    assert path_for("all.yaml#web") == Path(".profgen.yaml")
    assert path_for("/dev/stdin") == path_for("docker-default") == Path(".profgen.yaml")


def test_a_row_is_added(tmp_path: Path) -> None:
    path = tmp_path / FILE
    rows = (Ignore("one", "r: #1", "CAP_KILL", until=TODAY), Ignore("two-b", "s"))
    data = b""
    for row in rows:
        data = with_row(data, row, FILE, KNOWN)
        data = data.replace(b"  reason: s", b"  reason: s  # a comment")
    path.write_bytes(data)
    assert [(row.rule, row.reason, row.entry, row.until) for row in read(path, KNOWN)] == [
        ("one", "r: #1", "CAP_KILL", TODAY),
        ("two-b", "s", None, None),
    ]
    assert data.startswith(b"# ")
    assert b"# a comment" in with_row(data, rows[0], FILE, KNOWN), "what people wrote stays"


@given(st.sampled_from(NASTY) | st.text(max_size=10), st.sampled_from(NASTY) | st.text(min_size=1, max_size=10))
def test_a_row_with_any_text(entry: str, reason: str) -> None:
    try:
        data = with_row(b"", Ignore("one", reason, entry), FILE, KNOWN)
    except InputError:
        assert not reason.strip()
        return
    (row,) = yaml.safe_load(data)["ignore"]
    assert row["rule"] == "one"
    assert data.isascii()


@pytest.mark.parametrize("data", [b"ignore: []\n", b"ignore: [{rule: one, reason: x}]\n", b"ignore: 1\n"])
def test_a_row_that_does_not_fit_at_the_end_is_refused(data: bytes) -> None:
    with pytest.raises(InputError):
        with_row(data, Ignore("one", "r"), FILE, KNOWN)


def test_a_row_for_an_unknown_rule_or_without_a_reason_is_refused() -> None:
    for row in (Ignore("nothing", "r"), Ignore("one", " ")):
        with pytest.raises(InputError):
            with_row(b"", row, FILE, KNOWN)
