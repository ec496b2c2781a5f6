"""The capability sets of a confined process. As root only: an ordinary user has none to reduce."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from children import in_child
from unit.enforce.runs import everything_but

from profiler.confinement import permitted, reduce, reduce_bounding
from profiler.kernel.capabilities import number_of
from profiler.targets.sets import mask_of

POLICY = everything_but(capabilities=("CAP_CHOWN", "CAP_KILL", "CAP_63"))
MASK = 1 << 0 | 1 << 5
NOBODY = 65534

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def sets(text: str | None = None) -> dict[str, int]:
    """The capability sets of this process, or those of a status file."""
    lines = (text or Path("/proc/self/status").read_text()).splitlines()
    return {line[3:6]: int(line.split()[1], 16) for line in lines if line.startswith("Cap")}


def executed() -> dict[str, int]:
    """The sets of a program that this process executes."""
    return sets(subprocess.run(["cat", "/proc/self/status"], stdout=subprocess.PIPE, check=True, text=True).stdout)


def test_the_mask_has_what_has_a_number() -> None:
    assert mask_of(POLICY) == MASK
    assert mask_of(everything_but()) == 0


def test_permitted() -> None:
    assert permitted() == sets()["Prm"]


@as_root
def test_root_keeps_what_the_policy_needs() -> None:
    def work() -> None:
        before = sets()
        reduce_bounding(MASK)
        assert sets()["Bnd"] == before["Bnd"] & MASK
        assert sets()["Prm"] == before["Prm"], "the sets are reduced after the user has changed"
        reduce(MASK, keep_until_exec=True)
        assert sets()["Prm"] == before["Prm"], "loading a filter may need one"
        reduce(MASK, keep_until_exec=False)
        assert sets()["Prm"] == sets()["Eff"] == MASK
        found = executed()
        assert found["Prm"] == found["Eff"] == found["Bnd"] == MASK

    in_child(work)


@as_root
@pytest.mark.parametrize("keep", [True, False])
def test_another_user_keeps_them_over_execve(keep: bool) -> None:
    """They are in the ambient set, whose members a program without file capabilities gets."""

    def work() -> None:
        reduce_bounding(MASK)
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        reduce(MASK, keep_until_exec=keep)
        assert sets()["Amb"] == MASK
        found = executed()
        assert found["Prm"] == found["Eff"] == found["Amb"] == MASK

    in_child(work)


@as_root
def test_what_the_process_does_not_have_is_not_raised() -> None:
    def work() -> None:
        reduce_bounding(0)
        reduce(0, keep_until_exec=False)
        reduce_bounding(MASK)
        reduce(MASK, keep_until_exec=False)
        assert sets()["Prm"] == 0
        assert not permitted() >> (number_of("CAP_SETPCAP") or 0) & 1

    in_child(work)
