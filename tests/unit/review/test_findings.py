"""Findings keep their identity when lines move; reports count."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from unit.review.reports import REPORTS, RULES, finding, report

from profiler.review.findings import Report, Rule, at_least, by_level, located


def test_levels() -> None:
    assert at_least("warning") == ("error", "warning")
    assert at_least("never") == ()
    rows = (finding(level="note"), finding(level="error"))
    assert [row.level for row in by_level(rows)] == ["error", "note"]
    found = report(*rows, failing=at_least("error"))
    assert (found.counts, found.counted) == ({"error": 1, "warning": 0, "note": 1}, "1 error, 1 note")
    assert [row.level for row in found.failures] == ["error"]
    assert report().counted == "nothing found"


def test_severities() -> None:
    assert RULES["one"].security_severity == 8.0
    assert Rule("note", "x", severity=0.0).security_severity == 0.0


def test_a_fingerprint_is_that_of_the_entry() -> None:
    row = finding(about=("CAP_KILL",))
    (before,) = report(row).fingerprints
    assert report(replace(row, line=9, what="said otherwise", fix="", level="note")).fingerprints == (before,)
    assert report(replace(row, about=("CAP_CHOWN",))).fingerprints != (before,)
    assert report(replace(row, rule="two-b")).fingerprints != (before,)
    assert report(replace(row, key=("CAP_KILL",), about=("x",))).fingerprints == (before,)


@given(REPORTS)
def test_fingerprints_differ(found: Report) -> None:
    assert len(set(found.fingerprints)) == len(found.findings)


def test_lines_are_those_of_the_file() -> None:
    rows = (finding(where="capabilities", about=("CAP_KILL",)), finding(where="nothing"))
    assert [row.line for row in located(rows, b"a: 1\ncapabilities:\n  CAP_KILL: {}\n")] == [3, 1]


def test_the_file_of_one_object() -> None:
    assert report(source="all.yaml#web").file_of(finding()) == "all.yaml"
    assert report().file_of(finding(file=".profgen.yaml")) == ".profgen.yaml"
