"""Workloads recorded on the host, and run in the machine under the profiles made from that."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from system.harness import why_no_ebpf
from system.lab.fixtures import Recordings
from system.lab.workloads import Workload, why_not
from vm.drive import Drive
from vm.enforce import Confinement, driven, generate, same
from vm.guest import Denial, Guest
from waiting import HANG_SECONDS

TRACERS = ("ebpf", "ptrace")


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
    """Workloads recorded and driven, all in one job. ``turns``: how often each is started."""

    def __init__(
        self,
        guest: Guest,
        recordings: Recordings,
        directory: Path,
        kinds: Sequence[type[Workload]],
        turns: int = 1,
    ) -> None:
        self._guest, self._directory, self._recordings, self._turns = guest, directory, recordings, turns
        self.tracers = TRACERS if why_no_ebpf() is None else TRACERS[1:]
        self.kinds = [kind for kind in kinds if why_not(kind) is None]
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
        runs = [replace(each, name=f"{each.name}.{turn}") for each in drives.values() for turn in range(self._turns)]
        confinements = [self.confinements[key] for key in drives for _ in range(self._turns)]
        done = driven(self._guest, self._directory.name, runs, confinements, places, len(runs) * HANG_SECONDS)
        for key, each in drives.items():
            errors, seconds, denials = zip(*(done[f"{each.name}.{turn}"] for turn in range(self._turns)), strict=True)
            error = next((error for error in errors if error is not None), None)
            self.driven[key] = Driven(error, max(seconds), denials[0], self.confinements[key])
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


def skip_unless_possible(kind: type[Workload], tracer: str = "ptrace") -> None:
    """Skip the test of a workload that cannot run, or not be recorded, here."""
    if reason := why_not(kind) or (why_no_ebpf() if tracer == "ebpf" else None):
        pytest.skip(reason)


def check_clean(made: Workloads, kind: type[Workload], tracer: str) -> None:
    """Fail unless the load succeeded and the kernel's log has no refusal."""
    assert (kind.name, tracer) not in made.failures, made.failures[kind.name, tracer]
    driven = made.driven[kind.name, tracer]
    assert not driven.denials, str(driven)[:6000]
    assert driven.error is None, str(driven)[:6000]
