"""A report as SARIF 2.1.0, for code scanning."""

from __future__ import annotations

from typing import Any

from profiler import __version__
from profiler.quoting.json import as_json
from profiler.quoting.sarif import message, uri
from profiler.quoting.text import printable
from profiler.review.findings import Finding, Report, Rule

VERSION = "2.1.0"
SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
ROOT = "%SRCROOT%"
"""The base of relative paths. Its URI is absent (SARIF 2.1.0, 3.14.14): whoever reads the log has the repository, and
the log does not depend on where it was made."""


def render(report: Report) -> str:
    """Return a log with one run. Its rules are those of the findings; without findings its results are empty.

    The run's id keeps the results of several files apart where they are uploaded.
    """
    names = sorted({finding.rule for finding in report.findings}, key=list(report.rules).index)
    driver = {
        "name": "profgen",
        "semanticVersion": __version__,
        "rules": [_rule(name, report.rules[name]) for name in names],
    }
    run: dict[str, Any] = {
        "tool": {"driver": driver},
        "automationDetails": {"id": f"profgen/{report.command}/{printable(report.source)}/"},
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {ROOT: {"description": {"text": "The root of the repository."}}},
        "results": [
            _result(report, finding, names.index(finding.rule), mark)
            for finding, mark in zip(report.findings, report.fingerprints, strict=True)
        ],
    }
    return as_json({"$schema": SCHEMA, "version": VERSION, "runs": [run]}, indent=1) + "\n"


def _rule(name: str, rule: Rule) -> dict[str, Any]:
    return {
        "id": name,
        "name": "".join(word.capitalize() for word in name.replace("/", "-").split("-")),
        "shortDescription": {"text": message(rule.title)},
        "help": {"text": message(rule.help or rule.title)},
        "defaultConfiguration": {"level": rule.level},
        # GitHub names the severity of an alert by this number, and only if there is the tag.
        "properties": {"tags": ["security"], "security-severity": f"{rule.security_severity:.1f}"},
    }


def _result(report: Report, finding: Finding, index: int, fingerprint: str) -> dict[str, Any]:
    file = report.place_of(finding)
    base = {} if file.startswith("/") else {"uriBaseId": ROOT}
    place = {"artifactLocation": {"uri": uri(file), **base}, "region": {"startLine": finding.line}}
    text = f"{finding.what}\nfix: {finding.fix}" if finding.fix else finding.what
    return {
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": finding.level,
        "message": {"text": message(text) or finding.rule},
        "locations": [{"physicalLocation": place}],
        "partialFingerprints": {"profgenFinding/v1": fingerprint},
        **({"properties": dict(finding.details)} if finding.details else {}),
    }
