"""Findings that people accept: ``.profgen.yaml`` next to a policy or profile, with a reason for each.

    ignore:
    - rule: wide-capability
      entry: CAP_NET_ADMIN
      reason: "the sidecar configures the interface"
      until: 2027-01-31

A row accepts the findings of a rule; with ``entry`` those that are about this entry alone. ``file`` limits it to one
file of the directory, ``until`` to the days up to a date. A row that accepts nothing is itself a finding.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from profiler.errors import InputError
from profiler.policy.strict import Reader, load
from profiler.quoting.yaml import yaml
from profiler.review.findings import Accepted, Finding, Report, Rule
from profiler.review.places import Lines
from profiler.review.sources import parts
from profiler.trace.store import read_limited
from profiler.wording import suggestion

FILE = ".profgen.yaml"
_HEAD = "# Findings of profgen lint and score that are accepted, each with its reason (docs/score.md).\nignore:\n"
RULES: Mapping[str, Rule] = {
    "unused-ignore": Rule("note", f"a row of {FILE} that accepts nothing"),
    "expired-ignore": Rule("warning", f"a row of {FILE} whose date has passed"),
}


@dataclass(frozen=True)
class Ignore:
    """A row. ``entry``, ``file`` and ``until`` are None when any is meant."""

    rule: str
    reason: str
    entry: str | None = None
    file: str | None = None
    until: datetime.date | None = None
    line: int = 1


def path_for(source: str) -> Path:
    """Return where the rows for a policy or profile are; those for standard input are in the working directory."""
    return Path(FILE) if source.startswith("/dev/") else Path(source).with_name(FILE)


def read(path: Path, known: Sequence[str]) -> tuple[Ignore, ...]:
    """Return the rows of a file, none when it does not exist. ``known``: the names of all rules. Raises InputError."""
    return _parsed(read_limited(path, own_links=True), str(path), known) if os.path.lexists(path) else ()


def _parsed(data: bytes, name: str, known: Sequence[str]) -> tuple[Ignore, ...]:
    reader, lines = Reader(name), Lines(data)
    top = reader.keys(load(data, name), "the file", ("ignore",))
    rows = reader.typed(top["ignore"] or [], list, "ignore")
    return tuple(
        _row(reader, item, f"ignore[{index}]", known, lines.find(f"ignore[{index}]", ()))
        for index, item in enumerate(rows)
    )


def _row(reader: Reader, item: object, where: str, known: Sequence[str], line: int) -> Ignore:
    data = reader.keys(item, where, ("rule", "reason"), ("entry", "file", "until"))
    rule = reader.typed(data["rule"], str, f"{where}.rule")
    if rule not in known:
        reader.fail(f"{where}.rule", f"no rule {rule[:40]!r}{suggestion(rule, known)}: profgen lint --rules lists them")
    reason = reader.typed(data["reason"], str, f"{where}.reason").strip()
    if not reason:
        reader.fail(f"{where}.reason", "is empty: say why this is accepted")
    until = data.get("until")
    if until is not None and (not isinstance(until, datetime.date) or isinstance(until, datetime.datetime)):
        reader.fail(f"{where}.until", "must be a date, such as 2027-01-31")
    texts = {key: reader.typed(data[key], str, f"{where}.{key}") for key in ("entry", "file") if key in data}
    return Ignore(rule, reason, texts.get("entry"), texts.get("file"), until, line)


def applied(report: Report, rows: Sequence[Ignore], path: Path, today: datetime.date) -> Report:
    """Return the report without the findings that rows accept, and with findings about rows that accept nothing. Rows
    of rules that the report does not have are for another command."""
    rows = [row for row in rows if row.rule in report.rules and row.file in (None, Path(parts(report.source)[0]).name)]
    valid = [row for row in rows if row.until is None or row.until >= today]
    kept: list[Finding] = []
    accepted: list[Accepted] = []
    used: set[Ignore] = set()
    for finding in report.findings:
        taken = _accepting(finding, valid)
        used.update(taken)
        if any(row.entry is None for row in taken) or (taken and {row.entry for row in taken} == set(finding.about)):
            accepted.append(Accepted(finding, "; ".join(dict.fromkeys(row.reason for row in taken))))
        else:
            named = ", ".join(row.entry or "" for row in taken)
            kept.append(replace(finding, what=f"{finding.what} (accepted: {named})") if named else finding)
    about = [replace(finding, file=str(path)) for finding in _about(rows, used, today)]
    return replace(report, rules={**report.rules, **RULES}, findings=(*kept, *about), accepted=tuple(accepted))


def _accepting(finding: Finding, rows: Sequence[Ignore]) -> list[Ignore]:
    """Return the rows that accept a finding, or a part of what it is about."""
    own = [row for row in rows if row.rule == finding.rule]
    return [row for row in own if row.entry is None][:1] or [row for row in own if row.entry in finding.about]


def _about(rows: Sequence[Ignore], used: set[Ignore], today: datetime.date) -> Iterator[Finding]:
    for row in rows:
        name = row.rule + ("" if row.entry is None else f" of {row.entry}")
        key = (row.rule, row.entry or "", row.file or "")
        if row.until is not None and row.until < today:
            what, fix = f"{name} was accepted until {row.until}", "look at the finding again: fix it, or set a new date"
            yield Finding("expired-ignore", "warning", "ignore", what, fix, key=key, line=row.line)
        elif row not in used:
            what = f"{name} is accepted, but there is no such finding"
            fix = "remove the row; if it is for another file of the directory, say so with file: NAME"
            yield Finding("unused-ignore", "note", "ignore", what, fix, key=key, line=row.line)


def with_row(data: bytes, row: Ignore, name: str, known: Sequence[str]) -> bytes:
    """Return the content of a file with one more row, and everything else as it was. Raises InputError."""
    members = {"rule": row.rule, "entry": row.entry, "reason": row.reason}
    words = [f"{key}: {yaml(value)}" for key, value in members.items() if value is not None]
    words += [f"until: {row.until}"] if row.until is not None else []
    text = data.decode("utf-8", "replace") if data else _HEAD
    text += ("" if text.endswith("\n") else "\n") + "- " + "\n  ".join(words) + "\n"
    before = _parsed(data, name, known) if data else ()
    try:
        after = _parsed(text.encode(), name, known)
    except InputError as error:
        raise InputError(f"{name}: a row cannot be added at its end: add it by hand ({error})") from error
    if len(after) != len(before) + 1:
        raise InputError(f"{name}: a row cannot be added at its end: add it by hand")
    return text.encode()
