"""Merging policies: what any of them allows (:func:`merge`), or what all of them allow (:func:`intersect`).

On what is allowed both are commutative, associative and idempotent (how policies are grouped may tell below a mount
that was at several places of which one is another mount's, too); counts in reasons, ``runs`` and the workload's runs
add up. Past the budget of argument rules a filter becomes wider, never narrower, and there the order may tell.

Of what a policy says nothing (files, when its recording did not watch them) it allows anything: a union says nothing of
it either, an intersection says what the others do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, TypeVar

from profiler.errors import InputError
from profiler.kernel.abi import ABIS
from profiler.policy import reasons
from profiler.policy.merge_resources import KEYS, in_order, merged_uses
from profiler.policy.model import (
    RULE_BUDGET,
    SECTIONS,
    USES,
    Allowed,
    Capability,
    Condition,
    Entry,
    Policy,
    Refused,
    Rule,
    Unknown,
    Variable,
    Workload,
)
from profiler.policy.variables import read, written
from profiler.policy.variables import together as together_at
from profiler.trace.model import row_order

Row = TypeVar("Row", bound=Entry)
Key = TypeVar("Key", bound=tuple[object, ...])

TOO_MANY = f"any arguments: more than {RULE_BUDGET} rules together"
PRODUCTS = 100_000
"""Pairs of argument rules of one syscall that an intersection looks at; policies made of recordings have 64 rules for
one at most."""
COMPARED = 1000
"""Rules of one syscall that are looked through for those that others cover."""


def merge(policies: Sequence[Policy]) -> Policy:
    """The union. Raises InputError for none, or for two native ABIs."""
    return _combined(policies, union=True)


def intersect(policies: Sequence[Policy]) -> Policy:
    """What all of them allow. Raises InputError as :func:`merge` does, and when the argument rules of a syscall are too
    many to combine."""
    return _combined(policies, union=False)


def _combined(policies: Sequence[Policy], union: bool) -> Policy:
    if not policies:
        raise InputError("nothing to merge: give at least one policy")
    if len(policies) == 1:
        return policies[0]
    variables = _variables(policies, union)
    if union:
        policies = as_written(policies, whole=True)
    natives = sorted({policy.abis[0] for policy in policies})
    if len(natives) > 1:
        raise InputError(f"cannot merge policies of different architectures ({', '.join(natives)})")
    sets = [set(policy.abis) for policy in policies]
    abis = set.union(*sets) if union else set.intersection(*sets)
    rows = Rows(policies, union)
    syscalls = _syscalls(rows) if union else tuple(row for row in _common_syscalls(rows) if row.abi in abis)
    allowed = {row.name for row in syscalls}
    watched = [policy.has_files for policy in policies]
    has_files = all(watched) if union else any(watched)
    found = Policy(
        workload=_workload([policy.workload for policy in policies]),
        abis=(natives[0], *(abi for abi in ABIS if abi in abis and abi != natives[0])),
        no_new_privs=(all if union else any)(policy.no_new_privs for policy in policies),
        runtime=_runtime([policy.runtime for policy in policies], union),
        syscalls=syscalls,
        refused=_refused([row for policy in policies for row in policy.refused if row.name not in allowed]),
        unknown=tuple(row for row in rows.joined("unknown", _unknown_key, _unknown) if row.abi in abis),
        capabilities=rows.joined("capabilities", lambda row: (row.name,), _capability if union else _common_capability),
        has_files=has_files,
        variables=variables if has_files else (),
        **(merged_uses(rows) if has_files else {}),
        user_namespaces=_feature([policy.user_namespaces for policy in policies], union),
        io_uring=_feature([policy.io_uring for policy in policies], union),
    )
    return at_places(found, whole=True) if union else found


# Variables.


def _variables(policies: Sequence[Policy], union: bool) -> tuple[Variable, ...]:
    """Those of all, with the paths that one of them (of a union) or all give."""
    several = [policy.variables for policy in policies if policy.has_files]
    if union:
        return together_at(several, reasons.added)
    kept = []
    for row in several[0] if several else ():
        same = [other for variables in several for other in variables if other.name == row.name]
        paths = set(row.paths).intersection(*(other.paths for other in same))
        if len(same) == len(several) and paths:
            kept.append(Variable(row.name, tuple(sorted(paths)), reasons.added(other.because for other in same)))
    return tuple(kept)


def as_written(policies: Sequence[Policy], whole: bool) -> list[Policy]:
    """The policies with variables in place of their paths, each also with those that only others have: so one mount is
    the same in all, wherever it is. ``whole``: as for :func:`profiler.policy.variables.written`."""
    every = together_at((policy.variables for policy in policies), reasons.added)
    made = []
    for policy in policies:
        known = {row.name for row in policy.variables}
        others = tuple(row for row in every if row.name not in known)
        made.append(written(replace(written(policy, whole), variables=others), whole=True))
    return made


def at_places(policy: Policy, whole: bool = False) -> Policy:
    """The policy with the paths in place of variables, and rows that are about the same path as one. ``whole``: what is
    allowed at one path of a variable is so at all."""
    if not policy.variables:
        return policy
    policy = read(policy)
    if whole and any(len(row.paths) > 1 for row in policy.variables):
        policy = read(_one_a_path(written(policy, whole=True)))
    policy = _one_a_path(policy)
    rows: dict[str, Any] = {name: in_order(name, getattr(policy, name)) for name in KEYS}
    return replace(policy, **rows)


def _one_a_path(policy: Policy) -> Policy:
    twice = any(
        len({key(row) for row in getattr(policy, name)}) < len(getattr(policy, name)) for name, key in KEYS.items()
    )
    return replace(policy, **merged_uses(Rows([policy], union=True))) if twice else policy


class Rows:
    """The entries of all policies, by section and key."""

    def __init__(self, policies: Sequence[Policy], union: bool) -> None:
        self.policies, self.union = policies, union
        self.total = sum(policy.workload.runs for policy in policies)

    def of_some(self, policies: Sequence[Policy]) -> Rows:
        """The entries of these policies only."""
        return Rows(policies, self.union)

    def of(self, section: str, key: Callable[[Any], Key]) -> dict[Key, list[list[Any]]]:
        """Key to the rows of each policy (mostly one or none)."""
        found: dict[Key, list[list[Any]]] = {}
        for index, policy in enumerate(self.policies):
            for row in getattr(policy, section):
                found.setdefault(key(row), [[] for _ in self.policies])[index].append(row)
        return found

    def runs(self, held: Sequence[Sequence[Entry]]) -> int | None:
        """In how many recordings of all policies; ``held``: the rows of each."""
        seen = 0
        for policy, rows in zip(self.policies, held, strict=True):
            seen += max((policy.workload.runs if row.runs is None else row.runs for row in rows), default=0)
        return seen if 0 < seen < self.total else None

    def joined(
        self, section: str, key: Callable[[Any], Key], join: Callable[[Sequence[Any]], Row | None]
    ) -> tuple[Row, ...]:
        """One row for each key that one policy has (of a union) or all have (of an intersection), sorted by the
        keys."""
        made = []
        for _, held in sorted(self.of(section, key).items(), key=lambda item: row_order(item[0])):
            if not self.union and not all(held):
                continue
            row = join([row for rows in held for row in rows])
            if row is not None:
                made.append(replace(row, runs=self.runs(held)))
        return tuple(made)


# What the policies were made from.


def _words(texts: Iterable[str], separator: str) -> str:
    return separator.join(sorted({word for text in texts for word in text.split(separator)}))


def _workload(works: Sequence[Workload]) -> Workload:
    return Workload(
        argv=min(work.argv for work in works),
        # A policy must serve every run: as for traces, the most privileged.
        uid=min(work.uid for work in works),
        runs=sum(work.runs for work in works),
        tracers=_words((work.tracers for work in works), "+"),
        kernel=_words((work.kernel for work in works), ", "),
        incomplete=any(work.incomplete for work in works),
        image=_same(work.image for work in works),
        digest=_same(work.digest for work in works),
        joined=tuple(sorted({path for work in works for path in work.joined})),
    )


def _same(values: Iterable[str | None]) -> str | None:
    found = set(values)
    return found.pop() if len(found) == 1 else None


def _runtime(names: Sequence[str], union: bool) -> str:
    """The words of all. ``none`` says that no runtime's calls are in it."""
    words = set(_words(names, ", ").split(", "))
    if "none" in words and (not union or len(words) == 1):
        return "none"
    return ", ".join(sorted(words - {"none"}))


def _feature(why: Sequence[tuple[str, ...]], union: bool) -> tuple[str, ...]:
    given = [texts for texts in why if texts]
    return reasons.added(given) if given and (union or len(given) == len(why)) else ()


# Syscalls.


def implies(inner: Rule, outer: Rule) -> bool:
    """Whether every call that ``inner`` allows is allowed by ``outer``."""
    by_position = {condition.position: condition for condition in inner.conditions}
    for wanted in outer.conditions:
        held = by_position.get(wanted.position)
        if held is None or wanted.mask & ~held.mask or held.value & wanted.mask != wanted.value:
            return False
    return True


def without_covered(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """The rules, sorted, without those that another one covers."""
    listed = sorted(set(rules))
    if len(listed) > COMPARED:
        return tuple(listed)
    kept: list[Rule] = []
    for index, rule in enumerate(listed):
        # Of two that allow the same, the first.
        others = (other for at, other in enumerate(listed) if at != index and implies(rule, other))
        if not any(not implies(other, rule) or other < rule for other in others):
            kept.append(rule)
    return tuple(kept)


def together(rules: Iterable[Rule]) -> tuple[tuple[Rule, ...], str]:
    """Rules that allow what one of these does, within the budget, and what was given up for it: fewer arguments are
    compared, in the end none (then there are no rules)."""
    kept = without_covered(rules)
    positions = sorted({condition.position for rule in kept for condition in rule.conditions})
    for last in range(len(positions), 0, -1):
        if len(kept) <= RULE_BUDGET:
            fields = sorted({condition.field for rule in kept for condition in rule.conditions})
            return kept, "" if last == len(positions) else f"too many values: only {', '.join(fields)} is compared"
        compared = positions[: last - 1]
        kept = without_covered(Rule(tuple(c for c in rule.conditions if c.position in compared)) for rule in kept)
        if any(not rule.conditions for rule in kept):
            break
    return (), TOO_MANY


def both(a: Rule, b: Rule) -> Rule | None:
    """What both allow; None when that is nothing."""
    found = {condition.position: condition for condition in a.conditions}
    for other in b.conditions:
        held = found.get(other.position)
        if held is None:
            found[other.position] = other
        elif (held.value ^ other.value) & held.mask & other.mask:
            return None
        else:
            field = min(held.field, other.field)
            found[other.position] = Condition(field, other.position, held.mask | other.mask, held.value | other.value)
    return Rule(tuple(found[position] for position in sorted(found)))


def _because(rows: Sequence[Allowed]) -> tuple[str, ...]:
    """Once it succeeded somewhere, it is no call that never did."""
    failed = all(row.failed for row in rows)
    lists = [
        row.because if failed else tuple(text for text in row.because if not reasons.is_failure(text)) for row in rows
    ]
    return reasons.added(lists)


def _failed(rows: Sequence[Allowed]) -> tuple[str, ...]:
    return tuple(sorted({errno for row in rows for errno in row.failed})) if all(row.failed for row in rows) else ()


def _entry(section: str, rows: Sequence[Allowed], rules: tuple[Rule, ...], note: str = "") -> Allowed:
    because = _because(rows)
    return Allowed(
        section=section,
        abi=rows[0].abi,
        name=rows[0].name,
        because=(*because, note) if note and note not in because else because,
        rules=rules,
        stands_for=tuple(sorted({name for row in rows for name in row.stands_for})),
        failed=_failed(rows),
    )


def _syscalls(rows: Rows) -> tuple[Allowed, ...]:
    """An entry that one policy saw and that stands in for another elsewhere was seen. The runtime's calls stay
    apart."""
    found = rows.of("syscalls", lambda row: (row.abi, row.name, row.section == "base"))
    made = []
    for held in found.values():
        every = [row for one in held for row in one]
        section = min((row.section for row in every), key=SECTIONS.index)
        rules, note = (
            ((), "") if any(not row.rules for row in every) else together(rule for row in every for rule in row.rules)
        )
        made.append(replace(_entry(section, every, rules, note), runs=rows.runs(held)))
    return _sorted_entries(made)


def _sorted_entries(entries: Iterable[Allowed]) -> tuple[Allowed, ...]:
    return tuple(sorted(entries, key=lambda row: (SECTIONS.index(row.section), row.abi, row.name)))


def _product(name: str, several: Iterable[Iterable[Rule]]) -> tuple[Rule, ...]:
    """What is allowed by a rule of each. An entry without rules is one rule without conditions."""
    found: tuple[Rule, ...] = (Rule(()),)
    for rules in several:
        listed = tuple(rules)
        if len(found) * len(listed) > PRODUCTS:
            raise InputError(f"cannot intersect: {name} has too many argument rules ({len(found)} by {len(listed)})")
        found = without_covered(rule for a, b in product(found, listed) if (rule := both(a, b)) is not None)
    return found


def _alternatives(rows: Iterable[Allowed]) -> tuple[Rule, ...]:
    return tuple(rule for row in rows for rule in (row.rules or (Rule(()),)))


def _common_syscalls(rows: Rows) -> tuple[Allowed, ...]:
    """In the section that all have it in, or the first that one has it in; exactly the arguments that all of them
    allow."""
    made = []
    for (_, name), held in rows.of("syscalls", lambda row: (row.abi, row.name)).items():
        if not all(held):
            continue
        left = list(_product(name, (_alternatives(one) for one in held)))
        shared = [section for section in SECTIONS if all(any(row.section == section for row in one) for one in held)]
        first = min((row.section for one in held for row in one), key=SECTIONS.index)
        for section in shared or [first]:
            inside = [[row for row in one if row.section == section] if shared else one for one in held]
            rules = _product(name, (_alternatives(one) for one in inside))
            if section != (shared or [first])[-1]:
                left = [rule for rule in left if not any(implies(rule, other) for other in rules)]
            else:  # the rest: what one allows in this section and another in that
                rules = without_covered((*rules, *left))
            if rules:
                plain = () if Rule(()) in rules else rules
                entry = _entry(section, [row for one in inside for row in one], plain)
                made.append(replace(entry, runs=rows.runs(inside)))
    return _sorted_entries(made)


def _refused(rows: Sequence[Refused]) -> tuple[Refused, ...]:
    """One answer for each name: ENOSYS, which lets libc fall back, before any other."""
    found: dict[str, list[Refused]] = {}
    for row in rows:
        found.setdefault(row.name, []).append(row)
    return tuple(
        Refused(
            name,
            min((row.errno for row in held), key=lambda errno: (errno != "ENOSYS", errno)),
            reasons.added(row.because for row in held),
        )
        for name, held in sorted(found.items())
    )


def _unknown_key(row: Unknown) -> tuple[str, int]:
    return (row.abi, row.number)


def _unknown(rows: Sequence[Unknown]) -> Unknown:
    return replace(rows[0], because=reasons.added(row.because for row in rows))


# Capabilities.


def _as_used(rows: Sequence[Capability], use: str) -> Capability:
    """With the reasons of those that were used so."""
    held = [row for row in rows if row.use == use]
    return Capability(rows[0].name, use, reasons.added(row.because for row in held), all(row.inferred for row in held))


_STRENGTH = ("needed", "refused", "child_namespace", "checked")
assert set(_STRENGTH) == set(USES)


def _capability(rows: Sequence[Capability]) -> Capability:
    return _as_used(rows, min((row.use for row in rows), key=_STRENGTH.index))


def _common_capability(rows: Sequence[Capability]) -> Capability:
    return _as_used(rows, max((row.use for row in rows), key=_STRENGTH.index))
