"""The ptrace tracer's view of the kernel: structures, constants, registers. aarch64's as far as that goes without such
a machine."""

from __future__ import annotations

import platform
import struct
import subprocess

import pytest

from profiler.kernel.abi import abi_of
from profiler.tracers.ptrace import registers
from profiler.tracers.ptrace import tracer as ptrace
from profiler.tracers.ptrace.tracer import PtraceTracer

CONSTANTS = """
#include <stddef.h>
#include <stdio.h>
#include <linux/ptrace.h>
#include <linux/elf.h>
#include <linux/sched.h>
#define SHOW(name) printf("%s %llu\\n", #name, (unsigned long long)(name))
int main(void)
{
    SHOW(PTRACE_SEIZE); SHOW(PTRACE_LISTEN); SHOW(PTRACE_GETREGSET); SHOW(PTRACE_SETREGSET);
    SHOW(PTRACE_GET_SYSCALL_INFO);
    SHOW(PTRACE_O_TRACESECCOMP); SHOW(PTRACE_O_EXITKILL); SHOW(PTRACE_EVENT_SECCOMP); SHOW(PTRACE_EVENT_STOP);
    SHOW(NT_PRSTATUS);
    SHOW(CLONE_UNTRACED);
    printf("SYSCALL_INFO_EXIT %d\\nSYSCALL_INFO_SECCOMP %d\\n", PTRACE_SYSCALL_INFO_EXIT, PTRACE_SYSCALL_INFO_SECCOMP);
    printf("_INFO_BYTES %zu\\n", sizeof(struct ptrace_syscall_info));
    printf("arch %zu\\nnr %zu\\nargs %zu\\n", offsetof(struct ptrace_syscall_info, arch),
           offsetof(struct ptrace_syscall_info, seccomp.nr),
           offsetof(struct ptrace_syscall_info, seccomp.args));
    printf("ret_data %zu\\n", offsetof(struct ptrace_syscall_info, seccomp.ret_data));
    printf("rval %zu\\nis_error %zu\\n", offsetof(struct ptrace_syscall_info, exit.rval),
           offsetof(struct ptrace_syscall_info, exit.is_error));
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
        for module in (ptrace, registers):
            if hasattr(module, name):
                assert getattr(module, name) == value, name
                checked += 1
    assert checked >= 13


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
