"""Runs that only the kernel confines, and which runs need stops."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from children import in_child
from unit.enforce.runs import everything_but, python, shell, with_files

from profiler.enforce.base import Options, Outcome
from profiler.enforce.direct import Direct, descendants, end, kill, needs_stops, run_plain, wrong_machine
from profiler.errors import NOT_EXECUTABLE, CommandNotFound, InputError
from profiler.policy.model import Policy
from profiler.tracers.base import Workload
from profiler.tracers.supervisor import hold_signals

PLAIN = Options(denials=False)


def outcome(policy: Policy, workload: Workload, expected: int, options: Options = PLAIN) -> None:
    """Run in a child, which becomes the reaper of what the workload leaves, and compare the status."""

    def work() -> None:
        hold_signals()
        assert Direct().run(policy, workload, options) == Outcome(expected)

    in_child(work)


@pytest.mark.parametrize(
    ("options", "files", "expected"),
    [
        (PLAIN, False, False),
        (PLAIN, True, True),
        (replace(PLAIN, files=False), True, False),
        (replace(PLAIN, mode="log"), False, True),
        (Options(), False, True),
    ],
)
def test_what_needs_stops(options: Options, files: bool, expected: bool) -> None:
    policy = with_files(everything_but()) if files else everything_but()
    assert needs_stops(policy, options) is expected


def test_a_policy_of_another_machine() -> None:
    other = replace(everything_but(), abis=("aarch64" if everything_but().abis[0] != "aarch64" else "x86_64",))
    assert "and this machine is" in (wrong_machine(other) or "")
    assert wrong_machine(everything_but()) is None
    assert Direct().unavailable(everything_but(), PLAIN) is None
    with pytest.raises(InputError, match="and this machine is"):
        Direct().run(other, shell("exit 0"), PLAIN)


def test_the_status_is_the_commands() -> None:
    outcome(everything_but(), shell("exit 7"), 7)
    outcome(everything_but(), shell("kill -TERM $$"), 128 + signal.SIGTERM)


def test_a_call_that_is_not_allowed_fails(tmp_path: Path) -> None:
    script = f"import os\ntry:\n os.mkdir('{tmp_path}/d')\nexcept PermissionError:\n raise SystemExit(5)"
    outcome(everything_but(), python(script), 0)
    (tmp_path / "d").rmdir()
    outcome(everything_but({"mkdir", "mkdirat"}), python(script), 5)
    assert not (tmp_path / "d").exists()


def test_a_policy_without_execve() -> None:
    outcome(everything_but({"execve"}), shell("exit 0"), NOT_EXECUTABLE)


def test_a_program_that_is_not_there() -> None:
    def work() -> None:
        hold_signals()
        with pytest.raises(CommandNotFound):
            run_plain(everything_but(), replace(shell(""), path="/nowhere/app"), PLAIN)

    in_child(work)


def test_it_waits_for_the_last_descendant(tmp_path: Path) -> None:
    outcome(everything_but(), shell(f"(sleep 0.3; touch {tmp_path}/late) & exit 4"), 4)
    assert (tmp_path / "late").exists()


def test_a_duration_ends_it() -> None:
    outcome(
        everything_but(), shell("trap 'exit 6' TERM; while :; do sleep 0.05; done"), 6, replace(PLAIN, duration=0.3)
    )


def with_family(check: Callable[[int, int], None]) -> None:
    """Call with a child and a grandchild of this process."""

    def work() -> None:
        script = "trap '' TERM; sleep 1000 & echo $!; wait"
        child = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        check(child.pid, int(child.stdout.readline()))

    in_child(work)


def test_descendants_are_found_and_killed() -> None:
    def check(child: int, grandchild: int) -> None:
        assert set(descendants(os.getpid())) == {child, grandchild}
        assert descendants(grandchild) == []
        assert kill(os.getpid())
        end(os.getpid())
        assert child not in descendants(os.getpid())
        assert not kill(os.getpid())

    with_family(check)
