"""What refine proposes, as data: additions with their evidence, what is refused, what nothing answers."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from profiler.denials.model import Denial
from profiler.policy.model import FileRule, Policy
from profiler.policy.reasons import Reasons, named
from profiler.quoting.text import printable
from profiler.wording import counted
from profiler.wording import grouped as digits

PROGRAMS_NAMED = 3
"""Programs whose denials are told one by one; the rest are counted."""

ALLOWED_ALREADY = "the policy allows it: the profile in force was made from another"


@dataclass(frozen=True)
class Danger:
    """Why an addition is not made by itself, and the ITEM of ``--allow-dangerous`` that makes it."""

    item: str
    why: str


@dataclass(frozen=True)
class Addition:
    """One entry of the policy, new or widened. ``section``: where in policy.yaml. ``because``: the denials behind it,
    in words, with counts and times. ``notes``: what a reviewer should know."""

    section: str
    item: str
    what: str
    because: tuple[str, ...]
    denials: tuple[Denial, ...]
    notes: tuple[str, ...] = ()
    dangers: tuple[Danger, ...] = ()
    choices: tuple[str, ...] = ()
    """Other ways than to allow it, where there are any."""


@dataclass(frozen=True)
class Unanswered:
    """Denials that no entry of the policy ends, or that it allows already, and why."""

    what: str
    why: str
    count: int


@dataclass(frozen=True)
class Proposal:
    """``policy``: with the additions in ``added``. ``refused``: those that are dangerous and were not asked for.
    ``unused``: items that were asked for and came up nowhere."""

    policy: Policy
    added: tuple[Addition, ...]
    refused: tuple[Addition, ...]
    unanswered: tuple[Unanswered, ...]
    unused: tuple[str, ...]


@dataclass
class Case:
    """Denials that one addition answers, and how it is made: ``change`` of the policy, or of its one rule for a path,
    ``rule`` of ``pattern``. A log may name very many paths, so these are not looked for one by one."""

    addition: Addition
    change: Callable[[Policy, Reasons], Policy] | None = None
    pattern: str = ""
    rule: Callable[[FileRule | None, Reasons], FileRule] | None = None


@dataclass
class State:
    """What is being worked out."""

    policy: Policy
    cases: list[Case] = field(default_factory=list)
    unanswered: list[Unanswered] = field(default_factory=list)

    def leave(self, what: str, why: str, denials: Iterable[Denial]) -> None:
        self.unanswered.append(Unanswered(what, why, sum(denial.count for denial in denials)))


# --- evidence in words


def _when(time: float) -> str:
    return datetime.datetime.fromtimestamp(time, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def because(denials: Sequence[Denial]) -> tuple[str, ...]:
    """Return a text for each program, the one with most denials first: ``denied 3 times: app (/usr/sbin/app),
    FIRST..LAST`` (UTC); ``logged`` if the use was allowed; ``unproven`` at the end if only text logs hold it."""
    groups: dict[tuple[bool, str | None, str | None, bool], list[Denial]] = {}
    for denial in denials:
        groups.setdefault((denial.refused, denial.comm, denial.exe, denial.unproven), []).append(denial)
    found = []
    ranked = sorted(groups.items(), key=lambda item: -sum(denial.count for denial in item[1]))
    for (refused, comm, exe, unproven), rows in ranked[:PROGRAMS_NAMED]:
        times = sum(row.count for row in rows)
        who = (
            " ".join(([printable(comm)] if comm else []) + ([f"({printable(exe)})"] if exe else []))
            or "unknown program"
        )
        first = min((row.first for row in rows if row.first is not None), default=None)
        last = max((row.last for row in rows if row.last is not None), default=None)
        when = (
            ""
            if first is None or last is None
            else f", {_when(first)}" + (f"..{_when(last)}" if _when(first) != _when(last) else "")
        )
        proof = ", unproven" if unproven else ""
        found.append(f"{'denied' if refused else 'logged'} {counted(times, 'time')}: {who}{when}{proof}")
    rest = [row for _, rows in ranked[PROGRAMS_NAMED:] for row in rows]
    if rest:
        times = sum(row.count for row in rest)
        found.append(
            f"denied or logged {counted(times, 'time')} in {digits(len(ranked) - PROGRAMS_NAMED)} more programs"
        )
    return tuple(found)


def reasons_of(denials: Sequence[Denial]) -> Reasons:
    """Return the reasons that the policy keeps: which programs were denied, and which denials were only logged."""
    found: dict[str, set[str]] = {}
    for denial in denials:
        name = denial.comm or (denial.exe or "").rpartition("/")[2]
        found.setdefault("denied" if denial.refused else "logged", set()).update([name] if name else [])
    return tuple(named(kind, found[kind]) for kind in sorted(found))


def grouped(denials: Iterable[Denial], key: Callable[[Denial], tuple[object, ...]]) -> list[list[Denial]]:
    groups: dict[tuple[object, ...], list[Denial]] = {}
    for denial in denials:
        groups.setdefault(key(denial), []).append(denial)
    return list(groups.values())
