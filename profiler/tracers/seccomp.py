"""Load seccomp filters (seccomp(2)): any BPF program, the ptrace tracer's, and the one that guards a terminal."""

from __future__ import annotations

import ctypes
import errno
import struct

from profiler.kernel.abi import ABIS, SUB_ABIS, X32_SYSCALL_BIT
from profiler.kernel.arguments import value_of
from profiler.kernel.syscalls import number_of

PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2

RET_ERRNO = 0x00050000
RET_TRACE = 0x7FF00000
RET_ALLOW = 0x7FFF0000
"""Actions. Their lower 16 bits hold an errno, or a number for the tracer (include/uapi/linux/seccomp.h
SECCOMP_RET_*)."""

_LOAD, _AND, _EQUAL, RETURN = 0x20, 0x54, 0x15, 0x06
"""BPF_LD|BPF_W|BPF_ABS, BPF_ALU|BPF_AND|BPF_K, BPF_JMP|BPF_JEQ|BPF_K, BPF_RET|BPF_K (include/uapi/linux/filter.h)."""
_NUMBER, _ARCH, _SECOND = 0, 4, 24
"""Places in struct seccomp_data: the number, the architecture, and the lower half of the second argument."""

INSTRUCTION = struct.Struct("=HBBI")
"""struct sock_filter: code, instructions to skip if true, and if false, operand."""

TERMINAL_INPUT = ("TIOCSTI", "TIOCLINUX")
"""The requests of ioctl(2) that put text into a terminal's input: TIOCSTI (ioctl_tty(2)), and TIOCLINUX, which pastes a
selection on a virtual console (ioctl_console(2))."""


def _program(*instructions: tuple[int, int, int, int]) -> bytes:
    return b"".join(INSTRUCTION.pack(*each) for each in instructions)


TRACE_ALL = _program((RETURN, 0, 0, RET_TRACE))
"""Leaves every call to a tracer."""


def terminal_guard(native: str) -> bytes:
    """Return the filter that makes TERMINAL_INPUT fail with EPERM, in every ABI of a machine, and allows all else.

    The kernel takes 32 bits of the request (fs/ioctl.c, ``unsigned int cmd``), so the upper half is not compared. The
    x32 number is also refused without its bit: kernels before 5.4 accept that (arch/x86/entry/common.c).
    """
    numbers: dict[int, list[int]] = {}
    for abi in (native, *SUB_ABIS[native]):
        number = number_of(abi, "ioctl")
        assert number is not None
        numbers.setdefault(ABIS[abi].audit_arch, []).append(number)
    body: list[tuple[int, int, int, int]] = []
    for arch, found in numbers.items():
        block = [
            (_LOAD, 0, 0, _ARCH),
            (_EQUAL, 0, 2 + len(found), arch),
            (_LOAD, 0, 0, _NUMBER),
            (_AND, 0, 0, ~X32_SYSCALL_BIT & 0xFFFFFFFF),
            *((_EQUAL, len(found) - index + len(body), 0, number) for index, number in enumerate(found)),
        ]
        body = block + body
    one, other = (value_of("ioctl_command", name) for name in TERMINAL_INPUT)
    return _program(
        *body,
        (RETURN, 0, 0, RET_ALLOW),
        (_LOAD, 0, 0, _SECOND),
        (_EQUAL, 2, 0, one),
        (_EQUAL, 1, 0, other),
        (RETURN, 0, 0, RET_ALLOW),
        (RETURN, 0, 0, RET_ERRNO | errno.EPERM),
    )


class _SockFprog(ctypes.Structure):
    _fields_ = [("len", ctypes.c_uint16), ("filter", ctypes.c_void_p)]


_libc = ctypes.CDLL(None, use_errno=True)


class Loader:
    """A filter that is ready to load: loading it makes only one system call, and allocates nothing."""

    def __init__(self, program: bytes) -> None:
        self._instructions = ctypes.create_string_buffer(program, len(program))
        self._program = _SockFprog(len(program) // INSTRUCTION.size, ctypes.addressof(self._instructions))
        self._address = ctypes.c_ulong(ctypes.addressof(self._program))

    def load(self) -> None:
        """Load it into the calling thread (seccomp(2)). Raises OSError: EACCES without no_new_privs and
        CAP_SYS_ADMIN."""
        if (
            _libc.prctl(
                PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), self._address, ctypes.c_ulong(0), ctypes.c_ulong(0)
            )
            != 0
        ):
            raise OSError(ctypes.get_errno(), "the kernel refused the filter")


def forbid_new_privileges() -> None:
    """Set no_new_privs (prctl(2)). Raises OSError."""
    if (
        _libc.prctl(PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))
        != 0
    ):
        raise OSError(ctypes.get_errno(), "no_new_privs")
