"""`profgen verify --under apparmor` in the machine: what AppArmor refuses is named; no profile stays, even when profgen
is killed."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from system.harness import CHECKOUT, Profgen
from vm.guest import Guest

from profiler.policy.document import dumps, read_policy

SCRIPT = "read name </etc/hostname; echo >/run/profgen-verify; chown 1 /run/profgen-verify; rm /run/profgen-verify"
LEFT = "grep -c profgen-verify /sys/kernel/security/apparmor/profiles; ls /proc/[0-9]*/exe >/dev/null"


@pytest.fixture(scope="module")
def verified(guest: Guest, profgen: Profgen, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """All runs in one job: reports by name, and what was left behind."""
    place = tmp_path_factory.mktemp("verify")
    assert (
        profgen("record", "--tracer", "ptrace", "-o", "t.json", "--", "/usr/bin/sh", "-c", SCRIPT, cwd=place).returncode
        == 0
    )
    assert profgen("generate", "t.json", "-o", "made", cwd=place).returncode == 0
    shared = guest.shared / "verify"
    shared.mkdir()
    policy = read_policy(place / "made" / "policy.yaml")
    less = replace(policy, files=tuple(rule for rule in policy.files if rule.pattern != "/etc/hostname"))
    assert less != policy
    (shared / "whole.yaml").write_text(dumps(policy))
    (shared / "less.yaml").write_text(dumps(less))
    command = (
        f"PYTHONPATH={CHECKOUT} PYTHONDONTWRITEBYTECODE=1 {shlex.quote(sys.executable)} -m profiler "
        "verify --under apparmor --format json"
    )
    runs = {"whole": ("whole", ""), "less": ("less", ""), "log": ("less", "--mode log")}
    lines = [
        f"{command} {options} --report {shared}/{name}.json {shared}/{which}.yaml -- /usr/bin/sh -c "
        f"{shlex.quote(SCRIPT)}"
        f"; echo $? >{shared}/{name}.status"
        for name, (which, options) in runs.items()
    ]
    lines += [
        f"{command} {shared}/whole.yaml -- /usr/bin/sh -c 'while :; do :; done' & victim=$!",
        "for i in $(seq 300); do grep -q profgen-verify /sys/kernel/security/apparmor/profiles && break; sleep "
        "0.1; done",
        f"sleep 2; grep -c profgen-verify /sys/kernel/security/apparmor/profiles >{shared}/loaded",
        "kill -9 $victim; wait $victim",
        "for i in $(seq 100); do grep -q profgen-verify /sys/kernel/security/apparmor/profiles || break; sleep "
        "0.1; done",
        f"grep profgen-verify /sys/kernel/security/apparmor/profiles >{shared}/left; ps -eo args | grep "
        f"'[w]hile :' >>{shared}/left; true",
    ]
    result = guest.run("\n".join(lines), 240)
    assert result.status == 0, f"{result.stdout[-2000:]} {result.stderr[-4000:]}"
    found: dict[str, Any] = {name: json.loads((shared / f"{name}.json").read_text()) for name in runs}
    found |= {f"{name} status": int((shared / f"{name}.status").read_text()) for name in runs}
    return found | {name: Path(shared / name).read_text() for name in ("loaded", "left")}


def test_untouched(verified: Mapping[str, Any]) -> None:
    assert verified["whole"]["denials"] == []
    assert verified["whole status"] == 0


@pytest.mark.parametrize("name", ["less", "log"])
def test_a_file_less(name: str, verified: Mapping[str, Any]) -> None:
    (denial,) = verified[name]["denials"]
    assert (denial["by"], denial["kind"], denial["path"], denial["access"]) == (
        "apparmor",
        "file",
        "/etc/hostname",
        ["read"],
    )
    assert denial["refused"] is (name == "less")
    assert (denial["comm"], denial["exe"]) == ("sh", "/usr/bin/dash")
    assert any("/etc/hostname" in line for line in denial["allowed_by"]["lines"])
    assert verified[f"{name} status"] == 1


def test_killed(verified: Mapping[str, Any]) -> None:
    """profgen killed in the middle: neither the profile nor the workload stays."""
    assert int(verified["loaded"]) >= 1
    assert verified["left"] == ""
