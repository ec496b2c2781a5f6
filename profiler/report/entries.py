"""The entries of a policy, each with the evidence for it; and what changed since another release."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from profiler.kernel.risks import LEVELS, Risk
from profiler.quoting.text import word
from profiler.report import charts
from profiler.report.model import Figure, Table
from profiler.review.diff import CHANGES, SUBJECTS, Change, Diff
from profiler.review.explain import Explainer
from profiler.review.render import summary
from profiler.wording import listed, shortened

ENTRIES_MAX = 300
"""Entries of one kind in the page, the most dangerous first."""
DETAILS_SHOWN = 12

TITLES = {
    "default": "Calls that are not named",
    "abi": "ABIs",
    "privileges": "Privileges",
    "capability": "Capabilities",
    "syscall": "Syscalls",
    "mount": "Mounts",
    "path": "Files",
    "execution": "Executions",
    "network": "Sockets",
    "signal": "Signals",
    "inspection": "Other processes",
    "feature": "Features",
}
assert tuple(TITLES) == SUBJECTS


@dataclass(frozen=True)
class Entry:
    """One right. ``summary``: what exactly is allowed, in words; ``level`` and ``why``: its risk. ``runs``: in how many
    recordings it was used. ``facts``: a label with one or more lines each. ``change`` is empty outside a comparison."""

    name: str
    summary: str
    level: str
    why: str
    facts: tuple[tuple[str, tuple[str, ...]], ...]
    runs: str = ""
    change: str = ""


@dataclass(frozen=True)
class Section:
    """Entries of one kind. ``more``: how many are left out. ``folded``: whether the page shows only their number."""

    title: str
    number: int
    entries: tuple[Entry, ...]
    more: int = 0
    folded: bool = False


def policy(explainer: Explainer) -> tuple[Section, ...]:
    """Return all that is allowed, by kind."""
    lines = explainer.all()
    found = []
    for subject, title in TITLES.items():
        rows = [line for line in lines if line.change.subject == subject]
        entries = tuple(
            _entry(line.change, _given(line.change, explainer.facts(line.change)), line.runs)
            for line in rows[:ENTRIES_MAX]
        )
        if rows:
            found.append(Section(title, len(rows), entries, len(rows) - len(entries)))
    return tuple(found)


def changes(diff: Diff, explainer: Explainer) -> tuple[Section, ...]:
    """Return what is newly allowed, with its evidence, and what is no longer allowed."""
    gains = [row for row in diff.changes if row.gains]
    losses = [row for row in diff.changes if not row.gains]
    sections = [
        Section(
            "Newly allowed",
            len(gains),
            tuple(_entry(row, (*_changed(row), *explainer.facts(row)), titled=True) for row in gains[:ENTRIES_MAX]),
            max(len(gains) - ENTRIES_MAX, 0),
        ),
        Section(
            "No longer allowed",
            len(losses),
            tuple(_entry(row, _changed(row), titled=True) for row in losses[:ENTRIES_MAX]),
            max(len(losses) - ENTRIES_MAX, 0),
            folded=len(losses) > DETAILS_SHOWN,
        ),
    ]
    return tuple(section for section in sections if section.number)


def _entry(row: Change, facts: Iterable[tuple[str, str]], runs: str = "", titled: bool = False) -> Entry:
    by_label: dict[str, list[str]] = {}
    for label, text in facts:
        by_label.setdefault(label, []).append(text)
    return Entry(
        name=row.name,
        summary=listed(row.details, 2),
        level=row.risk.level if row.risk else "",
        why=row.risk.why if row.risk else "",
        facts=tuple((label, tuple(dict.fromkeys(texts))) for label, texts in by_label.items()),
        runs=runs,
        change=f"{TITLES[row.subject].lower()}: {row.change}" if titled else "",
    )


def _given(row: Change, facts: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
    """Return the facts, or what the row says itself if there are none."""
    return facts or _changed(row)


def _changed(row: Change) -> list[tuple[str, str]]:
    what = ("allowed" if not row.rest else "new") if row.gains else "gone"
    found = [(what, text) for text in shortened(row.details, DETAILS_SHOWN)]
    found += [("was" if row.gains else "still allowed", text) for text in shortened(row.rest, DETAILS_SHOWN)]
    found += [("equivalents", ", ".join(row.equivalents))] if row.equivalents else []
    found += [("because", text) for text in row.reason.because]
    found += [("programs", ", ".join(map(word, row.reason.programs)))] if row.reason.programs else []
    return found


_COLOURS = {"no longer allowed": charts.LESS, **charts.RISKS}


def differences(diff: Diff) -> Figure:
    """Show what came and went, by kind and risk."""
    title = f"What changed from {diff.old.source} to {diff.new.source}?"
    rows = []
    for subject in SUBJECTS:
        of_subject = [row for row in diff.changes if row.subject == subject]
        losses = sum(not row.gains for row in of_subject)
        numbers = [-losses, *(sum(_level(row.risk) == level for row in of_subject if row.gains) for level in LEVELS)]
        rows += [
            {"name": TITLES[subject], "sort": way, "number": number, "order": order, "label": str(abs(number))}
            for order, (way, number) in enumerate(zip(_COLOURS, numbers, strict=True))
            if number
        ]
    says = f"{summary(diff)[:1].upper()}{summary(diff)[1:]}"
    if not rows:
        return Figure("differences", title, f"{says}.")
    table = Table(
        ("kind", *CHANGES),
        tuple(
            (
                TITLES[subject],
                *(
                    str(sum(row.change == change for row in diff.changes if row.subject == subject))
                    for change in CHANGES
                ),
            )
            for subject in SUBJECTS
            if any(row.subject == subject for row in diff.changes)
        ),
    )
    colours = {way: colour for way, colour in _COLOURS.items() if any(row["sort"] == way for row in rows)}
    unit = "rights: no longer allowed to the left, newly allowed to the right"
    return Figure("differences", title, f"{says}.", charts.counts(rows, colours, unit, f"Changes. {says}."), table)


def _level(risk: Risk | None) -> str:
    return LEVELS[0] if risk is None else risk.level


def most_dangerous(sections: Sequence[Section], most: int) -> str:
    """Return the names of entries above the lowest risk, as one phrase."""
    rows = [entry for section in sections for entry in section.entries if entry.level in LEVELS[1:]]
    rows.sort(key=lambda entry: -LEVELS.index(entry.level))
    return listed([f"{entry.name} ({entry.level})" for entry in rows], most)
