"""What ``profgen refine`` found as a Report: a finding for each entry that denials ask for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from profiler.cli.denial_findings import DENIED, of_denial
from profiler.denials.additions import Addition, Proposal
from profiler.denials.logs.reading import Reading
from profiler.review.findings import Finding, Report, Rule, by_level, located
from profiler.wording import counted

RULES = {
    **DENIED,
    "denial-unanswered": Rule("note", "denials that no entry of the policy ends"),
    "log-gap": Rule("note", "the log has gaps: there may be more denials"),
    "log-unread": Rule("error", "a line looks like a denial and was not understood"),
}


def report(
    source: str, content: bytes, proposal: Proposal, reading: Reading, written: bool, data: Mapping[str, Any]
) -> Report:
    """Return the report. ``source``: the policy; ``content``: of that file. ``written``: the additions were written, so
    they do not make the command fail. ``data``: further members of the JSON."""
    found = (*_proposed(proposal, written), *_unanswered(proposal), *_about_log(reading))
    summary = f"{counted(len(proposal.added), 'entry', 'entries')} to add" + (
        f", {len(proposal.refused)} that may be dangerous" if proposal.refused else ""
    )
    failing = ("error",) if written else ("error", "warning")
    return Report("refine", source, RULES, located(by_level(found), content), summary, failing=failing, data=data)


def _proposed(proposal: Proposal, written: bool) -> Iterator[Finding]:
    for row in proposal.added:
        yield _finding(row, "note" if written else "warning", "review the change and write it with --in-place")
    for row in proposal.refused:
        options = " ".join(dict.fromkeys(f"--allow-dangerous {danger.item}" for danger in row.dangers))
        fix = "; or ".join((*row.choices, f"to add it: {options}"))
        yield _finding(row, "note" if written else "warning", fix)


def _finding(row: Addition, level: str, fix: str) -> Finding:
    what = "; ".join((row.what, *row.because, *(f"danger: {danger.why}" for danger in row.dangers)))
    details = {"notes": list(row.notes), "dangers": [danger.why for danger in row.dangers]}
    return of_denial(row.denials[0], level, row, what, fix, details)


def _unanswered(proposal: Proposal) -> Iterator[Finding]:
    for row in proposal.unanswered:
        what = f"nothing to add for {row.what} ({counted(row.count, 'time')}): {row.why}"
        yield Finding("denial-unanswered", "note", "", what, key=(row.what,))


def _about_log(reading: Reading) -> Iterator[Finding]:
    for gap in reading.gaps:
        lost = f" ({gap.lost} of them)" if gap.lost else ""
        yield Finding("log-gap", "note", "", f"there may be more denials: {gap.what}{lost}", key=(gap.what,))
    if reading.unread:
        what = f"{counted(reading.unread, 'line')} of the log may be denials, and were not understood"
        fix = "read the same log in another form: auditd's log, or journalctl -o json"
        yield Finding("log-unread", "error", "", what, fix)
