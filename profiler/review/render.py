"""Render a comparison as text, JSON, Markdown for a pull request, and SARIF for code scanning.

Names in it may come from strangers: each format has its own escaping, and everything passes through it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

from profiler import __version__
from profiler.kernel.risks import LEVELS, Risk
from profiler.quoting.json import as_json
from profiler.quoting.text import printable, word
from profiler.review.diff import CHANGES, SUBJECTS, Change, Diff
from profiler.review.rights import KINDS, Rights
from profiler.style import PLAIN, Style
from profiler.wording import shortened

SCHEMA = "profgen.diff/1"

DETAILS_SHOWN = 12
"""The details of one change in text and Markdown; JSON and SARIF have all."""
REST_SHOWN = 3
REASONS_SHOWN = 3

_TITLES = {
    "default": "default",
    "abi": "ABI",
    "privileges": "privileges",
    "capability": "capability",
    "syscall": "syscall",
    "mount": "mount",
    "path": "path",
    "execution": "execution",
    "network": "network",
    "signal": "signal",
    "inspection": "process",
    "feature": "feature",
}
"""The titles of SUBJECTS for people."""


def summary(diff: Diff) -> str:
    """Return a summary such as ``2 added, 1 removed; highest risk: medium``."""
    counts = [f"{number} {change}" for change in CHANGES if (number := diff.count(change))]
    if not counts:
        return "no difference" + ("" if diff.exact else " apart from equivalents")
    highest = diff.highest
    return ", ".join(counts) + (f"; highest risk: {highest.level}" if highest else "")


def _kinds(diff: Diff) -> str:
    kinds = (KINDS[diff.old.kind], KINDS[diff.new.kind])
    return (
        f"{kinds[0]} and {kinds[1]}" if kinds[0] != kinds[1] else f"{kinds[0]}s" if kinds[0] != "policy" else "policies"
    )


# Text.


def _by(programs: Sequence[str]) -> str:
    """Return the programs of a reason in words."""
    return "by " + ", ".join(shortened([word(program) for program in programs], REASONS_SHOWN))


def text(diff: Diff, style: Style = PLAIN) -> str:
    """Return lines for a terminal."""
    lines = [f"{printable(diff.old.source)} -> {printable(diff.new.source)} ({_kinds(diff)}, {diff.new.native})", ""]
    width = min(max((len(printable(row.name)) for row in diff.changes), default=0), 40)
    indent = " " * 21
    for row in diff.changes:
        weight = row.risk.level if row.risk else "removed"
        head = f"{style(weight, f'{row.change:<8}')} {_TITLES[row.subject]:<11} {printable(row.name):<{width}}"
        if row.risk:
            head += f"  {style(weight, row.risk.level)}"
        lines.append(head.rstrip())
        if row.risk and row.risk.rank:
            lines.append(indent + row.risk.why)
        sign = "+" if row.gains else "-"
        lines += [f"{indent}{style(weight, sign)} {printable(item)}" for item in shortened(row.details, DETAILS_SHOWN)]
        if row.rest:
            lines.append(
                f"{indent}{'was' if row.gains else 'now'} {printable('; '.join(shortened(row.rest, REST_SHOWN)))}"
            )
        if row.equivalents:
            lines.append(f"{indent}with its equivalents {', '.join(row.equivalents)}")
        if row.subject == "path" and not row.reason.because and row.reason.programs:
            lines.append(f"{indent}{style('faint', _by(row.reason.programs))}")
        lines += [f"{indent}{style('faint', printable(item))}" for item in shortened(row.reason.because, REASONS_SHOWN)]
    if diff.changes:
        lines.append("")
    lines.append(summary(diff))
    lines += [f"not compared: {printable(item)}" for item in diff.uncompared]
    lines += [f"note: {printable(item)}" for item in diff.notes]
    return "\n".join(lines) + "\n"


# JSON.


def _side(rights: Rights) -> dict[str, Any]:
    return {"source": rights.source, "kind": rights.kind, "abis": list(rights.abis), "default": rights.default}


def _change(row: Change) -> dict[str, Any]:
    found: dict[str, Any] = {
        "subject": row.subject,
        "change": row.change,
        "name": row.name,
        "details": list(row.details),
        "because": list(row.reason.because),
        "programs": list(row.reason.programs),
        "risk": None if row.risk is None else {"level": row.risk.level, "why": row.risk.why},
    }
    if row.rest:
        found["was" if row.gains else "now"] = list(row.rest)
    if row.equivalents:
        found["equivalents"] = list(row.equivalents)
    return found


def data(diff: Diff) -> dict[str, Any]:
    """Return the comparison as plain data, ``profgen.diff/1`` (docs/diff.md)."""
    highest = diff.highest
    return {
        "schema": SCHEMA,
        "old": _side(diff.old),
        "new": _side(diff.new),
        "exact": diff.exact,
        "same": not diff.changes,
        "summary": {
            **{change: diff.count(change) for change in CHANGES},
            "highest_risk": highest.level if highest else None,
        },
        "changes": [_change(row) for row in diff.changes],
        "not_compared": list(diff.uncompared),
        "notes": list(diff.notes),
    }


def json(diff: Diff) -> str:
    """Return :func:`data` as JSON text."""
    return as_json(data(diff)) + "\n"


# Markdown.


def _code(words: str) -> str:
    """Return a code span that its content cannot end, also in a table cell (GitHub Flavored Markdown, 4.10 and 6.1)."""
    words = printable(words).replace("|", "\\|")
    fence = "`" * (max((len(run) for run in re.findall("`+", words)), default=0) + 1)
    # Markdown strips one space at each end; without it a backtick there would join the fence.
    pad = " " if words[:1] in ("`", " ") or words[-1:] in ("`", " ") else ""
    return f"{fence}{pad}{words}{pad}{fence}" if words else ""


def _codes(items: Iterable[str]) -> str:
    return "<br>".join(_code(item) for item in items)


def _row(row: Change) -> str:
    right = f"{_TITLES[row.subject]} {_code(row.name)}" + (
        f" with {_codes([', '.join(row.equivalents)])}" if row.equivalents else ""
    )
    cells = [row.change, right, _codes(shortened(row.details, DETAILS_SHOWN))]
    if row.gains:
        cells.append(_level(row.risk))
    return "| " + " | ".join(cells) + " |"


def _level(risk: Risk | None) -> str:
    if risk is None:
        return ""
    return f"**{risk.level}**" if risk.rank >= LEVELS.index("high") else risk.level


def markdown(diff: Diff) -> str:
    """Return Markdown for a pull request: the gains in a table, everything else folded."""
    lines = [f"### {_code(diff.old.source)} → {_code(diff.new.source)}", "", f"{summary(diff)}.".capitalize(), ""]
    gains = [row for row in diff.changes if row.gains]
    losses = [row for row in diff.changes if not row.gains]
    if gains:
        lines += ["| change | right | what is new | risk |", "|---|---|---|---|", *map(_row, gains), ""]
    details = []
    for row in gains:
        said = [f"{row.risk.level} risk: {_code(row.risk.why)}"] if row.risk and row.risk.rank else []
        said += [_code(item) for item in shortened(row.reason.because, REASONS_SHOWN)]
        said += [_code(_by(row.reason.programs))] if row.subject == "path" and row.reason.programs else []
        said += ["was " + _code("; ".join(shortened(row.rest, REST_SHOWN)))] if row.rest else []
        if said:
            details.append(f"- {_TITLES[row.subject]} {_code(row.name)}: " + "; ".join(said))
    if details:
        lines += ["<details><summary>Reasons and risks</summary>", "", *details, "", "</details>", ""]
    if losses:
        table = ["| change | right | what is gone |", "|---|---|---|", *map(_row, losses)]
        lines += [f"<details><summary>No longer allowed: {len(losses)}</summary>", "", *table, "", "</details>", ""]
    lines += [f"Not compared: {_code(item)}." for item in diff.uncompared]
    lines += [f"Note: {_code(item)}." for item in diff.notes]
    return "\n".join(lines).rstrip("\n") + "\n"


# SARIF.

SARIF_VERSION = "2.1.0"
SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"

_SARIF_LEVELS = {"low": "note", "medium": "warning", "high": "error", "critical": "error"}
_SEVERITY = {"low": "2.0", "medium": "5.0", "high": "8.0", "critical": "9.5"}
"""GitHub's properties.security-severity, from the middle of its ranges."""


def _message(words: str) -> str:
    """Return the plain text of a SARIF message: brackets would become links (SARIF 2.1.0, 3.11.6)."""
    return re.sub(r"([\\\[\]])", r"\\\1", printable(words))


def _rule(subject: str, level: str) -> dict[str, Any]:
    words = _TITLES[subject]
    return {
        "id": f"{subject}/{level}",
        "name": f"{subject.capitalize()}{level.capitalize()}",
        "shortDescription": {"text": f"New right: {words}, {level} risk"},
        "help": {
            "text": "Compare what the change needs with what it gains; profgen diff shows the reasons. Levels: "
            "docs/diff.md."
        },
        "defaultConfiguration": {"level": _SARIF_LEVELS[level]},
        "properties": {"tags": ["security"], "security-severity": _SEVERITY[level]},
    }


def _line(lines: Sequence[str], row: Change) -> int:
    """Return the first line of the new file that names the row; 1 if none does."""
    name = row.name.rpartition(":")[2] if row.subject == "syscall" else row.name
    quoted = as_json(name, indent=None)[1:-1]
    for pattern in (
        rf'^\s*"?{re.escape(name)}"?:',
        rf'"{re.escape(name.removeprefix("CAP_") if row.subject == "capability" else name)}"',
        rf'"{re.escape(quoted)}"',
    ):
        found = re.compile(pattern)
        for number, line in enumerate(lines, 1):
            if found.search(line):
                return number
    return 1


def _uri(path: str) -> str:
    """Return a URI (RFC 3986): relative as given, absolute with its scheme."""
    text = quote(os.fsencode(path))
    return f"file://{text}" if text.startswith("/") else text


def sarif(diff: Diff, content: bytes = b"") -> str:
    """Return a SARIF log of what is newly allowed. ``content`` is the new file, for line numbers.

    What is no longer allowed is not a finding.
    """
    gains = [row for row in diff.changes if row.gains and row.risk is not None]
    keys = sorted(
        {(row.subject, row.risk.level) for row in gains if row.risk},
        key=lambda key: (SUBJECTS.index(key[0]), LEVELS.index(key[1])),
    )
    lines = content.decode("utf-8", "replace").split("\n") if len(content) < 4 << 20 else []
    results = []
    for row in gains:
        assert row.risk is not None
        said = f"{row.change}: {_TITLES[row.subject]} {row.name}"
        said += f" ({'; '.join(shortened(row.details, DETAILS_SHOWN))})" if row.details else ""
        said += f". Risk {row.risk.level}: {row.risk.why}."
        said += f" Reason: {'; '.join(shortened(row.reason.because, REASONS_SHOWN))}." if row.reason.because else ""
        place = {"artifactLocation": {"uri": _uri(diff.new.source)}, "region": {"startLine": _line(lines, row)}}
        identity = "\0".join((row.subject, row.change, row.name, *row.details))
        results.append(
            {
                "ruleId": f"{row.subject}/{row.risk.level}",
                "ruleIndex": keys.index((row.subject, row.risk.level)),
                "level": _SARIF_LEVELS[row.risk.level],
                "message": {"text": _message(said)},
                "locations": [{"physicalLocation": place}],
                "partialFingerprints": {"profgenRight/v1": hashlib.sha256(os.fsencode(identity)).hexdigest()},
                "properties": _change(row),
            }
        )
    driver = {"name": "profgen", "semanticVersion": __version__, "rules": [_rule(*key) for key in keys]}
    log = {
        "$schema": SARIF_SCHEMA,
        "version": SARIF_VERSION,
        "runs": [{"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}],
    }
    return as_json(log) + "\n"
