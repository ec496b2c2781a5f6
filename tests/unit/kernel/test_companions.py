"""Harmless calls that come by timing: the data is complete, and they are harmless."""

from __future__ import annotations

from profiler.kernel.arguments import recorded_names
from profiler.kernel.companions import companions, harmless
from profiler.kernel.data import load
from profiler.kernel.risks import syscall_risks
from profiler.kernel.syscalls import known_names


def test_every_name_is_known_once_and_has_a_reason() -> None:
    data = load("companions.yaml")
    rows = data["companions"]
    added = [name for row in rows for name in row["add"]]
    assert len(set(added)) == len(added)
    assert {*added, *(name for row in rows for name in row.get("seen", ()))} <= known_names()
    assert all(row["reason"] and row["source"] for row in (*rows, *data["files"]))
    assert data["date"]


def test_they_have_no_risk_and_no_argument_that_matters() -> None:
    assert not harmless() & recorded_names()
    assert not [name for name in harmless() if any(row.risk.level != "low" for row in syscall_risks(name))]


def test_only_what_the_abi_has_and_what_was_not_seen() -> None:
    found = companions("aarch64", ["clone", "wait4"])
    assert "futex" in found
    assert not {"wait4", "poll", "waitpid"} & found.keys()
