"""`profgen verify --under apparmor` in the machine names what AppArmor refuses, and leaves no profile behind, even when
profgen is killed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from system.harness import Profgen
from vm.guest import Guest, python

from profiler.policy.document import dumps, read_policy

MADE = "/run/profgen-verify"
"""What the workload makes, and what says that it runs."""
PROFILES = "/sys/kernel/security/apparmor/profiles"
SCRIPT = f"read name </etc/hostname; echo >{MADE}; chown 1 {MADE}; rm {MADE}"


@pytest.fixture(scope="module")
def verified(guest: Guest, profgen: Profgen, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """Do all runs in one job; return the reports by name, and what was left behind."""
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
    command = python("-m", "profiler", "verify", "--under", "apparmor", "--format", "json")
    runs = {"whole": ("whole", ""), "less": ("less", ""), "log": ("less", "--mode log")}
    lines = [
        f"{command} {options} --report {shared}/{name}.json {shared}/{which}.yaml -- /usr/bin/sh -c "
        f"{shlex.quote(SCRIPT)}"
        f"; echo $? >{shared}/{name}.status"
        for name, (which, options) in runs.items()
    ]
    lines += [
        f"{command} {shared}/whole.yaml -- /usr/bin/sh -c 'echo >{MADE}; while :; do :; done' & victim=$!",
        f"until [ -e {MADE} ]; do kill -0 $victim || exit 98; sleep 0.1; done",
        f"grep -c profgen-verify {PROFILES} >{shared}/loaded",
        "kill -9 $victim; wait $victim",
        f"for i in $(seq 300); do grep -q profgen-verify {PROFILES} || break; sleep 0.1; done",
        f"grep profgen-verify {PROFILES} >{shared}/left; ps -eo args | grep '[w]hile :' >>{shared}/left; true",
    ]
    result = guest.run("\n".join(lines))
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
    """When profgen is killed during a run, neither the profile nor the workload stays."""
    assert int(verified["loaded"]) >= 1
    assert verified["left"] == ""
