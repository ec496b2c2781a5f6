"""Programs of Debian packages under the profiles of their recordings: the same load runs in a container; verify has
nothing to say of it; and verify names each of ten other things that a run under the policy does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from executables import copy_program
from programs.catalogue import PROGRAMS
from programs.recordings import Programs, confinement
from system.harness import Profgen
from system.lab import runs
from system.lab.fixtures import Runtimes
from system.lab.workloads import Workload

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="the programs start as root"),
    pytest.mark.parametrize("tracer", ["ebpf", "ptrace"]),
    pytest.mark.parametrize("kind", PROGRAMS, ids=lambda kind: kind.name),
]
SOURCES = Path(__file__).parent / "sources"


def test_container(kind: type[Workload], tracer: str, programs: Programs, lab: Runtimes) -> None:
    """The load runs under runc with the profile's filter and capabilities."""
    profile = programs.profile(kind, tracer)
    runs.confined(programs.workload(kind), lab["runc"], confinement(profile))


def test_verified(kind: type[Workload], tracer: str, programs: Programs, profgen: Profgen, tmp_path: Path) -> None:
    """The load is verified without a denial, and with status 0."""
    profile, report = programs.profile(kind, tracer), tmp_path / "report.json"
    words = ("verify", str(profile), "--format", "json", "--report", str(report))
    output = tmp_path / "stdout"
    workload = programs.workload(kind)
    status = runs.driven(profgen, workload, words, output)
    assert report.exists(), output.with_suffix(".stderr").read_text(errors="replace")
    denials = json.loads(report.read_text())["denials"]
    if denials:
        pytest.fail("\n".join(summary(row) for row in denials), pytrace=False)
    assert status == 0, output.with_suffix(".stderr").read_text(errors="replace")
    workload.check(output.read_text(errors="replace"))


def summary(row: Mapping[str, Any]) -> str:
    """Return what a denial says, without what differs between runs."""
    details = (f"{key}={row[key]}" for key in sorted(row) if key not in ("first", "last", "pid", "allowed_by"))
    return " ".join(details)


@pytest.fixture(scope="session")
def others(scratch: Path) -> Path:
    """The program that does other things, at a place of its own."""
    program = scratch / "others.bin"
    subprocess.run(["cc", "-O1", "-Wall", "-static", "-o", program, SOURCES / "others.c"], check=True, timeout=60)
    return program


@pytest.fixture
def prey(scratch: Path) -> Iterator[Path]:
    """What the program works on."""
    directory = scratch / "prey"
    directory.mkdir()
    for name in ("read", "remove", "mode"):
        (directory / name).touch(0o600)
    copy_program("/usr/bin/true", directory / "execute")
    (directory / "mount").mkdir()
    yield directory
    subprocess.run(["umount", directory / "mount"], capture_output=True, timeout=60)
    shutil.rmtree(directory)


@pytest.fixture
def outsider() -> Iterator[int]:
    """The pid of a process that is not of the workload."""
    process = subprocess.Popen(["sleep", "600"])
    yield process.pid
    process.kill()
    process.wait()


@pytest.mark.parametrize("mode", ["enforce", "log"])
def test_named(
    kind: type[Workload],
    tracer: str,
    mode: str,
    programs: Programs,
    profgen: Profgen,
    others: Path,
    prey: Path,
    outsider: int,
    tmp_path: Path,
) -> None:
    """Ten things that the load does not do are named, each."""
    profile, report = programs.profile(kind, tracer), tmp_path / "report.json"
    words = ("verify", str(profile), "--mode", mode, "--format", "json", "--report", str(report))
    result = profgen(*words, "--", str(others), str(prey), str(outsider), cwd=Path("/"))
    assert result.returncode == 1, (result.returncode, result.stdout, result.stderr)
    denials = json.loads(report.read_text())["denials"]
    missing = [name for name, is_it in expected(prey, result.stdout).items() if not any(map(is_it, denials))]
    if missing:
        pytest.fail("\n".join([f"not named: {missing}", result.stdout, *map(summary, denials)]), pytrace=False)


def expected(prey: Path, said: str) -> Mapping[str, Callable[[Mapping[str, Any]], bool]]:
    """Return, for each thing that the program did, the function that recognises a denial of it: of the use, or, where
    the filter refused, of a call."""
    refused = {line.split()[0] for line in said.splitlines() if line.endswith(" EPERM")}

    def named(name: str, kind: str, access: str | None, calls: Sequence[str]) -> Callable[[Mapping[str, Any]], bool]:
        def is_it(row: Mapping[str, Any]) -> bool:
            if row["kind"] == "syscall":
                return row["name"] in calls and (name in refused or kind == "syscall" or not row["refused"])
            return row["kind"] == kind and (
                access is None or (row["path"] == str(prey / name) and access in row["access"])
            )

        return is_it

    acts: Sequence[tuple[str, str, str | None, Sequence[str]]] = (
        ("read", "file", "read", ["openat"]),
        ("create", "file", "create", ["openat"]),
        ("remove", "file", "remove", ["unlink"]),
        ("mode", "file", "mode", ["chmod"]),
        ("execute", "file", "execute", ["vfork", "execve", "wait4"]),
        ("connect", "socket", None, ["socket", "connect"]),
        ("mount", "mount", None, ["mount"]),
        ("trace", "inspection", None, ["ptrace"]),
        ("signal", "signal", None, ["kill"]),
        ("bpf", "syscall", None, ["bpf"]),
    )
    return {name: named(name, kind, access, calls) for name, kind, access, calls in acts}
