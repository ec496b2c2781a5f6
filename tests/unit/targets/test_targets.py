"""Every target's files: valid for any input, and saying what the policy says."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.policy.making import call, check, rows, trace
from unit.trace.strategies import traces

from profiler.errors import InputError
from profiler.kernel.syscalls import known_names
from profiler.policy.derive import derive
from profiler.policy.model import Options, Policy
from profiler.targets.apparmor.profile import profile_name
from profiler.targets.base import Existing
from profiler.targets.catalogue import TARGETS, find
from profiler.targets.rendering import render, render_one
from profiler.targets.seccomp import DEFAULT_ACTIONS
from profiler.trace.model import Container, Syscall

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
    """Everything that can be rendered: a policy from a recording without files has no AppArmor profile."""
    targets = [target for target in TARGETS if target.name != "apparmor" or policy.has_files]
    made = render(policy, targets, {"seccomp": {"action": action}})
    return {file.name: file.data for file in made.files}


def check_files(files: dict[str, bytes], policy: Policy) -> None:
    made = {"seccomp.json", "capabilities.json", "config.json", "docker-run.sh", "compose.yaml"}
    assert set(files) == made | ({"apparmor.profile"} if policy.has_files else set())
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
    assert (f"--security-opt apparmor={name} " in files["docker-run.sh"].decode()) is policy.has_files
    done = subprocess.run(["sh", "-n"], input=files["docker-run.sh"], capture_output=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    for content in files.values():
        assert content.endswith(b"\n")
        assert not content.endswith(b"\n\n")


CHECKS = st.lists(
    st.sampled_from(["CAP_CHOWN", "CAP_NET_BIND_SERVICE", "CAP_SYS_ADMIN", "CAP_63"]).map(check),
    unique_by=lambda row: row.capability,
)


@given(rows(), CHECKS, st.sampled_from(sorted(DEFAULT_ACTIONS)), st.booleans(), st.sampled_from([0, 1000]))
@settings(max_examples=40, deadline=None)
def test_valid_and_consistent(seen: list[Syscall], checks: list[Any], action: str, nnp: bool, uid: int) -> None:
    policy = derive(trace(*seen, capabilities=checks, uid=uid), Options(no_new_privs=nnp))
    check_files(render_all(policy, action), policy)


@given(traces())
@settings(max_examples=40, deadline=None)
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


def test_unknown_target() -> None:
    with pytest.raises(InputError, match="unknown target 'x': one of seccomp"):
        find("x")
    with pytest.raises(InputError, match=r"unknown target 'secomp' \(did you mean seccomp\?\)"):
        find("secomp")


def seccomp(policy: Policy, action: str = "errno") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(render_one("seccomp", policy, {"action": action}).files[0].data)
    return found


def test_sections_are_rules_apart() -> None:
    made = seccomp(derive(trace(call("newfstatat")), Options(runtime="crun")))
    first, second, third = (rule["names"] for rule in made["syscalls"][:3])
    assert first == ["newfstatat"]
    assert "statx" in second
    assert third == ["close", "close_range", "execve"]


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


def test_ambient_sets_only_for_users_other_than_root() -> None:
    def sets(uid: int) -> dict[str, list[str]]:
        policy = derive(trace(call("bind"), capabilities=[check("CAP_NET_BIND_SERVICE")], uid=uid), Options())
        found: dict[str, list[str]] = json.loads(render_one("capabilities", policy).files[0].data)["oci"]
        return found

    assert sets(0)["ambient"] == sets(0)["inheritable"] == []
    assert sets(33)["ambient"] == sets(33)["inheritable"] == sets(33)["bounding"] == ["CAP_NET_BIND_SERVICE"]


# docker.


def docker(policy: Policy) -> dict[str, bytes]:
    return {file.name: file.data for file in render_one("docker", policy).files}


def test_the_script_runs_the_engine_with_the_options(tmp_path: Path) -> None:
    """The script itself, under sh, with an engine that prints its arguments, from a directory with an awkward name."""
    policy = derive(
        trace(call("bind"), capabilities=[check("CAP_NET_BIND_SERVICE")], argv=("a\n`id`", "'\udcff")), Options()
    )
    place = tmp_path / "a 'b\" $c"
    place.mkdir()
    script = place / "docker-run.sh"
    script.write_bytes(docker(policy)["docker-run.sh"])
    engine = tmp_path / "engine"
    engine.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    engine.chmod(0o755)
    done = subprocess.run(
        ["sh", str(script), "--rm", "image", "a b"],
        env={**os.environ, "PROFGEN_ENGINE": str(engine)},
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "run",
        "--security-opt",
        f"seccomp={place}/seccomp.json",
        "--security-opt",
        "no-new-privileges",
        "--cap-drop",
        "ALL",
        "--cap-add",
        "NET_BIND_SERVICE",
        "--rm",
        "image",
        "a b",
    ]


def test_the_image_is_named() -> None:
    container = Container("docker", "runc", "1", "db", "redis:7\n`id`", "sha256:12")
    files = docker(derive(trace(call("read"), container=container), Options()))
    for name in ("docker-run.sh", "compose.yaml"):
        assert "# Recorded in a container of redis:7\\n`id` (sha256:12).\n" in files[name].decode()


def test_docker_brings_the_profile_it_names() -> None:
    policy = derive(trace(call("read")), Options())
    made = render(policy, [find("docker")])
    assert [file.name for file in made.files] == ["docker-run.sh", "compose.yaml", "seccomp.json"]
    assert [file.executable for file in made.files] == [True, False, False]


# oci: rewriting a given config.json.

POLICY = derive(trace(call("read"), capabilities=[check("CAP_KILL")]), Options())


def rewrite(text: str | bytes, policy: Policy = POLICY) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return render_one("oci", policy, existing=Existing("config.json", data)).files[0].data


def expected(document: dict[str, Any], policy: Policy = POLICY) -> dict[str, Any]:
    uid = document.get("process", {}).get("user", {}).get("uid", policy.workload.uid)
    needed = list(policy.needed())
    kept = needed if uid else []
    sets = {"bounding": needed, "effective": needed, "permitted": needed, "inheritable": kept, "ambient": kept}
    return {
        **document,
        "process": {**document.get("process", {}), "capabilities": sets, "noNewPrivileges": policy.no_new_privs},
        "linux": {**document.get("linux", {}), "seccomp": seccomp(policy)},
    }


SPEC: dict[str, Any] = {
    "ociVersion": "1.0.2",
    "process": {
        "terminal": True,
        "user": {"uid": 5, "gid": 0},
        "args": ["sh", 'a"}{\\'],
        "capabilities": {"bounding": ["CAP_X"]},
        "noNewPrivileges": False,
    },
    "root": {"path": "rootfs"},
    "linux": {
        "resources": {"devices": [{"allow": False}]},
        "seccomp": {"defaultAction": "SCMP_ACT_ALLOW"},
        "namespaces": [],
    },
}


@pytest.mark.parametrize("indent", [None, 1, 2, 4, "\t"])
def test_rewrites_in_place(indent: int | str | None) -> None:
    text = json.dumps(SPEC, indent=indent)
    made = rewrite(text).decode()
    assert json.loads(made) == expected(SPEC)
    # Everything before, between and after the three values is the same text.
    kept = re.split(r'"capabilities": |"noNewPrivileges": |"seccomp": ', text)
    assert made.startswith(kept[0])
    assert made.endswith(text[text.index('"namespaces"') :])
    assert text[text.index('"root"') : text.index('"seccomp"')] in made
    if indent is not None:
        # The new parts have the file's own indentation.
        assert made == json.dumps(json.loads(made), indent=indent)


def test_line_ends_and_odd_spacing_are_kept() -> None:
    text = (
        '\r\n{ "a" :1 ,\r\n  "process":{\r\n    "user" : {"uid":0}\r\n  },"linux" :{ } , "é\\u00e9": 1.50E+1 }\r\n\r\n'
    )
    made = rewrite(text).decode()
    assert json.loads(made) == expected(json.loads(text))
    assert made.startswith('\r\n{ "a" :1 ,\r\n  "process":{\r\n    "user" : {"uid":0}')
    assert made.endswith(' , "é\\u00e9": 1.50E+1 }\r\n\r\n')
    assert "\n" not in made.replace("\r\n", "")


def test_missing_parts_are_added() -> None:
    for text in (
        "{}",
        '{"process": {}}',
        '{\n  "linux": {}\n}',
        '{\n  "ociVersion": "1"\n}',
        "{\n}",
        ' {"a": [1, {"process": 2}]} ',
    ):
        assert json.loads(rewrite(text)) == expected(json.loads(text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be rewritten"),
        ("{", "cannot be rewritten"),
        ("[]", "not a JSON object"),
        ("5", "not a JSON object"),
        ('{"process": []}', "process is not an object"),
        ('{"defaultAction": "SCMP_ACT_ERRNO"}', "not an OCI config.json"),
        ('{"schema": "profgen.trace/1"}', "not an OCI config.json"),
        ('{"linux": null}', "linux is not an object"),
        ('{"a": 1, "a": 2}', "'a' is given twice"),
        ('{"process": {"user": {"uid": 1, "uid": 2}}}', "'uid' is given twice"),
        ('{"a": NaN}', "NaN"),
        ('{"a": 1} x', "follows"),
        ("{'a': 1}", "cannot be rewritten"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b"\xef\xbb\xbf{}", "cannot be rewritten"),
        ("[" * 100_000, "cannot be rewritten"),
        ('{"a\\nb": 1, "a\\nb": 2}', "given twice"),
    ],
)
def test_what_cannot_be_rewritten_is_refused(text: str | bytes, message: str) -> None:
    with pytest.raises(InputError) as caught:
        rewrite(text)
    assert message in str(caught.value)
    assert str(caught.value).startswith("config.json: ")
    assert "\n" not in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
OBJECT = st.dictionaries(st.text(max_size=8), JSON, max_size=3)


@given(
    OBJECT,
    st.none() | OBJECT,
    st.none() | OBJECT,
    st.sets(st.sampled_from(["capabilities", "noNewPrivileges", "seccomp"])),
    st.sampled_from([None, 0, 1, 3, "\t"]),
    st.booleans(),
)
@settings(deadline=None)
def test_any_document(
    outer: dict[str, Any],
    process: dict[str, Any] | None,
    linux: dict[str, Any] | None,
    present: set[str],
    indent: Any,
    ascii_only: bool,
) -> None:
    document = {key: value for key, value in outer.items() if key not in ("process", "linux")}
    if process is not None:
        old = {key: [1, {"x": "}"}] for key in present - {"seccomp"}}
        document["process"] = {**{key: value for key, value in process.items() if key != "user"}, **old, "last": 1}
    if linux is not None:
        document["linux"] = {**({"seccomp": {"a": '"'}} if "seccomp" in present else {}), **linux}
    text = json.dumps(document, indent=indent, ensure_ascii=ascii_only)
    assert json.loads(rewrite(text.encode("utf-8", "replace"))) == expected(json.loads(text.encode("utf-8", "replace")))


@pytest.mark.parametrize(
    ("image", "line"),
    [
        ("registry.example:5000/a/web:1.2", "${IMAGE:-registry.example:5000/a/web:1.2}"),
        ("x}$(id)", "${IMAGE:?set IMAGE to the image to run}"),
        (None, "${IMAGE:?set IMAGE to the image to run}"),
    ],
)
def test_compose_takes_the_image_that_was_recorded(image: str | None, line: str) -> None:
    made = derive(trace(call("read"), argv=("sh", "-c", "a  b\n")), Options())
    made = replace(made, workload=replace(made.workload, image=image))
    files = docker(made)
    assert yaml.safe_load(files["compose.yaml"])["services"]["app"]["image"] == line
    assert b"rights of: sh -c 'a  b" in files["docker-run.sh"], "as one types it"
