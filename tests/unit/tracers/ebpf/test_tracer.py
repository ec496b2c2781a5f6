"""The parts of the eBPF tracer that need no recording: kernel types, definitions, limits, paths."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.errors import InputError, TracerError
from profiler.kernel.abi import native_abi
from profiler.kernel.syscalls import number_of
from profiler.tracers.ebpf import calls, loader, reader, tracer
from profiler.tracers.ebpf.btf import KIND_FUNC, KIND_STRUCT, KIND_TYPEDEF, KernelTypes
from profiler.tracers.ebpf.loader import DEFAULT_LIMITS, definitions
from profiler.tracers.ebpf.reader import STATS, path_of
from profiler.tracers.ebpf.shared import constant, structure
from profiler.tracers.ebpf.tracer import limits_with
from profiler.tracers.paths import Found

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
    assert {function for function, _ in calls.TAILS} == set(re.findall(r"^int (on_\w+)\(", USES, re.MULTILINE))


# -- what is looked at, and what an event says
# --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "route", "members"),
    [
        ("open", "open", {"path": (0,), "at": (7,), "flags": 1}),
        ("openat", "open", {"path": (1,), "at": (0,), "flags": 2}),
        ("openat2", "open", {"path": (1,), "at": (0,), "only": "how"}),
        ("creat", "open", {"path": (0,), "flags": 7}),
        ("open_by_handle_at", "descriptor", {"fd": 7}),
        ("ftruncate", "descriptor", {"fd": 0}),
        ("mmap", "descriptor", {"fd": 4, "only": "executable"}),
        ("mprotect", "descriptor", {"only": "protected"}),
        ("flock", "descriptor", {"fd": 0, "only": "flock"}),
        ("stat", "text", {"failures": True, "path": (0,)}),
        ("execve", "text", {"failures": True, "path": (0,), "only": "execute"}),
        ("mkdirat", "text", {"failures": False, "path": (1,), "at": (0,), "follow": 0}),
        ("mknodat", "text", {"mode": 2}),
        ("symlinkat", "text", {"path": (2, 0), "at": (1, 7), "plain": 2, "only": "symlink"}),
        ("renameat2", "text", {"path": (1, 3), "at": (0, 2), "flags": 4, "only": "names"}),
        ("linkat", "text", {"path": (1, 3), "at": (0, 2), "flags": 4, "fd": 7, "optional": 1, "follow": 2}),
        ("unlinkat", "text", {"flags": 2, "flags_mask": 0x200, "only": "names"}),
        ("fchownat", "text", {"fd": 0, "flags": 4, "follow": 1}),
        ("mount", "text", {"path": (0, 1, 2), "flags": 3, "only": "mount", "plain": 4}),
        ("move_mount", "text", {"path": (1, 3, 7), "at": (0, 2, 7), "flags": 4}),
        ("connect", "socket", {"fd": 0, "path": (1, 2)}),
        ("sendmsg", "socket", {"fd": 0, "at": (1,)}),
        ("tgkill", "process", {"path": (1,), "mode": 2}),
        ("pidfd_getfd", "process", {"at": (0,)}),
    ],
)
def test_specs(name: str, route: str, members: dict[str, object]) -> None:
    spec = calls.specs("x86_64")[name]
    assert spec.route == route
    assert {member: getattr(spec, member) for member in members} == members


@pytest.mark.parametrize("abi", ["x86_64", "i386", "x32", "aarch64", "arm"])
def test_every_spec_fits(abi: str) -> None:
    """What is written into the kernel's table are numbers that fit there, and no call is written that has no number."""
    for number, spec in calls.rows(abi).items():
        assert 0 <= number < reader.NUMBERS or (
            abi == "x32" and number >= 512
        )  # its own calls, which the recorder only counts
        for position in (spec.fd, spec.flags, spec.mode, *spec.at, *spec.path):
            assert 0 <= position <= calls.NONE
        assert len(spec.at) <= 3
        assert len(spec.path) <= 3
        assert spec.only in calls.CONDITIONS
        assert spec.route in calls.ROUTES
    assert ("socketcall" in calls.specs(abi)) == (abi == "i386")


def test_numbers_of_socketcall() -> None:
    """Numbers that stand for i386's old socket calls are those of no call."""
    taken = {number_of("i386", name) for name in calls.specs("i386")}
    own = {calls.SOCKETCALLS + number for number in calls.SOCKETCALL_NAMES}
    assert not own & taken
    assert max(own) < reader.NUMBERS
    assert (calls.SOCKETCALL_NAMES[1], calls.SOCKETCALL_NAMES[18], calls.SOCKETCALL_NAMES[20]) == (
        "socket",
        "accept4",
        "sendmmsg",
    )


names = st.binary(min_size=1, max_size=20).filter(lambda name: b"\0" not in name and b"/" not in name)
texts = st.none() | st.binary(max_size=30).map(lambda text: text.replace(b"\0", b"") + b"\0")
paths = st.none() | st.lists(names, max_size=5)


@given(st.lists(texts, min_size=3, max_size=3), st.lists(paths, min_size=4, max_size=4), st.integers(0, 0xFFF))
def test_any_event(given_texts: list[bytes | None], given_paths: list[list[bytes] | None], error: int) -> None:
    pieces = [
        *given_texts,
        *(None if path is None else b"".join(name + b"\0" for name in reversed(path)) + b"\0" for path in given_paths),
    ]
    lengths = [0 if piece is None else len(piece) for piece in pieces]
    head = structure("use_event")(
        key=structure("use_key")(hash=1, program=2, call=1 << 16 | 257, flags=3, detail=error),
        root=4, mode=5, facts=1 << 2, fsuid=7, tgid=8, tid=9, own_tgid=10, own_tid=11,
        text_length=tuple(lengths[:3]), path_length=tuple(lengths[3:]),
    )  # fmt: skip
    event = calls.parse(bytes(head) + b"".join(piece or b"" for piece in pieces))
    assert (event.program, event.abi, event.number, event.flags, event.root, event.mode, event.fsuid) == (
        2,
        1,
        257,
        3,
        4,
        5,
        7,
    )
    assert (event.tgid, event.tid, event.own_tgid, event.own_tid) == (8, 9, 10, 11)
    assert event.texts == tuple(given_texts)
    assert [None if path is None else os.fsencode(path) for path in event.paths] == [
        None if path is None else b"/" + b"/".join(path) for path in given_paths
    ]
    assert event.result == (calls.error_name(error) if error else "ok")
    assert [event.state(piece) for piece in range(3)] == ["linked", "deleted", "linked"]


def test_memfd_has_no_slash() -> None:
    path = b"memfd:a b\0\0"
    key = structure("use_key")(detail=constant("DETAIL_PSEUDO"))
    head = structure("use_event")(key=key, facts=constant("FACT_DETACHED"), path_length=(len(path),))
    event = calls.parse(bytes(head) + path)
    assert event.paths == ("memfd:a b", None, None, None)
    assert event.state(0) == "detached"


@pytest.mark.parametrize(
    ("base", "text", "path"),
    [
        ("/a", "b", "/a/b"),
        ("/", "b//c/.", "/b/c"),
        ("/a/b", "", "/a/b"),
        ("/", ".", "/"),
        ("/a", "\udcff", "/a/\udcff"),
    ],
)
def test_joined(base: str, text: str, path: str) -> None:
    assert calls._joined(base, text) == path


def test_loader_of_elf_files(tmp_path: Path) -> None:
    (tmp_path / "x.c").write_text("int main(void) { return 0; }\n")
    for name, option in (("dynamic", "-pie"), ("static", "-static")):
        subprocess.run(["gcc", option, "-o", tmp_path / name, tmp_path / "x.c"], check=True, timeout=60)
    asked = subprocess.run(
        ["readelf", "-lW", tmp_path / "dynamic"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    match = re.search(r"interpreter: (.*)\]", asked)
    assert match
    assert calls._loader(str(tmp_path / "dynamic")) == match[1]
    assert calls._loader(str(tmp_path / "static")) == ""
    (tmp_path / "short").write_bytes((tmp_path / "dynamic").read_bytes()[:70])
    (tmp_path / "script").write_bytes(b"#!/bin/sh\n")
    assert calls._loader(str(tmp_path / "short")) is None
    assert calls._loader(str(tmp_path / "script")) == ""
    assert calls._loader(str(tmp_path / "missing")) is None


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert calls._head(str(tmp_path / "fifo")) == b""  # and it does not wait for a writer
    assert calls._head(str(tmp_path)) == b""
    (tmp_path / "file").write_bytes(b"x" * 1000)
    assert calls._head(str(tmp_path / "file")) == b"x" * 256


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


# -- roots
# ----------------------------------------------------------------------------------------------------------------


def test_a_root_is_found_through_who_has_it_now() -> None:
    """A process that has changed its root since does not stand for the one it had."""
    roots = calls._Roots()
    me = os.getpid()
    assert roots.find(1, me, "/", True) == f"/proc/{me}/root/."
    assert roots.find(2, me, "/usr", False) == f"/proc/{me}/root/."
    assert roots.find(3, me, "/usr", True) is None
    assert roots.find(4, me, "/", False) is None
    assert roots.find(5, me, None, True) is None, (
        "a process among profgen's own mounts is none of a container that is gone"
    )
    roots.pivoted[4] = "/srv/root"
    assert roots.find(4, me, "/", False) == "/srv/root"
    assert roots.find(1, 0, "/", True) == f"/proc/{me}/root/.", "one that has ended (or never was) is passed over"


@pytest.mark.parametrize("state", [None, "linked", "deleted"])
def test_proc_of_a_process_that_has_ended(state: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own directory below /proc was there, and its own, when it looked: read afterwards, nothing of it is left. Not
    even when it ends while profgen is about to look (``state``: of what is found then).
    """
    ended = subprocess.Popen(["true"])
    ended.wait()
    reader = SimpleNamespace(recording=None, abis=("x86_64",), root=None, gone=False)
    seen = calls.Uses(cast(Any, None), cast(Any, reader))
    event = calls.Event(
        b"", 0, 0, 0, 0, 0, 0, 0, 0, fsuid=12, tgid=ended.pid, tid=ended.pid, own_tgid=ended.pid, own_tid=ended.pid,
        texts=(b"/proc/self/exe\0", None, None), paths=(None, None, None, None),
    )  # fmt: skip
    if state is not None:
        half = Found(f"/proc/{ended.pid}/exe", state=state, exists=False, sure=True)
        monkeypatch.setattr(seen._resolver, "resolve", lambda *_, **__: half)
    found = seen._find(event, 0, follow=False)
    assert found is not None
    assert (found.path, found.state, found.uid, found.sure) == (f"/proc/{ended.pid}/exe", "linked", 12, True)


@pytest.mark.parametrize(
    ("lists", "gone"),
    [([[1 << 22], [1 << 22]], True), ([[1 << 22], [os.getpid()]], False), ([[os.getpid()]], False), ([[]], False)],
)
def test_all_are_gone(lists: list[list[int]], gone: bool) -> None:
    """Also of a chain of processes, each of which starts the next and ends while profgen looks."""
    looks = iter(lists)
    run = SimpleNamespace(reader=SimpleNamespace(stats=lambda: [0] * len(STATS)), _live=lambda: next(looks))
    assert tracer._Run._all_gone(cast(Any, run)) is gone
