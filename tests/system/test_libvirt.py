"""``generate -t libvirt-lxc,launcher --into`` on a domain: libvirt runs it as it is written, and what the workload
never did is refused."""
# ruff: noqa: F811 - the fixtures that are imported are arguments of the tests

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from system.harness import Profgen
from system.lab import libvirt, probe, runs
from system.lab.fixtures import Recordings, recordings  # noqa: F401
from system.lab.libvirt import Libvirt, domain
from system.lab.runtimes import Job
from system.lab.workloads import SAMPLE_WORKLOADS, Nginx, Redis, Workload
from waiting import HANG_SECONDS

pytestmark = [
    pytest.mark.usefixtures("as_root"),
    pytest.mark.skipif(libvirt.why_not() is not None, reason=f"libvirt {libvirt.why_not()}"),
]


@pytest.fixture(scope="module")
def daemon(public_dir: Path) -> Iterator[Libvirt]:
    state = public_dir / "libvirt"
    state.mkdir()
    started = Libvirt(state)
    yield started
    started.close()


@pytest.mark.parametrize("kind", [*SAMPLE_WORKLOADS, Nginx, Redis], ids=lambda kind: kind.name)
def test_runs_as_it_is_written(daemon: Libvirt, kind: type[Workload], recordings: Recordings, public_dir: Path) -> None:
    workload = recordings.workload(kind)
    directory = public_dir / f"domain-{kind.name}"
    directory.mkdir()
    runs.generated(recordings.trace(kind, "ebpf"), directory / "profile", "none", True)
    workload.reset()
    with domain(daemon, directory, workload.job, directory / "profile") as running:
        runs.served(workload, running, "libvirt-lxc")


def test_what_was_never_done_is_refused(daemon: Libvirt, profgen: Profgen, public_dir: Path) -> None:
    """Ten acts, in a domain whose root cannot be written: only the limit of processes is one that libvirt lacks."""
    quiet = (*probe.QUIET[:-1], probe.QUIET[-1] + "print('quiet')\n")
    place = public_dir / "domain-quiet"
    place.mkdir()
    done = profgen("record", "-q", "-o", "quiet.json", "--", *quiet, cwd=place)
    assert done.returncode == 0, done.stderr
    runs.generated(place / "quiet.json", place / "profile", "none", True)
    job = Job((*quiet, *probe.ACTS))
    for name, profile in (("free", None), ("tried", place / "profile")):
        directory = public_dir / f"domain-{name}"
        directory.mkdir()
        with domain(daemon, directory, job, profile, ["libvirt-lxc.read-only=yes"]) as running:
            assert running.wait(HANG_SECONDS) == 0
            acts, report = set(running.stdout.split()) - {"quiet"}, running.report()
            assert "quiet" in running.stdout, report
        if profile is None:
            assert {"write", "ptrace", "chown", "setuid", "forks"} <= acts, report
        else:
            assert acts == {"forks"}, report
