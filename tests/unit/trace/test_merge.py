"""Merging is a union with counts added: order and grouping do not matter, and nothing is lost."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inputs import examples
from unit.trace.strategies import traces

from profiler.errors import InputError
from profiler.trace.merge import CHAINS_MAX, merge
from profiler.trace.model import (
    ARGUMENT_VALUES_MAX,
    FILES_FEATURE,
    Arguments,
    Capability,
    Container,
    ContainerMount,
    Exec,
    File,
    Meta,
    Program,
    Results,
    Syscall,
    Trace,
    row_order,
)
from profiler.trace.store import USES, dumps, loads, to_dict

RELAXED = settings(
    deadline=None, max_examples=examples(60), suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)

META = Meta(
    tool="profgen 0",
    tracer="ptrace",
    features=("a",),
    kernel="6.1",
    arch="x86_64",
    distribution=None,
    libc=None,
    argv=("a",),
    cwd="/",
    uid=0,
    gid=0,
    groups=(0,),
    no_new_privs=False,
    start="2026-01-01T00:00:00+00:00",
    duration=1.0,
    exit_status=0,
    complete=True,
    losses={},
    last_new=0.5,
)


def path(trace: Trace, program: int | None) -> tuple[str, str | None] | None:
    return None if program is None else (trace.programs[program].path, trace.programs[program].interpreter)


def sets(trace: Trace) -> dict[str, Any]:
    """Return what was seen, without counts and times, with programs by name."""
    return {
        "programs": {(row.path, row.interpreter) for row in trace.programs},
        "syscalls": {
            (row.abi, row.number): (
                row.name,
                frozenset(row.results.errors),
                bool(row.results.ok),
                {path(trace, program) for program in row.programs},
            )
            for row in trace.syscalls
        },
        "arguments": {
            (row.abi, row.number): (
                row.arguments.fields,
                row.arguments.overflow,
                {value: {path(trace, program) for program in used} for value, used in row.arguments.values.items()},
            )
            for row in trace.syscalls
            if row.arguments is not None
        },
        "capabilities": {
            (row.capability, row.namespace, row.verdict, row.audited, row.decisive, row.inferred): (
                {path(trace, program) for program in row.programs},
                frozenset(row.syscalls),
                frozenset(row.chains),
            )
            for row in trace.capabilities
        },
        "execs": {(path(trace, row.program), path(trace, row.by)) for row in trace.execs},
        **{
            section: {
                row.key: (
                    frozenset(row.results),
                    {path(trace, program) for program in row.programs},
                    getattr(row, "owner", None),
                    getattr(row, "first", None),
                    getattr(row, "last", None),
                )
                for row in getattr(trace, section)
            }
            for section in USES
        },
        "losses": set(trace.meta.losses),
        "features": set(trace.meta.features),
        "tracers": set(trace.meta.tracer.split("+")),
    }


def total(table: dict[Any, int], more: dict[Any, int]) -> dict[Any, int]:
    return {key: table.get(key, 0) + more.get(key, 0) for key in {*table, *more}}


def commutative(a: Trace, b: Trace) -> None:
    assert to_dict(merge([a, b])) == to_dict(merge([b, a]))


@RELAXED
@given(traces(), traces(), traces(), st.permutations(range(3)))
def test_associative(a: Trace, b: Trace, c: Trace, order: list[int]) -> None:
    together = to_dict(merge([a, b, c]))
    assert to_dict(merge([merge([a, b]), c])) == together
    assert to_dict(merge([a, merge([b, c])])) == together
    shuffled = [(a, b, c)[index] for index in order]
    assert to_dict(merge(shuffled)) == together


@RELAXED
@given(traces())
def test_idempotent_on_the_sets(a: Trace) -> None:
    assert merge([a]) == a
    assert sets(merge([a, a])) == sets(a)
    assert sets(merge([a, a, a])) == sets(a)


def union_with_counts_added(a: Trace, b: Trace) -> None:
    merged = merge([a, b])
    seen, one, two = sets(merged), sets(a), sets(b)
    assert seen["programs"] == one["programs"] | two["programs"]
    assert set(seen["syscalls"]) == {*one["syscalls"], *two["syscalls"]}
    assert set(seen["capabilities"]) == {*one["capabilities"], *two["capabilities"]}
    assert seen["execs"] == one["execs"] | two["execs"]

    def calls(trace: Trace) -> dict[Any, int]:
        return {
            (row.abi, row.number, path(trace, program)): n
            for row in trace.syscalls
            for program, n in row.programs.items()
        }

    def errors(trace: Trace) -> dict[Any, int]:
        found = {(row.abi, row.number, name): n for row in trace.syscalls for name, n in row.results.errors.items()}
        return found | {(row.abi, row.number, None): row.results.ok for row in trace.syscalls}

    def runs(trace: Trace) -> dict[Any, int]:
        return {(row.abi, row.number): row.runs for row in trace.syscalls}

    def checks(trace: Trace) -> dict[Any, int]:
        rows = {
            (row.capability, row.namespace, row.verdict, row.audited, row.decisive, row.inferred): row
            for row in trace.capabilities
        }
        return (
            {(key, "count"): row.count for key, row in rows.items()}
            | {(key, "runs"): row.runs for key, row in rows.items()}
            | {(key, name): n for key, row in rows.items() for name, n in row.syscalls.items()}
        )

    def executions(trace: Trace) -> dict[Any, int]:
        return {(path(trace, row.program), path(trace, row.by)): row.count for row in trace.execs} | {
            (row.path, row.interpreter, "executions"): row.executions for row in trace.programs
        }

    def uses(trace: Trace) -> dict[Any, int]:
        rows = {(section, row.key): row for section in USES for row in getattr(trace, section)}
        return {(key, name): n for key, row in rows.items() for name, n in row.results.items()} | {
            key: row.runs for key, row in rows.items()
        }

    for table in (calls, errors, runs, checks, executions, uses):
        assert table(merged) == total(table(a), table(b)), table.__name__
    for row in merged.syscalls:
        assert row.calls == sum(row.programs.values())
    assert merged.meta.runs == a.meta.runs + b.meta.runs
    assert dict(merged.meta.losses) == total(dict(a.meta.losses), dict(b.meta.losses))
    assert merged.meta.complete is (a.meta.complete and b.meta.complete) is (not merged.meta.losses)
    assert merged.meta.no_new_privs is (a.meta.no_new_privs and b.meta.no_new_privs)


def files_and_what_follows(a: Trace, b: Trace) -> None:
    """Every row of either trace is there under its key, with the programs, results, owners and times of both."""
    merged, one, two = sets(merge([a, b])), sets(a), sets(b)
    for section in USES:
        assert set(merged[section]) == {*one[section], *two[section]}
        for key, (results, used, owner, first, last) in merged[section].items():
            rows = [table[section][key] for table in (one, two) if key in table[section]]
            assert results == frozenset().union(*(row[0] for row in rows))
            assert used == set().union(*(row[1] for row in rows))
            if section == "files":
                assert owner == frozenset().union(*(row[2] for row in rows))
            if section in ("files", "sockets"):
                assert (first, last) == (min(row[3] for row in rows), max(row[4] for row in rows))


@RELAXED
@given(st.lists(traces(), min_size=1, max_size=3))
def test_features(several: list[Trace]) -> None:
    """The feature for files stays only if every recording has it; otherwise the result is the union."""
    merged = merge(several)
    assert merged.has_files is all(trace.has_files for trace in several)
    assert {*merged.meta.features, FILES_FEATURE} == {FILES_FEATURE}.union(*(trace.meta.features for trace in several))


def test_rows_stay_where_one_recording_did_not_watch_files() -> None:
    watched = dataclasses.replace(
        trace_of(features=(FILES_FEATURE,)),
        files=(File("/x", "read", "file", "linked", {"ok": 1}, frozenset({"self"}), frozenset({0}), 0.0, 0.0),),
    )
    merged = merge([watched, trace_of()])
    assert merged.files == watched.files
    assert not merged.has_files


def arguments(a: Trace, b: Trace) -> None:
    """Values are the union; the overflow mark stays, and is set if the union is too large."""
    merged = sets(merge([a, b]))["arguments"]
    one, two = sets(a)["arguments"], sets(b)["arguments"]
    assert set(merged) == {*one, *two}
    for key, (fields, overflow, values) in merged.items():
        rows = [table[key] for table in (one, two) if key in table]
        union = {value for _, _, known in rows for value in known}
        bare = any((row.abi, row.number) == key and row.arguments is None for row in (*a.syscalls, *b.syscalls))
        must = (
            bare
            or any(marked for _, marked, _ in rows)
            or len({names for names, _, _ in rows}) > 1
            or len(union) > ARGUMENT_VALUES_MAX
        )
        assert overflow is must
        assert fields == min(names for names, _, _ in rows)
        if must:
            assert not values
            continue
        assert values == {value: set().union(*(known.get(value, set()) for _, _, known in rows)) for value in union}


def merged_is_sorted_and_whole(a: Trace, b: Trace) -> None:
    merged = merge([a, b])
    keys = [(row.path, row.interpreter or "") for row in merged.programs]
    assert keys == sorted(set(keys))
    text = dumps(merged)
    assert dumps(loads(text.encode(), "merged")) == text
    for row in merged.syscalls:
        assert row.first <= row.last
        assert list(row.programs) == sorted(row.programs)
    for section in USES:
        keys = [row_order(row.key) for row in getattr(merged, section)]
        assert keys == sorted(keys)
        assert len(set(keys)) == len(keys)
    for check in merged.capabilities:
        assert len(check.chains) <= CHAINS_MAX
        assert list(check.chains) == sorted(check.chains)


@RELAXED
@given(traces(), traces())
def test_two(a: Trace, b: Trace) -> None:
    """Check all of the above on the same pairs, because making traces takes longer than merging them."""
    for holds in (commutative, union_with_counts_added, files_and_what_follows, arguments, merged_is_sorted_and_whole):
        holds(a, b)


def trace_of(
    syscalls: int = 0, *, start: str = META.start, programs: tuple[Program, ...] = (Program("/a"),), **meta: Any
) -> Trace:
    rows = tuple(
        Syscall("x86_64", n, f"c{n}", 1, Results(1), 0.0, 0.0, {0: 1}, Arguments(("a",), {(n,): frozenset({0})}))
        for n in range(syscalls)
    )
    check = Capability("CAP_CHOWN", "initial", "granted", None, True, False, 1, 0.0, 0.0, frozenset({0}), {"chown": 1})
    return Trace(dataclasses.replace(META, start=start, **meta), programs, rows, (check,), (Exec(0, None, 1),))


def test_nothing() -> None:
    with pytest.raises(InputError, match="nothing to merge"):
        merge([])


def test_two_architectures() -> None:
    with pytest.raises(InputError, match=r"aarch64, x86_64") as caught:
        merge([trace_of(), trace_of(arch="aarch64")])
    assert "\n" not in str(caught.value)


def test_thousand() -> None:
    """Many traces merged at once are one trace with as many runs, and no larger than their union."""
    many = [
        trace_of(60, start=f"2026-01-01T00:{n // 60:02}:{n % 60:02}+00:00", programs=(Program(f"/p{n % 7}"),))
        for n in range(1000)
    ]
    merged = merge(many)
    assert merged.meta.runs == 1000
    assert merged.meta.start == many[0].meta.start
    assert merged.meta.duration == 1000.0
    assert len(merged.programs) == 7
    assert len(merged.syscalls) == 60
    assert {row.calls for row in merged.syscalls} == {1000}
    assert {row.runs for row in merged.syscalls} == {1000}
    assert len(merged.capabilities) == 1
    assert sum(row.count for row in merged.execs) == 1000
    # As a reduction one by one: the same trace.
    step = many[0]
    for trace in many[1:50]:
        step = merge([step, trace])
    assert to_dict(step) == to_dict(merge(many[:50]))


def test_containers() -> None:
    """A merged container is what all have in common, and everything that any of them was given."""
    mount = ContainerMount("bind", "/srv", "/data", False)
    a = Container(
        "docker",
        "runc",
        "1",
        "db",
        "redis:7",
        "sha256:1",
        ("run",),
        ("db",),
        "33",
        "/data",
        "host",
        (mount,),
        ("1/tcp",),
        ("CAP_KILL",),
        False,
        True,
    )
    b = dataclasses.replace(
        a, id="2", mounts=(), ports=("2/tcp",), capabilities=("CAP_CHOWN",), read_only=False, privileged=True
    )
    merged = merge([trace_of(container=a, watched="container db"), trace_of(container=b, watched="container db")]).meta
    assert merged.watched == "container db"
    assert merged.container == dataclasses.replace(
        b, id=None, mounts=(mount,), ports=("1/tcp", "2/tcp"), capabilities=("CAP_CHOWN", "CAP_KILL"), privileged=True
    )
    assert merge([trace_of(container=a), trace_of()]).meta.container is None
    assert merge([trace_of(watched="pid 1"), trace_of(watched="pid 2")]).meta.watched is None


def test_meta_of_the_earliest() -> None:
    early = trace_of(start="2026-01-01T00:00:00+00:00", argv=("z",), cwd="/early", gid=7, groups=(7,))
    late = trace_of(start="2026-01-02T00:00:00+00:00", argv=("a",), cwd="/late")
    for order in ([early, late], [late, early]):
        meta = merge(order).meta
        assert (meta.argv, meta.cwd, meta.gid, meta.groups) == (("z",), "/early", 7, (7,))


def test_uid_of_the_most_privileged_and_worst_exit() -> None:
    merged = merge(
        [trace_of(uid=1000, exit_status=None), trace_of(uid=0, exit_status=143), trace_of(uid=5, exit_status=1)]
    ).meta
    assert merged.uid == 0
    assert merged.exit_status == 143
    assert merge([trace_of(exit_status=None), trace_of(exit_status=None)]).meta.exit_status is None


def test_two_files_under_one_path() -> None:
    """Neither hash is true for both, in whatever order a third trace comes."""
    rows = [trace_of(programs=(Program("/a", sha256=digit * 64, build_id="ab"),)) for digit in "010"]
    for order in (rows, rows[::-1], [rows[0], rows[2], rows[1]]):
        program = merge(order).programs[0]
        assert program.sha256 is None
        assert program.build_id == "ab"
    assert merge([rows[0], rows[2]]).programs[0].sha256 == "0" * 64


def test_values_that_were_not_recorded_may_be_any() -> None:
    """A merge allows what each of its traces allows: a row without values means all values."""
    known = Arguments(("flags",), {(0,): frozenset({0})})
    row = Syscall("x86_64", 56, "clone", 1, Results(1), 0.0, 0.0, {0: 1}, known)
    with_values = Trace(META, (Program("/a"),), (row,))
    without = Trace(META, (Program("/a"),), (dataclasses.replace(row, arguments=None),))
    for pair in ((with_values, without), (without, with_values)):
        merged = merge(pair).syscalls[0].arguments
        assert merged is not None
        assert merged.overflow
        assert not merged.values
