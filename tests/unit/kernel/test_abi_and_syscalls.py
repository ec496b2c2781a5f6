"""ABIs and syscall tables, against libseccomp and the machine's own kernel."""

from __future__ import annotations

import platform

import pyseccomp
import pytest

from profiler.kernel import abi, syscalls

LIBSECCOMP = {
    "x86_64": pyseccomp.Arch.X86_64,
    "i386": pyseccomp.Arch.X86,
    "x32": pyseccomp.Arch.X32,
    "aarch64": pyseccomp.Arch.AARCH64,
    "arm": pyseccomp.Arch.ARM,
}
NEWEST_IN_LIBSECCOMP_2_5_4 = 450


def test_native_abi_is_this_machine() -> None:
    assert abi.native_abi() == {"x86_64": "x86_64", "aarch64": "aarch64"}[platform.machine()]


@pytest.mark.parametrize(
    ("arch", "number", "expected"),
    [
        (abi.AUDIT_ARCH_X86_64, 59, ("x86_64", 59)),
        (abi.AUDIT_ARCH_X86_64, 0x40000000 | 520, ("x32", 520)),
        (abi.AUDIT_ARCH_X86_64, -1, ("x86_64", 0xFFFFFFFF)),
        (abi.AUDIT_ARCH_X86_64, 0xFFFFFFFF, ("x86_64", 0xFFFFFFFF)),
        (abi.AUDIT_ARCH_I386, 11, ("i386", 11)),
        (abi.AUDIT_ARCH_AARCH64, 221, ("aarch64", 221)),
        (abi.AUDIT_ARCH_ARM, 11, ("arm", 11)),
    ],
)
def test_abi_of(arch: int, number: int, expected: tuple[str, int]) -> None:
    assert abi.abi_of(arch, number) == expected


def test_abi_of_refuses_an_unknown_architecture() -> None:
    with pytest.raises(KeyError):
        abi.abi_of(0x80000015, 1)


def raw_number(name: str, number: int) -> int:
    """Return the number as it is in the register: with the x32 bit for x32."""
    return number | abi.X32_SYSCALL_BIT if name == "x32" else number


def test_abi_of_x32() -> None:
    for number in (0, 59, 520):
        assert abi.abi_of(abi.AUDIT_ARCH_X86_64, raw_number("x32", number)) == ("x32", number)


def test_seccomp_names_are_libseccomps() -> None:
    for name, arch in LIBSECCOMP.items():
        assert hasattr(pyseccomp.Arch, abi.seccomp_name(name).removeprefix("SCMP_ARCH_"))
        assert getattr(pyseccomp.Arch, abi.seccomp_name(name).removeprefix("SCMP_ARCH_")) == arch


@pytest.mark.parametrize("name", sorted(abi.ABIS))
def test_names_are_those_of_libseccomp(name: str) -> None:
    """Every number that libseccomp names has the same name here, except where libseccomp's table is older."""
    different = []
    for number in range(NEWEST_IN_LIBSECCOMP_2_5_4):
        try:
            theirs = pyseccomp.resolve_syscall(LIBSECCOMP[name], raw_number(name, number)).decode()
        except ValueError:
            continue
        ours = syscalls.name_of(name, number)
        if ours != theirs:
            different.append((number, ours, theirs))
    assert different == ([(341, "sync_file_range2", "arm_sync_file_range")] if name == "arm" else [])


@pytest.mark.parametrize("name", sorted(abi.ABIS))
def test_numbers_and_names_are_inverse(name: str) -> None:
    for syscall in syscalls.names_of(name):
        number = syscalls.number_of(name, syscall)
        assert number is not None
        assert number < 0x40000000
        assert syscalls.name_of(name, number) == syscall


def test_unknown_number_and_name() -> None:
    assert syscalls.name_of("x86_64", 999) is None
    assert syscalls.number_of("x86_64", "no_such_call") is None
    assert syscalls.number_of("aarch64", "open") is None
    assert "_llseek" in syscalls.known_names()
    assert "no_such_call" not in syscalls.known_names()
