"""A report in the form of GitLab's Code Quality, which shows findings in a merge request."""

from __future__ import annotations

from profiler.quoting.json import as_json
from profiler.quoting.text import printable
from profiler.review.findings import Report

SEVERITIES = {"error": "critical", "warning": "major", "note": "info"}


def render(report: Report) -> str:
    """Return a list of issues, empty without findings."""
    issues = [
        {
            "description": printable(f"{finding.what}; fix: {finding.fix}" if finding.fix else finding.what),
            "check_name": f"profgen-{report.command}-{finding.rule}",
            "fingerprint": mark,
            "severity": SEVERITIES[finding.level],
            "location": {"path": report.place_of(finding), "lines": {"begin": finding.line}},
        }
        for finding, mark in zip(report.findings, report.fingerprints, strict=True)
    ]
    return as_json(issues, indent=1) + "\n"
