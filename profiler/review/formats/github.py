"""A report as annotations of GitHub Actions: a workflow command for each finding."""

from __future__ import annotations

from collections.abc import Iterator

from profiler.quoting.github import command
from profiler.review.findings import Report

COMMANDS = {"error": "error", "warning": "warning", "note": "notice"}


def render(report: Report) -> str:
    """Return a line for each finding, and one with the counts.

    The last line has no text from the file: the runner looks for commands of an older form anywhere in a line.
    """
    return "".join(f"{line}\n" for line in _lines(report))


def _lines(report: Report) -> Iterator[str]:
    for finding in report.findings:
        properties = {
            "file": report.place_of(finding),
            "line": str(finding.line),
            "title": f"profgen {report.command}: {finding.rule}",
        }
        message = f"{finding.what}\nfix: {finding.fix}" if finding.fix else finding.what
        yield command(COMMANDS[finding.level], properties, message)
    yield f"profgen {report.command}: {report.counted}"
