"""A report as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from profiler.quoting.text import printable
from profiler.review.findings import Finding, Report
from profiler.style import PLAIN, Style

_INDENT = " " * 9


def render(report: Report, style: Style = PLAIN) -> str:
    """Return the findings with their fixes, what was accepted, and the counts."""
    return "".join(f"{line}\n" for line in _lines(report, style))


def _lines(report: Report, style: Style) -> Iterator[str]:
    for finding in report.findings:
        yield from lines_of(report, finding, style)
    for row in report.accepted:
        yield f"{style('faint', 'ignored')}  {row.finding.rule}"
        yield style.wrapped(printable(_what(report, row.finding)), _INDENT)
        yield style.wrapped(printable(f"reason: {row.reason}"), _INDENT)
    ignored = f" ({len(report.accepted)} ignored)" if report.accepted else ""
    yield f"{printable(report.source)}: {report.counted}{ignored}"


def lines_of(report: Report, finding: Finding, style: Style) -> Iterator[str]:
    """Return a finding as lines: its level and rule, what it is and where, and the fix."""
    yield f"{style(finding.level, f'{finding.level:<7}')}  {finding.rule}"
    yield style.wrapped(printable(_what(report, finding)), _INDENT)
    if finding.fix:
        yield style.wrapped(printable(f"fix: {finding.fix}"), _INDENT)


def _what(report: Report, finding: Finding) -> str:
    place = ": ".join(part for part in (finding.file, finding.where) if part)
    return f"{place}: {finding.what}" if place else finding.what
