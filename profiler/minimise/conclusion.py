"""What became of each entry, and the policy that says so."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from profiler.minimise.entries import Choice, Entry, Row, entries_of, without
from profiler.policy.model import Policy
from profiler.policy.reasons import joined, said
from profiler.wording import counted

_Row = TypeVar("_Row", bound=Row)
NEEDED, SPARE, FLAKY, OPEN, KEPT = "needed", "not needed", "flaky", "not settled", "kept"
VERDICTS = (NEEDED, FLAKY, OPEN, KEPT, SPARE)
"""Each run fails without it. Runs without it pass and fail. The search ended before. It was not tried. The test passes
without it. All but the last are kept."""


@dataclass(frozen=True)
class Finding:
    """``verdict``: one of VERDICTS. ``runs`` with what is left, without the entry; ``failed`` of them failed. Both 0
    where there were none, as for what went together with others. ``why``: how they fail, or why there are none.
    """

    entry: Entry
    verdict: str
    failed: int = 0
    runs: int = 0
    why: str = ""

    @property
    def evidence(self) -> str:
        """``3 of 3 runs fail without it``; empty where there is none to tell of."""
        if not self.runs:
            return ""
        passed = self.runs - self.failed
        number, verb = (passed, "pass") if self.verdict == SPARE else (self.failed, "fail")
        return f"{number} of {counted(self.runs, 'run')} {verb} without it"


def concluded(tried: Policy, findings: Iterable[Finding], choice: Choice) -> Policy:
    """Return the policy without what is not needed, with the verdicts among the reasons."""
    by_entry = {row.entry: row for row in findings}
    left = without(tried, frozenset(entry for entry, row in by_entry.items() if row.verdict == SPARE), choice)

    def told(rows: Iterable[_Row]) -> tuple[_Row, ...]:
        return tuple(
            _told(row, [by_entry[entry] for entry in entries_of(left, row) if entry in by_entry]) for row in rows
        )

    return replace(
        left,
        syscalls=told(left.syscalls),
        capabilities=told(left.capabilities),
        files=told(left.files),
        sockets=told(left.sockets),
        signals=told(left.signals),
        inspections=told(left.inspections),
        mounts=told(left.mounts),
    )


def _told(row: _Row, findings: list[Finding]) -> _Row:
    findings = [row for row in findings if row.verdict != KEPT]
    if not findings:
        return row
    kept = tuple(reason for reason in row.because if reason.kind != "minimise")
    return replace(row, because=joined([kept, [said("minimise", text) for text in _texts(findings)]]))


def _texts(findings: list[Finding]) -> Iterator[str]:
    """Yield the verdict; of several parts, those alike together. Runs are counted in the report, not in the policy."""
    if len(findings) == 1:
        yield findings[0].verdict
        return
    alike: dict[str, list[Entry]] = {}
    for row in findings:
        alike.setdefault(row.verdict, []).append(row.entry)
    for verdict, entries in alike.items():
        rules = entries[0].section.startswith("syscalls.")
        what = counted(len(entries), "argument rule") if rules else " ".join(entry.part for entry in entries)
        yield f"{what} {verdict}"
