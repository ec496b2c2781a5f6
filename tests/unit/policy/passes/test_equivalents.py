"""Calls that another libc makes instead."""

from __future__ import annotations

from unit.policy.making import call, derived, entry, names, permits

from profiler.policy.model import Options
from profiler.policy.reasons import Reason


def test_equivalents_name_what_they_stand_for() -> None:
    policy = derived(call("newfstatat"))
    assert entry(policy, "statx").section == "equivalent"
    assert entry(policy, "statx").stands_for == ("newfstatat",)
    assert entry(policy, "statx").because == (Reason("equivalent", text="reads file attributes"),)
    assert names(derived(call("newfstatat"), options=Options(runtime="none", equivalents=False))) == {"newfstatat"}


def test_equivalents_never_widen_a_filter() -> None:
    policy = derived(call("mknod", [(0x1000,)]), call("fork"), call("fcntl", [(3,)]))
    assert permits(policy, "mknodat", a2=0x1FFF)
    assert not permits(policy, "mknodat", a2=0x2000)
    assert permits(policy, "clone", a0=0x1200011)
    assert not permits(policy, "clone", a0=0x10000011)
    assert "clone3" not in names(policy)


def test_no_equivalent_opens_the_same_name_of_another_abi() -> None:
    """i386's mmap takes a pointer and cannot be filtered; a profile works by name for all ABIs."""
    policy = derived(call("mmap", [(3,)]), call("mmap2", [(3,)], abi="i386"), call("fcntl64", [(1,)], abi="i386"))
    assert not any(row.abi == "i386" and row.name == "mmap" for row in policy.syscalls)
    assert entry(policy, "fcntl", abi="i386").rules == entry(policy, "fcntl64", abi="i386").rules
