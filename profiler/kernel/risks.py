"""How dangerous a right is, and why. The data, with its sources, is in risks.yaml.

Nothing here decides what is allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from profiler.kernel.arguments import parse, spec_for
from profiler.kernel.data import load

LEVELS = ("low", "medium", "high", "critical")
"""From ordinary to a known container escape; risks.yaml explains each level."""


@dataclass(frozen=True)
class Risk:
    """A level of LEVELS, and the reason."""

    level: str
    why: str

    @property
    def rank(self) -> int:
        """The level as a number; 0 is low."""
        return LEVELS.index(self.level)


@dataclass(frozen=True)
class ArgumentRisk:
    """A risk of a syscall, limited to calls that pass the tests of one alternative.

    A test (position, mask, value) holds when ``argument[position] & mask == value``; all tests of an alternative must
    hold. Without alternatives every call has the risk.
    """

    risk: Risk
    alternatives: tuple[tuple[tuple[int, int, int], ...], ...] = ()


@dataclass(frozen=True)
class PathRisk:
    """A risk of a path. ``path`` is absolute, or starts with ``{home}``.

    ``exactly``: nothing below the path. ``prefix``: also names that start with the path. ``accesses``: words of the
    trace's files, None for any. ``states``: empty for any.
    """

    path: str
    risk: Risk
    accesses: frozenset[str] | None
    exactly: bool = False
    prefix: bool = False
    states: frozenset[str] = frozenset()


@dataclass(frozen=True)
class SocketRisk:
    """A risk of sockets. A member that is None or empty matches everything."""

    risk: Risk
    family: str | None = None
    type: str | None = None
    protocol: int | None = None
    ports: frozenset[int] = frozenset()
    operations: frozenset[str] = frozenset()


CHANGES = frozenset(
    {
        "write",
        "append",
        "create",
        "truncate",
        "make",
        "remove",
        "rename_from",
        "rename_to",
        "link",
        "mode",
        "owner",
        "times",
        "xattr",
        "bind",
    }
)
"""Accesses that change a file or its directory: ``change`` in risks.yaml."""


def highest(risks: Iterable[Risk]) -> Risk:
    """Return the first risk of the highest level; the default if there are none."""
    return max(risks, key=lambda risk: risk.rank, default=named("default"))


@cache
def named(name: str) -> Risk:
    """Return a risk that has a key of its own: ``default``, ``abi``, ``everything``, ``mounts``... Raises KeyError."""
    return _risk(load("risks.yaml")[name])


def _risk(row: dict[str, Any]) -> Risk:
    if row["level"] not in LEVELS:
        raise ValueError(f"risks.yaml: unknown level {row['level']!r}")
    return Risk(row["level"], row["why"])


def _alternatives(syscall: str, row: dict[str, Any]) -> tuple[tuple[tuple[int, int, int], ...], ...]:
    spec = spec_for(syscall)
    field = row["field"]
    if spec is None or field not in spec.fields:
        raise ValueError(f"risks.yaml: {syscall} has no argument {field!r}")
    index = spec.fields.index(field)
    position = spec.positions[index]
    given: list[tuple[int, int, int]] = []
    context: list[int] = []
    for other, at, mask in zip(spec.fields[:index], spec.positions, spec.masks, strict=False):
        value = parse(syscall, other, row[other], context) if other in row else 0
        context.append(value)
        if other in row:
            given.append((at, mask, value))
    wanted = [parse(syscall, field, word, context) for word in row.get("values", ())]
    flags = [parse(syscall, field, word, context) for word in row.get("flags", ())]
    own = [(position, spec.masks[index], value) for value in wanted] + [(position, flag, flag) for flag in flags]
    return tuple((*given, test) for test in own)


@cache
def _syscalls() -> dict[str, tuple[ArgumentRisk, ...]]:
    found: dict[str, list[ArgumentRisk]] = {}
    for row in load("risks.yaml")["syscalls"]:
        for name in row["names"]:
            alternatives = _alternatives(name, row["arguments"]) if "arguments" in row else ()
            found.setdefault(name, []).append(ArgumentRisk(_risk(row), alternatives))
    return {name: tuple(rows) for name, rows in found.items()}


def syscall_risks(name: str) -> Sequence[ArgumentRisk]:
    """Return the risks of a syscall; empty for an ordinary one."""
    return _syscalls().get(name, ())


def capability_risk(name: str) -> Risk:
    """Return the risk of a capability; the default if it is not listed."""
    rows = load("risks.yaml")["capabilities"]
    return _risk(rows[name]) if name in rows else named("default")


@cache
def path_risks() -> tuple[PathRisk, ...]:
    """Return all rows of paths, one for each path."""
    found = []
    for row in load("risks.yaml")["paths"]:
        words = frozenset(row["do"])
        accesses = None if "any" in words else (words - {"change"}) | (CHANGES if "change" in words else frozenset())
        for path in row["at"]:
            found.append(
                PathRisk(
                    path,
                    _risk(row),
                    accesses,
                    row.get("exactly", False),
                    row.get("prefix", False),
                    frozenset(row.get("states", ())),
                )
            )
    return tuple(found)


@cache
def socket_risks() -> tuple[SocketRisk, ...]:
    """Return all rows of sockets."""
    return tuple(
        SocketRisk(
            _risk(row),
            row.get("family"),
            row.get("type"),
            row.get("protocol"),
            frozenset(row.get("ports", ())),
            frozenset(row.get("operations", ())),
        )
        for row in load("risks.yaml")["sockets"]
    )


def whom_risk(section: str, whom: str) -> Risk:
    """Return the risk of a ``signals`` or ``inspections`` entry that has these recipients."""
    row = load("risks.yaml")[section].get(whom)
    return named("default") if row is None else _risk(row)
