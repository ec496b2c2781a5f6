"""The sample applications and the servers of the lab, recorded on the host and run in the machine under what was made
from that: with its load nothing is refused; and an intruder with the workload's profile, and every capability, gets
nothing done."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from system.harness import why_no_ebpf
from system.lab.fixtures import Recordings
from system.lab.workloads import WORKLOADS, Workload, why_not
from vm.drive import Drive
from vm.enforce import ALL_CAPABILITIES, Confinement, Outcome, Run, driven, generate, run, same
from vm.guest import Denial, Guest

TRACERS = ("ebpf", "ptrace")
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Driven:
    """How one confined run went: what was wrong (None: nothing), how long it took, what AppArmor refused; and the
    profile."""

    error: str | None
    seconds: float
    denials: list[Denial]
    confinement: Confinement

    def __str__(self) -> str:
        return "\n".join([str(self.error), *map(str, self.denials), self.confinement.text])


class Workloads:
    """All workloads recorded and driven, in one job."""

    def __init__(self, guest: Guest, recordings: Recordings, directory: Path) -> None:
        self._guest, self._directory, self._recordings = guest, directory, recordings
        self.tracers = TRACERS if why_no_ebpf() is None else TRACERS[1:]
        self.kinds = [kind for kind in WORKLOADS if why_not(kind) is None]
        self.failures: dict[tuple[str, str], str] = {}
        self.confinements: dict[tuple[str, str], Confinement] = {}
        for kind in self.kinds:
            recordings.workload(kind)
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as workers:
            list(workers.map(self._record, self.kinds))
        self.driven: dict[tuple[str, str], Driven] = {}
        self._drive()

    def _record(self, kind: type[Workload]) -> None:
        for tracer in self.tracers:
            try:
                trace = self._recordings.trace(kind, tracer)
                self.confinements[kind.name, tracer] = generate(
                    trace, f"lab-{tracer}-{kind.name}", self._directory / f"{kind.name}.{tracer}"
                )
            except (Exception, pytest.fail.Exception) as error:
                self.failures[kind.name, tracer] = f"{type(error).__name__}: {error}"

    def _drive(self) -> None:
        drives: dict[tuple[str, str], Drive] = {}
        twins: dict[tuple[str, str], tuple[str, str]] = {}
        for kind in self.kinds:
            workload = self._recordings.workload(kind)
            for tracer in self.tracers:
                if (confinement := self.confinements.get((kind.name, tracer))) is None:
                    continue
                alike = [key for key in drives if key[0] == kind.name and same(self.confinements[key], confinement)]
                if alike:
                    twins[kind.name, tracer] = alike[0]
                else:
                    drives[kind.name, tracer] = Drive(
                        f"{kind.name}.{tracer}", workload, self._command(workload, confinement)
                    )
        if not drives:
            return
        workloads = [self._recordings.workload(kind) for kind in self.kinds]
        for workload in workloads:
            Workload.reset(workload)  # what the recordings left: each begins anew
        places = [workload.directory.parent for workload in workloads]
        confinements = [self.confinements[key] for key in drives]
        done = driven(self._guest, "workloads", list(drives.values()), confinements, places)
        for key in drives:
            error, seconds, denials = done[f"{key[0]}.{key[1]}"]
            self.driven[key] = Driven(error, seconds, denials, self.confinements[key])
        for key, other in twins.items():
            self.driven[key] = self.driven[other]

    def _command(self, workload: Workload, confinement: Confinement) -> tuple[str, ...]:
        job = workload.job
        groups = ",".join(map(str, job.groups))
        who = ("-u", str(job.uid), "-g", str(job.gid), "-G", groups) if job.uid else ()
        return (
            self._guest.agent,
            "confine",
            "-p",
            confinement.name,
            "-b",
            f"{confinement.mask:x}",
            *who,
            "--",
            *job.argv,
        )


@pytest.fixture(scope="module")
def made(guest: Guest, recordings: Recordings, tmp_path_factory: pytest.TempPathFactory) -> Workloads:
    return Workloads(guest, recordings, tmp_path_factory.mktemp("workloads"))


def _skip_unless_possible(kind: type[Workload], tracer: str = "ptrace") -> None:
    if reason := why_not(kind) or (why_no_ebpf() if tracer == "ebpf" else None):
        pytest.skip(reason)


@pytest.mark.parametrize("tracer", TRACERS)
@pytest.mark.parametrize("kind", WORKLOADS, ids=lambda kind: kind.name)
def test_clean(kind: type[Workload], tracer: str, made: Workloads) -> None:
    """Recorded, loaded, enforced: the load succeeds and the kernel's log has no refusal."""
    _skip_unless_possible(kind, tracer)
    assert (kind.name, tracer) not in made.failures, made.failures[kind.name, tracer]
    driven = made.driven[kind.name, tracer]
    assert not driven.denials, str(driven)[:6000]
    assert driven.error is None, str(driven)[:6000]


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
    _skip_unless_possible(kind)
    outcome = intruded[kind.name]
    lines = outcome.stdout.splitlines()
    assert len(lines) == len(intruded["unconfined"].stdout.splitlines()), outcome
    assert not [line for line in lines if " refused" not in line], outcome
    assert outcome.denials
