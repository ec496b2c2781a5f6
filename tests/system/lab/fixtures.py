"""Fixtures of the tests that use the lab; a test module imports the ones it names."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from system.harness import Profgen, why_no_ebpf
from system.lab import cri as pods
from system.lab import runs, runtimes, workloads
from system.lab.cri import Cri
from system.lab.runtimes import Crun, Docker, Lab, Runc
from system.lab.workloads import Workload


class Runtimes:
    """The runtimes of this machine by name; a test that asks for one that cannot run here is skipped, with the
    reason."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def __getitem__(self, name: str) -> Runc | Crun | Docker:
        if reason := runtimes.why_not(name):
            pytest.skip(reason)
        return self._lab[name]


class Recordings:
    """Each workload prepared once, and recorded once with each tracer, when first asked for."""

    def __init__(self, profgen: Profgen, directory: Path) -> None:
        self._profgen = profgen
        self._directory = directory
        self._workloads: dict[type[Workload], Workload] = {}
        self._traces: dict[tuple[type[Workload], str], Path] = {}

    def workload(self, kind: type[Workload]) -> Workload:
        if reason := workloads.why_not(kind):
            pytest.skip(reason)
        if kind not in self._workloads:
            (self._directory / kind.name).mkdir(parents=True)
            self._workloads[kind] = kind(self._directory / kind.name / "work")
        return self._workloads[kind]

    def trace(self, kind: type[Workload], tracer: str) -> Path:
        if tracer == "ebpf" and (reason := why_no_ebpf()):
            pytest.skip(reason)
        workload = self.workload(kind)
        if (kind, tracer) not in self._traces:
            path = self._directory / kind.name / f"{tracer}.trace.json"
            self._traces[kind, tracer] = runs.recorded(self._profgen, workload, tracer, path)
        return self._traces[kind, tracer]


# A fixture is made once for each module that imports it; what it gives is the same for all of them.
_lab = Lab()
_recordings: dict[Path, Recordings] = {}


@pytest.fixture(scope="session")
def lab() -> Iterator[Runtimes]:
    yield Runtimes(_lab)
    _lab.close()


@pytest.fixture(scope="session")
def recordings(profgen: Profgen, public_dir: Path) -> Recordings:
    return _recordings.setdefault(public_dir, Recordings(profgen, public_dir / "lab"))


@pytest.fixture(scope="session")
def cri() -> Iterator[Cri]:
    if reason := pods.why_not():
        pytest.skip(reason)
    state = Path(tempfile.mkdtemp(prefix="profgen-lab-"))
    try:
        started = Cri(state)
        yield started
        started.close()
    finally:
        shutil.rmtree(state, ignore_errors=True)
