"""Why a profile from elsewhere allows something."""

from __future__ import annotations

import json
from typing import Any

import pytest

from profiler.errors import InputError
from profiler.review.explain_profile import ProfileExplainer
from profiler.review.sources import from_bytes


def explainer(*rules: dict[str, Any], **members: Any) -> ProfileExplainer:
    profile = {"defaultAction": "SCMP_ACT_ERRNO", "archMap": [{"architecture": "SCMP_ARCH_X86_64"}], **members}
    source = from_bytes(json.dumps({**profile, "syscalls": list(rules)}).encode(), "profile.json")
    return ProfileExplainer(source.rights("x86_64", None))


def rule(*names: str, action: str = "ALLOW", **members: Any) -> dict[str, Any]:
    return {"names": list(names), "action": f"SCMP_ACT_{action}", **members}


def facts(found: ProfileExplainer, item: str) -> dict[str, str]:
    (row,) = found.explain(item)
    return dict(row.facts)


def test_the_rules_for_a_call() -> None:
    found = explainer(rule("read", "write"), rule("ptrace", action="ERRNO", errnoRet=38))
    (row,) = found.explain("read")
    assert (row.kind, row.item, row.verdict, row.where) == ("syscall", "read", "allowed", "syscalls[0]")
    assert row.risk is not None
    (row,) = found.explain("syscall:ptrace")
    assert (row.verdict, row.where) == ("not allowed", "")
    assert facts(found, "ptrace")["rule"] == "syscalls[1]: ERRNO (errno 38)"
    assert facts(found, "reboot")["because"] == "no rule names it, and the default action is ERRNO"


def test_conditions_are_in_words() -> None:
    found = explainer(rule("socket", args=[{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]))
    assert facts(found, "socket")["allowed"] == "domain AF_UNIX"


def test_an_abi_that_the_profile_does_not_list() -> None:
    assert facts(explainer(rule("read")), "i386:read")["because"] == "the profile refuses all calls of i386"
    with pytest.raises(InputError, match="unknown ABI 'vax'"):
        explainer().explain("syscall:vax:read")


def test_capabilities_that_the_file_does_not_list() -> None:
    (row,) = explainer().explain("chown")[1:]
    assert (row.item, row.verdict) == ("CAP_CHOWN", "not listed")


@pytest.mark.parametrize("item", ["/etc/passwd", "{home}/x", "exec:/bin/sh", "socket:unix", "signal:TERM"])
def test_what_such_a_profile_says_nothing_of(item: str) -> None:
    with pytest.raises(InputError, match="a seccomp profile, which says nothing of"):
        explainer().explain(item)


def test_names_that_look_alike() -> None:
    assert explainer().explain("opnat") == []
    assert "openat" in explainer().suggestions("opnat")
    assert "CAP_SYS_ADMIN" in explainer().suggestions("capability:sys_admn")
