"""Containers, units and processes that profgen does not start: recorded from the entry point on or joined, and never disturbed."""
# ruff: noqa: F811 - the fixtures that are imported are arguments of the tests

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from system import oracle
from system.harness import Profgen, finish, why_no_ebpf
from system.lab import runs
from system.lab.fixtures import Recordings, Runtimes, lab, recordings  # noqa: F401
from system.lab.processes import LabError, eventually
from system.lab.runtimes import Confinement, Docker, Job, container
from system.lab.workloads import Nginx, Redis, WebServiceV2, Workload

pytestmark = [
    pytest.mark.usefixtures("as_root"),
    pytest.mark.skipif(why_no_ebpf() is not None, reason=f"containers need the eBPF tracer: {why_no_ebpf()}"),
]

READY_SECONDS = 60.0
UNCONFINED = Confinement.with_capabilities(
    None, ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_SETUID", "CAP_SETGID", "CAP_NET_BIND_SERVICE", "CAP_KILL"]
)


@pytest.fixture(scope="module")
def docker(lab: Runtimes) -> Docker:
    found = lab["docker"]
    assert isinstance(found, Docker)
    return found


class Recorder:
    """A ``profgen record`` that runs beside the test; ended with it."""

    def __init__(self, profgen: Profgen, cwd: Path, *words: str | os.PathLike[str], env: dict[str, str] | None = None) -> None:
        self.process = profgen.start("record", *words, cwd=cwd, env=env or {})
        self.cwd = cwd

    def end(self, number: signal.Signals | None = signal.SIGTERM) -> tuple[int, str]:
        """Status, and what was said."""
        if number is not None and self.process.poll() is None:
            self.process.send_signal(number)
        _, said = finish(self.process)
        return self.process.returncode, said


@contextlib.contextmanager
def recorder(profgen: Profgen, cwd: Path, *words: str | os.PathLike[str], env: dict[str, str] | None = None) -> Iterator[Recorder]:
    started = Recorder(profgen, cwd, *words, env=env)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.process.kill()
            started.process.communicate()


def document(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found


def calls(trace: dict[str, Any]) -> set[tuple[str, int]]:
    return {(row["abi"], row["number"]) for row in trace["syscalls"]}


def names(trace: dict[str, Any]) -> set[str]:
    return {row["name"] for row in trace["syscalls"]}


def paths(trace: dict[str, Any]) -> set[str]:
    return {row["path"] for row in trace["files"]}


def recorded(profgen: Profgen, workload: Workload, docker: Docker, directory: Path, *options: str) -> tuple[dict[str, Any], Path]:
    """``record -- docker run``: the workload under its load, in a container of its own. LabError when anything was wrong."""
    workload.reset()
    trace = directory / f"{workload.name}.trace.json"
    identity = f"profgen-rec-{os.getpid()}-{workload.name}"
    job = directory / "job"
    job.mkdir()
    words = docker.command(identity, job, workload.job, UNCONFINED)
    with recorder(profgen, directory, "-o", trace, *options, "--", *words) as recording:
        try:
            if not eventually(lambda: recording.process.poll() is not None or workload.ready(), READY_SECONDS):
                raise LabError("it never answered")
            for _ in range(runs.RECORDED_LOADS):
                workload.load()
            docker.signal(identity, "TERM")
            status, said = recording.end(None)
        finally:
            docker.remove(identity, job)
    assert status == 0, said
    return document(trace), trace


def by_strace(workload: Workload, docker: Docker, directory: Path) -> set[tuple[str, int]]:
    """What strace sees of the same, from within the container."""
    workload.reset()
    log = directory / "strace"
    log.mkdir()
    log.chmod(0o777)
    quiet = "--quiet=attach,exit,path-resolution,thread-execve"
    command = (
        "strace",
        "-f",
        "-n",
        quiet,
        "-e",
        "raw=all",
        "-e",
        "signal=none",
        "-s",
        "0",
        "-o",
        str(log / "log"),
        "--",
        *workload.job.argv,
    )
    job = Job(command, workload.job.uid, workload.job.gid, workload.job.groups, workload.job.readable, (*workload.job.writable, log))
    with container(docker, job, UNCONFINED) as running:
        assert eventually(lambda: not running.running or workload.ready(), READY_SECONDS), running.report()
        for _ in range(runs.RECORDED_LOADS):
            workload.load()
        running.signal("TERM")
        assert running.wait(READY_SECONDS) == 0, running.report()
    return set(oracle.parse((log / "log").read_text(errors="surrogateescape").splitlines()))


NOW_AND_THEN = {"futex", "restart_syscall", "clock_nanosleep", "sched_yield", "madvise", "munmap", "rt_sigreturn"}
"""Calls that come or do not as threads happen to meet; under strace, which slows them, the more."""


@pytest.mark.parametrize("kind", [Nginx, Redis, WebServiceV2], ids=lambda kind: kind.name)
def test_an_image_from_its_entry_point_on(
    kind: type[Workload], docker: Docker, lab: Runtimes, recordings: Recordings, profgen: Profgen, public_dir: Path
) -> None:
    """What strace sees inside, and nothing of the runtime; the profile from it runs the same clean."""
    workload = recordings.workload(kind)
    directory = public_dir / f"container-{kind.name}"
    directory.mkdir()
    trace, path = recorded(profgen, workload, docker, directory)
    expected = by_strace(workload, docker, directory)
    by_name = {(row["abi"], row["number"]): row["name"] for row in trace["syscalls"]}
    odd = {by_name.get(key, key) for key in calls(trace) ^ expected}
    assert odd <= NOW_AND_THEN, odd
    # Nothing of what ran before the entry point: no mount of the runtime's, no capability but the workload's own.
    assert not trace["mounts"]
    assert [
        row
        for row in trace["execs"]
        if row["by"] is None and trace["programs"][row["program"]]["path"].endswith(os.path.basename(workload.argv[0]))
    ]
    assert trace["meta"]["container"]["image"] == docker.image
    assert trace["meta"]["container"]["command"] == list(workload.argv)
    assert trace["meta"]["uid"] == workload.uid
    assert trace["meta"]["exit_status"] == 0
    for no_new_privs in (True, False):
        confinement = runs.generated(profgen, path, directory / f"profile-{no_new_privs}", "docker", no_new_privs)
        runs.confined(workload, docker, confinement)
