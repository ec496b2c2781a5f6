"""Write denials as a trace: merged with the recording that the policy came from, it gives a policy that allows them.

Its rows are the denied uses, written as if they had succeeded: ``ok``, and capabilities ``granted``. Results of
syscalls are left open. It has no runs, and neither has any of its rows: an enforced run shows only what was missing.
The feature ``denials:refused`` (``denials:logged``) marks such a trace.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from profiler.denials.model import Denial
from profiler.denials.uses import ADDRESSED, whom_of
from profiler.kernel.arguments import spec_for
from profiler.policy.passes.processes import CLONE_NEWUSER
from profiler.trace.merge import merge
from profiler.trace.model import (
    FILES_FEATURE,
    SOCKET_OPERATIONS,
    Arguments,
    Capability,
    Exec,
    File,
    Inspection,
    Meta,
    Mount,
    Program,
    Results,
    Signal,
    Socket,
    Syscall,
    Trace,
)
from profiler.wording import UNKNOWN


def trace_of(denials: Sequence[Denial], meta: Meta, *, refused: bool, began: float) -> Trace:
    """Return a trace of the denials, without those that a trace cannot express.

    ``began``: seconds since the epoch, from which the trace's times count.
    """
    meta = replace(
        meta,
        features=tuple(sorted({*meta.features, FILES_FEATURE, "denials:refused" if refused else "denials:logged"})),
        runs=0,
    )
    merged = merge([Trace(meta, (), ()), *(_single(denial, meta, began) for denial in denials)])
    return replace(
        merged,
        meta=meta,
        syscalls=tuple(replace(row, runs=0) for row in merged.syscalls),
        capabilities=tuple(replace(row, runs=0) for row in merged.capabilities),
        execs=tuple(replace(row, runs=0) for row in merged.execs),
        files=tuple(replace(row, runs=0) for row in merged.files),
        sockets=tuple(replace(row, runs=0) for row in merged.sockets),
        signals=tuple(replace(row, runs=0) for row in merged.signals),
        inspections=tuple(replace(row, runs=0) for row in merged.inspections),
        mounts=tuple(replace(row, runs=0) for row in merged.mounts),
    )


def _single(denial: Denial, meta: Meta, began: float) -> Trace:
    """Return a trace of one denial."""
    first, last = (0.0 if time is None else max(0.0, round(time - began, 3)) for time in (denial.first, denial.last))
    trace = Trace(meta, (Program(denial.exe or UNKNOWN, None, denial.comm),), ())
    by, ok = frozenset({0}), {"ok": denial.count}
    if (
        denial.kind in ("syscall", "user_namespace", "io_uring")
        and denial.abi is not None
        and denial.number is not None
    ):
        row = Syscall(
            denial.abi,
            denial.number,
            denial.name,
            denial.count,
            Results(),
            first,
            last,
            {0: denial.count},
            _arguments(denial),
        )
        return replace(trace, syscalls=(row,))
    if denial.kind == "capability" and denial.capability is not None:
        calls = {denial.name: denial.count} if denial.name is not None else {}
        check = Capability(
            denial.capability, "initial", "granted", None, True, True, denial.count, first, last, by, calls
        )
        return replace(trace, capabilities=(check,))
    if denial.kind == "file" and denial.path is not None:
        owner = frozenset({"self" if denial.owner else "other"})
        files = tuple(
            File(
                denial.path,
                word,
                denial.sort_of_file,
                denial.state or "linked",
                ok,
                owner,
                by,
                first,
                last,
                denial.existing if word == "link" else None,
                denial.whose,
            )
            for word in denial.access
        )
        return replace(trace, files=files)
    if denial.kind == "execution" and denial.path is not None and denial.source is not None:
        programs = (
            Program(denial.source, None, denial.comm),
            Program(denial.path, None, None, executions=denial.count),
        )
        return replace(trace, programs=programs, execs=(Exec(1, 0, denial.count),))
    if denial.kind == "socket" and denial.family is not None and denial.type is not None:
        sockets = tuple(
            Socket(
                denial.family,
                denial.type,
                denial.protocol or 0,
                word,
                denial.port if word in ADDRESSED else None,
                denial.address if word in ADDRESSED else None,
                ok,
                by,
                first,
                last,
            )
            for word in denial.operations
            if word in SOCKET_OPERATIONS
        )
        return replace(trace, sockets=sockets)
    if denial.kind == "signal" and denial.signal is not None:
        return replace(trace, signals=(Signal(denial.signal, whom_of(denial), ok, by),))
    if denial.kind == "inspection":
        return replace(
            trace, inspections=tuple(Inspection(word, whom_of(denial), ok, by) for word in denial.operations)
        )
    if denial.kind == "mount" and denial.operation is not None:
        mount = Mount(
            denial.operation, denial.source, denial.target, denial.filesystem, tuple(sorted(set(denial.flags))), ok, by
        )
        return replace(trace, mounts=(mount,))
    return replace(trace, programs=())


def _arguments(denial: Denial) -> Arguments | None:
    spec = None if denial.name is None or denial.abi is None else spec_for(denial.name, denial.abi)
    if spec is not None and denial.kind == "user_namespace":
        return Arguments(spec.fields, {(CLONE_NEWUSER,): frozenset({0})})
    if spec is None or spec.pointer or denial.arguments is None:
        return None
    value = tuple(denial.arguments[at] & mask for at, mask in zip(spec.positions, spec.masks, strict=True))
    return Arguments(spec.fields, {value: frozenset({0})})
