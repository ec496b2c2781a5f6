"""Read multiplexers.yaml: the syscalls that do the work of other syscalls and so bypass their rules.

For i386, libseccomp adds rules for multiplexers by itself: see ``implied``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from profiler.kernel.arguments import parse, spec_for
from profiler.kernel.data import load

IMPLIED_ABI = "i386"
"""The ABI for which libseccomp adds rules for multiplexers (arch-x86.c; s390, MIPS and PowerPC are not supported)."""

IMPLIED: tuple[str, ...] = ("socketcall", "ipc")
"""The multiplexers that libseccomp adds rules for."""


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


@cache
def _implied() -> Mapping[str, tuple[str, int]]:
    tables = load("constants.yaml")
    return {
        word.removeprefix("SYS_").lower(): (multiplexer, value)
        for multiplexer in IMPLIED
        for word, value in tables[f"{multiplexer}_call"]["values"].items()
    }


def implied(name: str) -> tuple[str, int] | None:
    """Return the multiplexer that libseccomp writes a rule for when a profile names this syscall, and the first
    argument in that rule; None if there is none.

    In a filter for i386, libseccomp turns each rule for a socket or IPC call into two: one for the call itself, and one
    for ``socketcall`` or ``ipc`` (src/syscalls.c:abi_rule_add, 2.5.0 to 2.6.1). The second has the conditions of the
    first, but its first argument must be the number of the call. So the condition on the first argument is lost, and
    the others compare arguments of the multiplexer, which are pointers. A rule for the multiplexer itself without
    conditions replaces all of them.
    """
    return _implied().get(name)
