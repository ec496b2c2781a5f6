"""What a trace holds of files, sockets, signals, inspections, mounts and execs, in the terms of table.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from itertools import product

from system.operations.table import Evidence, Mounted, Operation, Places, Use, settled

from profiler.trace.model import Trace

SECTIONS = tuple(field.name for field in dataclasses.fields(Evidence) if field.name != "refused")


def seen(trace: Trace, places: Places) -> Evidence:
    """Everything the trace has, with numbers that differ between runs as words."""
    paths = [places.general(program.path) for program in trace.programs]
    return Evidence(
        files=frozenset(_files(trace, places, paths)),
        sockets=frozenset(
            Operation(row.family, row.type, row.protocol, row.operation, row.port, row.address, result)
            for row in trace.sockets
            for result in row.results
        ),
        signals=frozenset((row.signal, row.whom, result) for row in trace.signals for result in row.results),
        inspections=frozenset((row.operation, row.whom, result) for row in trace.inspections for result in row.results),
        mounts=frozenset(
            Mounted(
                row.operation, row.source and places.general(row.source), row.target, row.filesystem, row.flags, result
            )
            for row in trace.mounts
            for result in row.results
        ),
        execs=frozenset((paths[row.program], paths[row.by]) for row in trace.execs if row.by is not None),
        losses=frozenset(trace.meta.losses),
    )


def _files(trace: Trace, places: Places, programs: list[str]) -> Iterator[Use]:
    for row in trace.files:
        existing = None if row.existing is None else places.general(row.existing)
        for result, owner, program in product(row.results, sorted(row.owner) or [""], sorted(row.programs)):
            yield settled(
                Use(
                    places.general(row.path),
                    row.access,
                    row.kind,
                    result,
                    row.state,
                    owner,
                    existing,
                    row.whose,
                    programs[program],
                )
            )


def told_afterwards(evidence: Evidence) -> Evidence:
    """Return the evidence as it can be told after a call: ptrace looks before it, eBPF after it (docs/tracers.md).

    What was removed cannot be told then (except that it was a directory: rmdir(2) removes nothing else), nor its owner,
    nor the former owner of a file that was given away.
    """

    def afterwards(use: Use) -> Use:
        if use.failed or use.access not in ("remove", "owner"):
            return use
        return dataclasses.replace(
            use, owner="", kind="unknown" if use.access == "remove" and use.kind != "directory" else use.kind
        )

    return dataclasses.replace(evidence, files=frozenset(map(afterwards, evidence.files)))


def differences(have: Evidence, want: Evidence, sections: Iterable[str] = SECTIONS) -> list[str]:
    """One line for each row that is missing (-) or should not be there (+), shortest members only."""
    lines = []
    for section in sections:
        got, expected = getattr(have, section), getattr(want, section)
        lines += [f"- {_line(row)}" for row in sorted(expected - got, key=repr)]
        lines += [f"+ {_line(row)}" for row in sorted(got - expected, key=repr)]
    return lines


def _line(row: object) -> str:
    if not dataclasses.is_dataclass(row):
        return repr(row)
    said = {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}
    usual = {field.name: field.default for field in dataclasses.fields(row)}
    words = ", ".join(f"{name}={value!r}" for name, value in said.items() if value != usual[name])
    return f"{type(row).__name__}({words})"
