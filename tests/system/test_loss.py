"""Never silently incomplete: with the eBPF tracer's stores made tiny, the trace says what was lost, and the status is
125."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from system.harness import Profgen, Recording

PYTHON = "/usr/bin/python3"

LOADS: dict[str, Sequence[str]] = {
    "tasks": ("{dir}/processes", "forks_together"),
    "programs": ("sh", "-c", "{dir}/leaf; {dir}/link-to-leaf; /bin/true; env true; cat /dev/null; exit 7"),
    "syscalls": ("{dir}/execs32", "execve"),
    "results": ("{dir}/execs", "probes"),
    "arguments": ("{dir}/processes", "fork"),
    "capabilities": ("sh", "-c", "touch f && chown 1:1 f && chmod 4755 f && mknod n c 1 3 && chroot / true; exit 7"),
    "stacks": ("sh", "-c", "touch f && chown 1:1 f && chmod 4755 f && mknod n c 1 3 && chroot / true; exit 7"),
    "execs": ("sh", "-c", "/bin/true; cat /dev/null; exit 7"),
    "events": ("sh", "-c", "/bin/true; exit 7"),
    "files": ("sh", "-c", "cat /etc/passwd > /dev/null; exit 7"),
    "sockets": (
        PYTHON,
        "-ISc",
        "import os, socket; [socket.socket(socket.AF_INET, kind) for kind in (1, 2)]; os._exit(7)",
    ),
    "processes": (PYTHON, "-ISc", "import os; [os.kill(os.getpid(), signal) for signal in (0, 18, 28)]; os._exit(7)"),
    # one path that is longer than the ring
    "paths": (PYTHON, "-ISc", "import os; os.path.exists(('n' * 200 + '/') * 20); os._exit(7)"),
}
"""For each store, a workload that cannot fit it into one entry (or page)."""

SMALL = dict.fromkeys(LOADS, 1) | {"programs": 4}
STATUS = {"tasks": 0, "syscalls": 0, "results": 0, "arguments": 0}


def record(name: str, profgen: Profgen, torture: Path, cwd: Path, *options: str) -> Recording:
    return record_with("ebpf", name, profgen, torture, cwd, *options)


def record_with(tracer: str, name: str, profgen: Profgen, torture: Path, cwd: Path, *options: str) -> Recording:
    command = [part.replace("{dir}", str(torture)) for part in LOADS[name]]
    cwd.mkdir()
    return profgen.record(tracer, command, cwd=cwd, options=options)


@pytest.mark.parametrize("name", LOADS)
def test_loss_is_counted_and_said(name: str, ebpf: str, profgen: Profgen, torture: Path, tmp_path: Path) -> None:
    whole = record_with("ptrace", name, profgen, torture, tmp_path / "whole")
    assert whole.status == STATUS.get(name, 7), whole.stderr

    limit = f"{name}={SMALL[name]}"
    small = record(name, profgen, torture, tmp_path / "small", "--quiet", "--limit", limit)
    assert small.status == 125, small.stderr
    assert small.meta["complete"] is False
    lost = "names" if name == "paths" else name  # paths are lost for other reasons too
    assert small.meta["losses"].get(lost, 0) > 0, small.meta["losses"]
    assert small.meta["exit_status"] == STATUS.get(name, 7), "the workload itself must not suffer"
    said = [line for line in small.stderr.splitlines() if line.startswith("profgen: ")]
    assert len(said) == 1, "one line, even with --quiet"
    assert "incomplete" in said[0]
    assert name in said[0]
    if name not in ("syscalls", "tasks"):
        assert small.syscalls == whole.syscalls, "what was lost takes other things with it"


@pytest.mark.parametrize("name", ["programs", "syscalls"])
def test_loss_allowed(name: str, ebpf: str, profgen: Profgen, torture: Path, tmp_path: Path) -> None:
    limit = f"{name}={SMALL[name]}"
    allowed = record(name, profgen, torture, tmp_path / "allowed", "--allow-loss", "--limit", limit)
    assert allowed.status == STATUS.get(name, 7), allowed.stderr
    assert allowed.meta["complete"] is False
    assert allowed.meta["losses"].get(name, 0) > 0


@pytest.mark.parametrize("name", ["programs", "stacks"])
def test_enough_room_is_no_loss(name: str, ebpf: str, profgen: Profgen, torture: Path, tmp_path: Path) -> None:
    """The limit option makes stores larger as well, and a store that is only full is not a loss."""
    recording = record(
        name, profgen, torture, tmp_path / "large", "--limit", f"{name}=65536" if name == "stacks" else f"{name}=512"
    )
    assert recording.status == 7, recording.stderr
    assert recording.meta["complete"] is True


@pytest.mark.parametrize(
    "limit",
    ["nosuch=1", "programs", "programs=", "programs=0", "programs=-1", "programs=x", "=5", "events=3", "programs=1e3"],
)
def test_bad_limit(limit: str, ebpf: str, profgen: Profgen, tmp_path: Path) -> None:
    recording = profgen.record(ebpf, ["touch", "marker"], cwd=tmp_path, options=["--limit", limit])
    assert recording.status == 2, recording.stderr
    assert recording.stderr.startswith("profgen: ")
    assert recording.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("limit", ["programs=2000000000", "events=1073741824"])
def test_limit_the_kernel_cannot_have(limit: str, ebpf: str, profgen: Profgen, tmp_path: Path) -> None:
    recording = profgen.record(ebpf, ["touch", "marker"], cwd=tmp_path, options=["--limit", limit])
    assert recording.status in (2, 125), recording.stderr
    assert recording.stderr.startswith("profgen: ")
    assert recording.stderr.count("\n") == 1, recording.stderr
    assert not list(tmp_path.iterdir()), "the workload ran, or a file was left"


def test_incomplete_trace_makes_no_profile_unasked(ebpf: str, profgen: Profgen, torture: Path, tmp_path: Path) -> None:
    record("arguments", profgen, torture, tmp_path / "small", "--limit", "arguments=1")
    trace = tmp_path / "small" / "out.json"
    result = profgen("generate", trace, "-o", "profile", cwd=tmp_path)
    assert result.returncode != 0
    assert result.stderr.startswith("profgen: ")
    assert "incomplete" in result.stderr
    assert not (tmp_path / "profile").exists()
    allowed = profgen("generate", trace, "-o", "profile", "--allow-loss", cwd=tmp_path)
    assert allowed.returncode == 0, allowed.stderr
    assert (tmp_path / "profile" / "seccomp.json").exists()


@pytest.mark.parametrize("test", ["threads", "makers"])
def test_killed_in_a_call(test: str, tracer: str, profgen: Profgen, torture: Path, tmp_path: Path) -> None:
    """What a call did is in the trace when its thread was killed before the tracer could ask for the result; and who
    was made by one that was killed in its fork is recorded to the end, not held for ever."""
    work = tmp_path / "work"
    work.mkdir()
    recording = profgen.record(tracer, ["env", "-C", str(work), str(torture / "killed"), test], cwd=tmp_path)
    assert recording.status == 0, recording.stderr
    assert recording.meta["complete"] is True, recording.meta["losses"]
    made = {row["path"] for row in recording.trace["files"] if row["access"] == "make" and "ok" in row["results"]}
    assert made == {str(path) for path in work.iterdir()}


def test_process_that_keeps_others_out(ordinary: Profgen, nobodys_dir: Path) -> None:
    """An ordinary user's tracer cannot read the memory of a process that is not dumpable: what it names is lost, and
    counted."""
    code = (
        "import ctypes, os, socket\n"
        "ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)\n"  # PR_SET_DUMPABLE
        "os.mkdir('made'); socket.socket(socket.AF_INET, socket.SOCK_DGRAM).bind(('127.0.0.1', 0))"
    )
    recording = ordinary.record("ptrace", [PYTHON, "-ISc", code], cwd=nobodys_dir)
    assert (nobodys_dir / "made").is_dir()
    assert recording.status == 125, recording.stderr
    assert recording.meta["complete"] is False
    assert recording.meta["losses"].keys() == {"paths", "sockets"}
    assert "PR_SET_DUMPABLE" in recording.stderr
    assert "bind" in recording.names, "calls are counted all the same"
