"""What is recorded of files, sockets, signals, other processes and mounts: each tracer against a table written by hand,
against the other tracer, and against strace."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from system.harness import TIMEOUT, Profgen, why_no_ebpf
from system.operations.build import REFUSED_HERE, VARIANTS, build, operations, prepare
from system.operations.evidence import differences, seen
from system.operations.table import EXPECTED, Evidence, Places

from profiler.trace.model import Trace
from profiler.trace.store import read_trace

TRACERS = ("ptrace", "ebpf")
_DYNAMIC = ("nothing", "read", "execve", "script", "memfd_execute", "map_library", "replace_file", "unix_path", "threads")
_I386 = ("append_create", "replace_file", "list", "fcntl_lock", "fchown", "ftruncate", "execve", "map_library", "chmod", "signal_child")


@dataclass(frozen=True)
class Recorded:
    """One recording of one operation. ``status`` 77: not offered here."""

    status: int
    stderr: str
    path: Path
    places: Places

    @property
    def trace(self) -> Trace:
        assert self.path.exists(), f"no trace was written; status {self.status}, stderr: {self.stderr}"
        return read_trace(self.path)

    @property
    def evidence(self) -> Evidence:
        return seen(self.trace, self.places)


class Runs:
    """Operations, each recorded once by each tracer; those that the selected tests ask for are begun ahead of them."""

    def __init__(self, profgen: Profgen, root: Path, tracers: tuple[str, ...]) -> None:
        self.programs = root / "programs"
        self.programs.mkdir()
        build(self.programs)
        self._profgen = profgen
        self._root = root
        self._tracers = tracers
        self._workers = ThreadPoolExecutor(max_workers=os.cpu_count() or 1)
        self._runs: dict[tuple[str, str], Future[dict[str, Recorded]]] = {}

    def get(self, name: str, tracer: str, variant: str = "ops") -> Recorded:
        recorded = self.begin(name, variant).result()[tracer]
        if recorded.status == REFUSED_HERE:
            pytest.skip(f"not offered here: {recorded.stderr.splitlines()[0]}")
        return recorded

    def begin(self, name: str, variant: str = "ops") -> Future[dict[str, Recorded]]:
        """Start the recordings of an operation, unless they were started before: one tracer after the other, as both want the same
        directory and the same ports."""
        if (name, variant) not in self._runs:
            self._runs[name, variant] = self._workers.submit(
                lambda: {tracer: self.record(name, tracer, variant) for tracer in self._tracers}
            )
        return self._runs[name, variant]

    def record(self, name: str, tracer: str, variant: str = "ops", profgen: Profgen | None = None) -> Recorded:
        program, directory = self.programs / variant, self._root / variant / name
        directory.parent.mkdir(exist_ok=True)
        prepare(program, name, directory)
        cwd = self._root / f"{variant}.{name}.{tracer}"
        cwd.mkdir(exist_ok=True)
        recording = (profgen or self._profgen).record(tracer, [str(program), name, str(directory)], cwd=cwd, options=["-q"])
        return Recorded(recording.status, recording.stderr, recording.path, Places(str(directory), str(program)))

    def close(self) -> None:
        self._workers.shutdown(cancel_futures=True)


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest, profgen: Profgen, public_dir: Path) -> Iterator[Runs]:
    root = public_dir / "operations"
    root.mkdir()
    runs = Runs(profgen, root, TRACERS if why_no_ebpf() is None else TRACERS[:1])
    try:
        for item in request.session.items:
            parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
            if "operation" in parameters and item.path == request.path and not _not_for_this_user(runs, parameters["operation"]):
                runs.begin(parameters["operation"], parameters.get("variant", "ops"))
        yield runs
    finally:
        runs.close()


def _not_for_this_user(runs: Runs, name: str) -> bool:
    return os.geteuid() != 0 and any(each.root for each in operations(runs.programs / "ops") if each.name == name)


def recorded(runs: Runs, operation: str, tracer: str, variant: str = "ops") -> Recorded:
    if _not_for_this_user(runs, operation):
        pytest.skip("needs root")
    return runs.get(operation, tracer, variant)


def as_expected(recording: Recorded, want: Evidence) -> None:
    lines = differences(recording.evidence, want)
    assert not lines, "\n" + "\n".join(lines)


def test_table_has_every_operation(runs: Runs) -> None:
    assert {each.name for each in operations(runs.programs / "ops")} == set(EXPECTED)


@pytest.mark.parametrize("operation", EXPECTED)
def test_operation(operation: str, tracer: str, runs: Runs) -> None:
    """All evidence of the static program is that of the table: no row is missing and none is too many."""
    recording = recorded(runs, operation, tracer)
    want = recording.places.expected(EXPECTED[operation])
    if want.refused is not None and tracer == "ptrace":
        assert recording.status == 1, recording.stderr
        want = want.refused
    else:
        assert recording.status == (125 if want.losses else 0), recording.stderr
    as_expected(recording, want)


@pytest.mark.parametrize("operation", [name for name, evidence in EXPECTED.items() if evidence.refused is None])
def test_tracers_agree(operation: str, ebpf: str, runs: Runs) -> None:
    """Whatever the table says: both tracers hold the same."""
    as_expected(recorded(runs, operation, ebpf), recorded(runs, operation, "ptrace").evidence)


@pytest.mark.parametrize("variant", ["ops-dynamic"])
@pytest.mark.parametrize("operation", _DYNAMIC)
def test_dynamic(operation: str, variant: str, tracer: str, runs: Runs) -> None:
    """With a loader and a C library: below the directory the same as the static program; the loader and the library are mapped."""
    recording = recorded(runs, operation, tracer, variant)
    places = recording.places
    want, have = places.expected(EXPECTED[operation]), recording.evidence
    own = (places.directory, places.program, "memfd:")
    # a script's interpreter and a program without a loader differ in nothing else
    assert {use for use in have.files if use.path.startswith(own)} == {use for use in want.files if use.path.startswith(own)}
    assert (have.sockets, have.signals, have.execs, have.losses) == (want.sockets, want.signals, want.execs, want.losses)
    loader = os.path.realpath(_interpreter(Path(places.program)))
    for name in (loader, os.path.realpath("/lib/x86_64-linux-gnu/libc.so.6")):
        by = {use.by for use in have.files if use.path == name and use.access == "map" and use.result == "ok"}
        executing = {
            use.by for use in want.files if use.access == "map" and use.path in {program for program, _ in want.execs} | {places.program}
        }
        assert by == executing, (name, by)
        assert {use.access for use in have.files if use.path == name} == {"map", "read"}


def _interpreter(program: Path) -> str:
    """PT_INTERP of a 64-bit ELF file."""
    image = program.read_bytes()
    start, size = int.from_bytes(image[32:40], "little"), int.from_bytes(image[54:56], "little")
    for index in range(int.from_bytes(image[56:58], "little")):
        header = image[start + index * size :][:size]
        if int.from_bytes(header[:4], "little") == 3:  # PT_INTERP: p_offset is at 8, p_filesz at 32
            offset, length = int.from_bytes(header[8:16], "little"), int.from_bytes(header[32:40], "little")
            return os.fsdecode(image[offset : offset + length].rstrip(b"\0"))
    raise AssertionError(f"{program} has no interpreter")


@pytest.mark.parametrize("variant", ["ops32"])
@pytest.mark.parametrize("operation", _I386)
def test_i386(operation: str, variant: str, tracer: str, runs: Runs) -> None:
    if variant not in VARIANTS:
        pytest.skip("not x86-64")
    recording = recorded(runs, operation, tracer, variant)
    assert recording.status == 0, recording.stderr
    as_expected(recording, recording.places.expected(EXPECTED[operation]))


@pytest.mark.parametrize("operation", ["replace_file", "list", "execve", "unix_path", "odd_names", "link_proc", "denied", "proc_outside"])
def test_ordinary_user(operation: str, runs: Runs, ordinary: Profgen, nobodys_dir: Path) -> None:
    """ptrace without any right: the same evidence."""
    program, directory = runs.programs / "ops", nobodys_dir / "work"
    subprocess.run([*ordinary.command[:-3], program, "prepare", operation, directory], check=True, timeout=TIMEOUT)
    recording = ordinary.record("ptrace", [str(program), operation, str(directory)], cwd=nobodys_dir, options=["-q"])
    places = Places(str(directory), str(program))
    assert recording.status == 0, recording.stderr
    # whose the program is is another matter than whose the directory is
    outside = {use for use in seen(read_trace(recording.path), places).files if not use.path.startswith(places.directory)}
    want = places.expected(EXPECTED[operation])
    assert {(use.path, use.access, use.result) for use in outside} == {
        (use.path, use.access, use.result) for use in want.files if not use.path.startswith(places.directory)
    }
    have = seen(read_trace(recording.path), places)
    assert {use for use in have.files if use not in outside} == {use for use in want.files if use.path.startswith(places.directory)}
    assert (have.sockets, have.signals, have.execs, have.losses) == (want.sockets, want.signals, want.execs, want.losses)
