"""Capabilities that the workload needed."""

from __future__ import annotations

from unit.policy.making import NONE, call, check, trace

from profiler.policy.derive import derive
from profiler.policy.evidence import capability_outcomes
from profiler.policy.reasons import Reason


def test_capabilities_by_outcome() -> None:
    recording = trace(
        call("bind"),
        capabilities=[
            check("CAP_NET_BIND_SERVICE"),
            check("CAP_SYS_ADMIN", decisive=False, audited=False, syscalls={"mmap": 9}),
            check("CAP_SYS_PTRACE", verdict="refused"),
            check("CAP_SETUID", namespace="child"),
            check("CAP_CHOWN", audited=False),
            check("CAP_KILL", inferred=True),
            check("CAP_CHOWN", verdict="refused"),
            check("CAP_63"),
        ],
    )
    assert capability_outcomes(recording) == {
        "CAP_NET_BIND_SERVICE": "needed",
        "CAP_SYS_ADMIN": "checked",
        "CAP_SYS_PTRACE": "refused",
        "CAP_SETUID": "child_namespace",
        # A silent check that settles a call counts all the same (seccomp(2) asks silently and refuses).
        "CAP_CHOWN": "needed",
        "CAP_KILL": "needed",
        "CAP_63": "needed",
    }
    policy = derive(recording, NONE)
    assert {row.name for row in policy.capabilities} == {"CAP_NET_BIND_SERVICE", "CAP_CHOWN", "CAP_KILL", "CAP_63"}
    assert policy.needed() == ("CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE")
    because = {row.name: row.because for row in policy.capabilities}
    assert because["CAP_KILL"] == (Reason("inferred", ("app",)), Reason("in", ("bind",)))
    assert because["CAP_CHOWN"] == (Reason("observed", ("app",)), Reason("in", ("bind",)))


def test_search_is_covered_by_an_override_that_is_needed_anyway() -> None:
    search = check("CAP_DAC_READ_SEARCH", syscalls={"openat": 1})
    override = check("CAP_DAC_OVERRIDE", syscalls={"openat": 1})

    def needed(*checks: object) -> set[str]:
        policy = derive(trace(call("openat"), capabilities=checks), NONE)  # type: ignore[arg-type]
        return {row.name for row in policy.capabilities}

    assert needed(search) == {"CAP_DAC_READ_SEARCH"}
    assert needed(search, override) == {"CAP_DAC_OVERRIDE"}
    by_handle = check("CAP_DAC_READ_SEARCH", syscalls={"open_by_handle_at": 1})
    assert needed(by_handle, override) == {"CAP_DAC_READ_SEARCH", "CAP_DAC_OVERRIDE"}
