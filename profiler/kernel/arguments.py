"""Which syscall arguments are recorded, and how their values are named.

The data is in arguments.yaml (what is recorded, and how a filter compares it) and constants.yaml (names of values).
Arguments are unsigned here: a tracer stores ``register & mask``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from profiler.kernel.data import load, load_section

INT = 0xFFFFFFFF
"""The mask of an argument that the kernel takes as an int."""

COMPARISONS = ("exact", "subset", "namespaces", "protection")

NAMESPACE_FLAGS = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET (linux/sched.h), as clone(2) takes them.

CLONE_NEWTIME (0x80) is left out: it lies in the byte where clone(2) takes the exit signal. Only clone3 and unshare
accept it.
"""

CLONE3_NAMESPACE_FLAGS = NAMESPACE_FLAGS | 0x80
CLONE_INTO_CGROUP = 0x200000000
CLONE_THREAD = 0x10000

_OPTIONS = {
    0: "option_ip",
    1: "option_socket",
    6: "option_tcp",
    17: "option_udp",
    41: "option_ipv6",
    263: "option_packet",
    270: "option_netlink",
}
_PROTOCOLS = {2: "ip_protocol", 10: "ip_protocol", 16: "netlink_protocol"}


@dataclass(frozen=True)
class ArgumentSpec:
    """The recorded arguments of one syscall, at most three. An index means the same argument in every tuple.

    ``pointer``: the argument points to a 64-bit word in user memory, and that word is the value (clone3's flags).
    ``compares`` says how a filter is built from the observed values (arguments.yaml explains the words). ``compared``
    holds the bits that a filter looks at: the mask without flags that give no right.
    """

    fields: tuple[str, ...]
    positions: tuple[int, ...]
    masks: tuple[int, ...]
    pointer: bool = False
    compares: tuple[str, ...] = ()
    compared: tuple[int, ...] = ()
    tables: tuple[str | None, ...] = ()
    not_on: frozenset[str] = frozenset()

    def registers(self, value: Sequence[int]) -> tuple[int, ...]:
        """Return six registers with a recorded value in its positions."""
        registers = [0] * 6
        for position, one in zip(self.positions, value, strict=True):
            registers[position] = one
        return tuple(registers)


def _compared(field: dict[str, Any]) -> int:
    mask: int = field.get("mask", INT)
    for name in field.get("free", ()):
        mask &= ~_table(field["values"]).numbers[name]
    return mask


@cache
def _specs() -> dict[str, ArgumentSpec]:
    specs = {}
    for name, row in load("arguments.yaml").items():
        fields = row["fields"]
        specs[name] = ArgumentSpec(
            fields=tuple(field["name"] for field in fields),
            positions=tuple(field["position"] for field in fields),
            masks=tuple(field.get("mask", INT) for field in fields),
            pointer=row.get("pointer", False),
            compares=tuple(field.get("compare", "exact") for field in fields),
            compared=tuple(_compared(field) for field in fields),
            tables=tuple(field.get("values") for field in fields),
            not_on=frozenset(row.get("not_on", ())),
        )
    return specs


def spec_for(name: str, abi: str | None = None) -> ArgumentSpec | None:
    """Return which arguments of a syscall are recorded, or None if none are, in general or under this ABI."""
    spec = _specs().get(name)
    return None if spec is None or abi in spec.not_on else spec


def recorded_names() -> frozenset[str]:
    """Return every syscall that has a spec."""
    return frozenset(_specs())


@dataclass(frozen=True)
class _Table:
    flags: bool
    numbers: dict[str, int]
    names: dict[int, str]


@cache
def _table(name: str) -> _Table:
    row = load_section("constants.yaml", name)
    numbers: dict[str, int] = row["values"]
    return _Table(row["kind"] == "flags", numbers, {number: constant for constant, number in numbers.items()})


def value_of(table: str, name: str) -> int:
    """Return the number of a name in a table of constants.yaml. Raises KeyError."""
    return _table(table).numbers[name]


def implies_exec(persona: int) -> bool:
    """Return whether personality(2) with this argument makes what is mapped for reading executable. 0xffffffff only
    asks for the current value."""
    return persona != INT and bool(persona & value_of("personality", "READ_IMPLIES_EXEC"))


@cache
def _all_numbers() -> dict[str, int]:
    merged: dict[str, int] = {}
    for row in load("constants.yaml").values():
        for name, number in row["values"].items():
            merged.setdefault(name, number)
    return merged


def _table_for(spec: ArgumentSpec, index: int, values: Sequence[int]) -> _Table | None:
    name = spec.tables[index]
    if name is None:
        return None
    if name.endswith(":"):
        by_value = _OPTIONS if name == "level:" else _PROTOCOLS
        first = values[0] if values else -1
        chosen = by_value.get(first)
        return _table(chosen) if chosen else None
    return _table(name)


def _number(value: int) -> str:
    return str(value) if value < 10 else hex(value)


def _render(table: _Table | None, value: int) -> str:
    if table is None:
        return _number(value)
    if value in table.names:
        return table.names[value]
    if not table.flags or value == 0:
        return _number(value)
    parts, rest = [], value
    for name, bit in sorted(table.numbers.items(), key=lambda item: item[1]):
        if bit and rest & bit == bit and bit & (bit - 1) == 0:
            parts.append(name)
            rest &= ~bit
    if rest:
        parts.append(_number(rest))
    return "|".join(parts)


def render(name: str, field: str, value: int, context: Sequence[int] = ()) -> str:
    """Return a value as people write it: ``AF_INET``, ``CLONE_NEWNS|CLONE_NEWPID``, ``0x5499``.

    ``context`` is the whole recorded tuple: the name of a socket option depends on its level, the name of a protocol on
    the domain. A value without a spec or a name is rendered as a number. :func:`parse` reads the text back.
    """
    spec = spec_for(name)
    if spec is None or field not in spec.fields:
        return _number(value)
    return _render(_table_for(spec, spec.fields.index(field), context), value)


_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def parse(name: str, field: str, text: str | int, context: Sequence[int] = ()) -> int:
    """Return the value that a text names, the inverse of :func:`render`.

    Reads numbers, names, and both joined by ``|``. ``context`` holds the values of the fields before this one. Raises
    ValueError for an unknown name, and for a flag of another call.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        if not 0 <= text < 1 << 64:
            raise ValueError(f"{text} does not fit in 64 bits")
        return text
    spec = spec_for(name)
    table = _table_for(spec, spec.fields.index(field), context) if spec and field in spec.fields else None
    total = 0
    for part in str(text).split("|"):
        word = part.strip()
        if _WORD.match(word):
            number = table.numbers.get(word) if table else None
            # IPPROTO_TCP is SOL_TCP, but the flag of another call is another flag.
            if number is None and not (table and table.flags):
                number = _all_numbers().get(word)
            if number is None:
                raise ValueError(f"unknown name {word!r} for {name} {field}")
        else:
            try:
                number = int(word, 0)
            except ValueError:
                raise ValueError(f"{word!r} is neither a name nor a number ({name} {field})") from None
            if not 0 <= number < 1 << 64:
                raise ValueError(f"{word} does not fit in 64 bits")
        total |= number
    return total
