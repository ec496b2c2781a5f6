"""Confined runs for themselves: what a process holds under a policy, and that nothing of a run is left."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from system.harness import NOBODY, Profgen, Until, with_argument
from waiting import HANG_SECONDS

from profiler.enforce import background, base
from profiler.enforce.base import Options, Outcome
from profiler.errors import CommandNotExecutable
from profiler.policy.document import read_policy
from profiler.policy.model import Capability, Policy
from profiler.tracers.base import Workload

STATUS = ("/usr/bin/grep", "-E", "^(Cap|NoNewPrivs|Seccomp:|Uid)", "/proc/self/status")
CHEAP = Options(denials=False, files=False)
CAPABILITIES = ("CAP_CHOWN", "CAP_NET_BIND_SERVICE")
MASK = 1 << 0 | 1 << 10


@pytest.fixture(scope="module")
def policy(profgen: Profgen, tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """Of grep and of a shell that starts sleeps."""
    place = tmp_path_factory.mktemp("enforce")
    script = f"{' '.join(STATUS[:2])} '{STATUS[2]}' {STATUS[3]}; sleep 0.1 & wait"
    assert profgen.record("ptrace", ["/usr/bin/sh", "-c", script], cwd=place, options=["--no-files"]).status == 0
    result = profgen("generate", "out.json", "-o", "made", cwd=place)
    assert result.returncode == 0, result.stderr
    return read_policy(place / "made" / "policy.yaml")


def workload(*argv: str, uid: int = 0) -> Workload:
    return Workload(argv, argv[0], dict(os.environ), "/", (uid, uid, (uid,)) if uid else None)


def running(mark: str) -> Sequence[int]:
    """Return the live processes with this argument."""
    return [pid for pid, state in with_argument(mark).items() if state != "Z"]


def outcome(policy: Policy, run: Workload, options: Options) -> tuple[Outcome, str]:
    with (
        tempfile.TemporaryFile() as file,
        background.start(base.load("direct"), policy, run, options, file.fileno()) as started,
    ):
        found = started.wait(HANG_SECONDS)
        assert found is not None, "it did not end"
        file.seek(0)
        return found, file.read().decode()


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize("denials", [False, True], ids=["cheap", "traced"])
@pytest.mark.parametrize("no_new_privs", [True, False])
@pytest.mark.parametrize("uid", [0, NOBODY])
def test_rights(uid: int, no_new_privs: bool, denials: bool, policy: Policy) -> None:
    """The five sets are those of the oci target, for root and for others, with and without no_new_privs; the filter is
    there."""
    for names, mask in (((), 0), (CAPABILITIES, MASK)):
        held = replace(policy, no_new_privs=no_new_privs, capabilities=tuple(Capability(name) for name in names))
        found, text = outcome(held, workload(*STATUS, uid=uid), replace(CHEAP, denials=denials))
        assert (found.status, found.denials) == (0, ()), (found, text)
        rows = {name: value.split()[0] for name, _, value in (line.partition(":") for line in text.splitlines())}
        kept = mask if uid else 0
        assert [int(rows[f"Cap{name}"], 16) for name in ("Bnd", "Eff", "Prm", "Inh", "Amb")] == [
            mask,
            mask,
            mask,
            kept,
            kept,
        ]
        assert (rows["Uid"], rows["NoNewPrivs"], rows["Seccomp"]) == (str(uid), str(int(no_new_privs)), "2")


def less(policy: Policy, *names: str) -> Policy:
    return replace(policy, syscalls=tuple(entry for entry in policy.syscalls if entry.name not in names))


def test_refused_by_the_kernel_alone(policy: Policy) -> None:
    found, text = outcome(less(policy, "openat", "open"), workload(*STATUS), CHEAP)
    assert found.status != 0
    assert "Seccomp" not in text


def test_not_started(policy: Policy) -> None:
    """A policy without execve refuses the start; a file that is not a program is an error of the command."""
    assert outcome(less(policy, "execve", "execveat"), workload(*STATUS), CHEAP)[0].status == 126
    with pytest.raises(CommandNotExecutable):
        outcome(policy, workload("/etc/passwd"), CHEAP)


@pytest.mark.parametrize("denials", [False, True], ids=["cheap", "traced"])
def test_ended(denials: bool, policy: Policy, until: Until) -> None:
    """When time runs out or a run is closed, all its processes end, also those that left it. Other runs go on."""
    options = replace(CHEAP, denials=denials)
    marks = [f"enforce-{os.getpid()}-{number}-{denials}" for number in range(3)]
    script = "(sleep 600 &) ; sleep 600; :"

    def shell(mark: str) -> Workload:
        return workload("/usr/bin/sh", "-c", f"{script} {mark}", mark)

    with open(os.devnull, "wb") as null:
        runs = [background.start(base.load("direct"), policy, shell(mark), options, null.fileno()) for mark in marks]
        try:
            until(lambda: all(running(mark) for mark in marks), "three runs")
            runs[0].close()
            assert not running(marks[0])
            assert running(marks[1])
            assert running(marks[2])
            runs[1].terminate()
            until(lambda: not running(marks[1]), "the end of the one that was asked")
            assert runs[2].wait(0.05) is None
        finally:
            for run in runs:
                run.close()
        assert not running(marks[2])
    found, _ = outcome(policy, workload("/usr/bin/sleep", "600"), replace(options, duration=0.3))
    assert found.status == 128 + 15


def test_ended_again_and_again(policy: Policy, until: Until) -> None:
    """Closing a traced run never hangs: who ends it takes no stop away from who traces it."""
    script = "while :; do (:); done; :"
    with open(os.devnull, "wb") as null:
        for number in range(12):
            mark = f"enforce-{os.getpid()}-again-{number}"
            run = workload("/usr/bin/sh", "-c", f"{script} {mark}", mark)
            with background.start(base.load("direct"), policy, run, replace(CHEAP, denials=True), null.fileno()):
                until(lambda mark=mark: running(mark), "a run")
            assert not running(mark)


def test_cheap(policy: Policy) -> None:
    """Many runs are what it is for: the figure is printed, and decides nothing."""
    begin = time.monotonic()
    for _ in range(5):
        assert outcome(policy, workload("/usr/bin/true"), CHEAP)[0].status == 0
    print(f"{(time.monotonic() - begin) / 5 * 1000:.0f} ms a run")


def test_keeper_killed(policy: Policy, tmp_path: Path, until: Until) -> None:
    """When the process that runs the enforcer is killed, an error says so, and the workload ends."""
    mark = f"enforce-{os.getpid()}-keeper"
    run = workload("/usr/bin/sh", "-c", "sleep 600; :", mark)
    with (
        open(tmp_path / "out", "wb") as out,
        background.start(base.load("direct"), policy, run, replace(CHEAP, denials=True), out.fileno()) as started,
    ):
        until(lambda: running(mark), "the workload runs")
        os.kill(started.pid, signal.SIGKILL)
        with pytest.raises(Exception, match="the process that ran it was killed"):
            started.wait(HANG_SECONDS)
    until(lambda: not running(mark), "the workload's end")
