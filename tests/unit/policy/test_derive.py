"""derive(): all passes together."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from unit.policy.making import NONE, call, names, rows, trace

from profiler.kernel.arguments import spec_for
from profiler.kernel.fallbacks import fallbacks
from profiler.policy.derive import derive
from profiler.policy.model import Options
from profiler.trace.model import JOINED_FEATURE, Container, Program, Syscall, Trace

ANY = (0, 0, 0, 0, 0, 0)


def test_a_joined_program_and_its_container_are_named() -> None:
    recording = trace(
        call("read"),
        features=(JOINED_FEATURE,),
        container=Container("docker", "runc", "1", "db", "redis:7\n", "sha256:1"),
    )
    recording = dataclasses.replace(recording, programs=(Program("/usr/sbin/app"),))
    work = derive(recording, NONE).workload
    assert (work.image, work.digest, work.joined) == ("redis:7\\n", "sha256:1", ("/usr/sbin/app",))


def arguments_of(row: Syscall) -> list[list[int]]:
    spec = spec_for(row.name or "")
    if spec is None or row.arguments is None:
        return [list(ANY)]
    found = []
    for values in row.arguments.values:
        registers = list(ANY)
        for position, value in zip(spec.positions, values, strict=True):
            registers[position] = value
        found.append(registers)
    return found


@given(rows())
def test_everything_seen_is_allowed_or_said(seen: list[Syscall]) -> None:
    policy = derive(trace(*seen), Options())
    for row in seen:
        assert row.name
        if row.name == "clone3" and "clone3" in {refusal.name for refusal in policy.refused}:
            assert row.arguments
            assert all(policy.permits("x86_64", "clone", [flags, 0, 0, 0, 0, 0]) for (flags,) in row.arguments.values)
            continue
        for registers in arguments_of(row):
            assert policy.permits("x86_64", row.name, registers)


@given(rows())
def test_nothing_is_allowed_without_a_reason(seen: list[Syscall]) -> None:
    policy = derive(trace(*seen), Options())
    assert all(row.because for row in (*policy.syscalls, *policy.refused, *policy.capabilities))
    observed = {row.name for row in seen}
    for row in policy.syscalls:
        assert row.section in ("equivalent", "companion", "base") or row.name in observed
    assert names(policy).isdisjoint(row.name for row in policy.refused)
    for name in fallbacks():
        assert name in names(policy) | {row.name for row in policy.refused}


@given(rows())
def test_the_passes_do_not_care_about_the_order_of_rows(seen: list[Syscall]) -> None:
    def unordered(recording: Trace) -> tuple[object, ...]:
        policy = derive(recording, Options())
        return (set(policy.syscalls), set(policy.refused), set(policy.capabilities), policy.abis)

    assert unordered(trace(*seen)) == unordered(trace(*reversed(seen)))
