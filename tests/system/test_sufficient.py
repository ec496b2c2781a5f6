"""What was recorded is enough: the same load runs clean under the generated seccomp profile and capabilities, in real
runtimes."""
# ruff: noqa: F811 - the fixtures that are imported are arguments of the tests

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from system.lab import runs, runtimes
from system.lab.fixtures import Recordings, Runtimes, lab, recordings  # noqa: F401
from system.lab.processes import run
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
    tmp_path: Path,
) -> None:
    trace = recordings.trace(kind, "ebpf")
    confinement = runs.generated(trace, tmp_path / "profile", runtime, no_new_privs)
    runs.confined(recordings.workload(kind), lab[runtime], confinement)


@NO_NEW_PRIVS
@BY_NAME
def test_recorded_with_ptrace(
    kind: type[Workload],
    no_new_privs: bool,
    recordings: Recordings,
    lab: Runtimes,
    tmp_path: Path,
) -> None:
    trace = recordings.trace(kind, "ptrace")
    confinement = runs.generated(trace, tmp_path / "profile", "runc", no_new_privs)
    runs.confined(recordings.workload(kind), lab["runc"], confinement)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_any_runtime(
    runtime: str,
    recordings: Recordings,
    lab: Runtimes,
    tmp_path: Path,
) -> None:
    """The default of ``generate``: one profile for every runtime."""
    kind = WORKLOADS[0]
    confinement = runs.generated(recordings.trace(kind, "ptrace"), tmp_path / "profile", "any", True)
    runs.confined(recordings.workload(kind), lab[runtime], confinement)


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_base_sets_are_those_of_the_runtimes_here(runtime: str) -> None:
    """A few starts of the measurement; it is run at length when a set is added to the data."""
    if reason := runtimes.why_not(runtime) or (None if shutil.which("strace") else "strace is not installed"):
        pytest.skip(reason)
    script = Path(__file__).parent / "measure_runtime_base.py"
    result = run([sys.executable, script, runtime, "--check", "--starts", "5"], seconds=180, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("has all") == 2
