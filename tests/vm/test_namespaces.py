"""A profile in a policy namespace of AppArmor, enforced alone and below a profile of the host."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

import pytest
from system.harness import Profgen
from vm.enforce import generate
from vm.guest import Guest, Result

NAME, NAMESPACE = "lab-inner", "lab-tenant"
CALLED = f":{NAMESPACE}:{NAME}"
HOST = """profile lab-host {
  file,
  signal,
  deny /etc/debian_version r,
}
"""
"""Lets everything happen but one thing that the workload does."""
READS = ("/etc/hostname", "/etc/debian_version", "/etc/shadow")
"""The workload reads the first two."""


@pytest.fixture(scope="module")
def results(guest: Guest, profgen: Profgen, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Result]:
    """What becomes of the reads under the profile, under the host's, and under both."""
    directory: Path = tmp_path_factory.mktemp("namespaces")
    trace = directory / "trace.json"
    words = ["/usr/bin/dash", "-c", "; ".join(f"/usr/bin/cat {path}" for path in READS[:2])]
    profgen("record", "--tracer", "ptrace", "-q", "-o", str(trace), "--", *words, cwd=directory)
    made = generate(trace, NAME, directory / "made", ("-O", f"apparmor.namespace={NAMESPACE}"))
    assert f"\nprofile {CALLED} " in made.text
    script = ["set -e"]
    for name, text in (("lab-host", HOST), ("lab-inner", made.text)):
        place = guest.shared / f"{name}.profile"
        place.write_text(text)
        script.append(f"apparmor_parser -r -K {place}")
    script.append(f"test -d /sys/kernel/security/apparmor/policy/namespaces/{NAMESPACE}")
    loaded = guest.run("\n".join(script))
    assert loaded.status == 0, loaded.stderr
    command = shlex.join(["/usr/bin/dash", "-c", "; ".join(f"/usr/bin/cat {path}" for path in READS)])
    labels = {"inner": CALLED, "host": "lab-host", "both": f"lab-host//&{CALLED}"}
    found = {name: guest.run(f"{guest.agent} confine -p '{label}' -- {command}") for name, label in labels.items()}
    found["aa-exec"] = guest.run(f"aa-exec -p {CALLED} -- {command}")
    return found


def refused(result: Result) -> set[str]:
    """The files that were not read."""
    return {line.split()[1].rstrip(":") for line in result.stderr.splitlines() if "Permission denied" in line}


def test_each_refuses_its_own(results: Mapping[str, Result]) -> None:
    assert refused(results["inner"]) == {"/etc/shadow"}, results["inner"]
    assert refused(results["host"]) == {"/etc/debian_version"}, results["host"]
    assert refused(results["aa-exec"]) == {"/etc/shadow"}, results["aa-exec"]


def test_both_refuse_below_a_profile_of_the_host(results: Mapping[str, Result]) -> None:
    assert refused(results["both"]) == {"/etc/shadow", "/etc/debian_version"}, results["both"]


def test_the_log_names_the_namespace(results: Mapping[str, Result]) -> None:
    """The kernel logs the profile's name without its namespace, so refine takes the denials by the name."""
    lines = [denial for denial in results["both"].denials if denial.name == "/etc/shadow"]
    assert {(denial.profile, denial.fields.get("namespace")) for denial in lines} == {(NAME, f"root//{NAMESPACE}")}
