"""What a policy cannot promise is said, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from unit.policy.making import call, check, derived, trace, unknown

from profiler.kernel.abi import native_abi
from profiler.kernel.arguments import parse
from profiler.policy.caveats import caveats, extent, implies_exec
from profiler.policy.derive import derive
from profiler.policy.document import dumps, loads
from profiler.policy.merge import merge
from profiler.policy.model import Options, Policy
from profiler.review.lint import RULES, lint
from profiler.review.sources import from_bytes
from profiler.trace.model import JOINED_FEATURE, Syscall, Trace

MANY = [
    call(name)
    for name in [
        "execve",
        "read",
        "write",
        "close",
        "openat",
        "newfstatat",
        "brk",
        "munmap",
        "lseek",
        "getpid",
        "access",
        "dup2",
    ]
]
LISTENER = parse("seccomp", "flags", "SECCOMP_FILTER_FLAG_NEW_LISTENER")


def found(policy: Policy) -> list[str]:
    """The rules of its caveats; its text has the same, and so has lint."""
    rules = [row.rule for row in caveats(policy)]
    text = dumps(policy).encode()
    assert [row.rule for row in caveats(loads(text, "policy.yaml"))] == rules
    assert set(rules) <= RULES.keys()
    findings = lint(from_bytes(text, "policy.yaml"), native_abi())
    assert {row.rule for row in findings} >= set(rules)
    return rules


def joined(*syscalls: Syscall) -> Trace:
    recorded = trace(*syscalls, features=(JOINED_FEATURE,))
    return replace(
        recorded, programs=tuple(replace(row, path="/usr/bin/app", executions=0) for row in recorded.programs)
    )


def test_nothing_to_say() -> None:
    assert found(derived(*MANY)) == []
    assert extent(derived(*MANY).workload) == "the observed"
    assert found(derived(call("execve"), call("exit_group"))) == [], "few calls are no sign of idleness by themselves"


@pytest.mark.parametrize("number", [0, 1, 9])
def test_it_joined_something_idle(number: int) -> None:
    policy = derive(joined(*MANY[:number]), Options())
    assert found(policy) == ["joined", "idle"]
    assert "after its start" in extent(policy.workload)


def test_it_joined_something_that_worked() -> None:
    policy = derive(joined(*MANY), Options())
    assert found(policy) == ["joined"]
    assert "--start-up" in caveats(policy)[0].fix
    assert "--start-up" not in caveats(derive(joined(*MANY), Options(start_up=True)))[0].fix


def test_made_of_denials_alone() -> None:
    policy = derive(trace(call("mkdir"), runs=0), Options())
    assert found(policy) == ["denials-only"]
    assert "denials" in extent(policy.workload)
    assert found(merge([policy, derived(*MANY)])) == []


def test_lost() -> None:
    policy = derive(trace(*MANY, complete=False, losses={"paths": 1}), Options())
    assert found(policy) == ["incomplete"]
    assert "lost" in extent(policy.workload)


@pytest.mark.parametrize(
    ("row", "rules"),
    [
        (call("seccomp", [(1, 0)]), ["own-filter"]),
        (call("seccomp", [(1, 1 | LISTENER)]), ["own-filter"]),
        (call("prctl", [(22,)]), ["own-filter"]),
        (call("seccomp", [(2, 0)]), []),
        (call("prctl", [(21,), (38,)]), []),
        (call("seccomp", [(1, 0)], ok=0, errors={"EINVAL": 1}), []),
        (call("personality", [(0x400000,)]), ["read-implies-exec"]),
        (call("personality", [(0x440008,), (0xFFFFFFFF,)]), ["read-implies-exec"]),
        (call("personality", [(0xFFFFFFFF,), (0x40000,)]), []),
        (unknown(999), ["unknown-number"]),
    ],
)
def test_what_the_workload_does(row: Syscall, rules: list[str]) -> None:
    policy = derived(*MANY, row)
    assert found(policy) == rules
    level = {caveat.level for caveat in caveats(policy)}
    assert level == (
        {"note"}
        if rules == ["own-filter"] and "listener" not in caveats(policy)[0].what
        else {"warning"}
        if rules
        else set()
    )


def test_a_capability_without_a_name() -> None:
    assert [row.rule for row in caveats(derived(*MANY, capabilities=[check("CAP_63")]))] == ["unknown-capability"]


@pytest.mark.parametrize(("persona", "answer"), [(0, False), (0xFFFFFFFF, False), (0x400000, True), (0x0440000, True)])
def test_personalities(persona: int, answer: bool) -> None:
    assert implies_exec(persona) is answer
