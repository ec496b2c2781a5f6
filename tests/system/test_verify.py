"""`profgen verify`: what a policy lacks is named, exactly, with who wanted it; and nothing is where nothing lacks."""

# ruff: noqa: F811 - the fixtures that are imported are arguments of the tests
from __future__ import annotations

import json
import os
import random
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from system.harness import Profgen, Until, with_argument
from system.lab import runs
from system.lab.fixtures import Recordings, Runtimes, lab, recordings  # noqa: F401
from system.lab.processes import LabError
from system.lab.runtimes import Confinement, Docker, Job, Runc
from system.lab.workloads import SAMPLE_WORKLOADS, Workload

from profiler.kernel.arguments import spec_for
from profiler.policy.document import dumps, read_policy
from profiler.policy.model import Allowed, Policy, Rule
from profiler.trace.model import Trace
from profiler.trace.store import read_trace

pytestmark = pytest.mark.usefixtures("as_root")

LAST_RESORTS = {"exit", "exit_group", "execve", "rt_sigreturn", "futex", "mmap", "munmap", "brk", "write", "close"}
"""Without these a program cannot even say what is wrong: that it breaks proves nothing of what is named."""


@dataclass(frozen=True)
class Removed:
    """An entry that was taken out of a policy: ``kind`` of denial, and what must be named."""

    kind: str
    name: str

    @property
    def kind_of_denial(self) -> str:
        return "syscall" if self.kind == "argument" else self.kind


def without_rule(policy: Policy, entry: Allowed, rule: Rule) -> Policy:
    rest = replace(entry, rules=tuple(other for other in entry.rules if other != rule))
    return replace(policy, syscalls=tuple(rest if one == entry else one for one in policy.syscalls))


def needed(policy: Policy, entry: Allowed, rule: Rule, trace: Trace) -> bool:
    """Whether a value that was seen fits this rule of several and no other, of the runtime's base neither."""
    if len(entry.rules) < 2:
        return False
    rest = without_rule(policy, entry, rule)
    for row in trace.syscalls:
        spec = spec_for(entry.name, entry.abi)
        if (row.abi, row.name) != (entry.abi, entry.name) or row.arguments is None or spec is None or spec.pointer:
            continue
        for value in row.arguments.values:
            registers = [0] * 6
            for position, one in zip(spec.positions, value, strict=True):
                registers[position] = one
            if not rest.permits(entry.abi, entry.name, registers):
                return True
    return False


def without(policy: Policy, trace: Trace, kinds: Sequence[str], seed: str) -> tuple[Policy, list[Removed]]:
    """The policy without one entry of each kind that it has, chosen at random: what is seen once in a run and more
    often alike."""
    choose = random.Random(seed)
    removed = []
    for kind in kinds:
        if kind == "syscall":
            names = [
                e.name
                for e in policy.syscalls
                if e.section == "observed" and not e.rules and e.name not in LAST_RESORTS
            ]
            name = choose.choice(sorted(names))
            policy = replace(policy, syscalls=tuple(entry for entry in policy.syscalls if entry.name != name))
        elif kind == "argument":
            found = [
                (e, rule)
                for e in policy.syscalls
                if e.section == "observed"
                for rule in e.rules
                if needed(policy, e, rule, trace)
            ]
            entry, gone = choose.choice(sorted(found, key=lambda one: (one[0].name, one[1])))
            name, policy = entry.name, without_rule(policy, entry, gone)
        elif kind == "capability":
            names = list(policy.needed())
            if not names:
                continue
            name = choose.choice(names)
            policy = replace(policy, capabilities=tuple(row for row in policy.capabilities if row.name != name))
        else:
            names = [rule.pattern for rule in policy.files if rule.access == ("read",) and "{" not in rule.pattern]
            name = choose.choice(sorted(names))
            policy = replace(policy, files=tuple(rule for rule in policy.files if rule.pattern != name))
        removed.append(Removed(kind, name))
    return policy, removed


def verified(
    profgen: Profgen,
    workload: Workload,
    policy: Path,
    directory: Path,
    *options: str,
    fails: bool = False,
    command: Sequence[str] | None = None,
) -> dict[str, Any]:
    """The report of one run. ``fails``: the workload may break."""
    report = directory / "report.json"
    report.unlink(missing_ok=True)
    words = ("verify", str(policy), "--format", "json", "--report", str(report), *options)
    output = directory / "verify.stdout"
    try:
        status: int | None = runs.driven(profgen, workload, words, output, command=command)
    except LabError as error:
        if not fails:
            pytest.fail(f"{error}: {output.with_suffix('.stderr').read_text(errors='replace')}")
        status = None
    except subprocess.TimeoutExpired:
        pytest.fail("it did not end")
    assert report.exists(), output.with_suffix(".stderr").read_text(errors="replace")
    data: dict[str, Any] = json.loads(report.read_text())
    assert status is None or status == (1 if data["denials"] else data["status"]), data
    return data


def name_of(row: dict[str, Any]) -> tuple[str, str]:
    return row["kind"], row.get("capability") or row.get("path") or row["name"]


def users(trace: Trace, one: Removed) -> set[str]:
    """Files that the kernel executed (the interpreters of scripts) and that used what was removed, by the recording."""
    rows: Sequence[Any] = ()
    if one.kind in ("syscall", "argument"):
        rows = [row for row in trace.syscalls if row.name == one.name]
    elif one.kind == "capability":
        rows = [row for row in trace.capabilities if row.capability == one.name]
    else:
        rows = [row for row in trace.files if row.path == one.name]
    return {trace.programs[index].interpreter or trace.programs[index].path for row in rows for index in row.programs}


def check_named(report: dict[str, Any], trace: Trace, removed: Sequence[Removed], refused: bool) -> None:
    """Each is named, with a program that had used it, a process and what allows it; nothing is but it."""
    for one in removed:
        rows = [row for row in report["denials"] if name_of(row) == (one.kind_of_denial, one.name)]
        assert rows, (one, [name_of(row) for row in report["denials"]])
        for row in rows:
            assert row["refused"] is refused
            assert row["exe"] in users(trace, one)
            assert row["comm"]
            assert row["allowed_by"]["lines"], row
            last = one.name.replace("/", "")
            assert any(last in line.replace("/", "") for line in row["allowed_by"]["lines"]), row
    assert {name_of(row) for row in report["denials"]} == {(one.kind_of_denial, one.name) for one in removed}


KINDS = ("syscall", "argument", "capability", "file")


@pytest.mark.parametrize("kind", SAMPLE_WORKLOADS, ids=lambda kind: kind.name)
def test_direct(kind: type[Workload], recordings: Recordings, profgen: Profgen, tmp_path: Path) -> None:
    workload = recordings.workload(kind)
    recorded = recordings.trace(kind, "ebpf")
    trace = read_trace(recorded)
    runs.generated(recorded, tmp_path / "profile", "none", True)
    untouched = tmp_path / "profile" / "policy.yaml"
    policy = read_policy(untouched)
    report = verified(profgen, workload, untouched, tmp_path)
    assert report["denials"] == []
    assert report["status"] == 0

    # Nothing is refused: the workload does what it did, and exactly what was removed is named.
    less, removed = without(policy, trace, KINDS, kind.name)
    (tmp_path / "profile" / "less.yaml").write_text(dumps(less))
    denials = tmp_path / "denials.trace.json"
    report = verified(
        profgen, workload, tmp_path / "profile" / "less.yaml", tmp_path, "--mode", "log", "-o", str(denials)
    )
    assert report["status"] == 0
    check_named(report, trace, removed, refused=False)
    assert all(row["pid"] > 0 for row in report["denials"])

    # The recording and the denials together give the policy again.
    runs.generated(recorded, tmp_path / "again", "none", True, [str(denials)])
    again = read_policy(tmp_path / "again" / "policy.yaml")
    assert not without_reasons(policy) ^ without_reasons(again)

    # One of them refused: that is what comes first, whatever the workload does then.
    turn = KINDS[SAMPLE_WORKLOADS.index(kind) % len(KINDS)]
    one_less, removed = without(policy, trace, [turn], kind.name)
    if removed:
        (tmp_path / "profile" / "less.yaml").write_text(dumps(one_less))
        report = verified(profgen, workload, tmp_path / "profile" / "less.yaml", tmp_path, fails=True)
        assert name_of(report["denials"][0]) == (removed[0].kind_of_denial, removed[0].name)


def without_reasons(policy: Policy) -> set[tuple[Any, ...]]:
    """What a policy allows, as entries that can be compared."""
    return {
        *((entry.abi, entry.name, entry.rules) for entry in policy.syscalls),
        *policy.needed(),
        *((rule.pattern, rule.access) for rule in policy.files),
    }


def contained(runtime: Runc | Docker, job: Job, directory: Path) -> tuple[list[str], Sequence[str]]:
    """Options of verify and the command, for a job in a container without any confinement of its own."""
    place = directory / "container"
    place.mkdir()
    command = runtime.command("verify", place, job, Confinement(None))
    if isinstance(runtime, Docker):
        for option in ("--name", "--cidfile"):
            at = command.index(option)
            del command[at : at + 2]
        return ["--under", "docker"], command
    return ["--under", runtime.name, "--bundle", str(place)], job.argv


@pytest.mark.parametrize("name", ["runc", "docker"])
@pytest.mark.parametrize("kind", SAMPLE_WORKLOADS, ids=lambda kind: kind.name)
def test_container(
    kind: type[Workload], name: str, lab: Runtimes, recordings: Recordings, profgen: Profgen, tmp_path: Path
) -> None:
    workload, runtime = recordings.workload(kind), lab[name]
    recorded = recordings.trace(kind, "ebpf")
    trace = read_trace(recorded)
    runs.generated(recorded, tmp_path / "profile", name, True)
    untouched = tmp_path / "profile" / "policy.yaml"
    policy = read_policy(untouched)
    options, command = contained(runtime, workload.job, tmp_path)
    report = verified(profgen, workload, untouched, tmp_path, *options, command=command)
    assert report["denials"] == []
    assert report["status"] == 0

    if name == "runc" or workload.batch:
        # Nothing refused: exactly what was removed is named.
        less, removed = without(policy, trace, KINDS, kind.name)
        (tmp_path / "profile" / "less.yaml").write_text(dumps(less))
        report = verified(
            profgen, workload, tmp_path / "profile" / "less.yaml", tmp_path, "--mode", "log", *options, command=command
        )
        assert report["status"] == 0
        check_named(report, trace, removed, refused=False)
    if name == "docker" or workload.batch:
        # One thing refused, of another sort with each workload: it is named, whatever the workload does then.
        less, removed = without(policy, trace, [KINDS[SAMPLE_WORKLOADS.index(kind) % len(KINDS)]], kind.name)
        (tmp_path / "profile" / "less.yaml").write_text(dumps(less))
        report = verified(
            profgen, workload, tmp_path / "profile" / "less.yaml", tmp_path, *options, command=command, fails=True
        )
        rows = [row for row in report["denials"] if name_of(row) == (removed[0].kind_of_denial, removed[0].name)]
        assert rows, report["denials"]
        for row in rows:
            # None: the runtime itself, between the filter and the workload.
            assert row.get("exe") is None or row["exe"] in users(trace, removed[0])
            assert row["allowed_by"]["lines"]


def policy_of(profgen: Profgen, directory: Path, command: Sequence[str], *options: str) -> Path:
    """The policy of a recording of a command."""
    assert profgen.record("ptrace", command, cwd=directory).status == 0
    result = profgen("generate", "out.json", "-o", "made", *options, cwd=directory)
    assert result.returncode == 0, result.stderr
    return directory / "made" / "policy.yaml"


def leftovers() -> set[str]:
    """What verify may leave: directories, cgroups, containers."""
    places = [
        *Path(tempfile.gettempdir()).glob("profgen-verify-*"),
        *Path("/sys/fs/cgroup").glob("**/profgen-verify-*"),
    ]
    return {str(path) for path in [*places, *Path("/run/runc").glob("profgen-verify-*")]}


@pytest.mark.parametrize("under", ["direct", "runc", "docker"])
def test_killed(under: str, profgen: Profgen, lab: Runtimes, tmp_path: Path, until: Until) -> None:
    """profgen killed, which no handler sees: no process, container, cgroup or directory stays."""
    before = leftovers()
    mark = f"verify-{os.getpid()}-{under}"
    command: Sequence[str] = ["/usr/bin/sh", "-c", "while sleep 0.1; do :; done", mark]
    policy = policy_of(profgen, tmp_path, ["/usr/bin/sh", "-c", "sleep 0.1; sleep 0.1", mark], "--runtime", "any")
    options: list[str] = []
    if under != "direct":
        options, command = contained(lab[under], Job(tuple(command)), tmp_path)
    process = profgen.start("verify", str(policy), *options, "--", *command, cwd=tmp_path)
    try:
        until(lambda: any(_runs(pid, "sh") for pid in with_argument(mark)), "the workload runs")
    finally:
        process.kill()
        process.communicate(timeout=120)
    until(lambda: not {pid for pid, state in with_argument(mark).items() if state != "Z"}, "the workload's end")
    until(lambda: leftovers() <= before, "everything cleared away")
    if isinstance(runtime := lab[under] if under != "direct" else None, Docker):
        words = command[: command.index("run")]
        until(
            lambda: not subprocess.run([*words, "ps", "-aq"], capture_output=True, timeout=120, check=True).stdout,
            f"{runtime.name} has no container",
        )


def _runs(pid: int, name: str) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == name
    except OSError:
        return False


def test_like_the_command_itself(profgen: Profgen, tmp_path: Path) -> None:
    """Input, output and status are the command's; the report is on standard error, or where it was asked for."""
    policy = policy_of(profgen, tmp_path, ["/usr/bin/sh", "-c", "cat; exit 0"])
    result = profgen(
        "verify", str(policy), "--", "/usr/bin/sh", "-c", "cat; exit 7", cwd=tmp_path, stdin=b"some words\n"
    )
    assert (result.returncode, result.stdout) == (7, "some words\n")
    assert "nothing was refused" in result.stderr
    result = profgen("verify", str(policy), "--", "/no/such/program", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (127, "")
    result = profgen("verify", str(policy), "-q", "--", "/usr/bin/sh", "-c", "cat", cwd=tmp_path, stdin=b"")
    assert (result.returncode, result.stderr) == (0, "")
    result = profgen(
        "verify", str(policy), "--report", "r.txt", "--", "/usr/bin/sh", "-c", "kill -TERM $$", cwd=tmp_path
    )
    assert "profgen" not in result.stderr
    assert "syscall kill = EPERM: " in (tmp_path / "r.txt").read_text()
    assert result.returncode == 1


def test_ordinary_user(ordinary: Profgen, nobodys_dir: Path) -> None:
    """Without privileges: no_new_privs and the filter are all it takes. Files are compared, and not refused."""
    policy = policy_of(ordinary, nobodys_dir, ["/usr/bin/cat", "/etc/hostname"])
    assert ordinary("verify", str(policy), "--", "/usr/bin/cat", "/etc/hostname", cwd=nobodys_dir).returncode == 0
    result = ordinary("verify", str(policy), "--", "/usr/bin/cat", "/etc/passwd", cwd=nobodys_dir)
    assert result.returncode == 1
    assert "file /etc/passwd: read: cat (/usr/bin/cat)" in result.stderr
    assert "files, sockets, signals, mounts: seen by ptrace and compared with the policy; not refused" in result.stderr
    assert result.stdout.startswith("root:")


def test_execve_itself(profgen: Profgen, tmp_path: Path) -> None:
    """A policy without execve lets nothing start, in a container neither; that is said."""
    path = policy_of(profgen, tmp_path, ["/usr/bin/true"])
    policy = read_policy(path)
    path.write_text(
        dumps(replace(policy, syscalls=tuple(entry for entry in policy.syscalls if entry.name != "execve")))
    )
    result = profgen("verify", str(path), "--format", "json", "--report", "r.json", "--", "/usr/bin/true", cwd=tmp_path)
    report = json.loads((tmp_path / "r.json").read_text())
    assert (result.returncode, report["status"]) == (1, 126)
    assert [name_of(row) for row in report["denials"]] == [("syscall", "execve")]


def test_another_machines_policy(profgen: Profgen, tmp_path: Path) -> None:
    path = policy_of(profgen, tmp_path, ["/usr/bin/true"])
    path.write_text(dumps(replace(read_policy(path), abis=("aarch64",), syscalls=())))
    result = profgen("verify", str(path), "--", "/usr/bin/true", cwd=tmp_path)
    assert result.returncode == 125
    assert "the policy is for aarch64" in result.stderr
