"""Render a comparison as text, as data for JSON, as Markdown for a pull request, and what is newly allowed as a Report.

Names in it may come from strangers: each format has its own escaping, and everything passes through it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from profiler.kernel.risks import LEVELS, Risk
from profiler.quoting.markdown import code
from profiler.quoting.text import printable, word
from profiler.review.diff import CHANGES, SUBJECTS, Change, Diff
from profiler.review.findings import Finding, Report, Rule, at_least, located
from profiler.review.rights import KINDS, Rights
from profiler.style import PLAIN, Style
from profiler.wording import shortened

DETAILS_SHOWN = 12
"""The details of one change in text, Markdown and findings; JSON has all."""
REST_SHOWN = 3
REASONS_SHOWN = 3
_INDENT = " " * 21

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
    for row in diff.changes:
        weight = row.risk.level if row.risk else "removed"
        head = f"{style(weight, f'{row.change:<8}')} {_TITLES[row.subject]:<11} {printable(row.name):<{width}}"
        if row.risk:
            head += f"  {style(weight, row.risk.level)}"
        lines.append(head.rstrip())
        if row.risk and row.risk.rank:
            lines += _wrapped(row.risk.why, style)
        sign = "+" if row.gains else "-"
        for item in shortened(row.details, DETAILS_SHOWN):
            first, *more = _wrapped(printable(item), style, f"{sign} ")
            lines += [first.replace(sign, style(weight, sign), 1), *more]
        if row.rest:
            rest = printable("; ".join(shortened(row.rest, REST_SHOWN)))
            lines += _wrapped(f"{'was' if row.gains else 'now'} {rest}", style)
        if row.equivalents:
            lines += _wrapped(f"with its equivalents {', '.join(row.equivalents)}", style)
        reasons = [printable(item) for item in shortened(row.reason.because, REASONS_SHOWN)]
        if row.subject == "path" and not reasons and row.reason.programs:
            reasons = [_by(row.reason.programs)]
        lines += [style("faint", line) for reason in reasons for line in _wrapped(reason, style)]
    if diff.changes:
        lines.append("")
    lines.append(summary(diff))
    for item in (*(f"not compared: {item}" for item in diff.uncompared), *(f"note: {item}" for item in diff.notes)):
        lines.append(style.wrapped(printable(item), "  ", ""))
    return "\n".join(lines) + "\n"


def _wrapped(text: str, style: Style, mark: str = "") -> list[str]:
    """Return what is said about a change, below its name, in lines that fit. ``mark``: stands before the first."""
    return style.wrapped(text, _INDENT + " " * len(mark), _INDENT + mark).split("\n")


# JSON.


def _side(rights: Rights) -> dict[str, Any]:
    return {"source": rights.source, "kind": rights.kind, "abis": list(rights.abis), "default": rights.default}


def change_data(row: Change) -> dict[str, Any]:
    """Return a change as plain data."""
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
    """Return the comparison as plain data (docs/json.md)."""
    highest = diff.highest
    return {
        "old": _side(diff.old),
        "new": _side(diff.new),
        "exact": diff.exact,
        "same": not diff.changes,
        "summary": {
            **{change: diff.count(change) for change in CHANGES},
            "highest_risk": highest.level if highest else None,
        },
        "changes": [change_data(row) for row in diff.changes],
        "not_compared": list(diff.uncompared),
        "notes": list(diff.notes),
    }


# Markdown.


def _codes(items: Iterable[str]) -> str:
    return "<br>".join(code(item) for item in items)


def _row(row: Change) -> str:
    right = f"{_TITLES[row.subject]} {code(row.name)}" + (
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
    lines = [f"### {code(diff.old.source)} → {code(diff.new.source)}", "", f"{summary(diff)}.".capitalize(), ""]
    gains = [row for row in diff.changes if row.gains]
    losses = [row for row in diff.changes if not row.gains]
    if gains:
        lines += ["| change | right | what is new | risk |", "|---|---|---|---|", *map(_row, gains), ""]
    details = []
    for row in gains:
        said = [f"{row.risk.level} risk: {code(row.risk.why)}"] if row.risk and row.risk.rank else []
        said += [code(item) for item in shortened(row.reason.because, REASONS_SHOWN)]
        said += [code(_by(row.reason.programs))] if row.subject == "path" and row.reason.programs else []
        said += ["was " + code("; ".join(shortened(row.rest, REST_SHOWN)))] if row.rest else []
        if said:
            details.append(f"- {_TITLES[row.subject]} {code(row.name)}: " + "; ".join(said))
    if details:
        lines += ["<details><summary>Reasons and risks</summary>", "", *details, "", "</details>", ""]
    if losses:
        table = ["| change | right | what is gone |", "|---|---|---|", *map(_row, losses)]
        lines += [f"<details><summary>No longer allowed: {len(losses)}</summary>", "", *table, "", "</details>", ""]
    lines += [f"Not compared: {code(item)}." for item in diff.uncompared]
    lines += [f"Note: {code(item)}." for item in diff.notes]
    return "\n".join(lines).rstrip("\n") + "\n"


# Findings.

_LEVELS = {"low": "note", "medium": "warning", "high": "error", "critical": "error"}
_SEVERITY = {"low": 2.0, "medium": 5.0, "high": 8.0, "critical": 9.5}
"""GitHub's `security-severity`, from the middle of its ranges."""
_SECTIONS = {
    "default": "defaultAction",
    "abi": "abis",
    "privileges": "no_new_privs",
    "capability": "capabilities",
    "syscall": "syscalls",
    "path": "files",
    "execution": "executions",
    "signal": "signals",
    "inspection": "inspections",
    "mount": "mounts",
}
"""Where a policy has rights of a subject."""

RULES: Mapping[str, Rule] = {
    f"{subject}/{level}": Rule(
        _LEVELS[level],
        f"New right: {_TITLES[subject]}, {level} risk",
        "Compare what the change needs with what it gains; profgen diff shows the reasons. Levels: docs/diff.md.",
        _SEVERITY[level],
    )
    for subject in SUBJECTS
    for level in LEVELS
}
"""A rule for each subject and risk."""


def report(diff: Diff, content: bytes = b"", fail_on: str = "any") -> Report:
    """Return a report with a finding for each right that was added or widened. ``content`` is the new file, for lines.

    What is no longer allowed is not a finding.
    """
    found = located([_finding(row, row.risk) for row in diff.changes if row.gains and row.risk is not None], content)
    failing = at_least("error" if fail_on == "risky" else "note")
    return Report("diff", diff.new.source, RULES, found, summary(diff), failing=failing)


def _finding(row: Change, risk: Risk) -> Finding:
    said = f"{row.change}: {_TITLES[row.subject]} {row.name}"
    said += f" ({'; '.join(shortened(row.details, DETAILS_SHOWN))})" if row.details else ""
    said += f". Risk {risk.level}: {risk.why}."
    said += f" Reason: {'; '.join(shortened(row.reason.because, REASONS_SHOWN))}." if row.reason.because else ""
    # A policy names the family of a socket, and a capability is CAP_X there and X in some profiles.
    names = (row.name, row.name.removeprefix("CAP_").removeprefix("SIG").partition(" ")[0])
    rule = f"{row.subject}/{risk.level}"
    key = (row.subject, row.change, row.name, *row.details)
    return Finding(
        rule,
        _LEVELS[risk.level],
        _section(row),
        said,
        about=(row.name,),
        key=key,
        names=names,
        details=change_data(row),
    )


def _section(row: Change) -> str:
    if row.subject == "feature":
        return "io_uring" if row.name == "io_uring" else "namespaces"
    return _SECTIONS.get(row.subject, "network")
