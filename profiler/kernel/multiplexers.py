"""Reader of multiplexers.yaml: syscalls that do the work of others, past the rules for those."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from profiler.kernel.arguments import parse, spec_for
from profiler.kernel.data import load


@dataclass(frozen=True)
class Multiplexer:
    """``does``: each syscall it does the work of, to the alternative tests of its own arguments that choose that work,
    each (position, mask, value), true when ``argument[position] & mask == value``; none when any call of it will do."""

    name: str
    why: str
    does: Mapping[str, tuple[tuple[int, int, int], ...]]


@cache
def multiplexers() -> tuple[Multiplexer, ...]:
    """All of them, in the order of the file."""
    found = []
    for name, row in load("multiplexers.yaml").items():
        field, spec = row.get("field"), spec_for(name)
        does: dict[str, tuple[tuple[int, int, int], ...]] = dict.fromkeys(row["does"], ())
        if field is not None:
            if spec is None or field not in spec.fields:
                raise ValueError(f"multiplexers.yaml: {name} has no argument {field!r}")
            index = spec.fields.index(field)
            position, mask = spec.positions[index], spec.masks[index]
            does = {
                other: tuple(
                    (position, mask, parse(name, field, word))
                    for word in ([value] if isinstance(value, str) else value)
                )
                for other, value in row["does"].items()
            }
        found.append(Multiplexer(name, row["why"], does))
    return tuple(found)


@cache
def doing(name: str) -> tuple[Multiplexer, ...]:
    """Those that do the work of this syscall."""
    return tuple(one for one in multiplexers() if name in one.does)
