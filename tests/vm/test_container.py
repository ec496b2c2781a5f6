"""A container in the machine: runc, with the config.json that `profgen generate -t oci` made, which names the AppArmor
profile."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from system.lab.fixtures import Recordings
from system.lab.runtimes import Confinement as RuntimeConfinement
from system.lab.runtimes import bundle
from system.lab.runtimes import why_not as why_no_runtime
from system.lab.workloads import Daemon, why_not
from vm.drive import Drive
from vm.enforce import driven, generate
from vm.guest import Guest


def test_runc(guest: Guest, recordings: Recordings, work: Path) -> None:
    """The daemon with seccomp filter, capabilities and AppArmor profile, all from one recording: it works, and nothing
    is refused."""
    if reason := why_not(Daemon) or why_no_runtime("runc"):
        pytest.skip(reason)
    trace = recordings.trace(Daemon, "ptrace")
    daemon = recordings.workload(Daemon)
    container = work / "container"
    container.mkdir()
    bundle(container, "lab", daemon.job, RuntimeConfinement(None))
    options = ["-t", "oci", "--into", str(container / "config.json"), "--runtime", "runc"]
    confinement = generate(trace, "lab-container", container, options)
    document = json.loads((container / "config.json").read_text())
    assert document["process"]["apparmorProfile"] == confinement.name
    assert document["linux"]["seccomp"]
    command = ("/usr/sbin/runc", "--root", "/run/runc", "run", "--bundle", str(container), "lab")
    places = [daemon.directory.parent, container]
    error, _, denials = driven(guest, "container", [Drive("runc", daemon, command)], [confinement], places)["runc"]
    assert not denials, "\n".join(map(str, denials))
    assert error is None, error
