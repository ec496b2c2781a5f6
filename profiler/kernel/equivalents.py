"""Readers of equivalents.yaml: which syscalls and argument values stand in for one another, and why."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from profiler.kernel.arguments import parse
from profiler.kernel.data import load
from profiler.kernel.syscalls import number_of


@cache
def _classes() -> dict[str, tuple[frozenset[str], str]]:
    return {
        member: (frozenset(row["members"]), str(row["reason"]))
        for row in load("equivalents.yaml")["classes"]
        for member in row["members"]
    }


def stand_ins(abi: str, names: Iterable[str]) -> dict[str, tuple[frozenset[str], str]]:
    """What ``names``, seen under ``abi``, bring along: name to (the names it stands in for, reason).

    Names for which the ABI has no call are left out, as are ``names`` themselves. An empty set of names it stands in
    for means: always added.
    """
    seen = frozenset(names)
    found: dict[str, tuple[frozenset[str], str]] = {}

    def add(name: str, origins: frozenset[str], reason: str) -> None:
        if name in seen or number_of(abi, name) is None:
            return
        before = found.get(name)
        found[name] = (before[0] | origins, before[1]) if before else (origins, reason)

    for name in sorted(seen):
        members, reason = _classes().get(name, (frozenset(), ""))
        for member in members - seen:
            add(member, members & seen, reason)
    data = load("equivalents.yaml")
    for row in data["implied"]:
        origins = seen & frozenset(row["seen"])
        if origins:
            for name in row["add"]:
                add(name, origins, row["reason"])
    for row in data["always"]:
        for name in row["add"]:
            if name not in found:
                add(name, frozenset(), row["reason"])
    return found


@cache
def always() -> frozenset[str]:
    """The reasons of those that are added whatever was seen."""
    return frozenset(str(row["reason"]) for row in load("equivalents.yaml")["always"])


@cache
def _same_values(syscall: str, field: str) -> dict[int, tuple[frozenset[int], str]]:
    groups = {}
    for row in load("equivalents.yaml")["values"]:
        if (row["syscall"], row["field"]) == (syscall, field):
            for names in row["same"]:
                group = frozenset(parse(syscall, field, name) for name in names)
                groups.update(dict.fromkeys(group, (group, str(row["reason"]))))
    return groups


def same_values(syscall: str, field: str, value: int) -> tuple[frozenset[int], str]:
    """Argument values that stand in for ``value``, itself included, and why."""
    return _same_values(syscall, field).get(value, (frozenset({value}), ""))
