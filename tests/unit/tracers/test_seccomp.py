"""Filters are the words that the kernel's headers say, and the one that guards a terminal refuses only what it must."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulation import run

from profiler import confinement
from profiler.kernel.abi import ABIS, SUB_ABIS, X32_SYSCALL_BIT
from profiler.kernel.syscalls import number_of
from profiler.tracers import seccomp
from profiler.tracers.seccomp import RET_ALLOW, RET_ERRNO, TERMINAL_INPUT, TRACE_ALL, terminal_guard

CONSTANTS = """
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#define SHOW(name) printf(#name " %lu\\n", (unsigned long)(name))
int main(void) {
    SHOW(PR_SET_NO_NEW_PRIVS); SHOW(PR_SET_SECCOMP); SHOW(SECCOMP_MODE_FILTER);
    printf("RET_ERRNO %lu\\nRET_TRACE %lu\\nRET_ALLOW %lu\\n", (unsigned long)SECCOMP_RET_ERRNO,
           (unsigned long)SECCOMP_RET_TRACE, (unsigned long)SECCOMP_RET_ALLOW);
    printf("_LOAD %d\\n_AND %d\\n_EQUAL %d\\nRETURN %d\\n", BPF_LD | BPF_W | BPF_ABS, BPF_ALU | BPF_AND | BPF_K,
           BPF_JMP | BPF_JEQ | BPF_K, BPF_RET | BPF_K);
    printf("_NUMBER %zu\\n_ARCH %zu\\n_SECOND %zu\\n", offsetof(struct seccomp_data, nr),
           offsetof(struct seccomp_data, arch), offsetof(struct seccomp_data, args[1]));
    printf("instruction %zu\\n", sizeof(struct sock_filter));
    SHOW(TIOCSTI); SHOW(TIOCLINUX); SHOW(sizeof(struct sock_fprog));
    return 0;
}
"""


def test_words_of_the_headers(tmp_path: Path) -> None:
    (tmp_path / "x.c").write_text(CONSTANTS)
    subprocess.run(["gcc", "-o", tmp_path / "x", tmp_path / "x.c"], check=True, timeout=60)
    text = subprocess.run([tmp_path / "x"], capture_output=True, text=True, timeout=60, check=True).stdout
    kernel = {name: int(value) for name, value in (line.rsplit(" ", 1) for line in text.splitlines())}
    assert kernel.pop("sizeof(struct sock_fprog)") == ctypes.sizeof(confinement._SockFprog)
    assert (kernel.pop("TIOCSTI"), kernel.pop("TIOCLINUX")) == REQUESTS
    assert kernel.pop("instruction") == seccomp.INSTRUCTION.size == confinement.INSTRUCTION_BYTES
    assert {name: vars(seccomp).get(name) or vars(confinement).get(name, 0) for name in kernel} == kernel
    assert struct.pack("=HBBI", kernel["RETURN"], 0, 0, kernel["RET_TRACE"]) == TRACE_ALL


REQUESTS = (0x5412, 0x541C)
PLACES = {
    "x86_64": [(0xC000003E, 16), (0x40000003, 54), (0xC000003E, X32_SYSCALL_BIT | 514), (0xC000003E, 514)],
    "aarch64": [(0xC00000B7, 29), (0x40000028, 54)],
}
"""A machine's calls of ioctl, by architecture and raw number."""

words = st.integers(0, 2**32 - 1)
near = st.sampled_from([*REQUESTS, *(one ^ 1 << bit for one in REQUESTS for bit in range(32))])


def answer(native: str, arch: int, number: int, request: int) -> int:
    program = list(struct.iter_unpack("=HBBI", terminal_guard(native)))
    return run(program, number, (0, request, 0, 0, 0, 0), arch)


@pytest.mark.parametrize("native", PLACES)
@given(upper=words, request=near | words)
def test_guard_compares_what_the_kernel_takes(native: str, upper: int, request: int) -> None:
    for arch, number in PLACES[native]:
        expected = RET_ERRNO | errno.EPERM if request in REQUESTS else RET_ALLOW
        assert answer(native, arch, number, upper << 32 | request) == expected


@pytest.mark.parametrize("native", PLACES)
@given(data=st.data(), number=st.integers(0, 600) | words, request=near)
def test_guard_allows_all_other_calls(native: str, data: st.DataObject, number: int, request: int) -> None:
    arch = data.draw(st.sampled_from([ABIS[abi].audit_arch for abi in (native, *SUB_ABIS[native])]) | words)
    if (arch, number & ~X32_SYSCALL_BIT) not in {(arch, raw & ~X32_SYSCALL_BIT) for arch, raw in PLACES[native]}:
        assert answer(native, arch, number, request) == RET_ALLOW


def test_names_of_the_guard() -> None:
    assert TERMINAL_INPUT == ("TIOCSTI", "TIOCLINUX")
    assert {number_of(abi, "ioctl") for abi in ("x86_64", "x32")} == {16, 514}


def test_the_kernel_takes_the_guard() -> None:
    pid = os.fork()
    if pid == 0:
        try:
            confinement.forbid_new_privileges()
            confinement.Loader(terminal_guard(os.uname().machine)).load()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
