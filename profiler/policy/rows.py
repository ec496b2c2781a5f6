"""The entries of several policies by section and key, and how those with one key become one: what
profiler/policy/merge.py is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, TypeVar

from profiler.policy.covering import covers, flags_fit
from profiler.policy.model import (
    FileRule,
    InspectionRule,
    MountRule,
    Policy,
    SignalRule,
    SocketRule,
    Transition,
)
from profiler.policy.patterns import is_literal
from profiler.policy.reasons import joined
from profiler.trace.model import (
    FILE_ACCESSES,
    FILE_KINDS,
    FILE_STATES,
    INSPECTIONS,
    SIGNAL_WHOM,
    SOCKET_OPERATIONS,
    WHOM,
    row_order,
)

Key = TypeVar("Key", bound=tuple[object, ...])


class Rows:
    """The entries of all policies, by section and key. ``union``: or else an intersection."""

    def __init__(self, policies: Sequence[Policy], union: bool) -> None:
        self.policies, self.union = policies, union

    def of_some(self, policies: Sequence[Policy]) -> Rows:
        """Return the entries of these policies only."""
        return Rows(policies, self.union)

    def of(self, section: str, key: Callable[[Any], Key]) -> dict[Key, list[list[Any]]]:
        """Return key to the rows of each policy (mostly one or none)."""
        found: dict[Key, list[list[Any]]] = {}
        for index, policy in enumerate(self.policies):
            for row in getattr(policy, section):
                found.setdefault(key(row), [[] for _ in self.policies])[index].append(row)
        return found

    def joined(self, section: str, key: Callable[[Any], Key], join: Callable[[Sequence[Any]], Any]) -> tuple[Any, ...]:
        """Return one row for each key that one policy has (of a union) or all have (of an intersection), sorted by the
        keys. ``join`` may return None for nothing."""
        made = (
            join([row for rows in held for row in rows])
            for _, held in sorted(self.of(section, key).items(), key=lambda item: row_order(item[0]))
            if self.union or all(held)
        )
        return tuple(row for row in made if row is not None)


def _inrow_order(words: Iterable[str], order: Sequence[str]) -> tuple[str, ...]:
    found = set(words)
    return tuple(word for word in order if word in found)


def _all_or_any(several: Iterable[tuple[str, ...]], order: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the union of conditions. An empty one is not a condition, and neither is its union with others."""
    listed = list(several)
    if not all(listed):
        return ()
    words = {word for one in listed for word in one}
    return tuple(sorted(words)) if order is None else _inrow_order(words, order)


def file_of(rows: Sequence[FileRule]) -> FileRule:
    """Return one rule for the pattern of all these."""
    if len(rows) == 1:
        return rows[0]
    kinds = {kind for row in rows for kind in row.kinds}
    if not any("make" in row.access and "unknown" in row.kinds for row in rows):
        kinds = kinds - {"unknown"} or {"unknown"}
    return FileRule(
        pattern=rows[0].pattern,
        access=_inrow_order((word for row in rows for word in row.access), FILE_ACCESSES),
        kinds=_inrow_order(kinds, FILE_KINDS),
        because=joined(row.because for row in rows),
        owner=all(row.owner for row in rows),
        programs=_all_or_any(row.programs for row in rows),
        existing=_all_or_any(row.existing for row in rows if "link" in row.access),
        states=_inrow_order((state for row in rows for state in row.states), FILE_STATES),
        whose=_all_or_any((row.whose for row in rows), WHOM),
    )


def _narrower(a: str | None, b: str | None) -> str | None:
    """Of two patterns the one that the other covers; None when neither does."""
    if a is None or b is None:
        return None
    return b if covers(a, b) else a if covers(b, a) else None


def _common_condition(a: tuple[str, ...], b: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return what both conditions have in common; an empty one is not a condition. None when nothing fits both."""
    if not a or not b:
        return a or b
    return tuple(word for word in a if word in b) or None


def _common_patterns(a: tuple[str, ...], b: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted({found for one in a for other in b if (found := _narrower(one, other)) is not None}))


def _common_kinds(a: FileRule, b: FileRule) -> tuple[str, ...]:
    """Return the kinds of both rules, of which ``unknown`` is any."""
    if "unknown" in a.kinds or "unknown" in b.kinds:
        return b.kinds if "unknown" in a.kinds else a.kinds
    return tuple(kind for kind in a.kinds if kind in b.kinds)


def _common_file(a: FileRule, b: FileRule) -> FileRule | None:
    """What both rules grant."""
    pattern = _narrower(a.pattern, b.pattern)
    states, whose = tuple(state for state in a.states if state in b.states), _common_condition(a.whose, b.whose)
    access = [word for word in a.access if word in b.access]
    existing: tuple[str, ...] = ()
    if "link" in access:
        existing = _common_patterns(a.existing, b.existing) if a.existing and b.existing else a.existing or b.existing
        if not existing and (a.existing or b.existing):
            access.remove("link")
    kinds = _common_kinds(a, b)
    if not kinds and "make" in access:
        access.remove("make")
    if pattern is None or not states or whose is None or not access:
        return None
    inner = a if pattern == a.pattern else b
    rule = replace(
        inner,
        access=tuple(access),
        kinds=kinds or inner.kinds,
        owner=a.owner or b.owner,
        existing=existing,
        states=states,
        whose=whose,
        because=joined((a.because, b.because)),
    )
    return replace(rule, programs=_all_or_any((a.programs, b.programs)))


def _common_files(first: Sequence[FileRule], second: Sequence[FileRule]) -> tuple[FileRule, ...]:
    found: dict[str, list[FileRule]] = {}
    literal: dict[str, list[FileRule]] = {}
    patterns = []
    for rule in second:
        if is_literal(rule.pattern):
            literal.setdefault(rule.pattern, []).append(rule)
        else:
            patterns.append(rule)
    for rule in first:
        others = [*literal.get(rule.pattern, ()), *patterns] if is_literal(rule.pattern) else second
        for other in others:
            one = _common_file(rule, other)
            if one is not None:
                found.setdefault(one.pattern, []).append(one)
    return tuple(_one_of(rows) for rows in found.values())


def _one_of(rows: Sequence[FileRule]) -> FileRule:
    """One rule for a pattern that allows no more than these together; where their conditions differ, only the widest of
    them."""

    def conditions(row: FileRule) -> tuple[object, ...]:
        return (row.owner, row.states, row.whose, row.existing)

    widest = max(
        rows,
        key=lambda row: (len(row.access), not row.owner, len(row.states), not row.whose, len(row.existing), row.access),
    )
    alike = [row for row in rows if conditions(row) == conditions(widest)]
    return replace(widest, access=_inrow_order((word for row in alike for word in row.access), FILE_ACCESSES))


def _sockets(rows: Sequence[SocketRule]) -> SocketRule:
    def table(name: str) -> tuple[Any, ...]:
        values: dict[str, set[Any]] = {}
        for row in rows:
            for word, items in getattr(row, name):
                values.setdefault(word, set()).update(items)
        return tuple((word, tuple(sorted(values[word]))) for word in SOCKET_OPERATIONS if word in values)

    return replace(
        rows[0],
        operations=_inrow_order((word for row in rows for word in row.operations), SOCKET_OPERATIONS),
        because=joined(row.because for row in rows),
        ports=table("ports"),
        addresses=table("addresses"),
    )


def _common_sockets(rows: Sequence[SocketRule]) -> SocketRule | None:
    found = rows[0]
    for row in rows[1:]:
        ports, addresses = dict(row.ports), dict(row.addresses)
        kept = [(word, tuple(port for port in mine if port in ports.get(word, ()))) for word, mine in found.ports]
        named = [(word, _common_patterns(mine, addresses.get(word, ()))) for word, mine in found.addresses]
        found = replace(
            found,
            operations=tuple(word for word in found.operations if word in row.operations),
            ports=tuple(item for item in kept if item[1]),
            addresses=tuple(item for item in named if item[1]),
        )
    return replace(found, because=joined(row.because for row in rows)) if found.operations else None


def plain_of(rows: Sequence[Any]) -> Any:
    return rows[0] if len(rows) == 1 else replace(rows[0], because=joined(row.because for row in rows))


def _crossed(first: Sequence[Any], second: Sequence[Any], join: Callable[[Any, Any], Any]) -> tuple[Any, ...]:
    """What a row of each gives together, each once."""
    found: dict[Any, Any] = {}
    for a, b in product(first, second):
        one = join(a, b)
        if one is not None:
            found.setdefault(replace(one, because=()), one)
    return tuple(found.values())


def _common_transition(a: Transition, b: Transition) -> Transition | None:
    program = _narrower(a.program, b.program)
    by = _narrower(a.by, b.by)
    if program is None or ((a.by is not None or b.by is not None) and by is None):
        return None
    return Transition(program, by, joined((a.because, b.because)))


def _common_mount(a: MountRule, b: MountRule) -> MountRule | None:
    flags = {*a.flags, *b.flags}
    if a.operation != b.operation or not flags_fit(a, flags) or not flags_fit(b, flags):
        return None
    members: dict[str, Any] = {"flags": tuple(sorted(flags))}
    for name in ("source", "target", "filesystem"):
        one, other = getattr(a, name), getattr(b, name)
        members[name] = _narrower(one, other)
        if members[name] is None and not (one is None and other is None):
            return None
    return replace(a, **members, because=joined((a.because, b.because)))


def _whom(row: SignalRule | InspectionRule) -> int:
    return SIGNAL_WHOM.index(row.whom) if row.whom in SIGNAL_WHOM else len(SIGNAL_WHOM)


KEYS: Mapping[str, Callable[[Any], tuple[Any, ...]]] = {
    "files": lambda row: (row.pattern,),
    "transitions": lambda row: (row.program, row.by),
    "mounts": lambda row: (row.operation, row.target, row.source, row.filesystem, row.flags),
}
"""Of the sections whose rows are known by paths: what two rows have in common that become one."""


def in_order(section: str, rows: Iterable[Any]) -> tuple[Any, ...]:
    """Rows of one of these sections as the passes put them."""
    key = KEYS[section]
    return tuple(sorted(rows, key=lambda row: row_order(key(row))))


def merged_uses(rows: Rows) -> dict[str, Any]:
    """The sections that a policy without files does not have."""
    watching = [policy for policy in rows.policies if policy.has_files]
    if len(watching) < len(rows.policies):  # only of an intersection: the others allow all of it
        rows = rows.of_some(watching)
    found: dict[str, Any] = {
        "sockets": rows.joined(
            "sockets", lambda row: (row.family, row.type, row.protocol), _sockets if rows.union else _common_sockets
        ),
        "signals": rows.joined("signals", lambda row: (_whom(row), row.whom, row.signal), plain_of),
        "inspections": rows.joined("inspections", lambda row: (INSPECTIONS.index(row.operation), _whom(row)), plain_of),
    }
    if rows.union:
        joins = {"files": file_of, "transitions": plain_of, "mounts": plain_of}
        return found | {section: rows.joined(section, KEYS[section], join) for section, join in joins.items()}
    found |= {section: getattr(watching[0], section) for section in KEYS}
    for policy in watching[1:]:
        found["files"] = _common_files(found["files"], policy.files)
        found["transitions"] = _crossed(found["transitions"], policy.transitions, _common_transition)
        found["mounts"] = _crossed(found["mounts"], policy.mounts, _common_mount)
    return found | {section: in_order(section, found[section]) for section in KEYS}
