"""Calls that were seen."""

from __future__ import annotations

import pytest
from unit.policy.making import call, derived, entry, unknown

from profiler.errors import InputError
from profiler.policy.reasons import Reason
from profiler.trace.model import Syscall


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
