"""Merge traces: their union with the counts added, or their intersection.

On the sets (which syscalls, values, capabilities, programs, files and so on) merging is commutative, associative and
idempotent. Counts and ``runs`` add up; ``meta`` is that of the earliest recording, with all losses added.
"""

from __future__ import annotations

import dataclasses
import operator
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from typing import Any, TypeVar

from profiler.errors import InputError
from profiler.trace.collection import no_collection
from profiler.trace.model import (
    ARGUMENT_VALUES_MAX,
    FILES_FEATURE,
    Arguments,
    Capability,
    Container,
    Exec,
    File,
    Inspection,
    Meta,
    Mount,
    Pod,
    Program,
    Results,
    Signal,
    Socket,
    Syscall,
    Trace,
    row_order,
)

Use = TypeVar("Use", File, Socket, Signal, Inspection, Mount)


@no_collection()
def merge(traces: Sequence[Trace]) -> Trace:
    """Return the union of traces of the same architecture. Raises InputError for no traces or for two architectures."""
    if not traces:
        raise InputError("nothing to merge: give at least one trace")
    if len(traces) == 1:
        return traces[0]
    arches = sorted({trace.meta.arch for trace in traces})
    if len(arches) > 1:
        raise InputError(f"cannot merge traces of different architectures ({', '.join(arches)}): use each separately")
    programs, renumber = _merge_programs(traces)
    syscalls: dict[tuple[str, int], list[tuple[Syscall, list[int]]]] = {}
    capabilities: dict[tuple[object, ...], list[tuple[Capability, list[int]]]] = {}
    execs: dict[tuple[int, int | None], Exec] = {}
    for trace, indexes in zip(traces, renumber, strict=True):
        for row in trace.syscalls:
            syscalls.setdefault((row.abi, row.number), []).append((row, indexes))
        for check in trace.capabilities:
            capabilities.setdefault(_check_key(check), []).append((check, indexes))
        for item in trace.execs:
            pair = (indexes[item.program], None if item.by is None else indexes[item.by])
            known = execs.get(pair, Exec(*pair, count=0, runs=0))
            execs[pair] = Exec(
                *pair,
                count=known.count + item.count,
                runs=known.runs + item.runs,
                entered=known.entered + item.entered,
                gained=known.gained | item.gained,
            )
    return Trace(
        meta=_merge_meta([trace.meta for trace in traces]),
        programs=programs,
        syscalls=tuple(_merge_syscall(syscalls[key]) for key in sorted(syscalls)),
        capabilities=tuple(
            _merge_capability(rows) for _, rows in sorted(capabilities.items(), key=lambda item: str(item[0]))
        ),
        execs=tuple(execs[pair] for pair in sorted(execs, key=row_order)),
        files=_merge_uses([trace.files for trace in traces], renumber),
        sockets=_merge_uses([trace.sockets for trace in traces], renumber),
        signals=_merge_uses([trace.signals for trace in traces], renumber),
        inspections=_merge_uses([trace.inspections for trace in traces], renumber),
        mounts=_merge_uses([trace.mounts for trace in traces], renumber),
    )


@no_collection()
def intersect(traces: Sequence[Trace]) -> Trace:
    """Return what all the traces have: rows with a key that is in all of them, and the argument values in all.

    Counts are added, and all programs stay. Raises InputError as :func:`merge` does.
    """
    merged = merge(traces)
    if len(traces) == 1:
        return merged
    _, renumber = _merge_programs(traces)
    arguments: dict[tuple[str, int], list[tuple[Arguments | None, list[int]]]] = {}
    for trace, indexes in zip(traces, renumber, strict=True):
        for row in trace.syscalls:
            arguments.setdefault((row.abi, row.number), []).append((row.arguments, indexes))
    syscalls = []
    for row in merged.syscalls:
        every = arguments[row.abi, row.number]
        if len(every) == len(traces) and (common := _common_arguments(row, every)) is not None:
            syscalls.append(common)

    def shared(name: str, key: Callable[[Any], object]) -> tuple[Any, ...]:
        seen = Counter(where for trace in traces for where in {key(row) for row in getattr(trace, name)})
        return tuple(row for row in getattr(merged, name) if seen[key(row)] == len(traces))

    def same(row: Any) -> object:
        return row.key

    both = [{(_path(trace, row.program), _path(trace, row.by)) for row in trace.execs} for trace in traces]
    return dataclasses.replace(
        merged,
        syscalls=tuple(syscalls),
        capabilities=shared("capabilities", _check_key),
        execs=tuple(
            row
            for row in merged.execs
            if all((_path(merged, row.program), _path(merged, row.by)) in pairs for pairs in both)
        ),
        files=shared("files", same),
        sockets=shared("sockets", same),
        signals=shared("signals", same),
        inspections=shared("inspections", same),
        mounts=shared("mounts", same),
    )


def _path(trace: Trace, program: int | None) -> tuple[str, str] | None:
    return None if program is None else (trace.programs[program].path, trace.programs[program].interpreter or "")


def _check_key(check: Capability) -> tuple[object, ...]:
    return (check.capability, check.namespace, check.verdict, check.audited, check.decisive, check.inferred)


def _common_arguments(merged: Syscall, every: Sequence[tuple[Arguments | None, list[int]]]) -> Syscall | None:
    """Return the row with the values that are in all, None if no value is; an overflow or no record means any value."""
    bounded = [(row, indexes) for row, indexes in every if row is not None and not row.overflow]
    if not bounded or len({row.fields for row, _ in bounded}) > 1:
        return merged
    common = set.intersection(*(set(row.values) for row, _ in bounded))
    if not common and any(row.values for row, _ in bounded):
        return None
    kept = [
        (Arguments(row.fields, {value: row.values[value] for value in common}), indexes) for row, indexes in bounded
    ]
    return dataclasses.replace(merged, arguments=_merge_arguments(list(kept)))


def _merge_programs(traces: Sequence[Trace]) -> tuple[tuple[Program, ...], list[list[int]]]:
    """Return the sorted programs of all traces, and for each trace its old program indices mapped to the new ones."""
    found: dict[tuple[str, str], Program] = {}
    for trace in traces:
        for program in trace.programs:
            key = (program.path, program.interpreter or "")
            known = found.get(key)
            if known is None:
                found[key] = program
                continue
            found[key] = dataclasses.replace(
                known,
                argv0=_least(known.argv0, program.argv0),
                # Two different files under one path: neither hash would be true for the merged row.
                sha256=_same(known.sha256, program.sha256),
                build_id=_same(known.build_id, program.build_id),
                executions=known.executions + program.executions,
            )
    order = sorted(found)
    index = {key: number for number, key in enumerate(order)}
    renumber = [[index[program.path, program.interpreter or ""] for program in trace.programs] for trace in traces]
    return tuple(found[key] for key in order), renumber


def _least(a: str | None, b: str | None) -> str | None:
    return min((value for value in (a, b) if value is not None), default=None)


def _same(a: str | None, b: str | None) -> str | None:
    return a if a == b else None


def _add(tables: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for table in tables:
        total.update(table)
    return dict(sorted(total.items()))


def _merge_syscall(rows: list[tuple[Syscall, list[int]]]) -> Syscall:
    first = rows[0][0]
    programs: Counter[int] = Counter()
    for row, indexes in rows:
        for program, calls in row.programs.items():
            programs[indexes[program]] += calls
    return Syscall(
        abi=first.abi,
        number=first.number,
        name=min((row.name for row, _ in rows if row.name is not None), default=None),
        calls=sum(row.calls for row, _ in rows),
        results=Results(sum(row.results.ok for row, _ in rows), _add(row.results.errors for row, _ in rows)),
        first=min(row.first for row, _ in rows),
        last=max(row.last for row, _ in rows),
        programs=dict(sorted(programs.items())),
        arguments=_merge_arguments([(row.arguments, indexes) for row, indexes in rows]),
        runs=sum(row.runs for row, _ in rows),
    )


def _merge_arguments(every: list[tuple[Arguments | None, list[int]]]) -> Arguments | None:
    rows = [(arguments, indexes) for arguments, indexes in every if arguments is not None]
    if not rows:
        return None
    if len(rows) < len(every):  # the other recordings did not record arguments: any value is possible
        return Arguments(min(row.fields for row, _ in rows), {}, overflow=True)
    fields = min(row.fields for row, _ in rows)
    if any(row.overflow or row.fields != fields for row, _ in rows):
        return Arguments(fields, {}, overflow=True)
    values: dict[tuple[int, ...], set[int]] = {}
    for row, indexes in rows:
        for value, programs in row.values.items():
            values.setdefault(value, set()).update(indexes[program] for program in programs)
    if len(values) > ARGUMENT_VALUES_MAX:
        return Arguments(fields, {}, overflow=True)
    return Arguments(fields, {value: frozenset(values[value]) for value in sorted(values)})


CHAINS_MAX = 16
"""The number of call chains kept for one row: they are an explanation, and after a dozen they repeat."""


def _merge_capability(rows: list[tuple[Capability, list[int]]]) -> Capability:
    first = rows[0][0]
    return dataclasses.replace(
        first,
        count=sum(row.count for row, _ in rows),
        first=min(row.first for row, _ in rows),
        last=max(row.last for row, _ in rows),
        programs=frozenset(indexes[program] for row, indexes in rows for program in row.programs),
        syscalls=_add(row.syscalls for row, _ in rows),
        chains=tuple(sorted({chain for row, _ in rows for chain in row.chains})[:CHAINS_MAX]),
        runs=sum(row.runs for row, _ in rows),
    )


def _merge_uses(sections: Iterable[Sequence[Use]], renumber: Sequence[Sequence[int]]) -> tuple[Use, ...]:
    """Merge one section of all traces: rows with the same key become one."""
    found: dict[tuple[object, ...], dict[str, Any]] = {}
    sort: type[Use] | None = None
    for rows, indexes in zip(sections, renumber, strict=True):
        for row in rows:
            sort = type(row)
            programs = frozenset(indexes[program] for program in row.programs)
            new = {**vars(row), "results": dict(sorted(row.results.items())), "programs": programs}
            known = found.setdefault(row.key, new)
            if known is not new:
                known |= {name: _JOINED[name](known[name], new[name]) for name in _JOINED.keys() & new.keys()}
    return () if sort is None else tuple(sort(**found[key]) for key in sorted(found, key=row_order))


_JOINED: dict[str, Callable[[Any, Any], Any]] = {
    "results": lambda a, b: _add((a, b)),
    "programs": frozenset.union,
    "owner": frozenset.union,
    "first": min,
    "last": max,
    "runs": operator.add,
}
"""How to combine the members of a row that are not part of its key."""


def _merge_features(metas: Iterable[Meta]) -> tuple[str, ...]:
    """Return the union of the features, except those that must be true of every recording."""
    sets = [set(meta.features) for meta in metas]
    found = set().union(*sets)
    if not all(FILES_FEATURE in features for features in sets):
        found.discard(FILES_FEATURE)
    return tuple(sorted(found))


def _merge_standing(several: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(sorted({word for one in several for word in one})) if all(several) else ()


def _merge_meta(metas: list[Meta]) -> Meta:
    # Denials say nothing about the workload's start and identity.
    runs = [meta for meta in metas if meta.runs] or metas
    # The key consists of all members that come from the first trace only, so a tie cannot reveal the order of the
    # arguments.
    first = min(
        runs, key=lambda m: (m.start, m.argv, repr((m.kernel, m.tool, m.distribution, m.libc, m.cwd, m.gid, m.groups)))
    )
    return dataclasses.replace(
        first,
        tracer="+".join(sorted({name for meta in runs for name in meta.tracer.split("+")})),
        features=_merge_features(metas),
        # A policy must serve every run: where the identities differ, the most privileged one counts.
        uid=min(meta.uid for meta in runs),
        no_new_privs=all(meta.no_new_privs for meta in runs),
        duration=round(sum(meta.duration for meta in runs), 3),
        exit_status=max((meta.exit_status for meta in runs if meta.exit_status is not None), default=None),
        complete=all(meta.complete for meta in metas),
        losses=_add(meta.losses for meta in metas),
        last_new=max(meta.last_new for meta in runs),
        runs=sum(meta.runs for meta in metas),
        container=reduce(_merge_container, (meta.container for meta in runs)),
        watched=reduce(_same, (meta.watched for meta in runs)),
        standing=_merge_standing([meta.standing for meta in runs]),
        tasks=max(meta.tasks for meta in runs),
    )


def _same_members(a: object, b: object, *names: str) -> dict[str, Any]:
    return {name: _same(getattr(a, name), getattr(b, name)) for name in names}


def _merge_pod(a: Pod | None, b: Pod | None) -> Pod | None:
    if a is None or b is None:
        return None
    return Pod(**_same_members(a, b, "namespace", "name", "uid", "workload"))


def _merge_container(a: Container | None, b: Container | None) -> Container | None:
    """Return the identity that both share and all that either was given; None if one trace has no container."""
    if a is None or b is None:
        return None
    return Container(
        **_same_members(a, b, "engine", "runtime", "id", "name", "image", "digest", "user", "directory", "network"),
        entrypoint=a.entrypoint if a.entrypoint == b.entrypoint else (),
        command=a.command if a.command == b.command else (),
        mounts=tuple(sorted({*a.mounts, *b.mounts})),
        ports=tuple(sorted({*a.ports, *b.ports})),
        capabilities=None
        if a.capabilities is None or b.capabilities is None
        else tuple(sorted({*a.capabilities, *b.capabilities})),
        privileged=a.privileged or b.privileged,
        read_only=a.read_only and b.read_only,
        no_new_privs=a.no_new_privs and b.no_new_privs,
        pod=_merge_pod(a.pod, b.pod),
    )
