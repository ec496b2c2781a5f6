"""Merging policies: what any of them allows (:func:`merge`), or what all of them allow (:func:`intersect`).

Both are commutative, associative and idempotent. Two exceptions: past the budget of argument rules a filter becomes
wider, never narrower, and its rules may depend on the order; so may paths below a mount that was at several places, one
of which is a place of another mount too.

A policy without ``files`` comes from a recording that did not watch them, and allows any: so does a union with it; an
intersection has the files of the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from profiler.errors import InputError
from profiler.kernel.abi import ABIS
from profiler.policy import launch
from profiler.policy.model import (
    RULE_BUDGET,
    SECTIONS,
    Allowed,
    Condition,
    Policy,
    Refused,
    Rule,
    Variable,
    Workload,
)
from profiler.policy.reasons import Reasons, joined, said
from profiler.policy.rows import KEYS, Rows, in_order, merged_uses, plain_of
from profiler.policy.variables import read, written
from profiler.policy.variables import together as together_at

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
        unknown=tuple(
            row for row in rows.joined("unknown", lambda row: (row.abi, row.number), plain_of) if row.abi in abis
        ),
        capabilities=rows.joined("capabilities", lambda row: (row.name,), plain_of),
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
        return together_at(several)
    kept = []
    for row in several[0] if several else ():
        same = [other for variables in several for other in variables if other.name == row.name]
        paths = set(row.paths).intersection(*(other.paths for other in same))
        if len(same) == len(several) and paths:
            kept.append(Variable(row.name, tuple(sorted(paths)), joined(other.because for other in same)))
    return tuple(kept)


def as_written(policies: Sequence[Policy], whole: bool) -> list[Policy]:
    """The policies with variables in place of their paths, each also with those that only others have: so one mount is
    the same in all, wherever it is. ``whole``: as for :func:`profiler.policy.variables.written`."""
    every = together_at(policy.variables for policy in policies)
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


# What the policies were made from.


def _workload(works: Sequence[Workload]) -> Workload:
    return Workload(
        argv=min(work.argv for work in works),
        # A policy must serve every run: as for traces, the most privileged.
        uid=min(work.uid for work in works),
        incomplete=any(work.incomplete for work in works),
        image=_same(work.image for work in works),
        digest=_same(work.digest for work in works),
        joined=tuple(sorted({path for work in works for path in work.joined})),
        denials_only=all(work.denials_only for work in works),
        launch=launch.merged([work.launch for work in works]),
    )


def _same(values: Iterable[str | None]) -> str | None:
    found = set(values)
    return found.pop() if len(found) == 1 else None


def _runtime(names: Sequence[str], union: bool) -> str:
    """The words of all. ``none`` says that no runtime's calls are in it."""
    words = {word for name in names for word in name.split(", ")}
    if "none" in words and (not union or len(words) == 1):
        return "none"
    return ", ".join(sorted(words - {"none"}))


def _feature(why: Sequence[Reasons], union: bool) -> Reasons:
    given = [texts for texts in why if texts]
    return joined(given) if given and (union or len(given) == len(why)) else ()


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


def _because(rows: Sequence[Allowed], note: str = "") -> Reasons:
    """Return the reasons of all. A call that succeeded in one recording is not one that never did."""
    failed = all(row.never_succeeded for row in rows)
    lists = [[reason for reason in row.because if failed or reason.kind != "failed"] for row in rows]
    return joined([*lists, [said("widened", note)] if note else []])


def _entry(section: str, rows: Sequence[Allowed], rules: tuple[Rule, ...], note: str = "") -> Allowed:
    return Allowed(
        section=section,
        abi=rows[0].abi,
        name=rows[0].name,
        because=_because(rows, note),
        rules=rules,
        stands_for=tuple(sorted({name for row in rows for name in row.stands_for})),
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
        made.append(_entry(section, every, rules, note))
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
                made.append(_entry(section, [row for one in inside for row in one], plain))
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
            joined(row.because for row in held),
        )
        for name, held in sorted(found.items())
    )
