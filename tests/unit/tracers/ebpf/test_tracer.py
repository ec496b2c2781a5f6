"""The parts of the eBPF tracer that need no recording: kernel types, definitions, limits, paths."""

from __future__ import annotations

import ctypes
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.errors import InputError, TracerError
from profiler.kernel.abi import native_abi
from profiler.tracers.ebpf import loader, reader, specs, tracer
from profiler.tracers.ebpf.btf import KIND_FUNC, KIND_STRUCT, KIND_TYPEDEF, KernelTypes
from profiler.tracers.ebpf.loader import DEFAULT_LIMITS, definitions
from profiler.tracers.ebpf.reader import STATS, path_of
from profiler.tracers.ebpf.tracer import limits_with

HERE = Path(loader.__file__).parent
SOURCE = loader.source()
USES = (HERE / "uses.bpf.c").read_text()
needs_btf = pytest.mark.skipif(not os.path.exists("/sys/kernel/btf/vmlinux"), reason="this kernel has no type data")


@pytest.fixture(scope="module")
def types() -> Iterator[KernelTypes]:
    found = KernelTypes()
    yield found
    found.close()


# -- kernel types: facts that hold for every build of the kernel -------------------------------------------------------


@needs_btf
@pytest.mark.parametrize(
    ("structure", "first", "second", "apart"),
    [
        # next to each other in the source, with no option of the kernel between them
        ("task_struct", ("pid",), ("tgid",), 4),
        ("list_head", ("next",), ("prev",), 8),
        ("path", ("mnt",), ("dentry",), 8),
        ("cred", ("uid",), ("gid",), 4),
        ("cred", ("uid",), ("suid",), 8),
        ("cred", ("uid",), ("euid",), 16),
        ("cred", ("gid",), ("egid",), 16),
        ("fs_struct", ("root",), ("pwd",), 16),
        ("vfsmount", ("mnt_root",), ("mnt_sb",), 8),
        ("mm_struct", ("arg_start",), ("arg_end",), 8),
    ],
    ids=str,
)
def test_members_next_to_each_other(
    types: KernelTypes, structure: str, first: tuple[str, ...], second: tuple[str, ...], apart: int
) -> None:
    assert types.offset(structure, *second) - types.offset(structure, *first) == apart


@needs_btf
def test_nested_members(types: KernelTypes) -> None:
    """A path through members adds up; what is in an anonymous union is found by its own name."""
    assert types.offset("file", "f_path", "dentry") == types.offset("file", "f_path") + types.offset("path", "dentry")
    assert types.offset("fs_struct", "pwd", "mnt") == types.offset("fs_struct", "pwd") + types.offset("path", "mnt")
    assert types.offset("dentry", "d_name", "name") == types.offset("dentry", "d_name") + types.offset("qstr", "name")
    assert types.offset("qstr", "name") == 8, "after an anonymous union of hash and length"
    assert types.offset("qstr", "len") - types.offset("qstr", "hash") == 4, "both inside of it"
    assert types.offset("list_head") == 0


@needs_btf
@pytest.mark.skipif(platform.machine() != "x86_64", reason="registers of x86-64")
def test_registers(types: KernelTypes) -> None:
    """struct pt_regs is an interface: arch/x86/include/uapi/asm/ptrace.h."""
    order = [
        "r15",
        "r14",
        "r13",
        "r12",
        "bp",
        "bx",
        "r11",
        "r10",
        "r9",
        "r8",
        "ax",
        "cx",
        "dx",
        "si",
        "di",
        "orig_ax",
        "ip",
    ]
    assert [types.offset("pt_regs", name) for name in order] == [8 * index for index in range(len(order))]
    assert types.offset("task_struct", "thread_info") == 0


@needs_btf
def test_missing(types: KernelTypes) -> None:
    for path in (
        ("task_struct", "no_such_member"),
        ("no_such_struct", "x"),
        ("list_head", "next", "no_such"),
        ("task_struct", "pid", "x"),
    ):
        with pytest.raises(TracerError, match="ptrace"):
            types.offset(*path)
    assert types.find("no_such_type", KIND_STRUCT) is None
    assert types.find("task_struct", KIND_FUNC) is None


@needs_btf
def test_find(types: KernelTypes) -> None:
    numbers = {
        types.find("task_struct", KIND_STRUCT),
        types.find("btf_trace_sys_enter", KIND_TYPEDEF),
        types.find("cap_capable", KIND_FUNC),
    }
    assert None not in numbers
    assert len(numbers) == 3


# -- what recorder.bpf.c is compiled with ------------------------------------------------------------------------------


@needs_btf
def test_every_definition(types: KernelTypes) -> None:
    """What the source leaves open is defined, and nothing that it does not use."""
    values = definitions(types, DEFAULT_LIMITS, watch=True)
    used = set(re.findall(r"\b(?:OFFSET|NR|LIMIT)_[A-Z0-9_]+\b", SOURCE))
    assert used <= set(values)
    assert {name for name in values if name.startswith(("OFFSET_", "NR_", "LIMIT_"))} <= used
    assert all(0 <= value < 1 << 32 for value in values.values())
    assert values["LIMIT_TASKS"] == DEFAULT_LIMITS["tasks"]
    assert values["LIMIT_EVENT_PAGES"] == DEFAULT_LIMITS["events"]
    assert values["LIMIT_PATH_PAGES"] == DEFAULT_LIMITS["paths"]


@needs_btf
@pytest.mark.skipif(platform.machine() != "x86_64", reason="registers of x86-64")
def test_argument_registers(types: KernelTypes) -> None:
    values = definitions(types, DEFAULT_LIMITS)
    native = [types.offset("pt_regs", name) for name in ("di", "si", "dx", "r10", "r8", "r9")]
    compat = [types.offset("pt_regs", name) for name in ("bx", "cx", "dx", "si", "di", "bp")]
    assert [values[f"OFFSET_ARGUMENT_{position}"] for position in range(6)] == native
    assert [values[f"OFFSET_COMPAT_ARGUMENT_{position}"] for position in range(6)] == compat
    assert values["NR_EXECVE"] == 59
    assert values["NR_SETUID"] == 105


class Aarch64Types:
    """Offsets of struct pt_regs as aarch64 has it (arch/arm64/include/asm/ptrace.h): user_regs (31 registers, sp, pc,
    pstate), orig_x0."""

    def offset(self, structure: str, *path: str) -> int:
        return {("pt_regs", "regs"): 0, ("pt_regs", "orig_x0"): 34 * 8}.get((structure, *path), 1000)

    def find(self, name: str, kind: int) -> int | None:
        return None


def test_definitions_for_aarch64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert native_abi() == "aarch64"
    values = definitions(Aarch64Types(), DEFAULT_LIMITS)  # type: ignore[arg-type]
    # regs[0] holds the result at the exit, so the first argument comes from orig_x0
    places = [34 * 8, 8, 16, 24, 32, 40]
    assert [values[f"OFFSET_ARGUMENT_{position}"] for position in range(6)] == places
    assert [values[f"OFFSET_COMPAT_ARGUMENT_{position}"] for position in range(6)] == places
    assert values["NR_EXECVE"] == 221
    assert values["NR_SETUID"] == 146
    assert values["NR_SETGID"] == 144
    assert values["COMPAT_BIT"] == 1 << 22
    assert "X32_BIT" not in values
    values |= definitions(Aarch64Types(), DEFAULT_LIMITS, watch=True)  # type: ignore[arg-type]
    used = set(re.findall(r"\b(?:OFFSET|NR|LIMIT)_[A-Z0-9_]+\b", SOURCE))
    assert used <= set(values)


def test_every_tail_is_a_program_of_the_source() -> None:
    assert {function for function, _ in specs.TAILS} == set(re.findall(r"^int (on_\w+)\(", USES, re.MULTILINE))


# -- limits and paths --------------------------------------------------------------------------------------------------


def test_limits() -> None:
    assert limits_with({}) == DEFAULT_LIMITS
    assert limits_with({"tasks": 5}) == {**DEFAULT_LIMITS, "tasks": 5}
    assert limits_with({"programs": 1})["programs"] == 3
    assert limits_with({"events": 2})["events"] == 2
    before = dict(DEFAULT_LIMITS)
    limits_with({"tasks": 1})
    assert before == DEFAULT_LIMITS


@pytest.mark.parametrize(
    "given_limits",
    [{"nonsense": 1}, {"": 1}, {"TASKS": 1}, {"events": 3}, {"events": 1000}, {"paths": 3}, {"\x1b[2J": 1}],
)
def test_bad_limits(given_limits: dict[str, int]) -> None:
    with pytest.raises(InputError) as caught:
        limits_with(given_limits)
    assert str(caught.value).isprintable()
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("components", "path"),
    [
        (b"ls\0bin\0usr\0", "/usr/bin/ls"),
        (b"a b\0c\nd\0", "/c\nd/a b"),
        (b"\xff\xfe\0", "/\udcff\udcfe"),
        (b"", "/"),
        (b"\0", "/"),
        (b"memfd:x\0", "/memfd:x"),
    ],
)
def test_path_of(components: bytes, path: str) -> None:
    assert path_of(components) == path


@given(
    st.lists(
        st.binary(min_size=1, max_size=20).filter(lambda name: b"\0" not in name and b"/" not in name),
        min_size=1,
        max_size=8,
    )
)
def test_any_path(names: list[bytes]) -> None:
    written = b"".join(name + b"\0" for name in reversed(names))
    assert os.fsencode(path_of(written)) == b"/" + b"/".join(names)


def test_column_sums() -> None:
    rows = [list(range(reader.NUMBERS)), [5] * reader.NUMBERS, [1 << 40] * reader.NUMBERS]
    for count in (1, 2, 3):
        content = b"".join(bytes((ctypes.c_uint64 * reader.NUMBERS)(*row)) for row in rows[:count])
        assert reader._column_sums(content) == [sum(column) for column in zip(*rows[:count], strict=True)]


@pytest.mark.parametrize(
    ("lists", "gone"),
    [([[1 << 22], [1 << 22]], True), ([[1 << 22], [os.getpid()]], False), ([[os.getpid()]], False), ([[]], False)],
)
def test_all_are_gone(lists: list[list[int]], gone: bool) -> None:
    """Also of a chain of processes, each of which starts the next and ends while profgen looks."""
    looks = iter(lists)
    run = SimpleNamespace(reader=SimpleNamespace(stats=lambda: [0] * len(STATS)), _live=lambda: next(looks))
    assert tracer._Run._all_gone(cast(Any, run)) is gone
