"""A report as plain data, for ``--json``."""

from __future__ import annotations

from typing import Any

from profiler.review.findings import Finding, Report


def render(report: Report) -> dict[str, Any]:
    """Return the report with its own members last (docs/json.md)."""
    return {
        "source": report.source,
        "summary": report.summary,
        "counts": report.counts,
        "failed": bool(report.failures),
        "findings": [
            _finding(report, finding) | {"fingerprint": mark}
            for finding, mark in zip(report.findings, report.fingerprints, strict=True)
        ],
        "accepted": [_finding(report, row.finding) | {"reason": row.reason} for row in report.accepted],
        **report.data,
    }


def _finding(report: Report, finding: Finding) -> dict[str, Any]:
    return {
        "rule": finding.rule,
        "level": finding.level,
        "file": report.file_of(finding),
        "line": finding.line,
        "where": finding.where,
        "about": list(finding.about),
        "what": finding.what,
        "fix": finding.fix,
        **({"details": dict(finding.details)} if finding.details else {}),
    }
