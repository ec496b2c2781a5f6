"""Calls that only failed."""

from __future__ import annotations

import pytest
from unit.policy.making import call, derived, entry, names

from profiler.policy.model import Options
from profiler.policy.reasons import Reason


def test_a_call_that_only_failed_is_tagged() -> None:
    policy = derived(call("access", ok=0, errors={"ENOENT": 2}), call("openat", ok=1, errors={"ENOENT": 5}))
    assert entry(policy, "access", "observed").never_succeeded
    assert Reason("failed", ("ENOENT",)) in entry(policy, "access", "observed").because
    assert not entry(policy, "openat").never_succeeded


def test_a_call_whose_results_were_not_all_seen_did_not_fail() -> None:
    policy = derived(call("rename", calls=3, ok=0, errors={"ENOENT": 2}))
    assert not entry(policy, "rename", "observed").never_succeeded


@pytest.mark.parametrize("error", ["EINTR", "EAGAIN", "EINPROGRESS", "ERESTARTNOHAND"])
def test_a_call_that_waited_did_not_fail(error: str) -> None:
    policy = derived(call("connect", ok=0, errors={error: 1}), options=Options(runtime="none", drop_failing=True))
    assert not entry(policy, "connect").never_succeeded


def test_drop_failing_answers_as_the_kernel_did() -> None:
    options = Options(runtime="none", drop_failing=True)
    policy = derived(
        call("ptrace", [(0,)], ok=0, errors={"EPERM": 1}),
        call("memfd_secret", ok=0, errors={"ENOSYS": 1}),
        call("swapon", ok=0, errors={"EPERM": 1, "EINVAL": 1}),
        call("acct", ok=0, errors={"522": 1}),
        options=options,
    )
    assert names(policy).isdisjoint({"ptrace", "memfd_secret", "swapon", "acct"})
    answers = {row.name: row.errno for row in policy.refused}
    assert answers["ptrace"] == answers["swapon"] == answers["acct"] == "EPERM"
    assert answers["memfd_secret"] == "ENOSYS"


def test_a_dropped_call_the_runtime_needs_is_allowed_for_it() -> None:
    policy = derived(call("openat2", ok=0, errors={"ENOSYS": 1}), options=Options(runtime="runc", drop_failing=True))
    assert entry(policy, "openat2").section == "base"
    assert "openat2" not in {row.name for row in policy.refused}
