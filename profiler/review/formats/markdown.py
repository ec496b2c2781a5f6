"""A report as GitHub Flavored Markdown, for a comment or the summary of a job."""

from __future__ import annotations

from collections.abc import Iterator

from profiler.quoting.markdown import code
from profiler.review.findings import Finding, Report


def render(report: Report) -> str:
    """Return the figures and the findings in tables, and what was accepted folded."""
    return "".join(f"{line}\n" for line in _lines(report))


def _lines(report: Report) -> Iterator[str]:
    yield f"### profgen {report.command}: {code(report.source)}"
    yield ""
    yield f"{code(report.summary)}: {report.counted}." if report.summary else f"{report.counted}.".capitalize()
    if report.facts:
        yield from ("", "| figure | value |", "|---|---|")
        yield from (f"| {code(label)} | {code(value)} |" for label, value in report.facts)
    if report.findings:
        yield from ("", "| level | rule | finding | fix |", "|---|---|---|---|")
        yield from (_row(report, finding) for finding in report.findings)
    if report.accepted:
        yield from ("", f"<details><summary>Accepted: {len(report.accepted)}</summary>", "")
        yield from ("| rule | finding | reason |", "|---|---|---|")
        yield from (
            f"| {row.finding.rule} | {code(row.finding.what)} | {code(row.reason)} |" for row in report.accepted
        )
        yield from ("", "</details>")


def _row(report: Report, finding: Finding) -> str:
    level = f"**{finding.level}**" if finding.level == "error" else finding.level
    fix = "<br>".join(map(code, finding.fix.split("\n")))
    place = f"{report.file_of(finding)}:{finding.line}"
    return f"| {level} | {finding.rule} | {code(finding.what)}<br>{code(place)} | {fix} |"
