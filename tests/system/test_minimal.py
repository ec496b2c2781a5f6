"""Nothing spare: no capability and no syscall is in a generated profile without need."""
# ruff: noqa: F811 - the fixtures that are imported are arguments of the tests

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from system.harness import Profgen
from system.lab import runs
from system.lab.fixtures import Recordings, Runtimes, lab, recordings  # noqa: F401
from system.lab.processes import LabError
from system.lab.runtimes import Confinement
from system.lab.workloads import SAMPLE_WORKLOADS, WORKLOADS, Nginx, PostgreSQL, Redis, Workload

pytestmark = pytest.mark.usefixtures("as_root")

NEEDED: dict[str, set[str]] = {
    "web-v1": {"CAP_NET_BIND_SERVICE", "CAP_SETGID", "CAP_SETUID"},
    "web-v2": {"CAP_CHOWN", "CAP_NET_BIND_SERVICE", "CAP_SETGID", "CAP_SETUID"},
    "daemon": {"CAP_KILL", "CAP_SETGID", "CAP_SETUID"},
    "pipeline": {"CAP_CHOWN"},
    "worker": {"CAP_KILL", "CAP_SETGID", "CAP_SETUID"},
    "nginx": {"CAP_CHOWN", "CAP_NET_BIND_SERVICE", "CAP_SETGID", "CAP_SETUID"},
    "redis": set(),
    "postgresql": set(),
}
"""Known from the programs themselves."""


@pytest.mark.parametrize("kind", WORKLOADS, ids=lambda kind: kind.name)
def test_needed_capabilities(
    kind: type[Workload],
    tracer: str,
    recordings: Recordings,
    tmp_path: Path,
) -> None:
    confinement = runs.generated(recordings.trace(kind, tracer), tmp_path / "profile", "runc", True)
    sets = {name: set(names) for name, names in confinement.capabilities.items()}
    assert sets["bounding"] == sets["effective"] == sets["permitted"] == NEEDED[kind.name]
    assert sets["inheritable"] == sets["ambient"] == set()


@pytest.mark.parametrize("kind", WORKLOADS, ids=lambda kind: kind.name)
def test_two_recordings_make_one_profile(
    kind: type[Workload], ebpf: str, recordings: Recordings, profgen: Profgen, tmp_path: Path
) -> None:
    """Recorded again, the AppArmor profile is the same to the letter: nothing in it is of that one run."""
    again = runs.recorded(profgen, recordings.workload(kind), ebpf, tmp_path / "again.trace.json")
    texts = []
    for trace in (recordings.trace(kind, ebpf), again):
        words = ("generate", str(trace), "-t", "apparmor", "-O", "apparmor.name=lab")
        result = profgen(*words, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        texts.append(result.stdout.splitlines())
    assert texts[0] == texts[1]


@pytest.mark.parametrize("kind", [*SAMPLE_WORKLOADS, Nginx], ids=lambda kind: kind.name)
def test_every_capability_is_needed(
    kind: type[Workload],
    tracer: str,
    recordings: Recordings,
    lab: Runtimes,
    tmp_path: Path,
) -> None:
    """With all of them the load runs clean; with any one of them less it does not."""
    workload = recordings.workload(kind)
    full = runs.generated(recordings.trace(kind, tracer), tmp_path / "profile", "runc", True)
    begun = time.monotonic()
    runs.confined(workload, lab["runc"], full)
    # Without what it needs, a workload may hang. The whole run tells how quick this machine is now.
    patience = 10 + 5 * (time.monotonic() - begun)
    needed = full.capabilities["bounding"]
    assert needed
    spare = []
    for dropped in needed:
        rest = [name for name in needed if name != dropped]
        try:
            runs.confined(workload, lab["runc"], Confinement.with_capabilities(full.seccomp, rest), patience)
        except LabError:
            continue
        spare.append(dropped)
    assert not spare, f"{kind.name} runs without {', '.join(spare)}"


def allowed(directory: Path) -> set[str]:
    """Names that the generated seccomp.json allows, with whatever arguments."""
    document: dict[str, Any] = json.loads((directory / "seccomp.json").read_text())
    return {name for rule in document["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}


def names(trace: Path) -> set[str]:
    """Of every syscall in the trace."""
    return {row["name"] for row in json.loads(trace.read_text())["syscalls"]}


def seen(trace: Path) -> set[str]:
    """The same, with clone for clone3: its flags cannot be filtered, so the profile leaves libc to fall back."""
    return {"clone" if name == "clone3" else name for name in names(trace)}


@pytest.mark.parametrize("kind", WORKLOADS, ids=lambda kind: kind.name)
def test_every_syscall_was_seen(
    kind: type[Workload],
    tracer: str,
    recordings: Recordings,
    tmp_path: Path,
) -> None:
    trace = recordings.trace(kind, tracer)

    # Without equivalents and base: exactly what was seen.
    runs.generated(trace, tmp_path / "bare", "none", True, ["--no-equivalents"])
    assert allowed(tmp_path / "bare") == seen(trace)

    # With them: what was seen, and what policy.yaml tells as equivalent, companion or base.
    runs.generated(trace, tmp_path / "full", "runc", False)
    policy = yaml.safe_load((tmp_path / "full" / "policy.yaml").read_text())
    told = {
        name
        for part in ("equivalent", "companion", "base")
        for key in policy["syscalls"][part]
        for name in key.split(", ")
    }
    assert allowed(tmp_path / "full") - told <= seen(trace)
    for name, entry in policy["syscalls"]["equivalent"].items():
        assert entry["because"], name
        assert set(entry.get("stands_for", [])) <= names(trace), name


def test_ls_as_root_needs_no_capability(tracer: str, profgen: Profgen, tmp_path: Path) -> None:
    recording = profgen.record(tracer, ["ls", "/"], cwd=tmp_path)
    assert recording.status == 0, recording.stderr
    confinement = runs.generated(recording.path, tmp_path / "profile", "runc", True)
    assert all(not names for names in confinement.capabilities.values())


@pytest.mark.parametrize("kind", [Redis, PostgreSQL], ids=lambda kind: kind.name)
def test_an_ordinary_user_needs_no_capability(
    kind: type[Workload],
    tracer: str,
    recordings: Recordings,
    tmp_path: Path,
) -> None:
    """Not even at the recording: who has none cannot be granted any."""
    document = json.loads(recordings.trace(kind, tracer).read_text())
    assert not [
        row for row in document["capabilities"] if row["verdict"] == "granted" and row["namespace"] == "initial"
    ]
