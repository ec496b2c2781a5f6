"""Which calls that install a filter are noted, and why."""

from __future__ import annotations

import errno
import struct
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest

from profiler.tracers.ptrace import filters
from profiler.tracers.ptrace.filters import STRICT, SUPERVISED, TRACED, Filters, traces
from profiler.tracers.ptrace.rows import Exit
from profiler.tracers.recording import Recording

TRACE, NOTIFY, ALLOW = 0x7FF00000, 0x7FC00000, 0x7FFF0000
PROGRAM, INSTRUCTIONS = 0x1000, 0x2000

CONSTANTS = """
#include <stddef.h>
#include <stdio.h>
#include <linux/filter.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>
#define SHOW(name) printf("%s %llu\\n", #name, (unsigned long long)(name))
int main(void)
{
    SHOW(SECCOMP_MODE_STRICT); SHOW(SECCOMP_SET_MODE_STRICT); SHOW(SECCOMP_SET_MODE_FILTER);
    SHOW(SECCOMP_FILTER_FLAG_NEW_LISTENER); SHOW(SECCOMP_RET_ACTION_FULL);
    printf("filters %zu\\n", offsetof(struct sock_fprog, filter));
    return 0;
}
"""


def test_constants(tmp_path: Path) -> None:
    (tmp_path / "x.c").write_text(CONSTANTS)
    subprocess.run(["gcc", "-o", tmp_path / "x", tmp_path / "x.c"], check=True, timeout=60)
    text = subprocess.run([tmp_path / "x"], capture_output=True, text=True, timeout=120, check=True).stdout
    kernel = {name: int(value) for name, value in (line.split() for line in text.splitlines())}
    assert kernel.pop("filters") == 8
    assert {name: getattr(filters, name) for name in kernel} == kernel


def instructions(*answers: int) -> bytes:
    return b"".join(struct.pack("=HBBI", 6, 0, 0, answer) for answer in answers)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", False),
        (b"short", False),
        (instructions(ALLOW, NOTIFY), False),
        (instructions(ALLOW, TRACE | 7), True),
        (instructions(TRACE)[:-1], False),
        (struct.pack("=HBBI", 0x15, 0, 0, TRACE), False),  # a comparison
    ],
)
def test_traces(data: bytes, found: bool) -> None:
    assert traces(data) is found


class Memory:
    """Stands for Threads: a thread whose filter is in memory."""

    def __init__(self, data: bytes, wide: bool) -> None:
        head = struct.pack("=HxxxxxxQ" if wide else "=HxxI", len(data) // 8, INSTRUCTIONS)
        self.places = {PROGRAM: head, INSTRUCTIONS: data}

    def memory(self, tid: int, address: int, size: int, loss: str) -> bytes | None:
        return self.places.get(address, b"")[:size] or None


def served(name: str, args: tuple[int, ...], *answers: int, abi: str = "x86_64", code: int = 0, marks: bool = False):  # type: ignore[no-untyped-def]
    """Return the losses and the warnings of a call."""
    recording = Recording("x86_64")
    known = Filters(recording, cast(Any, Memory(instructions(*answers), abi == "x86_64")))
    known.marks = marks
    enter = known.watches(name, abi)
    assert enter is not None
    leave = enter(1, (*args, 0, 0, 0, 0, 0, 0)[:6])
    if leave is not None:
        leave(Exit(1, -code, code, 0, 0))
    return dict(+recording.losses), recording.warnings


@pytest.mark.parametrize("abi", ["x86_64", "i386", "x32"])
def test_supervised(abi: str) -> None:
    args = (1, 8, PROGRAM)
    assert served("seccomp", args, NOTIFY, ALLOW, abi=abi) == ({"hidden": 1}, [SUPERVISED])
    assert served("seccomp", args, NOTIFY, abi=abi, code=errno.EBUSY) == ({}, [])
    assert served("seccomp", (1, 8, 0), abi=abi, code=errno.EFAULT) == ({}, [])


@pytest.mark.parametrize("abi", ["x86_64", "i386", "x32"])
@pytest.mark.parametrize("call", [("seccomp", (1, 0, PROGRAM)), ("prctl", (22, 2, PROGRAM))])
def test_traced(call: tuple[str, tuple[int, ...]], abi: str) -> None:
    assert served(*call, ALLOW, TRACE, abi=abi) == ({}, [TRACED])
    assert served(*call, ALLOW, TRACE, abi=abi, marks=True) == ({"hidden": 1}, [TRACED])
    assert served(*call, ALLOW, abi=abi, marks=True) == ({}, [])


@pytest.mark.parametrize("call", [("seccomp", (0, 0, 0)), ("prctl", (22, 1)), ("prctl", ((1 << 32) + 22, 1))])
def test_strict(call: tuple[str, tuple[int, ...]]) -> None:
    assert served(*call, code=errno.EINVAL) == ({}, [STRICT])
    assert served(*call) == ({}, [])


def test_other_calls() -> None:
    known = Filters(Recording("x86_64"), cast(Any, Memory(b"", True)))
    assert known.watches("openat", "x86_64") is None
    assert served("prctl", (15, 1)) == ({}, [])
    assert served("seccomp", (3, 0, PROGRAM)) == ({}, [])
