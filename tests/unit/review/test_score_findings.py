"""What a score leaves open as findings, and what got worse."""

from __future__ import annotations

from dataclasses import replace

import pytest
from unit.review.test_score import NONE, rights, server

from profiler.review.findings import LEVELS, Report
from profiler.review.score import Score, score
from profiler.review.score_findings import RULES, figures, report

POLICY = b"capabilities:\n  CAP_KILL: {}\nsyscalls:\n  observed:\n    execve: {}\n    clone: {}\n"


def found(of: Score, bound: int | Score | None = None) -> Report:
    made = report(of, POLICY, bound, ("error",))
    assert all(row.rule in RULES and row.level in LEVELS and row.what and row.fix for row in made.findings)
    return made


def test_all_reachable_cves_are_one_finding() -> None:
    of = score(server(), NONE)
    (row,) = (row for row in found(of).findings if row.rule == "cve-reachable")
    assert sorted(row.about) == sorted(row.cve.identifier for row in of.verdicts if not row.blocked)
    assert row.what.startswith(f"{len(row.about)} CVEs can be reached: ")
    assert {way: len(names) for way, names in row.details.items()} == {
        way: len(of.reachable[way]) for way in of.reachable
    }
    assert not found(of).failures
    assert "cve-reachable" not in {row.rule for row in found(score(rights(["read"], []), NONE)).findings}


def test_what_is_open_is_a_note_at_its_line() -> None:
    of = score(rights(["execve", "clone"], ["CAP_KILL"]), NONE)
    rows = {(row.rule, row.about): row for row in found(of).findings}
    assert rows["capability-held", ("CAP_KILL",)].line == 2
    assert {row.line for row in rows.values() if row.rule == "cve-reachable"} == {5}, "that of execve"
    assert rows["arguments-unfiltered", ("clone",)].line == 6
    assert {row.level for row in rows.values()} == {"note"}


def test_assumed_capabilities_are_no_finding() -> None:
    of = score(replace(server(), capabilities=None), frozenset({"CAP_KILL"}))
    assert "capability-held" not in {row.rule for row in found(of).findings}


@pytest.mark.parametrize(("more", "fails"), [(0, False), (1, True), (-1, False)])
def test_a_least_number(more: int, fails: bool) -> None:
    of = score(server(), NONE)
    made = found(of, of.points + more)
    assert bool(made.failures) is fails
    if fails:
        assert made.findings[0].what == f"the score is {of.points}, below {of.points + 1}"


def test_worse_in_one_figure_is_worse() -> None:
    """More capabilities, fewer syscalls: the number may be higher, and yet something is newly open."""
    old = score(rights(["read", "ptrace", "mount", "bpf"], []), NONE)
    new = score(rights(["read"], ["CAP_KILL"]), NONE)
    (row,) = found(new, old).failures
    assert (row.rule, row.key, row.about) == ("score-lower", ("capabilities",), ("CAP_KILL",))
    assert "capabilities held: 1, x has 0: CAP_KILL" in row.what
    assert not found(old, old).failures
    worse = {row.key[0] for row in found(old, new).failures}
    assert worse == {"syscalls", "arguments", "cves"}


def test_figures() -> None:
    rows = dict(figures(score(server(), NONE)))
    assert rows["score"].endswith(" of 100")
    assert "CVEs blocked" in rows
    assert len(rows) == 10
