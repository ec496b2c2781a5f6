"""A report as JUnit XML, the form in which CI systems take the results of tests."""

from __future__ import annotations

from collections.abc import Iterator

from profiler.quoting.xml import xml
from profiler.review.findings import Finding, Report


def render(report: Report) -> str:
    """Return a test suite with a test case for each finding; one that passes when there is none.

    Findings that do not make the command fail are test cases that pass, with the finding as their output.
    """
    return "".join(f"{line}\n" for line in _lines(report))


def _lines(report: Report) -> Iterator[str]:
    failures = len(report.failures)
    suite = f"profgen {report.command}"
    numbers = f'tests="{max(1, len(report.findings))}" failures="{failures}" errors="0" skipped="0"'
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    yield f'<testsuites name="{xml(suite)}" {numbers}>'
    yield f' <testsuite name="{xml(f"{suite}: {report.source}")}" {numbers}>'
    for finding in report.findings:
        yield from _case(report, finding)
    if not report.findings:
        yield f'  <testcase classname="{xml(suite)}" name="{xml(report.summary or report.counted)}" time="0"/>'
    yield " </testsuite>"
    yield "</testsuites>"


def _case(report: Report, finding: Finding) -> Iterator[str]:
    place = f'file="{xml(report.place_of(finding))}" line="{finding.line}"'
    name = xml(f"{finding.rule}: {finding.what}")
    yield f'  <testcase classname="{xml(f"profgen {report.command}")}" name="{name}" {place} time="0">'
    text = xml(f"{finding.level}: {finding.what}" + (f"\nfix: {finding.fix}" if finding.fix else ""))
    if finding.level in report.failing:
        yield f'   <failure type="{xml(finding.rule)}" message="{xml(finding.what)}">{text}</failure>'
    else:
        yield f"   <system-out>{text}</system-out>"
    yield "  </testcase>"
