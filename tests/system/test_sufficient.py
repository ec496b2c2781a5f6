"""What was recorded is enough: the same load runs clean under the generated seccomp profile and capabilities, in real runtimes."""
# ruff: noqa: F811 - the fixtures that are imported are arguments of the tests

from __future__ import annotations

from pathlib import Path

import pytest
from system.harness import Profgen
from system.lab import runs
from system.lab.fixtures import Recordings, Runtimes, lab, recordings  # noqa: F401
from system.lab.runtimes import RUNTIMES
from system.lab.workloads import WORKLOADS, Workload

pytestmark = pytest.mark.usefixtures("as_root")

BY_NAME = pytest.mark.parametrize("kind", WORKLOADS, ids=lambda kind: kind.name)
NO_NEW_PRIVS = pytest.mark.parametrize("no_new_privs", [True, False], ids=["nnp", "no-nnp"])


@NO_NEW_PRIVS
@pytest.mark.parametrize("runtime", RUNTIMES)
@BY_NAME
def test_recorded_with_ebpf(
    kind: type[Workload],
    runtime: str,
    no_new_privs: bool,
    recordings: Recordings,
    lab: Runtimes,
    profgen: Profgen,
    tmp_path: Path,
) -> None:
    trace = recordings.trace(kind, "ebpf")
    confinement = runs.generated(profgen, trace, tmp_path / "profile", runtime, no_new_privs)
    runs.confined(recordings.workload(kind), lab[runtime], confinement)


@NO_NEW_PRIVS
@BY_NAME
def test_recorded_with_ptrace(
    kind: type[Workload],
    no_new_privs: bool,
    recordings: Recordings,
    lab: Runtimes,
    profgen: Profgen,
    tmp_path: Path,
) -> None:
    trace = recordings.trace(kind, "ptrace")
    confinement = runs.generated(profgen, trace, tmp_path / "profile", "runc", no_new_privs)
    runs.confined(recordings.workload(kind), lab["runc"], confinement)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_any_runtime(
    runtime: str,
    recordings: Recordings,
    lab: Runtimes,
    profgen: Profgen,
    tmp_path: Path,
) -> None:
    """The default of ``generate``: one profile for every runtime."""
    kind = WORKLOADS[0]
    confinement = runs.generated(profgen, recordings.trace(kind, "ptrace"), tmp_path / "profile", "any", True)
    runs.confined(recordings.workload(kind), lab[runtime], confinement)
