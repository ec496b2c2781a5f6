"""Every operation of tests/system/operations: recorded by each tracer on the host, and run in the machine under the
profile made from it, with no refusal; and refused under the profile of a program that does nothing."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from system.harness import why_no_ebpf
from system.operations.build import REFUSED_HERE, operations
from system.operations.runs import Runs
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
    "execve_proc_self": "a profile lets its own program be executed, which is started under it",
    "user_namespace": "user namespaces are mediated since Linux 6.7",
    "io_uring": "io_uring is mediated since Linux 6.7",
}
"""Operations that AppArmor on Linux 6.1 lets pass under every profile."""

REFUSED_FIRST: dict[str, str] = {
    "unknown_family": "the kernel does not have the family, but asks AppArmor before it finds out; the call fails "
    "either way",
    "open_interrupted": "an open that a signal ended got nothing, and what was never got is not granted",
}
"""Operations that fail when they are recorded, and are refused when enforced."""

OLDER_KERNEL: dict[str, str] = {
    "link_descriptor": "linkat(2) of a descriptor takes CAP_DAC_READ_SEARCH before Linux 6.10, and the host's "
    "kernel may be newer",
}
"""Operations that need more in the machine than where they were recorded; AppArmor refuses nothing of them."""


@dataclass(frozen=True)
class Enforced:
    """`texts`: profile text by tracer. `clean`: outcome by tracer. `refused`: the outcome under the profile of
    nothing."""

    texts: Mapping[str, str]
    clean: Mapping[str, Outcome]
    refused: Outcome | None


class Operations:
    """All of them recorded, and all enforced in one job."""

    def __init__(self, guest: Guest, runs: Runs, directory: Path) -> None:
        self._guest, self._runs, self._directory = guest, runs, directory
        self.tracers = TRACERS if why_no_ebpf() is None else TRACERS[1:]
        self.names = [each.name for each in operations(runs.programs / "ops")]
        self.failures: dict[tuple[str, str], str] = {}
        for name in self.names:
            for tracer in self._tracers_of(name):
                runs.begin(name, tracer)
        made = {name: self._confinements(name) for name in self.names}
        self.enforced = self._enforce(made)

    def _tracers_of(self, name: str) -> list[str]:
        return [tracer for tracer in self.tracers if tracer != "ptrace" or name not in TRACE_THEMSELVES]

    def _confinements(self, name: str) -> dict[str, Confinement]:
        made: dict[str, Confinement] = {}
        for tracer in self._tracers_of(name):
            recorded = self._runs.begin(name, tracer).result()
            if recorded.status not in (0, 125 if name in LOST else 0):
                self.failures[name, tracer] = f"recording ended with status {recorded.status}: {recorded.stderr}"
                continue
            try:
                made[tracer] = generate(
                    recorded.path, f"lab-{tracer}-{name}", self._directory / f"{name}.{tracer}", ["--allow-loss"]
                )
            except AssertionError as error:
                self.failures[name, tracer] = str(error)
        return made

    def _enforce(self, made: Mapping[str, Mapping[str, Confinement]]) -> Mapping[str, Enforced]:
        nothing = next(iter(made["nothing"].values()))
        program = self._runs.programs / "ops"
        runs: list[Run] = []
        first: dict[tuple[str, str], str] = {}
        for name, confinements in made.items():
            place = self._runs.root / "ops" / name
            prepared, command = f"rm -rf {place}; {program} prepare {name} {place}", (str(program), name, str(place))
            for tracer, each in confinements.items():
                first[name, tracer] = next(other for other in confinements if same(each, confinements[other]))
                if first[name, tracer] == tracer:
                    runs.append(Run(f"{name}.{tracer}", each, command, prepared))
            if name != "nothing":
                runs.append(Run(f"{name}.refused", nothing.named(f"lab-refused-{name}"), command, prepared))
        shared = self._guest.shared / "operations.bin"
        shutil.copy(program, shared)
        before = f"mkdir -p {program.parent} {self._runs.root}/ops && cp {shared} {program}"
        outcomes = run(self._guest, "operations", runs, before)
        return {
            name: Enforced(
                {tracer: each.named("NAME").text for tracer, each in confinements.items()},
                {tracer: outcomes[f"{name}.{first[name, tracer]}"] for tracer in confinements},
                outcomes.get(f"{name}.refused"),
            )
            for name, confinements in made.items()
        }


@pytest.fixture(scope="module")
def made(guest: Guest, runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Operations:
    return Operations(guest, runs, tmp_path_factory.mktemp("operations"))


@pytest.mark.parametrize("tracer", TRACERS)
@pytest.mark.parametrize("name", [name for name in EXPECTED if name not in LOST])
def test_clean(name: str, tracer: str, made: Operations) -> None:
    """Under its own profile nothing is refused, and it does what it did."""
    if tracer not in made.tracers:
        pytest.skip(why_no_ebpf() or "")
    if tracer == "ptrace" and name in TRACE_THEMSELVES:
        pytest.skip("a tracer itself: cannot be recorded with ptrace")
    assert (name, tracer) not in made.failures, made.failures[name, tracer]
    outcome = made.enforced[name].clean[tracer]
    if name in REFUSED_FIRST:
        assert outcome.denials, REFUSED_FIRST[name]
        return
    assert not outcome.denials, f"{outcome}\n{made.enforced[name].texts[tracer]}"
    if name in OLDER_KERNEL:
        return
    assert outcome.status in (0, REFUSED_HERE), f"{outcome}\n{made.enforced[name].texts[tracer]}"


@pytest.mark.parametrize("name", [name for name in EXPECTED if name != "nothing"])
def test_refused(name: str, made: Operations) -> None:
    """Under the profile of a program that does nothing it fails."""
    outcome = made.enforced[name].refused
    assert outcome is not None
    if name in NOT_ASKED:
        assert (outcome.status, outcome.denials) == (0, []), f"{NOT_ASKED[name]}: {outcome}"
    else:
        assert outcome.status != 0, outcome


def test_tracers_give_the_same_profile(made: Operations) -> None:
    """But for what eBPF cannot tell after a call (`owner` of what was removed or given away, whether what was removed
    was a directory), and for capabilities, which ptrace infers."""
    if len(made.tracers) < 2:
        pytest.skip(why_no_ebpf() or "")
    rights = {name: [_rights(text) for text in each.texts.values()] for name, each in made.enforced.items()}
    differ = {name: each[0] ^ each[-1] for name, each in rights.items() if each[0] != each[-1]}
    assert not differ, "\n".join(f"{name}: {sorted(lines)}" for name, lines in differ.items())


def _rights(text: str) -> frozenset[str]:
    rules = (line.strip().removeprefix("owner ") for line in text.partition("\nprofile ")[2].splitlines())
    kept = frozenset(rule for rule in rules if rule and not rule.startswith(("#", "capability ")))
    return frozenset(
        rule for rule in kept if rule.replace('/" w,', '" w,') == rule or rule.replace('/" w,', '" w,') not in kept
    )
