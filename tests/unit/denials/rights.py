"""A policy without one right, for each right that it has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from profiler.denials.model import Denial
from profiler.policy.covering import IMPLIED
from profiler.policy.model import FileRule, Policy, SocketRule

Right = tuple[str, str, str]
"""Kind of the denial that must be named, what it is about, and the word of access or the condition."""

CONDITIONS = ("states", "whose", "owned")


def _others(rows: tuple[Any, ...], gone: object, kept: object | None = None) -> tuple[Any, ...]:
    return tuple(row if row is not gone else kept for row in rows if row is not gone or kept is not None)


def _files(policy: Policy, rule: FileRule) -> Iterator[tuple[Right, Policy]]:
    def without(**change: Any) -> Policy:
        less = replace(rule, **change)
        return replace(policy, files=_others(policy.files, rule, less if less.access else None))

    for word in rule.access:
        if IMPLIED.get(word) not in rule.access:
            yield ("file", rule.pattern, word), without(access=tuple(each for each in rule.access if each != word))
    for state in rule.states:
        states = tuple(each for each in rule.states if each != state)
        yield (
            ("file", rule.pattern, "states"),
            without(states=states or (("linked",) if state != "linked" else ("deleted",))),
        )
    for whose in rule.whose:
        rest = tuple(each for each in rule.whose if each != whose)
        yield ("file", rule.pattern, "whose"), without(whose=rest or (("self",) if whose != "self" else ("outside",)))
    if not rule.owner and rule.access != ("execute", "map", "read"):
        yield ("file", rule.pattern, "owned"), without(owner=True)
    if "make" in rule.access:
        yield ("file", rule.pattern, "make"), without(kinds=("block",))
    for place in rule.existing:
        yield ("file", rule.pattern, "link"), without(existing=(f"{place}-other",))


def _sockets(policy: Policy, rule: SocketRule) -> Iterator[tuple[Right, Policy]]:
    name = f"{rule.family} {rule.type}"

    def without(**change: Any) -> Policy:
        less = replace(rule, **change)
        return replace(policy, sockets=_others(policy.sockets, rule, less if less.operations else None))

    for word in rule.operations:
        if word != "inherit":
            yield ("socket", name, word), without(operations=tuple(each for each in rule.operations if each != word))
    for member in ("ports", "addresses"):
        table: tuple[tuple[str, tuple[Any, ...]], ...] = getattr(rule, member)
        for word, values in table:
            for value in values:
                rest = tuple((each, tuple(v for v in these if (each, v) != (word, value))) for each, these in table)
                yield ("socket", name, word), without(**{member: tuple(item for item in rest if item[1])})


def without_one(policy: Policy) -> Iterator[tuple[Right, Policy]]:
    """Yield each right of a policy, and the policy without it."""
    for row in policy.capabilities:
        yield ("capability", row.name, ""), replace(policy, capabilities=_others(policy.capabilities, row))
    for call in policy.entries("observed"):
        names = tuple(entry for entry in policy.syscalls if (entry.abi, entry.name) != (call.abi, call.name))
        yield ("syscall", call.name, ""), replace(policy, syscalls=names)
    for file in policy.files:
        yield from _files(policy, file)
    for socket in policy.sockets:
        yield from _sockets(policy, socket)
    for signal in policy.signals:
        rest = _others(policy.signals, signal)
        yield ("signal", f"{signal.signal} {signal.whom}", ""), replace(policy, signals=rest)
    for look in policy.inspections:
        rest = _others(policy.inspections, look)
        yield ("inspection", f"{look.operation} {look.whom}", ""), replace(policy, inspections=rest)
    for mount in policy.mounts:
        yield ("mount", mount.operation, ""), replace(policy, mounts=_others(policy.mounts, mount))
    for step in policy.transitions:
        if step.by is not None:
            yield ("execution", step.program, ""), replace(policy, transitions=_others(policy.transitions, step))
    if policy.user_namespaces:
        yield ("user_namespace", "", ""), replace(policy, user_namespaces=())
    if policy.io_uring:
        yield ("io_uring", "", ""), replace(policy, io_uring=())


def is_named(right: Right, denial: Denial) -> bool:
    """Whether a denial is about a right."""
    kind, what, word = right
    if denial.kind != kind or (word not in ("", *CONDITIONS) and word not in (*denial.access, *denial.operations)):
        return False
    names = {
        "capability": denial.capability,
        "syscall": denial.name,
        "file": what if denial.path else None,
        "socket": f"{denial.family} {denial.type}",
        "signal": f"{denial.signal} {denial.whom}",
        "inspection": f"{denial.operation} {denial.whom}",
        "mount": denial.operation,
        "execution": denial.path,
    }
    return names.get(kind, what) == what
