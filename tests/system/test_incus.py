"""``generate -t incus``: LXD takes the profile as it is written, a container runs under it, and what the workload never
did is refused."""
# ruff: noqa: F811 - the fixtures that are imported are arguments of the tests

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from system.harness import Profgen
from system.lab import incus, probe, runs
from system.lab.fixtures import Recordings, recordings  # noqa: F401
from system.lab.incus import Daemon, Instance
from system.lab.runtimes import Job
from system.lab.workloads import SAMPLE_WORKLOADS, Nginx, Redis, Workload
from system.lab.workloads import Daemon as Echo

pytestmark = [
    pytest.mark.usefixtures("as_root"),
    pytest.mark.skipif(incus.why_not() is not None, reason=f"LXD {incus.why_not()}"),
]


@pytest.fixture(scope="module")
def daemon(public_dir: Path) -> Iterator[Daemon]:
    state = public_dir / "lxd"
    state.mkdir()
    started = Daemon(state)
    yield started
    started.close()


@pytest.mark.parametrize("kind", [*SAMPLE_WORKLOADS, Nginx, Redis], ids=lambda kind: kind.name)
def test_runs_as_it_is_written(daemon: Daemon, kind: type[Workload], recordings: Recordings, tmp_path: Path) -> None:
    workload = recordings.workload(kind)
    runs.generated(recordings.trace(kind, "ebpf"), tmp_path / "profile", "none", True)
    workload.reset()
    port = getattr(workload, "port", None)
    ports = () if port is None else (("udp" if kind is Echo else "tcp", port),)
    name = f"profgen-{os.getpid()}-{kind.name}"
    running = Instance(daemon, name, tmp_path, workload.job, tmp_path / "profile", ports)
    try:
        runs.served(workload, running, "LXD")
    finally:
        running.remove()


def test_what_was_never_done_is_refused(daemon: Daemon, profgen: Profgen, tmp_path: Path) -> None:
    """Ten acts, of which a file in the container's root is one that a profile of LXD cannot refuse."""
    place = tmp_path / "program"
    place.mkdir()
    (place / "acts.py").write_text(probe.QUIET[-1])
    quiet = (probe.QUIET[0], "-IS", str(place / "acts.py"))
    done = profgen("record", "-q", "-o", "quiet.json", "--", *quiet, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    runs.generated(tmp_path / "quiet.json", tmp_path / "profile", "none", True)
    for profile in (tmp_path / "profile", None):
        name = f"profgen-{os.getpid()}-{'tried' if profile else 'free'}"
        running = Instance(daemon, name, tmp_path, Job((*quiet, *probe.ACTS), readable=(place,)), profile)
        try:
            running.wait(60)
            acts, report = set(running.stdout.split()), running.report()
        finally:
            running.remove()
        if profile is None:
            assert {"write", "ptrace", "chown", "setuid", "forks"} <= acts, report
        else:
            assert acts == {"write"}, report
