"""Filters of arguments, and clone3, which cannot have one."""

from __future__ import annotations

import pytest
from unit.policy.making import call, derived, entry, names, permits

from profiler.policy.model import Options, Policy
from profiler.policy.reasons import said
from profiler.trace.model import Arguments, Syscall


def socket_allowed(policy: Policy, domain: int, kind: int, protocol: int = 0) -> bool:
    return permits(policy, "socket", a0=domain, a1=kind, a2=protocol)


def test_socket() -> None:
    policy = derived(call("socket", [(2, 1, 0), (10, 2, 17), (1, 1, 0), (16, 3, 0), (17, 3, 0x300), (2, 3, 1)]))
    assert socket_allowed(policy, 2, 1)
    assert socket_allowed(policy, 2, 1 | 0o2004000, 6)
    assert socket_allowed(policy, 10, 2, 0)
    assert socket_allowed(policy, 1, 1, 1)
    assert socket_allowed(policy, 16, 2, 0)
    assert socket_allowed(policy, 17, 3, 0x300)
    assert socket_allowed(policy, 2, 3, 1)
    # Sign-extended and dirty upper halves are the same ints to the kernel.
    assert socket_allowed(policy, 0xFFFFFFFF00000002, 0x1_0000_0001, 1 << 40)
    for refused in (
        (38, 5, 0),
        (2, 1, 132),
        (2, 1, 262),
        (2, 2, 0),
        (10, 1, 0),
        (2, 3, 255),
        (16, 3, 9),
        (17, 3, 3),
        (40, 1, 0),
    ):
        assert not socket_allowed(policy, *refused), refused


@pytest.mark.parametrize("name", ["clone", "unshare"])
def test_flags(name: str) -> None:
    newns, newpid, newuser = 0x20000, 0x20000000, 0x10000000
    policy = derived(call(name, [(newns | newpid,), (newuser,)]))
    assert permits(policy, name, a0=newns)
    assert permits(policy, name, a0=newns | newpid)
    assert permits(policy, name, a0=newuser)
    assert not permits(policy, name, a0=newns | newuser)
    assert not permits(policy, name, a0=0x40000000)
    # Threads and vfork pass whatever flags the next libc uses; unshare's other flags are listed.
    assert permits(policy, name, a0=0x3D0F00) is (name == "clone")


def test_protection() -> None:
    policy = derived(call("mmap", [(1,), (5,)]), call("mprotect", [(1,), (3,)]))
    assert permits(policy, "mmap", a2=5)
    assert permits(policy, "mmap", a2=3)
    assert not permits(policy, "mmap", a2=7)
    assert not permits(policy, "mmap", a2=6)
    assert permits(policy, "mprotect", a2=0)
    assert not permits(policy, "mprotect", a2=4)
    both = derived(call("mmap", [(7,)]))
    assert entry(both, "mmap").rules == ()
    assert any("writable and executable" in reason.text for reason in entry(both, "mmap").because)


def test_setns_and_userfaultfd_compare_whole_values() -> None:
    """For these a missing flag asks for more: setns(fd, 0) enters a namespace of any type."""
    policy = derived(call("setns", [(0x40000000,)]), call("userfaultfd", [(0x80001,)]))
    assert permits(policy, "setns", a1=0x40000000)
    assert not permits(policy, "setns", a1=0)
    assert not permits(policy, "userfaultfd", a0=0x80000)


def test_too_many_values_drop_a_field_then_the_filter() -> None:
    few = derived(call("setsockopt", [(level, option) for level in range(3) for option in range(40)]))
    rules = entry(few, "setsockopt").rules
    assert len(rules) == 3
    assert permits(few, "setsockopt", a1=2, a2=99)
    assert not permits(few, "setsockopt", a1=3, a2=1)
    assert any("only level is compared" in reason.text for reason in entry(few, "setsockopt").because)
    many = derived(call("ioctl", [(command,) for command in range(65)]))
    assert entry(many, "ioctl").rules == ()
    assert any("more than 64" in reason.text for reason in entry(many, "ioctl").because)


def test_without_recorded_values_any_arguments_are_allowed_and_said() -> None:
    policy = derived(call("prctl"), call("ioctl", overflow=True))
    assert entry(policy, "prctl").rules == entry(policy, "ioctl").rules == ()
    assert said("widened", "any arguments: no argument values were recorded") in entry(policy, "prctl").because
    assert said("widened", "any arguments: too many different values were seen") in entry(policy, "ioctl").because


def test_values_recorded_with_other_fields_are_not_misread() -> None:
    row = call("prctl")
    row = Syscall(**{**row.__dict__, "arguments": Arguments(("option", "arg2"), {(4, 1): frozenset({0})})})
    assert entry(derived(row), "prctl").rules == ()


def test_no_arguments() -> None:
    policy = derived(
        call("socket", [(2, 1, 0)]), call("clone3", [(0,)]), options=Options(runtime="none", arguments=False)
    )
    assert entry(policy, "socket").rules == ()
    assert "clone3" in names(policy, "observed")


def test_terminal_ioctls_of_the_next_libc() -> None:
    policy = derived(call("ioctl", [(0x5401,)]))
    assert permits(policy, "ioctl", a1=0x802C542A)
    assert not permits(policy, "ioctl", a1=0x5412)
    alone = derived(call("ioctl", [(0x5401,)]), options=Options(runtime="none", equivalents=False))
    assert not permits(alone, "ioctl", a1=0x802C542A)


def test_clone3_without_namespaces_is_answered_enosys_and_clone_allowed() -> None:
    policy = derived(call("clone3", [(0x3D0F00,)]))
    assert "clone3" not in names(policy)
    assert {row.name: row.errno for row in policy.refused}["clone3"] == "ENOSYS"
    assert entry(policy, "clone").stands_for == ("clone3",)
    assert permits(policy, "clone", a0=0x3D0F00)
    assert not permits(policy, "clone", a0=0x10000000)


def test_clone3_and_clone_share_their_flags() -> None:
    policy = derived(call("clone3", [(0x3D0F00,)]), call("clone", [(0x20000,)]))
    assert permits(policy, "clone", a0=0x20000)
    assert permits(policy, "clone", a0=0x3D0F00)
    assert not permits(policy, "clone", a0=0x40000000)


@pytest.mark.parametrize("flags", [0x20000000, 0x80, 0x200000000])
def test_clone3_stays_when_clone_cannot_do_it(flags: int) -> None:
    policy = derived(call("clone3", [(0,), (flags,)]))
    assert entry(policy, "clone3").section == "observed"
    assert any("cannot be filtered" in reason.text for reason in entry(policy, "clone3").because)
    assert "clone3" not in {row.name for row in policy.refused}


def test_clone3_stays_when_its_flags_are_not_known() -> None:
    assert "clone3" in names(derived(call("clone3")))
    assert "clone3" in names(derived(call("clone3", overflow=True)))
