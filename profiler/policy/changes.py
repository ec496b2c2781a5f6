"""The changes from one policy to another, entry by entry, to be taken one at a time."""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from profiler.kernel.abi import ABIS
from profiler.policy.model import FileRule, Policy
from profiler.policy.rows import KEYS as PATH_KEYS
from profiler.policy.rows import file_of, plain_of
from profiler.trace.model import row_order

KEYS: Mapping[str, Callable[[Any], tuple[Any, ...]]] = {
    "capabilities": lambda row: (row.name,),
    "syscalls": lambda row: (row.abi, row.name, row.section == "base"),
    "refused": lambda row: (row.name,),
    "unknown": lambda row: (row.abi, row.number),
    **PATH_KEYS,
    "sockets": lambda row: (row.family, row.type, row.protocol),
    "signals": lambda row: (row.whom, row.signal),
    "inspections": lambda row: (row.operation, row.whom),
}
"""Members of Policy that hold entries, each with what two policies have in common in one entry."""

_USES = ("files", "transitions", "sockets", "signals", "inspections", "mounts")

SWITCHES = ("no_new_privs", "user_namespaces", "io_uring")
"""Members of Policy that are decided as a whole."""

EVIDENCE: Mapping[str, Any] = {"because": (), "section": "", "stands_for": (), "programs": (), "kinds": ()}
"""Members of entries that say nothing about what is allowed, each with an empty value."""


def rights_of(row: Any) -> Any:
    """Return an entry without its evidence: two entries with the same result allow the same."""
    names = {field.name for field in dataclasses.fields(row)}
    return replace(row, **{name: value for name, value in EVIDENCE.items() if name in names})


@dataclass(frozen=True)
class Edit:
    """One entry that changes. ``section``: a member of Policy. ``before`` and ``after`` hold the entry, or nothing
    where there is none; ``after`` may hold several. Of a switch they hold its value."""

    section: str
    before: tuple[Any, ...]
    after: tuple[Any, ...]

    @property
    def row(self) -> Any:
        """The entry as it will be, or as it was if it is removed."""
        return (self.after or self.before)[0]

    @property
    def direction(self) -> tuple[bool, bool]:
        """Whether there was an entry before, and whether there is one after."""
        return bool(self.before), bool(self.after)


@dataclass(frozen=True)
class Step:
    """What is decided at once: an edit, and those that follow from it (``more``): equivalents of a syscall, and the
    executions of a program that a file rule allows."""

    edit: Edit
    more: tuple[Edit, ...] = ()

    @property
    def edits(self) -> tuple[Edit, ...]:
        """All edits of the step."""
        return (self.edit, *self.more)

    @property
    def removes(self) -> bool:
        """Whether an entry is removed."""
        return not self.edit.after or (self.edit.section in SWITCHES and not self.edit.after[0])


def place(section: str, row: Any, native: str) -> tuple[str, str]:
    """Return the section of policy.yaml that holds an entry, and the entry's name there."""
    match section:
        case "syscalls":
            return f"syscalls.{row.section}", row.name if row.abi == native else f"{row.abi}:{row.name}"
        case "capabilities" | "refused":
            return section, row.name
        case "unknown":
            return section, f"{row.abi}:{row.number}"
        case "files":
            return section, row.pattern
        case "transitions":
            return "executions", f"{row.program} by {row.by}"
        case "sockets":
            return "network", f"{row.family}/{row.type}/{row.protocol}"
        case "signals":
            return section, f"{row.signal}/{row.whom}"
        case "inspections":
            return section, f"{row.operation}/{row.whom}"
        case "mounts":
            words = (row.operation, row.source, row.target, ",".join(row.flags))
            return section, ":".join(word for word in words if word)
        case "user_namespaces":
            return "namespaces.user", section
        case _:
            return section, section


def edits(old: Policy, new: Policy) -> tuple[Edit, ...]:
    """Return every entry that differs, in the order of policy.yaml: entries of ``new`` first in each section."""
    return tuple(_edits(old, new))


def _edits(old: Policy, new: Policy) -> Iterator[Edit]:
    for section in (SWITCHES[0], *KEYS, *SWITCHES[1:]):
        before, after = getattr(old, section), getattr(new, section)
        if section in SWITCHES:
            if before != after:
                yield Edit(section, (before,), (after,))
            continue
        key = KEYS[section]
        was, will = {key(row): row for row in before}, {key(row): row for row in after}
        for name in dict.fromkeys((*will, *was)):
            first, second = was.get(name), will.get(name)
            if first != second:
                yield Edit(section, () if first is None else (first,), () if second is None else (second,))


def is_silent(edit: Edit) -> bool:
    """Return whether an edit changes reasons and other evidence only."""
    if edit.section in SWITCHES[1:]:
        return bool(edit.before[0]) == bool(edit.after[0])
    if edit.section in SWITCHES or not (edit.before and edit.after):
        return False
    return [rights_of(row) for row in edit.before] == [rights_of(row) for row in edit.after]


def steps(old: Policy, new: Policy) -> tuple[Step, ...]:
    """Return the changes of rights from ``old`` to ``new``, each with those that follow from it."""
    found = [edit for edit in edits(old, new) if not is_silent(edit)]
    called = {edit.row.name for edit in found if edit.section == "syscalls"}
    # Whether a call is refused with an error of its own follows from whether it is allowed.
    found = [edit for edit in found if edit.section != "refused" or edit.row.name not in called]
    leaders: dict[tuple[str, str, str, tuple[bool, bool]], int] = {}
    for index, edit in enumerate(found):
        if edit.section == "syscalls" and edit.row.section == "observed":
            leaders["syscalls", edit.row.abi, edit.row.name, edit.direction] = index
        elif edit.section == "files" and "execute" in edit.row.access:
            leaders["transitions", "", edit.row.pattern, edit.direction] = index
    more: dict[int, list[Edit]] = {}
    led: set[int] = set()
    for index, edit in enumerate(found):
        names: tuple[str, ...] = ()
        abi = ""
        if edit.section == "syscalls" and edit.row.section == "equivalent":
            abi, names = edit.row.abi, edit.row.stands_for
        elif edit.section == "transitions":
            names = (edit.row.program,)
        keys = [(edit.section, abi, name, edit.direction) for name in names]
        at = next((leaders[key] for key in keys if key in leaders), None)
        if at is not None:
            more.setdefault(at, []).append(edit)
            led.add(index)
    return tuple(Step(edit, tuple(more.get(index, ()))) for index, edit in enumerate(found) if index not in led)


def applied(old: Policy, new: Policy, chosen: Iterable[Edit]) -> Policy:
    """Return ``old`` with the chosen edits, and with what ``new`` says about the same rights: reasons, the workload,
    the places of mounts."""
    members: dict[str, Any] = {}
    by_section: dict[str, list[Edit]] = {}
    for edit in (*filter(is_silent, edits(old, new)), *chosen):
        by_section.setdefault(edit.section, []).append(edit)
    for section, several in by_section.items():
        if section in SWITCHES:
            members[section] = several[-1].after[0]
        else:
            members[section] = _rows(getattr(old, section), several, KEYS[section])
    found = replace(old, workload=new.workload, runtime=new.runtime, **members)
    watched = new.has_files and (old.has_files or not _has_uses(new))
    variables = new.variables if new.has_files else old.variables
    found = replace(found, has_files=watched or _has_uses(found), variables=variables)
    allowed = {row.name for row in found.syscalls}
    gone = {row.name for row in old.syscalls} - allowed
    refused = {row.name: row for row in (*(row for row in new.refused if row.name in gone), *found.refused)}
    kept_refused = (row for name, row in sorted(refused.items()) if name not in allowed)
    used = {row.abi for row in found.syscalls} | {row.abi for row in found.unknown}
    kept = used | (set(old.abis) & set(new.abis))
    abis = (old.abis[0], *(abi for abi in ABIS if abi in kept and abi != old.abis[0]))
    return replace(found, abis=abis, refused=tuple(kept_refused))


def _has_uses(policy: Policy) -> bool:
    """Return whether a policy has entries that only recordings of files give."""
    return any(getattr(policy, name) for name in _USES)


def _rows(rows: Iterable[Any], several: Iterable[Edit], key: Callable[[Any], tuple[Any, ...]]) -> tuple[Any, ...]:
    """Return the entries of a section after these edits: those that stay keep their order, and each new one comes
    before the next one with a larger key. Entries that were widened to the same become one."""

    def order(row: Any) -> tuple[Any, ...]:
        return row_order(key(row))

    gone = {key(row): edit.after for edit in several for row in edit.before}
    kept = (row for old in rows for row in gone.get(key(old), (old,)))
    new = (row for edit in several if not edit.before for row in edit.after)
    made = heapq.merge(kept, sorted(new, key=order), key=order)
    together: dict[Any, list[Any]] = {}
    for row in made:
        together.setdefault(key(row), []).append(row)
    return tuple(file_of(same) if isinstance(same[0], FileRule) else plain_of(same) for same in together.values())
