"""Registers of a stopped thread that hold its call: first argument, number, result (PTRACE_GETREGSET, ptrace(2))."""

from __future__ import annotations

import ctypes
import errno
from dataclasses import dataclass

from ptrace.ctypes_libc import libc

from profiler.kernel.abi import native_abi

# include/uapi/linux/ptrace.h, include/uapi/linux/elf.h
PTRACE_GETREGSET = 0x4204
PTRACE_SETREGSET = 0x4205
NT_PRSTATUS = 1
NT_ARM_SYSTEM_CALL = 0x404

FIRST_ERROR = -4095
"""-MAX_ERRNO, include/linux/err.h."""

_ptrace = libc.ptrace  # argtypes are set by ptrace.binding
_SET_BYTES = 512
_WIDE_BYTES = 100  # struct user_regs_struct32 is shorter, struct user_regs_struct longer

Place = tuple[int, int]
"""Offset and width of a register in the set of the thread's machine."""


class Iovec(ctypes.Structure):
    """struct iovec of readv(2)."""

    _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]


@dataclass(frozen=True)
class Layout:
    """Where an ABI has a call's first argument, its result and its number (arch/*/include/asm/user*.h)."""

    first: Place
    result: Place
    number: Place | None
    """None on aarch64, which has a register set of its own for the number (NT_ARM_SYSTEM_CALL)."""


LAYOUTS = {
    "x86_64": Layout((14 * 8, 8), (10 * 8, 8), (15 * 8, 8)),  # rdi, rax, orig_rax
    "x32": Layout((14 * 8, 8), (10 * 8, 8), (15 * 8, 8)),
    "i386": Layout((0, 4), (6 * 4, 4), (11 * 4, 4)),  # ebx, eax, orig_eax
    "aarch64": Layout((0, 8), (0, 8), None),  # x0
    "arm": Layout((0, 4), (0, 4), (7 * 4, 4)),  # r0, r7
}
_WIDE_I386 = Layout((5 * 8, 8), (10 * 8, 8), (15 * 8, 8))
"""An i386 call of a 64-bit process (int 0x80): rbx, rax, orig_rax."""


class _Registers:
    """The register set of a stopped thread."""

    def __init__(self, tid: int, abi: str) -> None:
        """Raises ProcessLookupError when the thread is gone."""
        self._tid = tid
        self._buffer = ctypes.create_string_buffer(_SET_BYTES)
        self._vector = Iovec(ctypes.addressof(self._buffer), _SET_BYTES)
        if _ptrace(PTRACE_GETREGSET, tid, NT_PRSTATUS, ctypes.addressof(self._vector)) == ctypes.c_ulong(-1).value:
            raise ProcessLookupError(errno.ESRCH, "registers")
        self.layout = _WIDE_I386 if abi == "i386" and self._vector.len > _WIDE_BYTES else LAYOUTS[abi]

    def __getitem__(self, place: Place) -> bytes:
        offset, width = place
        return self._buffer.raw[offset : offset + width]

    def __setitem__(self, place: Place, value: int) -> None:
        offset, width = place
        word = (value & ((1 << 8 * width) - 1)).to_bytes(width, "little")
        ctypes.memmove(ctypes.addressof(self._buffer) + offset, word, width)

    def write(self) -> None:
        """Give the thread these registers."""
        _ptrace(PTRACE_SETREGSET, self._tid, NT_PRSTATUS, ctypes.addressof(self._vector))


def call_result(tid: int, abi: str, first: int) -> int | None:
    """Read the result of the call that a thread was killed in, at its PTRACE_EVENT_EXIT.

    ``first``: the call's first argument. None when the call did not begin. Raises OSError when the thread is gone.
    """
    registers = _Registers(tid, abi)
    word = registers[registers.layout.result]
    # Until the call has begun x86 has ENOSYS there (arch/x86/entry/entry_64.S PUSH_AND_CLEAR_REGS). On Arm the argument
    # and the result share a register.
    before = first if abi in ("aarch64", "arm") else -errno.ENOSYS
    begun = int.from_bytes(word, "little") != before & ((1 << 8 * len(word)) - 1)
    return int.from_bytes(word, "little", signed=True) if begun else None


def answer(tid: int, abi: str, error: int) -> None:
    """Make a call fail with this errno before it is made (PTRACE_EVENT_SECCOMP): number -1 skips it (seccomp(2))."""
    try:
        registers = _Registers(tid, abi)
    except ProcessLookupError:
        return
    registers[registers.layout.result] = -error
    if registers.layout.number is not None:
        registers[registers.layout.number] = -1
    registers.write()
    if native_abi() == "aarch64":
        number = ctypes.c_int(-1)
        one = Iovec(ctypes.addressof(number), 4)
        _ptrace(PTRACE_SETREGSET, tid, NT_ARM_SYSTEM_CALL, ctypes.addressof(one))


def set_first_argument(tid: int, abi: str, value: int) -> None:
    """Change the first argument of a call that a stopped thread is about to make."""
    try:
        registers = _Registers(tid, abi)
    except ProcessLookupError:
        return
    registers[registers.layout.first] = value
    registers.write()
