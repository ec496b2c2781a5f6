"""ABIs: the ways in which a process can enter the kernel of this machine.

Everywhere in profgen an ABI is named ``x86_64``, ``i386``, ``x32``, ``aarch64`` or ``arm``. A syscall number has a
meaning only together with its ABI. Sources: linux/audit.h (AUDIT_ARCH_*), linux/elf-em.h (machine numbers),
asm/unistd.h (``__X32_SYSCALL_BIT``), seccomp(2) (x32 has the audit architecture of x86-64).
"""

from __future__ import annotations

import platform
from dataclasses import dataclass

X32_SYSCALL_BIT = 0x40000000
"""The bit that is set in the number of an x32 call (asm/unistd.h). profgen stores x32 numbers without it."""

AUDIT_ARCH_X86_64 = 0xC000003E
AUDIT_ARCH_I386 = 0x40000003
AUDIT_ARCH_AARCH64 = 0xC00000B7
AUDIT_ARCH_ARM = 0x40000028


@dataclass(frozen=True)
class Abi:
    """An ABI. ``seccomp`` is its name in OCI and libseccomp, ``table`` its name in the ``system-calls`` package."""

    name: str
    audit_arch: int
    seccomp: str
    table: str
    bits: int
    """The width of a long: 32 or 64."""


ABIS: dict[str, Abi] = {
    abi.name: abi
    for abi in (
        Abi("x86_64", AUDIT_ARCH_X86_64, "SCMP_ARCH_X86_64", "x86_64", 64),
        Abi("i386", AUDIT_ARCH_I386, "SCMP_ARCH_X86", "i386", 32),
        Abi("x32", AUDIT_ARCH_X86_64, "SCMP_ARCH_X32", "x32", 32),
        Abi("aarch64", AUDIT_ARCH_AARCH64, "SCMP_ARCH_AARCH64", "arm64", 64),
        Abi("arm", AUDIT_ARCH_ARM, "SCMP_ARCH_ARM", "arm", 32),
    )
}

SUB_ABIS: dict[str, tuple[str, ...]] = {"x86_64": ("i386", "x32"), "aarch64": ("arm",)}
"""The further ABIs that a kernel may accept, by its native ABI."""

_BY_AUDIT_ARCH = {abi.audit_arch: abi.name for abi in ABIS.values() if abi.name != "x32"}
MACHINES = {"x86_64": ("x86_64", "amd64"), "aarch64": ("aarch64", "arm64")}
"""What uname(2) calls the machine of a native ABI."""


def native_abi() -> str:
    """Return the ABI of this machine's kernel. Raises ValueError on a machine that profgen does not support."""
    machine = platform.machine().lower()
    for abi, names in MACHINES.items():
        if machine in names:
            return abi
    raise ValueError(f"machine {machine!r} is not supported: profgen knows x86_64 and aarch64")


def abi_of(audit_arch: int, number: int) -> tuple[str, int]:
    """Return (ABI, number in that ABI's table) for an audit architecture and a raw syscall number.

    The raw number may be signed or unsigned. Numbers of 2**31 and above (such as -1) are not x32 calls. Raises KeyError
    for an unknown audit architecture.
    """
    name = _BY_AUDIT_ARCH[audit_arch & 0xFFFFFFFF]
    number &= 0xFFFFFFFF
    if name == "x86_64" and X32_SYSCALL_BIT <= number < 0x80000000:
        return "x32", number & ~X32_SYSCALL_BIT
    return name, number


def seccomp_name(abi: str) -> str:
    """Return the ``SCMP_ARCH_*`` name of an ABI. Raises KeyError for an unknown ABI."""
    return ABIS[abi].seccomp
