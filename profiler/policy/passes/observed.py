"""Everything that was seen is allowed; a number without a name is kept apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from profiler.errors import InputError
from profiler.kernel.syscalls import name_of, number_of
from profiler.policy.model import Allowed, Options, Policy, Unknown
from profiler.quoting.text import printable
from profiler.trace.model import Program, Syscall, Trace

PROGRAMS_NAMED = 3
"""Programs named in a reason; the rest are counted."""


def count(number: int) -> str:
    """1204 as ``1 204``."""
    return f"{number:,}".replace(",", " ")


def programs_text(programs: Sequence[Program], calls: Mapping[int, int]) -> str:
    """``nginx: 1 204 calls, sh: 2 calls, 4 more programs``, the busiest first."""
    names: dict[str, int] = {}
    for index, number in calls.items():
        name = printable(programs[index].name) if 0 <= index < len(programs) else "unknown program"
        names[name] = names.get(name, 0) + number
    ranked = sorted(names.items(), key=lambda item: (-item[1], item[0]))
    parts = [f"{name}: {count(number)} call{'' if number == 1 else 's'}" for name, number in ranked[:PROGRAMS_NAMED]]
    rest = len(ranked) - len(parts)
    if rest:
        parts.append(f"{rest} more program{'' if rest == 1 else 's'}")
    return ", ".join(parts)


def reason(row: Syscall, trace: Trace) -> str:
    """The reason that names a row's evidence."""
    text = programs_text(trace.programs, row.programs) or f"{count(row.calls)} calls"
    return f"observed ({text})"


def seen_in(trace: Trace, runs: Iterable[int]) -> int | None:
    """The ``runs`` of an entry made of rows that say these: the most of them, or None when that is all recordings."""
    most = max(runs, default=0)
    return most if 0 < most < trace.meta.runs else None


def name_for(row: Syscall) -> str | None:
    """The row's name as this profgen's tables give it; None for a number without one.

    A trace made by a newer profgen may know a name that these tables lack. Raises InputError when a name is given that
    belongs to another number: such a trace was not written by a tracer.
    """
    ours = name_of(row.abi, row.number)
    if row.name is None or row.name == ours:
        return ours
    number = number_of(row.abi, row.name)
    if number is not None and number != row.number:
        name = printable(row.name)
        raise InputError(f"the trace says that {name} is syscall {row.number} of {row.abi}; it is {number}")
    return row.name if number is not None else ours


def observed(policy: Policy, trace: Trace, options: Options) -> Policy:
    """Add an entry for each row of the trace."""
    entries: list[Allowed] = []
    unknown: list[Unknown] = []
    for row in trace.syscalls:
        name = name_for(row)
        because = (reason(row, trace),)
        if name is None:
            unknown.append(Unknown(row.abi, row.number, because, seen_in(trace, [row.runs])))
        else:
            entries.append(Allowed("observed", row.abi, name, because, runs=seen_in(trace, [row.runs])))
    return replace(policy, syscalls=policy.syscalls + tuple(entries), unknown=policy.unknown + tuple(unknown))
