"""Seccomp filters (seccomp(2)) of profgen's own: the ptrace tracer's, and the one that guards a terminal."""

from __future__ import annotations

import errno
import struct

from profiler.kernel.abi import ABIS, SUB_ABIS, X32_SYSCALL_BIT
from profiler.kernel.arguments import value_of
from profiler.kernel.libseccomp import ACTIONS
from profiler.kernel.syscalls import number_of

RET_ALLOW, RET_ERRNO, RET_TRACE = ACTIONS["ALLOW"], ACTIONS["ERRNO"], ACTIONS["TRACE"]

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
