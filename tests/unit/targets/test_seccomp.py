"""What the seccomp profile says of a policy."""

from __future__ import annotations

import pytest
from unit.policy.making import call, trace
from unit.targets.rendered import seccomp

from profiler.policy.derive import derive
from profiler.policy.model import Options
from profiler.targets.rendering import render_one
from profiler.targets.seccomp import DEFAULT_ACTIONS


def test_sections_are_rules_apart() -> None:
    made = seccomp(derive(trace(call("newfstatat")), Options(runtime="crun")))
    observed, equivalents, companions, base = (rule["names"] for rule in made["syscalls"][:4])
    assert observed == ["newfstatat"]
    assert "statx" in equivalents
    assert "lseek" in companions
    assert base == ["close", "close_range", "execve"]


def test_sub_architectures_only_when_seen() -> None:
    assert seccomp(derive(trace(call("read")), Options()))["architectures"] == ["SCMP_ARCH_X86_64"]
    both = seccomp(derive(trace(call("read"), call("read", abi="i386")), Options()))
    assert both["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    arm = seccomp(derive(trace(call("read", abi="aarch64"), arch="aarch64"), Options()))
    assert arm["architectures"] == ["SCMP_ARCH_AARCH64"]


@pytest.mark.parametrize(("action", "oci"), sorted(DEFAULT_ACTIONS.items()))
def test_default_action(action: str, oci: str) -> None:
    made = seccomp(derive(trace(call("read")), Options(runtime="none")), action)
    assert made["defaultAction"] == oci
    assert {"clone3", "statx"} <= {
        name for rule in made["syscalls"] if rule["action"] == "SCMP_ACT_ERRNO" for name in rule["names"]
    }


def test_unfiltered_in_one_section_means_no_rules_at_all() -> None:
    made = seccomp(derive(trace(call("prctl")), Options(no_new_privs=False)))
    assert [rule for rule in made["syscalls"] if "prctl" in rule["names"]] == [made["syscalls"][0]]


def test_names_that_another_abi_opens_are_a_loss() -> None:
    made = derive(trace(call("read"), call("chroot", abi="i386"), call("waitpid", abi="i386")), Options(runtime="none"))
    losses = [loss for loss in render_one("seccomp", made).losses if "chroot" in loss.item]
    assert [(loss.section, loss.effect) for loss in losses] == [("syscalls", "wider")]
    assert "waitpid" not in losses[0].item, "x86_64 has no such call"
    assert render_one("seccomp", derive(trace(call("read")), Options())).losses == ()
