"""What runtimes and the start of programs call."""

from __future__ import annotations

import pytest
from unit.policy.making import call, derived, entry, names, permits

from profiler.errors import InputError
from profiler.policy.model import Options
from profiler.policy.reasons import Reason


def test_base_is_apart_and_has_its_own_filters() -> None:
    policy = derived(call("read"), options=Options(runtime="runc", no_new_privs=False))
    assert entry(policy, "capset").section == "base"
    assert entry(policy, "capset").because == (Reason("base", ("runc",)),)
    assert permits(policy, "prctl", a0=24)
    assert not permits(policy, "prctl", a0=38)
    assert not permits(policy, "clone", a0=0x10000000)
    assert not permits(policy, "mmap", a2=4)
    assert "capset" not in names(derived(call("read"), options=Options(runtime="runc")))


def test_a_base_does_not_hide_what_was_observed() -> None:
    policy = derived(call("read"), call("prctl", [(15,)]), options=Options(runtime="any", no_new_privs=False))
    assert {row.section for row in policy.syscalls if row.name == "prctl"} == {"observed", "base"}
    assert permits(policy, "prctl", a0=15)
    assert permits(policy, "prctl", a0=8)
    assert not permits(policy, "prctl", a0=22)


def test_the_start_of_programs_on_request() -> None:
    """For what was joined while it ran: loading libraries, beginning threads, and no more of their arguments than
    that."""
    joined = derived(call("read"), call("mmap", [(3,)]), options=Options(runtime="none"))
    assert not permits(joined, "mmap", a2=5)
    policy = derived(
        call("read"), call("mmap", [(3,)]), options=Options(runtime="none", start_up=True, companions=False)
    )
    for name in ("execve", "set_tid_address", "rseq", "prlimit64", "sched_getaffinity", "open"):
        assert entry(policy, name).section == "base"
    assert "start of glibc programs" in entry(policy, "mprotect").because[0].names
    assert permits(policy, "mmap", a2=5)
    assert not permits(policy, "mmap", a2=7)
    assert not permits(policy, "mprotect", a2=4)
    assert not permits(policy, "clone", a0=0x10000000)
    assert not {"socket", "bind", "ptrace"} & names(policy)


def test_unknown_runtime_is_one_line() -> None:
    with pytest.raises(InputError, match="unknown runtime 'rkt'"):
        derived(call("read"), options=Options(runtime="rkt"))
