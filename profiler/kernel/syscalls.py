"""Names and numbers of syscalls for each ABI, as libseccomp names them.

The tables come from the ``system-calls`` package, one module for each architecture. They follow current kernels and
leave out calls that no kernel implements any more. Those stay known here, because programs still try them and
libseccomp still names them (libseccomp src/syscalls.csv).
"""

from __future__ import annotations

from functools import cache
from importlib import import_module

from profiler.kernel.abi import ABIS, X32_SYSCALL_BIT

_OBSOLETE: dict[str, dict[str, int]] = {
    "x86_64": {
        "uselib": 134,
        "_sysctl": 156,
        "create_module": 174,
        "get_kernel_syms": 177,
        "query_module": 178,
        "nfsservctl": 180,
        "getpmsg": 181,
        "putpmsg": 182,
        "afs_syscall": 183,
        "tuxcall": 184,
        "security": 185,
        "vserver": 236,
    },
    "i386": {
        "break": 17,
        "stty": 31,
        "gtty": 32,
        "ftime": 35,
        "prof": 44,
        "lock": 53,
        "mpx": 56,
        "ulimit": 58,
        "uselib": 86,
        "profil": 98,
        "idle": 112,
        "create_module": 127,
        "get_kernel_syms": 130,
        "bdflush": 134,
        "afs_syscall": 137,
        "_sysctl": 149,
        "query_module": 167,
        "nfsservctl": 169,
        "getpmsg": 188,
        "putpmsg": 189,
        "vserver": 273,
    },
    "x32": {"getpmsg": 181, "putpmsg": 182, "afs_syscall": 183, "tuxcall": 184, "security": 185},
    "aarch64": {"nfsservctl": 42},
    "arm": {"uselib": 86, "bdflush": 134, "_sysctl": 149, "nfsservctl": 169, "vserver": 313},
}

_ALIASES = {"sync_file_range2": "arm_sync_file_range"}
"""Number 341 of ARM has two names: the kernel's table uses the first, older libseccomp the second."""


@cache
def _numbers(abi: str) -> dict[str, int]:
    table = ABIS[abi].table
    rows: dict[str, int] = getattr(import_module(f"system_calls.tables.{table}"), f"syscalls_{table}")
    bit = X32_SYSCALL_BIT if abi == "x32" else 0
    return {**_OBSOLETE[abi], **{name: number & ~bit for name, number in rows.items()}}


@cache
def _names(abi: str) -> dict[int, str]:
    return {number: name for name, number in _numbers(abi).items()}


def name_of(abi: str, number: int) -> str | None:
    """Return the name of a call, or None if the table lacks the number. Raises KeyError for an unknown ABI."""
    return _names(abi).get(number)


def number_of(abi: str, name: str) -> int | None:
    """Return the number of a call (for x32 without the x32 bit), or None if this ABI has no such call."""
    numbers = _numbers(abi)
    return numbers.get(name, numbers.get(_ALIASES.get(name, "")))


@cache
def names_of(abi: str) -> frozenset[str]:
    """Return every name that this ABI has."""
    return frozenset(_numbers(abi))


@cache
def known_names() -> frozenset[str]:
    """Return every name that any ABI of :mod:`profiler.kernel.abi` has."""
    return frozenset().union(*(names_of(abi) for abi in ABIS))


@cache
def names_anywhere() -> frozenset[str]:
    """Return every name that any architecture has, including architectures that profgen does not support."""
    import system_calls

    return known_names() | frozenset(system_calls.syscalls().names())
