"""Both tracers, one trace: equal syscall sets, equal argument values, equal program lists. And the values are
strace's."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from system.harness import Observed, Profgen, Recording
from system.torture.build import PROGRAMS, Program

from profiler.kernel.arguments import spec_for

ARGUMENTS_MAX = 128
"""More distinct values than this are marked as overflow (profiler/trace/model.py)."""

REAL = {
    "pipeline": ("sh", "-c", "ls / | grep -c x | cat; exit 3"),
    "loop": ("sh", "-c", "for i in 1 2 3 4 5; do /bin/echo $i; done > /dev/null"),
    "env": ("env", "-i", "PATH=/usr/bin:/bin", "env", "true"),
    "find": ("find", "/etc/apt", "-newer", "/etc/passwd"),
    "tar": ("sh", "-c", "tar czf a.tgz -C /etc passwd && tar tzf a.tgz && rm a.tgz"),
    "python": (
        "/usr/bin/python3", "-I", "-S", "-c",
        "import socket, subprocess, fcntl\n"
        "for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX): socket.socket(family, socket.SOCK_STREAM)\n"
        "s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n"
        "subprocess.run(['true']); subprocess.run('exit 4', shell=True)\n"
        "a, b = socket.socketpair(); fcntl.fcntl(a, fcntl.F_GETFL)\n",
    ),
}  # fmt: skip


def assert_same(one: Recording, other: Recording) -> None:
    assert one.status == other.status, (one.stderr, other.stderr)
    assert one.syscalls == other.syscalls, sorted(one.syscalls ^ other.syscalls)
    assert one.arguments.keys() == other.arguments.keys(), sorted(one.arguments.keys() ^ other.arguments.keys())
    for key, value in one.arguments.items():
        assert value == other.arguments[key], key
    assert one.programs == other.programs


def both(observed: Observed, program: Program, ebpf: str) -> tuple[Recording, Recording]:
    if program.root and os.geteuid() != 0:
        pytest.skip("makes namespaces that need root")
    return observed.by_tracer(program, "ptrace"), observed.by_tracer(program, ebpf)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_torture(program: Program, ebpf: str, observed: Observed) -> None:
    assert_same(*both(observed, program, ebpf))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_executions(program: Program, ebpf: str, observed: Observed) -> None:
    """Who executed whom, and how often."""
    lists = []
    for recording in both(observed, program, ebpf):
        paths = [row["path"] for row in recording.trace["programs"]]
        lists.append(
            sorted(
                (paths[row["program"]], "" if row["by"] is None else paths[row["by"]], row["count"])
                for row in recording.trace["execs"]
            )
        )
    assert lists[0] == lists[1]


@pytest.mark.parametrize("name", REAL)
def test_real_programs(name: str, ebpf: str, profgen: Profgen, tmp_path: Path) -> None:
    recordings = []
    for tracer in ("ptrace", ebpf):
        (tmp_path / tracer).mkdir()
        recordings.append(profgen.record(tracer, REAL[name], cwd=tmp_path / tracer))
    assert_same(*recordings)


@pytest.mark.parametrize(
    "program", [each for each in PROGRAMS if not each.oracle_argv and not each.unseen], ids=lambda each: each.name
)
def test_argument_values_are_straces(program: Program, tracer: str, observed: Observed) -> None:
    """The values of the recorded argument positions, cut to their masks, are those that strace printed raw."""
    if program.root and os.geteuid() != 0:
        pytest.skip("makes namespaces that need root")
    names = {(row["abi"], row["number"]): row["name"] for row in observed.by_tracer(program, tracer).trace["syscalls"]}
    recorded = observed.by_tracer(program, tracer).arguments
    compared = 0
    for key, seen in observed.by_strace(program).calls.items():
        spec = spec_for(names[key], key[0]) if names.get(key) else None
        if spec is None or spec.pointer:
            continue
        expected = {
            tuple(values[position] & mask for position, mask in zip(spec.positions, spec.masks, strict=True))
            for values in seen.arguments
            if len(values) > max(spec.positions)
        }
        if len(expected) > ARGUMENTS_MAX:
            assert recorded[key][1:] == (frozenset(), True)
        else:
            assert recorded[key][1:] == (frozenset(expected), False), names[key]
        compared += 1
    assert compared or "leaf" in program.command(Path())[0] or program.name == "symlink"


def _record(tracer: str, profgen: Profgen, cwd: Path, command: Sequence[str]) -> Recording:
    cwd.mkdir(exist_ok=True)
    return profgen.record(tracer, command, cwd=cwd)


@pytest.mark.parametrize("count", [ARGUMENTS_MAX, ARGUMENTS_MAX + 1])
def test_too_many_values(count: int, tracer: str, profgen: Profgen, tmp_path: Path) -> None:
    """The budget is the same number in every tracer, and passing it leaves only the mark."""
    code = f"import fcntl\nfor i in range({count}):\n try: fcntl.fcntl(0, 5000 + i)\n except OSError: pass"
    # Python's own start-up makes fcntl calls on some versions: a fresh command set is counted from its own baseline.
    base = _record(tracer, profgen, tmp_path / "base", ["/usr/bin/python3", "-I", "-S", "-c", "import fcntl"])
    extra = {value for key, row in base.arguments.items() if key[1] == 72 for value in row[1]}
    recording = _record(tracer, profgen, tmp_path / "many", ["/usr/bin/python3", "-I", "-S", "-c", code])
    row = next(row for row in recording.trace["syscalls"] if row["name"] == "fcntl")
    overflow = count + len(extra) > ARGUMENTS_MAX
    assert row["arguments"]["overflow"] is overflow
    assert len(row["arguments"]["values"]) == (0 if overflow else count + len(extra))
    assert recording.meta["complete"] is True, "an overflow is a mark, not a loss"
    assert row["calls"] >= count
