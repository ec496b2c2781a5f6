"""`profgen minimise`: back to what a test needs, nothing that it calls needed can go, and nothing is left of what it
tried."""
# ruff: noqa: F811 - the fixtures that are imported are arguments of the tests

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from system.harness import CHECKOUT, Profgen, Until, with_argument
from system.lab.fixtures import Recordings, recordings  # noqa: F401
from system.lab.processes import ENVIRONMENT
from system.lab.workloads import Pipeline
from system.test_minimal import NEEDED

from profiler.kernel.capabilities import CAPABILITIES
from profiler.kernel.syscalls import names_of
from profiler.minimise.entries import Choice, Entry, without
from profiler.policy.document import dumps, read_policy
from profiler.policy.model import Allowed, Capability, FileRule, Policy
from profiler.policy.reasons import said
from profiler.targets.seccomp import profile
from profiler.trace.model import Capability as Check
from profiler.trace.store import dumps as dumps_trace
from profiler.trace.store import read_trace

SECONDS = 300.0
"""For a whole search; mostly it is some ten."""
MARK = "profgen-minimise-mark"
MAKES_AND_REMOVES = ("sh", "-c", 'mkdir "d$PROFGEN_SLOT" && rmdir "d$PROFGEN_SLOT"', MARK)


def policy_of(profgen: Profgen, trace: Path, directory: Path) -> Policy:
    result = profgen("generate", "--runtime", "none", str(trace), "-o", str(directory), cwd=trace.parent)
    assert result.returncode == 0, result.stderr
    return read_policy(directory / "policy.yaml")


def minimised(
    profgen: Profgen, policy: Policy, directory: Path, *words: str, status: int = 0, **options: Any
) -> tuple[dict[str, Any], Policy]:
    """The report, and the policy that was written."""
    (directory / "wide.yaml").write_text(dumps(policy))
    result = profgen(
        "minimise",
        "wide.yaml",
        "-o",
        "least.yaml",
        "--format",
        "json",
        *words,
        cwd=directory,
        timeout=SECONDS,
        **options,
    )
    assert result.returncode == status, result.stderr
    return json.loads(result.stdout), read_policy(directory / "least.yaml")


def entries(report: dict[str, Any], *verdicts: str) -> set[Entry]:
    return {Entry(row["section"], row["item"], row["part"]) for row in report["entries"] if row["verdict"] in verdicts}


def spare_calls(policy: Policy, count: int) -> list[str]:
    taken = {row.name for row in policy.syscalls} | {row.name for row in policy.refused}
    return random.Random(1).sample(sorted(set(names_of(policy.abis[0])) - taken), count)


def with_spare(policy: Policy, calls: Iterable[str], capabilities: Iterable[str]) -> Policy:
    return replace(
        policy,
        syscalls=(*policy.syscalls, *(Allowed("observed", policy.abis[0], name) for name in calls)),
        capabilities=(*policy.capabilities, *(Capability(name) for name in capabilities)),
    )


def settled_but(policy: Policy, *open_items: str) -> Policy:
    """All but these calls and files are a reviewer's: fewer runs."""
    known = (said("user", "known"),)
    return replace(
        policy,
        syscalls=tuple(row if row.name in open_items else replace(row, because=known) for row in policy.syscalls),
        files=tuple(row if row.pattern in open_items else replace(row, because=known) for row in policy.files),
    )


@pytest.mark.usefixtures("as_root")
def test_a_sample_returns_to_its_minimum(recordings: Recordings, profgen: Profgen, tmp_path: Path) -> None:
    """Ten spare syscalls and four spare capabilities go, and of what is called needed nothing can go: tried with
    another loader."""
    workload = recordings.workload(Pipeline)
    policy = policy_of(profgen, recordings.trace(Pipeline, "ptrace"), tmp_path / "profile")
    # Without sysinfo(2), sort(1) takes what lies on its stack for the free memory (glibc, __get_avphys_pages): whether
    # it works is up to chance. So the call is a reviewer's, and stays.
    known = (said("user", "known"),)
    policy = replace(
        policy,
        syscalls=tuple(replace(row, because=known) if row.name == "sysinfo" else row for row in policy.syscalls),
    )
    calls = spare_calls(policy, 10)
    capabilities = random.Random(2).sample(sorted(set(CAPABILITIES) - {row.name for row in policy.capabilities}), 4)
    before = f"rm -rf {workload.directory}/*"
    check = (
        f'[ "$(wc -l < {workload.directory}/result)" = 10 ] && [ "$(stat -c %U {workload.directory}/result)" = nobody ]'
    )
    words = (
        "--only",
        "capabilities",
        "--only",
        "syscalls",
        "--repeat",
        "2",
        "--before",
        before,
        "--check",
        check,
        "--",
        *workload.argv,
    )
    report, least = minimised(profgen, with_spare(policy, calls, capabilities), tmp_path, *words, env=ENVIRONMENT)

    assert report["finished"]
    assert set(least.needed()) == NEEDED["pipeline"]
    assert not {row.name for row in least.syscalls} & set(calls)
    assert {row.name for row in least.syscalls} < {row.name for row in policy.syscalls}
    assert report["runs"] < 4 * len(report["entries"])

    def passes(tried: Policy) -> bool:
        """One run, confined by setpriv(1) and the loader of the sample applications."""
        (tmp_path / "seccomp.json").write_text(json.dumps(profile(tried, "errno")))
        bounding = ",".join(["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in tried.needed())])
        confine = [
            "setpriv",
            f"--bounding-set={bounding}",
            sys.executable,
            str(CHECKOUT / "sample_apps" / "confine.py"),
        ]
        subprocess.run(["sh", "-c", before], check=True, timeout=SECONDS)
        run = subprocess.run(
            [*confine, str(tmp_path / "seccomp.json"), *workload.argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=ENVIRONMENT,
            timeout=SECONDS,
        )
        return (
            run.returncode == 0
            and subprocess.run(["sh", "-c", check], timeout=SECONDS, stderr=subprocess.DEVNULL).returncode == 0
        )

    needed = entries(report, "needed")
    assert len(needed) > 15
    assert passes(least)
    for entry in sorted(needed):
        assert not passes(without(least, frozenset({entry}), Choice())), f"{entry.label} is called needed"
    because = [reason for row in least.syscalls for reason in row.because]
    assert said("minimise", "needed") in because


@pytest.fixture(scope="module")
def small_place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory of MAKES_AND_REMOVES. The policy may say {digits} where its path has a number."""
    return tmp_path_factory.mktemp("small")


@pytest.fixture(scope="module")
def small(profgen: Profgen, small_place: Path) -> Policy:
    """Of MAKES_AND_REMOVES, in ``small_place``."""
    recording = profgen.record("ptrace", MAKES_AND_REMOVES, cwd=small_place, env={"PROFGEN_SLOT": "0"})
    assert recording.status == 0, recording.stderr
    return policy_of(profgen, recording.path, small_place / "profile")


def test_files_too(small: Policy, small_place: Path, profgen: Profgen) -> None:
    """Rules for files that are not used go, in whole or in part; what is needed is what verify then misses."""
    spare = FileRule("/etc/shadow", ("read", "write"))
    made = next(rule for rule in small.files if "make" in rule.access)
    rmdir = next(rule for rule in small.files if rule.pattern.endswith("/rmdir"))
    wide = settled_but(replace(small, files=(*small.files, spare)), made.pattern, rmdir.pattern, spare.pattern)
    words = ("--only", "files", "--repeat", "1", "--before", "rm -rf d0", "--", *MAKES_AND_REMOVES)
    report, least = minimised(profgen, wide, small_place, *words)
    assert report["finished"]
    assert {Entry("files", "/etc/shadow", "read"), Entry("files", "/etc/shadow", "write")} <= entries(
        report, "not needed"
    )
    needed = entries(report, "needed")
    assert needed == {
        *(Entry("files", made.pattern, word) for word in ("make", "remove")),
        *(Entry("files", rmdir.pattern, word) for word in rmdir.access),
    }
    assert least.syscalls == wide.syscalls
    for policy, status in (
        (least, 0),
        (without(least, frozenset({Entry("files", made.pattern, "make")}), Choice()), 1),
    ):
        (small_place / "tried.yaml").write_text(dumps(policy))
        result = profgen("verify", "tried.yaml", "--", *MAKES_AND_REMOVES, cwd=small_place, env={"PROFGEN_SLOT": "0"})
        assert result.returncode == status, result.stderr


def test_interrupted_it_goes_on(small: Policy, profgen: Profgen, tmp_path: Path, until: Until) -> None:
    """Ended in any way at any time: no process is left, nothing but the journal, and the next time no run is made
    twice."""
    policy = replace(small, syscalls=tuple(row for row in small.syscalls if row.section == "observed"))
    (tmp_path / "wide.yaml").write_text(dumps(policy))
    common = ("--only", "syscalls", "--repeat", "1", "--before", "rm -rf d0")
    words = ("minimise", "wide.yaml", *common, "--format", "json", "--", *MAKES_AND_REMOVES)
    journal = tmp_path / "wide.min.yaml.journal"
    made = 0
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)):
        process = profgen.start(*words, cwd=tmp_path)
        enough = made + 6
        until(
            lambda enough=enough: journal.exists() and journal.read_bytes().count(b"\n") > enough, "runs in the journal"
        )
        process.send_signal(number)
        _, stderr = process.communicate(timeout=SECONDS)
        assert process.returncode == status, stderr
        until(lambda: not with_argument(MARK), "the end of what it started")
        assert number == signal.SIGKILL or b"continues from there" in stderr
        assert sorted(path.name for path in tmp_path.iterdir() if path.name != "d0") == [
            "wide.min.yaml.journal",
            "wide.yaml",
        ]
        made = journal.read_bytes().count(b"\n") - 1
    # Not with another test, and not at the same time.
    other = profgen(*words[:-2], "true", cwd=tmp_path)
    assert other.returncode == 2
    assert "another policy, test or options" in other.stderr
    result = profgen(*words, cwd=tmp_path, timeout=SECONDS)
    assert result.returncode == 0, result.stderr
    assert f"continuing with {made} run" in result.stderr
    assert not journal.exists()

    fresh = tmp_path / "fresh"
    fresh.mkdir()
    report, _ = minimised(profgen, policy, fresh, *common, "--", *MAKES_AND_REMOVES)
    resumed = json.loads(result.stdout)
    assert entries(resumed, "needed") == entries(report, "needed")
    assert resumed["runs"] == report["runs"] + 3, "one more each time, to see that the whole still passes"


def test_a_service_with_its_load(profgen: Profgen, tmp_path: Path, until: Until) -> None:
    """It is asked to end when the load is done, and has to end as it did with the whole policy."""
    service = ("sh", "-c", 'trap "exit 0" TERM; sleep 0.02; : > ready; while :; do sleep 0.02; done')
    recording = profgen.start("record", "--tracer", "ptrace", "-o", "out.json", "--", *service, cwd=tmp_path)
    until(lambda: (tmp_path / "ready").exists() or recording.poll() is not None, "the service")
    recording.send_signal(signal.SIGTERM)
    _, stderr = recording.communicate(timeout=SECONDS)
    assert recording.returncode == 0, stderr
    policy = policy_of(profgen, tmp_path / "out.json", tmp_path / "profile")
    wide = with_spare(settled_but(policy, "rt_sigaction"), spare_calls(policy, 5), ())
    common = ("--only", "syscalls", "--repeat", "1", "--before", "rm -f ready")
    load = "until [ -e ready ]; do sleep 0.01; done"
    report, _ = minimised(profgen, wide, tmp_path, *common, "--load", load, "--", *service)
    # Without it SIGTERM ends the service, not its handler.
    assert entries(report, "needed") == {Entry("syscalls.observed", "rt_sigaction")}
    assert {entry.item for entry in entries(report, "not needed")} == set(spare_calls(policy, 5))
    assert {row["why"] for row in report["entries"] if row["verdict"] == "kept"} == {"a reviewer wrote it"}

    result = profgen("minimise", "wide.yaml", *common, "--load", "exit 3", "--", *service, cwd=tmp_path)
    assert result.returncode == 2
    assert "fails with the whole policy (the load: status 3)" in result.stderr


def test_a_test_that_fails_anyway(small: Policy, profgen: Profgen, tmp_path: Path) -> None:
    (tmp_path / "wide.yaml").write_text(dumps(small))
    result = profgen("minimise", "wide.yaml", "--", "sh", "-c", "exit 3", cwd=tmp_path)
    assert result.returncode == 2
    assert "fails with the whole policy (status 3)" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["wide.yaml"]


def test_a_test_that_leaves_things_behind(small: Policy, profgen: Profgen, tmp_path: Path) -> None:
    """A run that may not remove what it made breaks all later runs: minimise notices, and --before fixes it."""
    (tmp_path / "wide.yaml").write_text(dumps(small))
    words = ("minimise", "wide.yaml", "--only", "syscalls", "--repeat", "1")
    result = profgen(*words, "--", *MAKES_AND_REMOVES, cwd=tmp_path, timeout=SECONDS)
    assert result.returncode == 2, result.stderr
    assert "now fails with the whole policy too" in result.stderr
    assert "--before" in result.stderr
    assert not (tmp_path / "wide.min.yaml").exists()
    (tmp_path / "wide.min.yaml.journal").unlink()
    result = profgen(
        *words,
        "-j",
        "2",
        "--before",
        'rm -rf "d$PROFGEN_SLOT"',
        "--",
        *MAKES_AND_REMOVES,
        cwd=tmp_path,
        timeout=SECONDS,
    )
    assert result.returncode == 0, result.stderr
    assert {"mkdir", "rmdir"} <= {row.name for row in read_policy(tmp_path / "wide.min.yaml").syscalls}


def test_few_runs(small: Policy, profgen: Profgen, tmp_path: Path) -> None:
    """When they are used up the policy still passes."""
    words = ("--only", "syscalls", "--repeat", "1", "--before", "rm -rf d0")
    report, _ = minimised(profgen, small, tmp_path, *words, "--max-runs", "9", "--", *MAKES_AND_REMOVES, status=1)
    assert not report["finished"]
    assert report["runs"] == 9
    assert entries(report, "not settled")
    result = profgen(
        "verify", "least.yaml", "--no-files", "--", *MAKES_AND_REMOVES, cwd=tmp_path, env={"PROFGEN_SLOT": "9"}
    )
    assert "ended with status 0" in result.stderr


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize("needed", [True, False])
def test_checked_capabilities_are_settled(needed: bool, profgen: Profgen, tmp_path: Path) -> None:
    """One that the recording took for a check without consequence is granted when the test fails without it."""
    (tmp_path / "f").touch()
    command = ("chown", "nobody", "f") if needed else ("ls", "f")
    recording = profgen.record("ptrace", command, cwd=tmp_path)
    policy = policy_of(profgen, recording.path, tmp_path / "profile")
    # The evidence next to the policy says that both were checked, and that neither check settled anything.
    recorded = read_trace(recording.path)
    checks = tuple(
        Check(name, "initial", "granted", True, False, False, 1, 0.0, 0.0, frozenset({0}), {"fchownat": 1})
        for name in ("CAP_CHOWN", "CAP_SYS_ADMIN")
    )
    (tmp_path / "trace.json").write_text(dumps_trace(replace(recorded, capabilities=checks)))
    words = ("--only", "capabilities", "--before", "chown root f", "--", *command)
    report, least = minimised(profgen, replace(policy, capabilities=()), tmp_path, *words)
    assert report["promoted"] is needed
    assert least.needed() == (("CAP_CHOWN",) if needed else ())
    assert entries(report, "not needed") >= {Entry("capabilities", "CAP_SYS_ADMIN")}
    assert all(row.because == (said("minimise", "needed"),) for row in least.capabilities)


def test_without_privileges(ordinary: Profgen, nobodys_dir: Path) -> None:
    recording = ordinary.record("ptrace", ["true"], cwd=nobodys_dir)
    policy = policy_of(ordinary, recording.path, nobodys_dir / "profile")
    spare = with_spare(settled_but(policy, "mprotect", "close"), spare_calls(policy, 3), ())
    report, _ = minimised(ordinary, spare, nobodys_dir, "--only", "syscalls", "--repeat", "1", "--", "true")
    assert {entry.item for entry in entries(report, "needed")} == {"mprotect"}
    assert {entry.item for entry in entries(report, "not needed")} == set(spare_calls(policy, 3))
    why = {row["item"]: row["why"] for row in report["entries"] if row["verdict"] == "kept"}
    assert "no test shows its want" in why.pop("close")
    assert set(why.values()) == {"a reviewer wrote it"}
