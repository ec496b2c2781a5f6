"""Kernel types: facts that hold for every build of the kernel."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator

import pytest

from profiler.errors import TracerError
from profiler.tracers.ebpf import btf
from profiler.tracers.ebpf.btf import KIND_FUNC, KIND_STRUCT, KIND_TYPEDEF, KernelTypes

needs_btf = pytest.mark.skipif(not os.path.exists("/sys/kernel/btf/vmlinux"), reason="this kernel has no type data")


@pytest.fixture(scope="module")
def types() -> Iterator[KernelTypes]:
    found = KernelTypes()
    yield found
    found.close()


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


@needs_btf
def test_answers_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one object found, another one of the same kernel answers without the types; also that there is nothing."""
    known: dict[str, int] = {}
    first = KernelTypes(known)
    offset, number = first.offset("task_struct", "pid"), first.find("task_struct", KIND_STRUCT)
    assert first.find("no_such_type", KIND_STRUCT) is None
    first.close()
    again = KernelTypes(known)
    monkeypatch.setattr(btf, "libbpf", lambda: pytest.fail("the types were loaded"))
    assert again.offset("task_struct", "pid") == offset
    assert again.find("task_struct", KIND_STRUCT) == number
    assert again.find("no_such_type", KIND_STRUCT) is None
    again.close()
