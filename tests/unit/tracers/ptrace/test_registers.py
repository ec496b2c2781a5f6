"""Registers of a stopped thread; those of aarch64 as far as that goes without such a machine."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from profiler.kernel.abi import ABIS
from profiler.tracers.ptrace import registers
from profiler.tracers.ptrace.registers import LAYOUTS, Iovec, set_first_argument

x86_64 = pytest.mark.skipif(platform.machine() != "x86_64", reason="registers of x86-64")


def test_every_abi_has_a_layout() -> None:
    assert set(LAYOUTS) == set(ABIS)
    for abi, layout in LAYOUTS.items():
        for _, width in filter(None, (layout.first, layout.result, layout.number)):
            # x32 is 32 bits wide but has the registers of x86-64
            assert width * 8 == (64 if abi == "x32" else ABIS[abi].bits)


# struct user_pt_regs (arch/arm64/include/uapi/asm/ptrace.h): regs[31], sp, pc, pstate.
# A 32-bit tracee there has 18 words: r0 to r15, cpsr, orig_r0.
AARCH64_BYTES, ARM_BYTES = 34 * 8, 18 * 4
# struct user_regs_struct (27 longs, rdi is the 15th), struct user_regs_struct32 (17 words, ebx is the first),
# arch/x86/include/asm/user*.h
X86_64_BYTES, I386_BYTES = 27 * 8, 17 * 4


@pytest.mark.parametrize(
    ("abi", "size", "place", "width"),
    [
        ("aarch64", AARCH64_BYTES, 0, 8),
        ("arm", ARM_BYTES, 0, 4),
        ("x86_64", X86_64_BYTES, 14 * 8, 8),
        ("x32", X86_64_BYTES, 14 * 8, 8),
        ("i386", I386_BYTES, 0, 4),
        ("i386", X86_64_BYTES, 5 * 8, 8),
    ],
    ids=lambda value: str(value),
)
@pytest.mark.parametrize("value", [0, 0x1234, 0xFFFFFFFF, 0xDEADBEEF00000011])
def test_only_that_register_changes(
    abi: str, size: int, place: int, width: int, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A register set of each machine goes out as it came but for one register."""
    before = bytes(range(1, 251))[:size] + bytes(max(0, size - 250))
    written: list[bytes] = []

    def fake(request: int, tid: int, kind: int, address: int) -> int:
        assert (tid, kind) == (77, registers.NT_PRSTATUS)
        vector: Any = Iovec.from_address(address)
        assert vector.len >= size
        if request == registers.PTRACE_GETREGSET:
            ctypes.memmove(vector.base, before, size)
            vector.len = size
        else:
            assert request == registers.PTRACE_SETREGSET
            written.append(ctypes.string_at(vector.base, vector.len))
        return 0

    monkeypatch.setattr(registers, "_ptrace", fake)
    set_first_argument(77, abi, value)
    (after,) = written
    expected = bytearray(before)
    expected[place : place + width] = (value & ((1 << 8 * width) - 1)).to_bytes(width, "little")
    assert after == bytes(expected)


def test_tracee_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fake(request: int, *_: int) -> int:
        calls.append(request)
        return ctypes.c_ulong(-1).value

    monkeypatch.setattr(registers, "_ptrace", fake)
    set_first_argument(77, "x86_64", 0)
    assert calls == [registers.PTRACE_GETREGSET]


@pytest.mark.parametrize(
    ("abi", "size", "result", "number", "width"),
    [
        ("x86_64", X86_64_BYTES, 10 * 8, 15 * 8, 8),
        ("i386", I386_BYTES, 6 * 4, 11 * 4, 4),
        ("i386", X86_64_BYTES, 10 * 8, 15 * 8, 8),
        ("arm", ARM_BYTES, 0, 7 * 4, 4),
    ],
)
def test_results(abi: str, size: int, result: int, number: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that is answered is skipped, and its result reads back as the error."""
    state = bytearray(size)

    def fake(request: int, tid: int, kind: int, address: int) -> int:
        vector: Any = Iovec.from_address(address)
        if request == registers.PTRACE_GETREGSET:
            ctypes.memmove(vector.base, bytes(state), size)
            vector.len = size
        elif kind == registers.NT_PRSTATUS:
            state[:] = ctypes.string_at(vector.base, vector.len)
        return 0

    monkeypatch.setattr(registers, "_ptrace", fake)
    registers.answer(77, abi, errno.EACCES)
    assert int.from_bytes(state[number : number + width], "little", signed=True) == -1
    assert int.from_bytes(state[result : result + width], "little", signed=True) == -errno.EACCES
    assert registers.call_result(77, abi, 5) == -errno.EACCES
    state[result : result + width] = (5 if abi == "arm" else -errno.ENOSYS).to_bytes(width, "little", signed=True)
    assert registers.call_result(77, abi, 5) is None, "the call has not begun"


EXIT_PROGRAMS = {
    # name: compiler options, the way to exit(3), the ABI of that call
    "native": ("-m64", '__asm__ volatile("syscall" :: "a"(231), "D"(3));', "x86_64"),
    "x32": ("-m64", '__asm__ volatile("syscall" :: "a"(231 | 0x40000000), "D"(3));', "x32"),
    "i386 from 64 bits": ("-m64", '__asm__ volatile("int $0x80" :: "a"(252), "b"(3));', "i386"),
    "i386": ("-m32", '__asm__ volatile("int $0x80" :: "a"(252), "b"(3));', "i386"),
}


@x86_64
@pytest.mark.parametrize("name", EXIT_PROGRAMS)
def test_in_a_real_tracee(name: str, tmp_path: Path) -> None:
    """A program about to exit with 3 exits with 5."""
    option, code, abi = EXIT_PROGRAMS[name]
    (tmp_path / "x.c").write_text(f"void _start(void) {{ {code} for (;;) *(volatile int *)0 = 1; }}\n")
    subprocess.run(
        ["gcc", option, "-O1", "-nostdlib", "-static", "-o", tmp_path / "x", tmp_path / "x.c"], check=True, timeout=60
    )
    plain = subprocess.run([tmp_path / "x"], timeout=120, check=False).returncode
    if name == "x32" and plain != 3:
        pytest.skip("this kernel makes no x32 calls (CONFIG_X86_X32_ABI)")
    assert plain == 3
    call = ctypes.CDLL(None, use_errno=True).ptrace
    call.argtypes, call.restype = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p], ctypes.c_long
    pid = os.fork()
    if pid == 0:
        call(0, 0, None, None)  # PTRACE_TRACEME
        os.execv(tmp_path / "x", ["x"])
        os._exit(99)
    try:
        assert os.WSTOPSIG(os.waitpid(pid, 0)[1]) == signal.SIGTRAP  # executed
        assert call(24, pid, None, None) == 0  # PTRACE_SYSCALL
        assert os.WIFSTOPPED(os.waitpid(pid, 0)[1])  # at its first call
        set_first_argument(pid, abi, 5)
        assert call(7, pid, None, None) == 0  # PTRACE_CONT
        status = os.waitpid(pid, 0)[1]
        assert os.WIFEXITED(status)
        assert os.WEXITSTATUS(status) == 5
    finally:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
