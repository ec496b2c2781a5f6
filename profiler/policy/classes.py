"""The classes of an entry, from the narrowest to the widest: what a reviewer can choose instead of what is proposed.

An entry is narrowed to fewer ways of use, to the paths or arguments that were seen; it is widened to the next class of
names, to the directory, to fewer arguments that are compared, or to more processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from profiler.kernel.arguments import spec_for
from profiler.policy.argument_rules import TooWide, rules_for
from profiler.policy.changes import Edit
from profiler.policy.covering import covers, grants
from profiler.policy.document import rule_text
from profiler.policy.evidence import name_for
from profiler.policy.model import Allowed, FileRule, InspectionRule, MountRule, Rule, SignalRule, SocketRule
from profiler.policy.names import EVIDENT, Seen, readings
from profiler.policy.patterns import Class, dumps, is_literal, literal, matches, path_of
from profiler.policy.tiers import tier_of
from profiler.quoting.text import printable
from profiler.trace.model import FILE_ACCESSES, WHOM, Mount, Trace
from profiler.wording import counted

PATHS = 64
"""Paths that were seen for one pattern, before they are not offered in its place."""

PARTS = 8
"""New ways of use or rules of one entry that can be taken from it one by one."""


@dataclass(frozen=True)
class Level:
    """One class of an entry. ``words``: how it differs from the proposal; empty for the proposal itself."""

    words: str
    rows: tuple[Any, ...]


@dataclass(frozen=True)
class Classes:
    """The classes of an entry, the narrowest first. ``proposed``: the index of the one that was proposed."""

    levels: tuple[Level, ...]
    proposed: int = 0


def classes(edit: Edit, trace: Trace | None = None) -> Classes:
    """Return the classes of an entry that is added or changed; of a removed one there is only the proposal.

    ``trace`` is the evidence, if there is any: paths and arguments that were seen.
    """
    proposal = Level("", edit.after)
    if not edit.after:
        return Classes((proposal,))
    row, before = edit.after[0], edit.before[0] if edit.before else None
    narrower: Iterable[Level] = ()
    wider: Iterable[Level] = ()
    match row:
        case FileRule():
            narrower, wider = (*_seen_paths(row, trace), *_fewer_accesses(row, before)), _wider_paths(row)
        case Allowed():
            narrower, wider = (*_seen_values(row, trace), *_fewer_rules(row, before)), _wider_rules(row)
        case SocketRule():
            narrower, wider = _fewer_operations(row, before), _wider_address(row)
        case SignalRule() | InspectionRule():
            wider = _more_processes(row)
        case MountRule():
            narrower, wider = _seen_mounts(row, trace), _wider_target(row)
    first = tuple(_distinct(narrower, {proposal.rows}))
    last = tuple(_distinct(wider, {proposal.rows, *(level.rows for level in first)}))
    return Classes((*first, proposal, *last), len(first))


def _distinct(levels: Iterable[Level], known: set[tuple[Any, ...]]) -> Iterator[Level]:
    for level in levels:
        if level.rows not in known:
            known.add(level.rows)
            yield level


def _parts(new: Sequence[Any], take: Callable[[Sequence[Any]], Any], text: Callable[[Any], str]) -> Iterator[Level]:
    """Yield the entry with the first of its new parts, with the first two, and so on, without the last ones."""
    if 1 < len(new) <= PARTS:
        for number in range(1, len(new)):
            without = ", ".join(text(part) for part in new[number:])
            yield Level(f"without {without}", (take(new[:number]),))


# Files.


def _fewer_accesses(row: FileRule, before: FileRule | None) -> Iterator[Level]:
    held = before.access if before is not None else ()

    def take(words: Sequence[str]) -> FileRule:
        return replace(row, access=tuple(word for word in FILE_ACCESSES if word in {*held, *words}))

    return _parts([word for word in row.access if word not in held], take, str)


def _seen_paths(row: FileRule, trace: Trace | None) -> Iterator[Level]:
    """Yield a rule for each path that was seen instead of one for the pattern."""
    if trace is None or is_literal(row.pattern):
        return
    used: dict[str, set[str]] = {}
    for file in trace.files:
        if file.access in row.access and file.results.get("ok") and matches(row.pattern, file.path):
            used.setdefault(literal(file.path), set()).add(file.access)
    if 0 < len(used) <= PATHS:
        rules = (
            replace(row, pattern=pattern, access=tuple(word for word in FILE_ACCESSES if word in words))
            for pattern, words in sorted(used.items())
        )
        yield Level(f"only {counted(len(used), 'path')} that the recording has", tuple(rules))


def _wider_paths(row: FileRule) -> Iterator[Level]:
    for pattern in _wider(row.pattern):
        yield Level(f"for {printable(pattern)}", (replace(row, pattern=pattern),))


def _wider(last: str) -> Iterator[str]:
    """Yield the classes of the last name, then its directory, then all below the directory."""
    parent, _, name = last.rpartition("/")
    if not parent:
        return
    patterns = [f"{parent}/{found}" for found in _names(parent, name)]
    for pattern in (*patterns, f"{parent}/{dumps([Class('name')])}", f"{parent}/{dumps([Class('tree')])}"):
        if pattern != last and covers(pattern, last):
            yield pattern
            last = pattern


def _names(parent: str, name: str) -> list[str]:
    """Return the patterns of a literal name, the narrowest first."""
    text = path_of(name) if is_literal(name) else None
    if not text:
        return []
    found = readings(text, Seen(tier_of(parent)[0], made=True))
    return [reading.pattern for reading in reversed(found) if reading.needs >= EVIDENT]


# Syscalls.


def _seen_values(row: Allowed, trace: Trace | None) -> Iterator[Level]:
    """Yield the rules for the arguments that were seen, where any are proposed."""
    spec = spec_for(row.name, row.abi)
    if trace is None or row.rules or spec is None:
        return
    for call in trace.syscalls:
        known = call.arguments
        if call.abi == row.abi and name_for(call) == row.name and known and known.fields == spec.fields:
            if known.overflow:
                return
            try:
                yield Level(
                    "only the arguments that the recording has", (replace(row, rules=rules_for(spec, known.values)),)
                )
            except TooWide:
                return


def _fewer_rules(row: Allowed, before: Allowed | None) -> Iterator[Level]:
    held = before.rules if before is not None else ()

    def take(rules: Sequence[Rule]) -> Allowed:
        return replace(row, rules=tuple(sorted({*held, *rules})))

    def text(rule: Rule) -> str:
        return rule_text(row.name, row.abi, rule)

    return _parts([rule for rule in row.rules if rule not in held], take, text)


def _wider_rules(row: Allowed) -> Iterator[Level]:
    """Yield rules that compare fewer arguments, the last ones left out first, and in the end none."""
    most = max((len(rule.conditions) for rule in row.rules), default=0)
    for number in range(most - 1, 0, -1):
        rules = tuple(sorted({Rule(rule.conditions[:number]) for rule in row.rules}))
        fields = dict.fromkeys(condition.field for rule in rules for condition in rule.conditions)
        yield Level(f"comparing only {', '.join(fields)}", (replace(row, rules=rules),))
    if most:
        yield Level("with any arguments", (replace(row, rules=()),))


# Sockets.


_Use = tuple[str, int | str | None]
"""An operation with one of its ports or addresses; None where it has neither."""


def _uses(row: SocketRule) -> list[_Use]:
    ports, places = dict(row.ports), dict(row.addresses)
    found: list[_Use] = []
    for word in row.operations:
        values: list[int | str] = [*ports.get(word, ()), *places.get(word, ())]
        found += [(word, value) for value in values] or [(word, None)]
    return found


def _fewer_operations(row: SocketRule, before: SocketRule | None) -> Iterator[Level]:
    held = _uses(before) if before is not None else []

    def take(uses: Sequence[_Use]) -> SocketRule:
        kept = {*held, *uses}
        ports = ((word, tuple(port for port in several if (word, port) in kept)) for word, several in row.ports)
        places = ((word, tuple(place for place in several if (word, place) in kept)) for word, several in row.addresses)
        return replace(
            row,
            operations=tuple(word for word in row.operations if word in {word for word, _ in kept}),
            ports=tuple(item for item in ports if item[1]),
            addresses=tuple(item for item in places if item[1]),
        )

    def text(use: _Use) -> str:
        word, value = use
        return word if value is None else f"{word} {f'port {value}' if isinstance(value, int) else printable(value)}"

    return _parts([use for use in _uses(row) if use not in held], take, text)


def _wider_address(row: SocketRule) -> Iterator[Level]:
    """Yield the classes of the address, where there is only one."""
    places = {place for _, several in row.addresses for place in several}
    for pattern in _wider(places.pop()) if len(places) == 1 else ():
        addresses = tuple((word, (pattern,)) for word, _ in row.addresses)
        yield Level(f"for {printable(pattern)}", (replace(row, addresses=addresses),))


# Signals, and inspections of other processes.


def _more_processes(row: SignalRule | InspectionRule) -> Iterator[Level]:
    """Yield rules for the workload's processes too, then for all."""
    after = WHOM[WHOM.index(row.whom) + 1 :] if row.whom in WHOM else ()
    for number, whom in enumerate(after, 1):
        words = "to processes outside of the workload too" if whom == "outside" else "to the whole workload"
        yield Level(words, (row, *(replace(row, whom=other) for other in after[:number])))


# Mounts.


def _seen_mounts(row: MountRule, trace: Trace | None) -> Iterator[Level]:
    """Yield a rule for each mount that was seen instead of one for the patterns."""
    if trace is None or all(name is None or is_literal(name) for name in (row.source, row.target)):
        return

    def of(mount: Mount) -> MountRule:
        source, target = (None if path is None else literal(path) for path in (mount.source, mount.target))
        return replace(row, source=source, target=target, flags=mount.flags)

    seen = (mount for mount in trace.mounts if mount.operation == row.operation and mount.results.get("ok"))
    rules = dict.fromkeys(rule for mount in seen if grants(row, rule := of(mount)))
    if 0 < len(rules) <= PATHS:
        yield Level(f"only {counted(len(rules), 'mount')} that the recording has", tuple(rules))


def _wider_target(row: MountRule) -> Iterator[Level]:
    for pattern in () if row.target is None else _wider(row.target):
        yield Level(f"at {printable(pattern)}", (replace(row, target=pattern),))
