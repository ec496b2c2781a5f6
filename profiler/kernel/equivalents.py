"""Read equivalents.yaml: which syscalls and argument values substitute for one another, and why."""

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
    """Return the syscalls that ``names``, seen under ``abi``, imply: name to (the names it substitutes for, reason).

    Leaves out ``names`` themselves and names that the ABI does not have. An empty set of names means: always added.
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
    """Return the reasons of the syscalls that are always added."""
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
    """Return the argument values that substitute for ``value``, itself included, and why."""
    return _same_values(syscall, field).get(value, (frozenset({value}), ""))
