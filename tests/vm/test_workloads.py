"""The sample applications and the servers of the lab, recorded on the host and run in the machine under what was made
from that: with its load nothing is refused; and an intruder with the workload's profile, and every capability, gets
nothing done."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from system.lab.fixtures import Recordings
from system.lab.workloads import WORKLOADS, Workload
from vm.enforce import ALL_CAPABILITIES, Confinement, Outcome, Run, run
from vm.guest import Guest
from vm.workloads import TRACERS, Workloads, check_clean, skip_unless_possible

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def made(guest: Guest, recordings: Recordings, tmp_path_factory: pytest.TempPathFactory) -> Workloads:
    return Workloads(guest, recordings, tmp_path_factory.mktemp("workloads"), WORKLOADS)


@pytest.mark.parametrize("tracer", TRACERS)
@pytest.mark.parametrize("kind", WORKLOADS, ids=lambda kind: kind.name)
def test_clean(kind: type[Workload], tracer: str, made: Workloads) -> None:
    """Recorded, loaded, enforced: the load succeeds and the kernel's log has no refusal."""
    skip_unless_possible(kind, tracer)
    check_clean(made, kind, tracer)


@pytest.fixture(scope="module")
def intruded(guest: Guest, made: Workloads) -> Mapping[str, Outcome]:
    subprocess.run(
        ["cc", "-O1", "-static", "-o", guest.shared / "intruder.bin", HERE / "intruder.c"], check=True, timeout=60
    )
    free = "profile lab-intruder-free {\n  capability, file, network, mount, signal, ptrace,\n}\n"
    confinements = {"unconfined": Confinement("lab-intruder-free", free, 0)}
    for (name, _), confinement in sorted(made.confinements.items()):
        confinements.setdefault(name, confinement.named(f"lab-intruder-{name}"))
    before = (
        "echo >/etc/intruder-prey; rm -f /tmp/intruder /run/intruder.sock /usr/bin/intruder; umount /mnt 2>/dev/null"
    )
    runs = [Run(name, each, ["/run/intruder.bin"], before, ALL_CAPABILITIES) for name, each in confinements.items()]
    return run(guest, "intruder", runs, f"cp {guest.shared}/intruder.bin /run/intruder.bin")


def test_the_intruder_would_get_it_done(intruded: Mapping[str, Outcome]) -> None:
    """Without a profile that refuses, all of it works: what refuses below is the profile."""
    lines = intruded["unconfined"].stdout.splitlines()
    assert len(lines) > 15
    assert not [line for line in lines if " refused" in line], intruded["unconfined"]


@pytest.mark.parametrize("kind", WORKLOADS, ids=lambda kind: kind.name)
def test_intruder(kind: type[Workload], intruded: Mapping[str, Outcome], made: Workloads) -> None:
    """Twenty-one things the workload never did are refused to whoever runs under its profile."""
    skip_unless_possible(kind)
    outcome = intruded[kind.name]
    lines = outcome.stdout.splitlines()
    assert len(lines) == len(intruded["unconfined"].stdout.splitlines()), outcome
    assert not [line for line in lines if " refused" not in line], outcome
    assert outcome.denials
