"""What a trace says, for passes and for readers that show evidence: names of calls and programs, outcomes of checks."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

from profiler.errors import InputError
from profiler.kernel.syscalls import name_of, number_of
from profiler.policy.model import strongest
from profiler.quoting.text import printable
from profiler.trace.model import Capability, Syscall, Trace


def name_for(row: Syscall) -> str | None:
    """Return the row's name as this profgen's tables give it; None for a number without one.

    A trace made by a newer profgen may know a name that these tables lack. Raises InputError when the name belongs to
    another number: no tracer wrote such a trace.
    """
    ours = name_of(row.abi, row.number)
    if row.name is None or row.name == ours:
        return ours
    number = number_of(row.abi, row.name)
    if number is not None and number != row.number:
        name = printable(row.name)
        raise InputError(f"the trace says that {name} is syscall {row.number} of {row.abi}; it is {number}")
    return row.name if number is not None else ours


COVERAGE = "spo.x-k8s.io/syscall-coverage"
"""The annotation in which the Security Profiles Operator has the same of a SeccompProfile."""


@dataclass(frozen=True)
class Coverage:
    """In how many of ``total`` recordings each syscall was seen, by name."""

    total: int
    syscalls: Mapping[str, int]


def coverage(trace: Trace) -> Coverage | None:
    """Return in how many of the merged recordings each syscall was seen; None for a single one. Of a name that several
    ABIs have, the most frequent counts."""
    found: dict[str, int] = {}
    for row in trace.syscalls:
        name = name_for(row)
        if name is not None:
            found[name] = max(found.get(name, 0), row.runs)
    return Coverage(trace.meta.runs, found) if trace.meta.runs > 1 else None


def annotation(coverage: Coverage, names: Container[str]) -> str:
    """Return the value of COVERAGE for a profile that allows these syscalls."""
    counts = {name: number for name, number in sorted(coverage.syscalls.items()) if name in names}
    return json.dumps({"version": "v1", "total": coverage.total, "syscalls": counts}, separators=(",", ":"))


def program_names(trace: Trace, programs: Iterable[int]) -> tuple[str, ...]:
    """Return the names of programs by their index in the trace, sorted and printable."""
    known = range(len(trace.programs))
    return tuple(sorted({printable(trace.programs[index].name) for index in programs if index in known}))


def outcome_of(check: Capability) -> str:
    """Return the outcome of a capability check: one of OUTCOMES.

    Needed: granted, against the namespace that the workload started in, where the answer changes the outcome of the
    call. Whether the kernel would have audited a refusal plays no part: some silent checks refuse.
    """
    if check.namespace == "child":
        return "child_namespace"
    if not check.decisive:
        return "checked"
    return "needed" if check.verdict == "granted" else "refused"


def gaining(trace: Trace) -> Mapping[str, frozenset[str]]:
    """Return the programs that gained privileges by their file, by path, with the words of trace.model.GAINED."""
    found: dict[str, frozenset[str]] = {}
    for row in trace.execs:
        if row.gained:
            path = trace.programs[row.program].path
            found[path] = found.get(path, frozenset()) | row.gained
    return found


SEARCH, OVERRIDE = "CAP_DAC_READ_SEARCH", "CAP_DAC_OVERRIDE"


def override_would_do(calls: Iterable[str]) -> bool:
    """Return whether CAP_DAC_OVERRIDE allows these calls what CAP_DAC_READ_SEARCH does: fs/namei.c generic_permission
    asks for it next. open_by_handle_at(2) does not."""
    return not any(call.rpartition(":")[2] == "open_by_handle_at" for call in calls)


def needed_at_a_check(trace: Trace) -> frozenset[str]:
    """Return the capabilities that settled a call, also those that another one covers."""
    return frozenset(check.capability for check in trace.capabilities if outcome_of(check) == "needed")


def capability_outcomes(trace: Trace) -> Mapping[str, str]:
    """Return the outcome of each capability that was checked, sorted by name.

    CAP_DAC_READ_SEARCH is not needed where CAP_DAC_OVERRIDE is needed too and allows the same.
    """
    found: dict[str, set[str]] = {}
    for check in trace.capabilities:
        found.setdefault(check.capability, set()).add(outcome_of(check))
    made = {name: strongest(found[name]) for name in sorted(found)}
    if {made.get(SEARCH), made.get(OVERRIDE)} == {"needed"} and all(
        override_would_do(check.syscalls)
        for check in trace.capabilities
        if check.capability == SEARCH and outcome_of(check) == "needed"
    ):
        made[SEARCH] = "checked"
    return made


def capabilities_with(trace: Trace, outcome: str) -> tuple[str, ...]:
    """Return the capabilities with this outcome, sorted."""
    return tuple(name for name, found in capability_outcomes(trace).items() if found == outcome)


def refused_checks(trace: Trace) -> frozenset[tuple[str, str]]:
    """Return which capabilities the kernel refused to which calls in a recording, without any policy: pairs of
    capability and call."""
    return frozenset(
        (check.capability, call)
        for check in trace.capabilities
        if outcome_of(check) == "refused"
        for call in check.syscalls
    )
