"""Harmless calls that come by timing: allowed with what they come with, at no cost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.policy.making import call, derived, entry, file, names, touching, trace

from profiler.errors import InputError
from profiler.kernel.companions import harmless
from profiler.kernel.syscalls import number_of
from profiler.policy.derive import derive
from profiler.policy.document import dumps, loads
from profiler.policy.merge import intersect, merge
from profiler.policy.model import Options
from profiler.policy.reasons import said, sentence
from profiler.review.rights import of_policy
from profiler.review.score import score
from profiler.trace.model import FILES_FEATURE, JOINED_FEATURE, Signal, Syscall

PLAIN = Options(runtime="none")


@pytest.mark.parametrize(
    ("seen", "added"),
    [
        ("vfork", {"wait4", "rt_sigsuspend", "pause"}),
        ("connect", {"getsockopt", "poll", "shutdown"}),
        ("recvmsg", {"ppoll", "select"}),
        ("read", {"sysinfo", "sched_getparam", "munmap", "lseek"}),
    ],
)
def test_they_come_with_what_was_seen(seen: str, added: set[str]) -> None:
    policy = derived(call("execve"), call(seen), options=PLAIN)
    companions = {row.name for row in policy.entries("companion")}
    assert added <= companions <= harmless()
    assert dumps(loads(dumps(policy).encode(), "policy.yaml")) == dumps(policy)


def test_threads_behind_clone3() -> None:
    """clone3 is refused so that libc calls clone: a thread is a thread."""
    policy = derived(call("execve"), call("clone3", [(0,)]), options=PLAIN)
    assert {"futex", "wait4"} <= {row.name for row in policy.entries("companion")}


def test_none_without_reason() -> None:
    policy = derived(call("execve"), options=PLAIN)
    assert not {"wait4", "getsockopt", "poll", "futex"} & names(policy)
    assert not names(derived(call("execve"), options=Options(runtime="none", companions=False))) & {"sysinfo", "brk"}
    companion = entry(derived(call("execve"), call("fork"), options=PLAIN), "wait4")
    assert companion.because == (said("companion", "a parent waits for a child, or finds that it has ended"),)
    assert sentence(companion.because[0]).startswith("comes by timing: a parent")


def test_one_that_was_seen_stays_observed() -> None:
    policy = derived(call("fork"), call("wait4"), options=PLAIN)
    assert entry(policy, "wait4").section == "observed"
    dropped = derived(
        call("read"), call("sysinfo", ok=0, errors={"EPERM": 1}), options=Options(runtime="none", drop_failing=True)
    )
    assert "sysinfo" not in names(dropped)


def test_each_abi_has_its_own() -> None:
    policy = derive(trace(call("read"), call("connect", abi="i386")), PLAIN)
    assert {row.abi for row in policy.syscalls if row.name == "getsockopt"} == {"i386"}
    assert {row.abi for row in policy.syscalls if row.name == "waitpid"} == set()


def test_runs_that_differ_in_them_give_the_same_rights() -> None:
    policies = [
        derive(trace(call("execve"), call("fork"), call("socket", [(2, 1, 0)]), *more), PLAIN)
        for more in ((), (call("wait4"), call("poll")), (call("sysinfo"), call("select"), call("rt_sigsuspend")))
    ]
    assert len({frozenset(names(policy)) for policy in policies}) == 1
    assert names(merge(policies)) == names(intersect(policies)) == names(policies[0])


SERVERS = (
    (call("execve"), call("clone", [(0,)]), call("socket", [(2, 1, 0)]), call("accept4"), call("setsockopt", [(1, 2)])),
    (call("execve"), call("vfork"), call("read"), call("write")),
    (call("execve"), call("openat"), call("fork"), call("pipe2")),
)  # fmt: skip


@pytest.mark.parametrize("server", SERVERS)
def test_they_cost_nothing_in_the_score(server: tuple[object, ...]) -> None:
    def points(companions: bool) -> float:
        options = Options(companions=companions)
        return score(of_policy(derived(*server, options=options), "policy"), frozenset()).exact

    assert points(True) == points(False)


@given(st.sets(st.sampled_from(sorted(harmless()))))
def test_they_never_widen_what_was_seen(more: set[str]) -> None:
    seen = [call(name) for name in {"execve", "fork", *more} if number_of("x86_64", name) is not None]
    with_them, without = (derive(trace(*seen), Options(runtime="none", companions=on)) for on in (True, False))
    assert set(without.syscalls) <= set(with_them.syscalls)
    assert {row.section for row in set(with_them.syscalls) - set(without.syscalls)} <= {"companion"}


def test_one_line_for_each_reason() -> None:
    policy = derived(call("execve"), call("socket", [(2, 1, 0)]), call("fork"), options=PLAIN)
    text = dumps(policy)
    (line,) = (line for line in text.splitlines() if line.startswith('    "poll'))
    assert line.startswith('    "poll, ppoll, pselect6, select": {because: {companion: ')
    assert len([line for line in text.splitlines() if "{companion:" in line]) < 12
    edited = text.replace('"poll, ppoll, pselect6, select"', '"poll, select"')
    assert names(loads(edited.encode(), "policy.yaml")) == names(policy) - {"ppoll", "pselect6"}
    with pytest.raises(InputError, match="twice"):
        loads(text.replace('"poll, ppoll,', '"poll, poll, ppoll,').encode(), "policy.yaml")
    with pytest.raises(InputError, match="no syscall"):
        loads(text.replace('"poll, ppoll,', '"poll,ppoll,').encode(), "policy.yaml")


@pytest.mark.parametrize(
    ("whom", "results", "allowed"),
    [
        ("workload", {"ESRCH": 3}, True),
        ("workload", {"ESRCH": 1, "ok": 1}, True),
        ("outside", {"ESRCH": 1}, False),
        ("group", {"ESRCH": 1}, False),
        ("workload", {"EPERM": 1}, False),
    ],
)
def test_a_process_that_had_ended_may_live_longer(whom: str, results: dict[str, int], allowed: bool) -> None:
    recorded = touching(signals=[Signal("0", whom, results, frozenset({0}))])
    assert bool(derive(recorded, PLAIN).signals) is allowed
    alone = derive(recorded, Options(runtime="none", companions=False)).signals
    assert bool(alone) is ("ok" in results)


THREAD, FORK = 0x3D0F00, 0x1200011
"""The flags of pthread_create(3) and fork(3)."""


@pytest.mark.parametrize(
    ("calls", "joined", "added"),
    [
        ([call("clone", [(THREAD,)])], False, True),
        ([call("clone3", [(FORK,), (THREAD,)])], False, True),
        ([call("clone", [(FORK,)]), call("futex")], False, False),
        ([call("clone", overflow=True)], False, True),
        ([call("clone")], False, False),
        ([call("clone", [(FORK,)])], True, False),
        ([call("futex")], True, True),
        ([], False, False),
    ],
)
def test_files_by_timing(calls: list[Syscall], joined: bool, added: bool) -> None:
    """Only of programs with threads, whether or not a lock was waited for, and only where files were watched."""
    path = "/proc/sys/vm/overcommit_memory"
    features = (FILES_FEATURE, *([JOINED_FEATURE] if joined else ()))
    recorded = touching(file("/etc/passwd"), syscalls=calls, features=features)
    policy = derive(recorded, PLAIN)
    found = [(rule.pattern, rule.access) for rule in policy.files if rule.pattern == path]
    assert found == ([(path, ("read",))] if added else [])
    assert dumps(loads(dumps(policy).encode(), "policy.yaml")) == dumps(policy)
    without = derive(recorded, Options(runtime="none", companions=False))
    assert path not in {rule.pattern for rule in without.files}
    assert not derived(call("execve"), *calls, options=PLAIN).files
