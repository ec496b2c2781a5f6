"""Each pass, and derive() as their sum."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from unit.policy.making import call, check, rows, trace, unknown

from profiler.errors import InputError
from profiler.kernel.fallbacks import fallbacks
from profiler.policy.derive import derive
from profiler.policy.evidence import capability_outcomes
from profiler.policy.model import Allowed, Options, Policy
from profiler.policy.reasons import Reason, said
from profiler.trace.model import JOINED_FEATURE, Arguments, Container, Program, Syscall, Trace

NONE = Options(runtime="none")
ANY = (0, 0, 0, 0, 0, 0)


def derived(*syscalls: Syscall, options: Options = NONE, **meta: object) -> Policy:
    return derive(trace(*syscalls, **meta), options)


def entry(policy: Policy, name: str, section: str | None = None, abi: str = "x86_64") -> Allowed:
    found = [row for row in policy.syscalls if row.name == name and row.abi == abi and section in (None, row.section)]
    assert len(found) == 1, (name, found)
    return found[0]


def names(policy: Policy, section: str | None = None) -> set[str]:
    return {row.name for row in policy.syscalls if section in (None, row.section)}


def permits(policy: Policy, name: str, **arguments: int) -> bool:
    registers = [0] * 6
    for key, value in arguments.items():
        registers[int(key[1:])] = value
    return policy.permits("x86_64", name, registers)


# Observed.


def test_observed_says_who_called() -> None:
    policy = derived(call("read", calls=1204))
    assert entry(policy, "read").because == (Reason("observed", ("app",)),)
    assert policy.abis == ("x86_64",)


def test_unknown_numbers_are_kept_apart() -> None:
    policy = derived(call("read"), unknown(999))
    assert [(row.abi, row.number) for row in policy.unknown] == [("x86_64", 999)]
    assert policy.unknown[0].because == (Reason("observed", ("app",)),)


def test_sub_abis_only_when_seen() -> None:
    policy = derived(call("read"), call("fstat64", abi="i386"))
    assert policy.abis == ("x86_64", "i386")
    assert entry(policy, "fstat64", abi="i386").section == "observed"
    assert "fstat64" not in {row.name for row in policy.syscalls if row.abi == "x86_64"}


def test_a_name_of_another_number_is_refused() -> None:
    row = Syscall("x86_64", 1, "read", 1, call("read").results, 0, 0, {0: 1})
    with pytest.raises(InputError, match="read is syscall 1"):
        derived(row)


def test_an_architecture_profgen_does_not_know_is_refused() -> None:
    with pytest.raises(InputError, match="riscv64"):
        derived(call("read"), arch="riscv64")


# Failed probes.


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


# Equivalents.


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


# Arguments.


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


# clone3.


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


# Runtime base and fallbacks.


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
    policy = derived(call("read"), call("mmap", [(3,)]), options=Options(runtime="none", start_up=True))
    for name in ("execve", "set_tid_address", "rseq", "prlimit64", "sched_getaffinity", "open"):
        assert entry(policy, name).section == "base"
    assert "start of glibc programs" in entry(policy, "mprotect").because[0].names
    assert permits(policy, "mmap", a2=5)
    assert not permits(policy, "mmap", a2=7)
    assert not permits(policy, "mprotect", a2=4)
    assert not permits(policy, "clone", a0=0x10000000)
    assert not {"socket", "bind", "ptrace"} & names(policy)


def test_a_joined_program_and_its_container_are_named() -> None:
    recording = trace(
        call("read"),
        features=(JOINED_FEATURE,),
        container=Container("docker", "runc", "1", "db", "redis:7\n", "sha256:1"),
    )
    recording = dataclasses.replace(recording, programs=(Program("/usr/sbin/app"),))
    work = derive(recording, NONE).workload
    assert (work.image, work.digest, work.joined) == ("redis:7\\n", "sha256:1", ("/usr/sbin/app",))


def test_unknown_runtime_is_one_line() -> None:
    with pytest.raises(InputError, match="unknown runtime 'rkt'"):
        derived(call("read"), options=Options(runtime="rkt"))


def test_fallbacks_get_enosys_unless_allowed() -> None:
    policy = derived(call("statx"))
    refused = {row.name: row.errno for row in policy.refused}
    assert "statx" not in refused
    assert refused["faccessat2"] == refused["openat2"] == refused["close_range"] == "ENOSYS"
    assert all(row.because for row in policy.refused)


# Capabilities.


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


# Everything together.


def arguments_of(row: Syscall) -> list[list[int]]:
    from profiler.kernel.arguments import spec_for

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
        assert row.section in ("equivalent", "base") or row.name in observed
    assert names(policy).isdisjoint(row.name for row in policy.refused)
    for name in fallbacks():
        assert name in names(policy) | {row.name for row in policy.refused}


@given(rows())
def test_the_passes_do_not_care_about_the_order_of_rows(seen: list[Syscall]) -> None:
    def unordered(recording: Trace) -> tuple[object, ...]:
        policy = derive(recording, Options())
        return (set(policy.syscalls), set(policy.refused), set(policy.capabilities), policy.abis)

    assert unordered(trace(*seen)) == unordered(trace(*reversed(seen)))


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
