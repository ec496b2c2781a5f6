"""The ptrace tracer's view of the kernel: structures, constants, registers. aarch64's as far as that goes without such
a machine."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from profiler.kernel.abi import ABIS, abi_of
from profiler.tracers.ptrace import tracer as ptrace
from profiler.tracers.ptrace.tracer import FIRST_ARGUMENT, PtraceTracer, set_first_argument

x86_64 = pytest.mark.skipif(platform.machine() != "x86_64", reason="registers of x86-64")

CONSTANTS = """
#include <stddef.h>
#include <stdio.h>
#include <linux/ptrace.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <linux/filter.h>
#include <linux/elf.h>
#include <linux/sched.h>
#define SHOW(name) printf("%s %llu\\n", #name, (unsigned long long)(name))
int main(void)
{
    SHOW(PTRACE_SEIZE); SHOW(PTRACE_LISTEN); SHOW(PTRACE_GETREGSET); SHOW(PTRACE_SETREGSET);
    SHOW(PTRACE_GET_SYSCALL_INFO);
    SHOW(PTRACE_O_TRACESECCOMP); SHOW(PTRACE_O_EXITKILL); SHOW(PTRACE_EVENT_SECCOMP); SHOW(PTRACE_EVENT_STOP);
    SHOW(NT_PRSTATUS);
    SHOW(PR_SET_NO_NEW_PRIVS); SHOW(PR_SET_SECCOMP); SHOW(SECCOMP_MODE_FILTER); SHOW(SECCOMP_RET_TRACE);
    SHOW(CLONE_UNTRACED);
    printf("SYSCALL_INFO_EXIT %d\\nSYSCALL_INFO_SECCOMP %d\\n", PTRACE_SYSCALL_INFO_EXIT, PTRACE_SYSCALL_INFO_SECCOMP);
    printf("_INFO_BYTES %zu\\n", sizeof(struct ptrace_syscall_info));
    printf("arch %zu\\nnr %zu\\nargs %zu\\n", offsetof(struct ptrace_syscall_info, arch),
           offsetof(struct ptrace_syscall_info, seccomp.nr),
           offsetof(struct ptrace_syscall_info, seccomp.args));
    printf("ret_data %zu\\n", offsetof(struct ptrace_syscall_info, seccomp.ret_data));
    printf("rval %zu\\nis_error %zu\\n", offsetof(struct ptrace_syscall_info, exit.rval),
           offsetof(struct ptrace_syscall_info, exit.is_error));
    printf("fprog %zu\\nfilter %zu\\n", sizeof(struct sock_fprog), sizeof(struct sock_filter));
    printf("ret %d\\n", BPF_RET | BPF_K);
    return 0;
}
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """What the kernel's headers say."""
    folder = tmp_path_factory.mktemp("constants")
    (folder / "x.c").write_text(CONSTANTS)
    subprocess.run(["gcc", "-o", folder / "x", folder / "x.c"], check=True, timeout=60)
    text = subprocess.run([folder / "x"], capture_output=True, text=True, timeout=120, check=True).stdout
    return {name: int(value) for name, value in (line.split() for line in text.splitlines())}


def test_constants(kernel: dict[str, int]) -> None:
    checked = 0
    for name, value in kernel.items():
        if hasattr(ptrace, name):
            assert getattr(ptrace, name) == value, name
            checked += 1
    assert checked >= 17


def test_syscall_info(kernel: dict[str, int]) -> None:
    data = bytearray(kernel["_INFO_BYTES"])
    data[0] = ptrace.SYSCALL_INFO_SECCOMP
    struct.pack_into("=I", data, kernel["arch"], 0xC00000B7)
    struct.pack_into("=Q", data, kernel["nr"], 220)
    struct.pack_into("=6Q", data, kernel["args"], *range(1, 7))
    struct.pack_into("=I", data, kernel["ret_data"], 9)
    info = ptrace._ENTRY.unpack_from(data)
    assert info == (ptrace.SYSCALL_INFO_SECCOMP, 0xC00000B7, 220, 1, 2, 3, 4, 5, 6, 9)
    assert abi_of(info[1], info[2]) == ("aarch64", 220)
    struct.pack_into("=q?", data, kernel["rval"], -13, True)
    assert kernel["is_error"] == kernel["rval"] + 8
    assert ptrace._EXIT.unpack_from(data)[2:] == (-13, True)


def test_filter(kernel: dict[str, int]) -> None:
    """One instruction: RET TRACE, the same word on every architecture."""
    assert ctypes.sizeof(ptrace._SockFilter) == kernel["filter"]
    assert ctypes.sizeof(ptrace._SockFprog) == kernel["fprog"]
    instruction = ptrace._SockFilter(0x06, 0, 0, ptrace.SECCOMP_RET_TRACE)
    assert bytes(instruction) == struct.pack("=HBBI", kernel["ret"], 0, 0, kernel["SECCOMP_RET_TRACE"])


def test_available_here() -> None:
    assert PtraceTracer().unavailable() is None


@pytest.mark.parametrize(
    ("system", "machine", "release", "says"),
    [
        ("Darwin", "x86_64", "6.1.0", "needs Linux"),
        ("Linux", "riscv64", "6.1.0", "riscv64"),
        ("Linux", "x86_64", "5.2.99-old", "5.3"),
        ("Linux", "aarch64", "4.19", "5.3"),
    ],
)
def test_not_available(system: str, machine: str, release: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(platform, "release", lambda: release)
    assert says in (PtraceTracer().unavailable() or "")


def test_available_on_aarch64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert PtraceTracer().unavailable() is None


# -- the first argument ------------------------------------------------------------------------------------------------


def test_every_abi_has_a_first_argument() -> None:
    assert set(FIRST_ARGUMENT) == set(ABIS)
    for abi, (_, width) in FIRST_ARGUMENT.items():
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
    registers = bytes(range(1, 251))[:size] + bytes(max(0, size - 250))
    written: list[bytes] = []

    def fake(request: int, tid: int, kind: int, address: int) -> int:
        assert (tid, kind) == (77, ptrace.NT_PRSTATUS)
        vector: Any = ptrace.Iovec.from_address(address)
        assert vector.len >= size
        if request == ptrace.PTRACE_GETREGSET:
            ctypes.memmove(vector.base, registers, size)
            vector.len = size
        else:
            assert request == ptrace.PTRACE_SETREGSET
            written.append(ctypes.string_at(vector.base, vector.len))
        return 0

    monkeypatch.setattr(ptrace, "_ptrace", fake)
    set_first_argument(77, abi, value)
    (after,) = written
    expected = bytearray(registers)
    expected[place : place + width] = (value & ((1 << 8 * width) - 1)).to_bytes(width, "little")
    assert after == bytes(expected)


def test_tracee_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fake(request: int, *_: int) -> int:
        calls.append(request)
        return ctypes.c_ulong(-1).value

    monkeypatch.setattr(ptrace, "_ptrace", fake)
    set_first_argument(77, "x86_64", 0)
    assert calls == [ptrace.PTRACE_GETREGSET]


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
