"""Read multiplexers.yaml: the syscalls that do the work of other syscalls and so bypass their rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from profiler.kernel.arguments import parse, spec_for
from profiler.kernel.data import load


@dataclass(frozen=True)
class Multiplexer:
    """A syscall that does the work of others.

    ``does`` maps each of those to alternative tests of the multiplexer's own arguments that select its work: (position,
    mask, value), true when ``argument[position] & mask == value``. Without tests, any call selects it.
    """

    name: str
    why: str
    does: Mapping[str, tuple[tuple[int, int, int], ...]]


@cache
def multiplexers() -> tuple[Multiplexer, ...]:
    """Return all multiplexers, in the order of the file."""
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
    """Return the multiplexers that do the work of this syscall."""
    return tuple(one for one in multiplexers() if name in one.does)
