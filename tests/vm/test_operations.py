"""Every operation of tests/system/operations: recorded by each tracer on the host, and run in the machine under the profile made from it,
with no refusal; and refused under the profile of a program that does nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from system.harness import Profgen, why_no_ebpf
from system.operations.build import REFUSED_HERE, build, operations, prepare
from system.operations.table import EXPECTED
from vm.enforce import Confinement, Outcome, Run, generate, run, same
from vm.guest import Guest

TRACERS = ("ebpf", "ptrace")
LOST = {name for name, evidence in EXPECTED.items() if evidence.losses}
TRACE_THEMSELVES = {name for name, evidence in EXPECTED.items() if evidence.refused is not None}
"""Not recorded with ptrace: there they are refused."""

NOT_ASKED: dict[str, str] = {
    **dict.fromkeys(
        (
            "bad_pointers",
            "create_taken",
            "dangling",
            "execve_forbidden",
            "execve_missing",
            "look_missing",
            "missing",
            "missing_directory",
            "name_too_long",
            "not_directory",
            "symlink_loop",
            "symlink_nofollow",
        ),
        "it fails before AppArmor is asked",
    ),
    "path_only": "a descriptor that only names the file takes no right",
    "readlink": "reading a link takes no right",
    "utimens": "times of files are not mediated before Linux 6.8",
    "memfd_map": "files without a place in the tree are not mediated until they are executed",
    "user_namespace": "user namespaces are mediated since Linux 6.7",
    "io_uring": "io_uring is mediated since Linux 6.7",
}
"""Operations that AppArmor on Linux 6.1 lets pass whatever the profile says."""

REFUSED_FIRST: dict[str, str] = {
    "unknown_family": "the kernel does not have the family, but AppArmor is asked before that is found; the answer is no either way",
}
"""Operations that fail when they are recorded, and are refused when enforced: what was never used is not granted."""


@dataclass(frozen=True)
class Enforced:
    """`texts`: profile text by tracer. `clean`: outcome by tracer. `refused`: the outcome under the profile of nothing."""

    texts: Mapping[str, str]
    clean: Mapping[str, Outcome]
    refused: Outcome | None


class Operations:
    """Records all, enforces all in one job; made once."""

    def __init__(self, guest: Guest, profgen: Profgen, work: Path, directory: Path) -> None:
        self._guest, self._profgen, self._directory = guest, profgen, directory
        self._programs, self._places = work / "operations" / "bin", work / "operations"
        self._programs.mkdir(parents=True)
        build(self._programs)
        self.program = self._programs / "ops"
        self.names = [each.name for each in operations(self.program)]
        self.failures: dict[tuple[str, str], str] = {}
        self.tracers = TRACERS if why_no_ebpf() is None else TRACERS[1:]

    def enforced(self) -> Mapping[str, Enforced]:
        import time

        t = time.time()
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as workers:
            list(workers.map(self._record, self.names))
        print("RECORDED", time.time() - t)
        t = time.time()
        made = {name: self._generate(name) for name in self.names}
        print("GENERATED", time.time() - t)
        t = time.time()
        nothing = next(iter(made["nothing"].values()))
        runs: list[Run] = []
        first: dict[tuple[str, str], str] = {}
        for name, confinements in made.items():
            prepared = f"rm -rf {self._places / name}; {self.program} prepare {name} {self._places / name}"
            command = (str(self.program), name, str(self._places / name))
            for tracer, each in confinements.items():
                first[name, tracer] = next(other for other in confinements if same(each, confinements[other]))
                if first[name, tracer] == tracer:
                    runs.append(Run(f"{name}.{tracer}", each, command, prepared))
            if name != "nothing":
                runs.append(Run(f"{name}.refused", nothing.named(f"lab-refused-{name}"), command, prepared))
        shared = self._guest.shared / "operations-bin"
        shared.mkdir()
        (shared / "ops").write_bytes(self.program.read_bytes())
        before = f"mkdir -p {self._programs} && cp {shared}/ops {self._programs}/ && chmod 755 {self.program}"
        outcomes = run(self._guest, "operations", runs, 240, before)
        print("ENFORCED", time.time() - t)
        t = time.time()
        return {
            name: Enforced(
                {tracer: each.named("NAME").text for tracer, each in confinements.items()},
                {tracer: outcomes[f"{name}.{first[name, tracer]}"] for tracer in confinements},
                outcomes.get(f"{name}.refused"),
            )
            for name, confinements in made.items()
        }

    def _record(self, name: str) -> None:
        for tracer in self.tracers:
            if tracer == "ptrace" and name in TRACE_THEMSELVES:
                continue
            prepare(self.program, name, self._places / name)
            cwd = self._directory / f"{name}.{tracer}"
            cwd.mkdir()
            command = [str(self.program), name, str(self._places / name)]
            recording = self._profgen.record(tracer, command, cwd=cwd, options=["-q", "--allow-loss"])
            if recording.status != 0:
                self.failures[name, tracer] = f"recording ended with status {recording.status}: {recording.stderr}"

    def _generate(self, name: str) -> dict[str, Confinement]:
        made: dict[str, Confinement] = {}
        for tracer in self.tracers:
            cwd = self._directory / f"{name}.{tracer}"
            if (cwd / "out.json").exists() and (name, tracer) not in self.failures:
                try:
                    made[tracer] = generate(cwd / "out.json", f"lab-{tracer}-{name}", cwd, ["--allow-loss"])
                except AssertionError as error:
                    self.failures[name, tracer] = str(error)
        return made


@pytest.fixture(scope="module")
def made(guest: Guest, profgen: Profgen, work: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Operations, Mapping[str, Enforced]]:
    all_of_them = Operations(guest, profgen, work, tmp_path_factory.mktemp("operations"))
    return all_of_them, all_of_them.enforced()


@pytest.mark.parametrize("tracer", TRACERS)
@pytest.mark.parametrize("name", [name for name in EXPECTED if name not in LOST])
def test_clean(name: str, tracer: str, made: tuple[Operations, Mapping[str, Enforced]]) -> None:
    """Under its own profile nothing is refused, and it does what it did."""
    everything, enforced = made
    if tracer not in everything.tracers:
        pytest.skip(why_no_ebpf() or "")
    if tracer == "ptrace" and name in TRACE_THEMSELVES:
        pytest.skip("a tracer itself: cannot be recorded with ptrace")
    assert (name, tracer) not in everything.failures, everything.failures[name, tracer]
    outcome = enforced[name].clean[tracer]
    if name in REFUSED_FIRST:
        assert outcome.denials, REFUSED_FIRST[name]
        return
    assert not outcome.denials, f"{outcome}\n{enforced[name].texts[tracer]}"
    assert outcome.status in (0, REFUSED_HERE), f"{outcome}\n{enforced[name].texts[tracer]}"


@pytest.mark.parametrize("name", [name for name in EXPECTED if name != "nothing"])
def test_refused(name: str, made: tuple[Operations, Mapping[str, Enforced]]) -> None:
    """Under the profile of a program that does nothing it fails."""
    outcome = made[1][name].refused
    assert outcome is not None
    if name in NOT_ASKED:
        assert (outcome.status, outcome.denials) == (0, []), f"{NOT_ASKED[name]}: {outcome}"
    else:
        assert outcome.status != 0, outcome


def test_tracers_give_the_same_profile(made: tuple[Operations, Mapping[str, Enforced]]) -> None:
    everything, enforced = made
    if len(everything.tracers) < 2:
        pytest.skip(why_no_ebpf() or "")
    differ = {name: each.texts for name, each in enforced.items() if len(set(each.texts.values())) > 1}
    assert not differ, "\n".join(f"--- {name} {tracer}\n{text}" for name, texts in differ.items() for tracer, text in texts.items())
