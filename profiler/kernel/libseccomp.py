"""Ask the installed libseccomp which syscalls it knows, and which rules it accepts.

Container runtimes leave out rules for names that their libseccomp does not know, and do not start a container with a
rule that it refuses.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

_UNKNOWN = -1
"""__NR_SCMP_ERROR (seccomp.h). Other negative numbers are pseudo numbers of calls that this architecture does not have.
"""


SECONDS = 10.0
"""Time limit for a trial. It usually takes milliseconds, but 2.5.4 may loop forever when it joins rules that compare 64
bits by order."""

ACTIONS = {
    "KILL_THREAD": 0,
    "KILL_PROCESS": 0x80000000,
    "TRAP": 0x00030000,
    "ERRNO": 0x00050000,
    "TRACE": 0x7FF00000,
    "LOG": 0x7FFC0000,
    "NOTIFY": 0x7FC00000,
    "ALLOW": 0x7FFF0000,
}
"""Actions as numbers (seccomp.h). ERRNO and TRACE have a number in the lower 16 bits."""

OPERATORS = {"NE": 1, "LT": 2, "LE": 3, "EQ": 4, "GE": 5, "GT": 6, "MASKED_EQ": 7}
"""Comparisons as numbers (seccomp.h, enum scmp_compare)."""


class _Version(ctypes.Structure):
    _fields_ = (("major", ctypes.c_uint), ("minor", ctypes.c_uint), ("micro", ctypes.c_uint))


@dataclass(frozen=True)
class Library:
    """The installed libseccomp. ``version`` has three numbers."""

    version: str
    _handle: ctypes.CDLL

    def knows(self, name: str) -> bool:
        """Return whether the library has a number or a pseudo number for a name (seccomp_syscall_resolve_name(3))."""
        # The library would read a name only up to a NUL.
        return (
            "\0" not in name and self._handle.seccomp_syscall_resolve_name(name.encode("utf-8", "replace")) != _UNKNOWN
        )


@cache
def installed() -> Library | None:
    """Return the installed library, or None if there is none."""
    try:
        handle = ctypes.CDLL("libseccomp.so.2")
        handle.seccomp_version.restype = ctypes.POINTER(_Version)
        handle.seccomp_syscall_resolve_name.argtypes = (ctypes.c_char_p,)
        version = handle.seccomp_version().contents
    except (OSError, AttributeError, ValueError):
        return None
    return Library(f"{version.major}.{version.minor}.{version.micro}", handle)


@dataclass(frozen=True)
class Trial:
    """What became of rules. ``refused``: the positions of those that libseccomp does not accept. ``finished`` is False
    if it did not come to an end."""

    refused: tuple[int, ...] = ()
    finished: bool = True


TriedRule = tuple[int, str, Sequence[tuple[int, int, int, int]]]
"""An action, a syscall's name, and conditions (argument, comparison, value, second value) on different arguments."""


def tried(default: int, arches: Sequence[int], rules: Sequence[TriedRule]) -> Trial | None:
    """Add rules to a filter of the installed libseccomp, in a process of its own; None if that is not possible.

    ``arches`` are audit architectures besides the machine's own. Names that libseccomp does not know are left out.
    """
    try:
        import pyseccomp  # noqa: F401  - loaded before the fork
    except (ImportError, OSError, RuntimeError):
        return None
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            _try(default, arches, rules, writing)
        finally:
            os._exit(1)
    os.close(writing)
    pidfd = os.pidfd_open(pid)
    try:
        finished = bool(select.select([pidfd], [], [], SECONDS)[0])
        if not finished:
            os.kill(pid, signal.SIGKILL)
    finally:
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
    with open(reading, encoding="ascii") as file:
        refused = tuple(int(line) for line in file)
    return Trial(refused, finished) if not finished or os.waitstatus_to_exitcode(status) == 0 else None


def _try(default: int, arches: Sequence[int], rules: Sequence[TriedRule], writing: int) -> None:
    import pyseccomp

    built = pyseccomp.SyscallFilter(default)
    for arch in arches:
        if not built.exist_arch(arch):
            built.add_arch(arch)
    for position, (action, name, tests) in enumerate(rules):
        number = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name)
        try:
            if number != _UNKNOWN:
                built.add_rule(action, number, *(pyseccomp.Arg(*test) for test in tests))
        except OSError:
            os.write(writing, b"%d\n" % position)
    with open(os.devnull, "wb") as file:
        built.export_bpf(file)
    os._exit(0)
