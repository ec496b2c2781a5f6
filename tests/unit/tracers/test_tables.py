"""A row in a table of what calls mean is all that the tracers need: both look at every call that has one."""

from __future__ import annotations

import os

import pytest

from profiler.kernel.abi import ABIS
from profiler.kernel.files import file_uses
from profiler.kernel.mounts import mount_calls
from profiler.kernel.processes import process_calls
from profiler.kernel.sockets import socket_calls
from profiler.kernel.syscalls import number_of
from profiler.tracers.ebpf.specs import name_in_specs, rows, specs
from profiler.tracers.ptrace.calls import Evidence
from profiler.tracers.ptrace.threads import CHANGES, Threads
from profiler.tracers.recording import Recording

CALLS = {*file_uses(), *socket_calls(), *process_calls(), *mount_calls(), "socketcall"}


@pytest.mark.parametrize("abi", ABIS)
def test_every_call_is_looked_at(abi: str) -> None:
    evidence = Evidence(Recording(abi), Threads())
    for name in CALLS:
        assert evidence.watches(name, abi) is not None, name
        assert (name in specs(abi)) == (number_of(abi, name) is not None), name
    assert evidence.watches("getpid", abi) is None


def test_no_call_is_in_two_tables() -> None:
    tables = (file_uses(), socket_calls(), process_calls(), mount_calls())
    assert len({*file_uses(), *socket_calls(), *process_calls(), *mount_calls()}) == sum(map(len, tables))


@pytest.mark.parametrize("abi", ABIS)
def test_numbers_lead_back_to_names(abi: str) -> None:
    assert {name_in_specs(abi, number) for number in rows(abi)} <= {*CALLS, "unshare"}


def test_what_a_call_may_change_is_read_again() -> None:
    """A call of any ABI, and a native one too: what it did is asked of the kernel, not inferred. An execution has an
    event of its own."""
    calls = ("setuid", "setuid32", "capset", "clone", "clone3", "unshare", "setns", "chroot")
    assert {*calls, "rename", "pivot_root", "mount"} <= CHANGES
    assert "getpid" not in CHANGES


def test_parents_and_pidfds() -> None:
    """What both the inference of capabilities and the evidence ask of a process."""
    threads, me = Threads(), os.getpid()
    assert threads.parent(me) == os.getppid()
    assert threads.parent(1 << 30) == -1
    pidfd = os.pidfd_open(me)
    try:
        assert threads.pidfd(me, pidfd) == me
        assert threads.pidfd(me, 0) is None
    finally:
        os.close(pidfd)
    assert threads.pidfd(me, pidfd) is None
