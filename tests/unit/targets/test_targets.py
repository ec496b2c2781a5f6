"""Every target's files: valid for any input, and saying what the policy says."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import jsonschema
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from inputs import examples
from unit.policy.making import call, check, rows, trace
from unit.trace.strategies import traces

from profiler.errors import InputError
from profiler.kernel.syscalls import known_names
from profiler.policy.derive import derive
from profiler.policy.model import Options, Policy
from profiler.targets.apparmor.naming import profile_name
from profiler.targets.catalogue import TARGETS
from profiler.targets.rendering import render
from profiler.targets.seccomp import DEFAULT_ACTIONS
from profiler.trace.model import Syscall

CAPABILITY = {"type": "string", "pattern": "^CAP_[A-Z_]+$"}
SECCOMP = {
    "type": "object",
    "additionalProperties": False,
    "required": ["defaultAction", "architectures", "syscalls"],
    "properties": {
        "defaultAction": {"enum": ["SCMP_ACT_ERRNO", "SCMP_ACT_LOG", "SCMP_ACT_KILL_PROCESS"]},
        "defaultErrnoRet": {"const": 1},
        "architectures": {
            "type": "array",
            "minItems": 1,
            "uniqueItems": True,
            "items": {
                "enum": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
            },
        },
        "syscalls": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["names", "action"],
                "properties": {
                    "names": {
                        "type": "array",
                        "minItems": 1,
                        "uniqueItems": True,
                        "items": {"type": "string", "pattern": "^[a-z0-9_]+$"},
                    },
                    "action": {"enum": ["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"]},
                    "errnoRet": {"type": "integer", "minimum": 1, "maximum": 511},
                    "args": {
                        "type": "array",
                        "minItems": 1,
                        "items": {
                            "type": "object",
                            "additionalProperties": False,
                            "required": ["index", "value", "valueTwo", "op"],
                            "properties": {
                                "index": {"type": "integer", "minimum": 0, "maximum": 5},
                                "value": {"type": "integer", "minimum": 1, "maximum": 0xFFFFFFFF},
                                "valueTwo": {"type": "integer", "minimum": 0, "maximum": 0xFFFFFFFF},
                                "op": {"const": "SCMP_CMP_MASKED_EQ"},
                            },
                        },
                    },
                },
                "if": {"properties": {"action": {"const": "SCMP_ACT_ERRNO"}}},
                "then": {"required": ["errnoRet"]},
                "else": {"not": {"required": ["errnoRet"]}},
            },
        },
    },
}
SETS = {
    "type": "object",
    "additionalProperties": False,
    "required": ["bounding", "effective", "permitted", "inheritable", "ambient"],
    "properties": {
        name: {"type": "array", "items": CAPABILITY, "uniqueItems": True}
        for name in ("bounding", "effective", "permitted", "inheritable", "ambient")
    },
}


def check_seccomp(profile: dict[str, Any]) -> None:
    jsonschema.validate(profile, SECCOMP)
    assert ("defaultErrnoRet" in profile) is (profile["defaultAction"] == "SCMP_ACT_ERRNO")
    kinds: dict[str, set[str]] = {}
    for rule in profile["syscalls"]:
        assert rule["names"] == sorted(rule["names"])
        for name in rule["names"]:
            assert name in known_names()
            kinds.setdefault(name, set()).add("args" if "args" in rule else rule["action"])
    # Allowed outright, by argument, or refused: never two of these for one name.
    assert all(len(kind) == 1 for kind in kinds.values()), kinds


def check_sets(sets: dict[str, list[str]]) -> None:
    jsonschema.validate(sets, SETS)
    assert set(sets["effective"]) <= set(sets["permitted"]) <= set(sets["bounding"])
    assert set(sets["ambient"]) <= set(sets["permitted"]) & set(sets["inheritable"])


def render_all(policy: Policy, action: str = "errno") -> dict[str, bytes]:
    """Everything that can be rendered: a policy from a recording without files has no AppArmor profile, no SELinux
    type, no labels, no hashes and no domains of TOMOYO."""
    without = ("apparmor", "selinux", "smack", "ima", "tomoyo")
    targets = [target for target in TARGETS if target.name not in without or policy.has_files]
    made = render(policy, targets, {"seccomp": {"action": action}, "ima": {"root": os.path.dirname(__file__)}})
    return {file.name: file.data for file in made.files}


def check_files(files: dict[str, bytes], policy: Policy) -> None:
    made = {"seccomp.json", "capabilities.json", "config.json", "docker-run.sh", "compose.yaml", "podman-run.sh"} | {
        "spo.yaml"
    }
    assert set(files) >= made | ({"apparmor.profile"} if policy.has_files else set())
    profile = json.loads(files["seccomp.json"])
    check_seccomp(profile)
    capabilities = json.loads(files["capabilities.json"])
    assert capabilities["drop"] == ["ALL"]
    assert capabilities["add"] == list(policy.needed())
    check_sets(capabilities["oci"])
    fragment = json.loads(files["config.json"])
    assert fragment["linux"]["seccomp"] == profile
    assert fragment["process"]["capabilities"] == capabilities["oci"]
    assert fragment["process"]["noNewPrivileges"] is policy.no_new_privs
    service = yaml.safe_load(files["compose.yaml"])["services"]["app"]
    assert service["cap_drop"] == ["ALL"]
    assert [f"CAP_{name}" for name in service.get("cap_add", [])] == list(policy.needed())
    assert ("no-new-privileges:true" in service["security_opt"]) is policy.no_new_privs
    name = profile_name(policy)
    assert (f"apparmor:{name}" in service["security_opt"]) is policy.has_files
    assert fragment["process"].get("apparmorProfile") == (name if policy.has_files else None)
    for script in ("docker-run.sh", "podman-run.sh", "nerdctl-run.sh"):
        assert (f"--security-opt apparmor={name} " in files[script].decode()) is policy.has_files
        done = subprocess.run(["sh", "-n"], input=files[script], capture_output=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
    listed = files.get("ima.sha256") or b"\n"  # no file of the root was executed
    for content in (
        listed,
        *(data for name, data in files.items() if not name.startswith(("seccomp.oci/", "ima.sha"))),
    ):
        assert content.endswith(b"\n")
        assert not content.endswith(b"\n\n")


CHECKS = st.lists(
    st.sampled_from(["CAP_CHOWN", "CAP_NET_BIND_SERVICE", "CAP_SYS_ADMIN", "CAP_63"]).map(check),
    unique_by=lambda row: row.capability,
)


@given(rows(), CHECKS, st.sampled_from(sorted(DEFAULT_ACTIONS)), st.booleans(), st.sampled_from([0, 1000]))
@settings(max_examples=examples(40), deadline=None)
def test_valid_and_consistent(seen: list[Syscall], checks: list[Any], action: str, nnp: bool, uid: int) -> None:
    policy = derive(trace(*seen, capabilities=checks, uid=uid), Options(no_new_privs=nnp))
    check_files(render_all(policy, action), policy)


@given(traces())
@settings(max_examples=examples(40), deadline=None)
def test_valid_for_hostile_traces(recording: Any) -> None:
    try:
        policy = derive(recording, Options())
    except InputError:
        return
    check_files(render_all(policy), policy)


def test_same_input_same_bytes() -> None:
    seen = [call("socket", [(2, 1, 0), (1, 1, 0)]), call("read"), call("mmap", [(5,)])]
    first = render_all(derive(trace(*seen), Options()))
    assert first == render_all(derive(trace(*reversed(seen)), Options()))
