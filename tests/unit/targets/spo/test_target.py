"""spo.yaml: valid objects, with the rights of the seccomp profile."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.policy.making import call, rows, trace
from unit.targets.policies import file, policies, policy
from unit.targets.spo.crds import schema
from unit.trace.written import write_trace

from profiler.cli.main import cli
from profiler.errors import InputError
from profiler.policy.derive import derive
from profiler.policy.model import Options, Policy, Workload
from profiler.review.rights import Rights
from profiler.review.sources import from_bytes
from profiler.targets.rendering import render_one
from profiler.targets.spo.target import _seccomp, object_name
from profiler.trace.model import Syscall

VALIDATORS = {kind: jsonschema.Draft7Validator(schema(kind)) for kind in ("SeccompProfile", "AppArmorProfile")}
VALIDATORS["ProfileBinding"] = jsonschema.Draft7Validator(schema("ProfileBinding"))


def spo(policy: Policy, **chosen: str) -> bytes:
    return render_one("spo", policy, chosen).files[0].data


def objects(text: bytes) -> dict[str, dict[str, Any]]:
    """The objects by kind, of which each has one here but for bindings; all are valid."""
    found = {}
    for item in yaml.safe_load_all(text):
        VALIDATORS[item["kind"]].validate(item)
        found[item["metadata"]["name"] if item["kind"] == "ProfileBinding" else item["kind"]] = item
    return found


def rights(data: bytes, name: str) -> Rights:
    return from_bytes(data, name).rights("x86_64", None)


def same_rights(policy: Policy) -> None:
    """The SeccompProfile allows what seccomp.json does."""
    ours = rights(render_one("seccomp", policy).files[0].data, "seccomp.json")
    theirs = rights(spo(policy), "spo.yaml")
    assert (theirs.syscalls, theirs.default, theirs.abis) == (ours.syscalls, ours.default, ours.abis)


@given(
    rows(), st.sampled_from(["v1", "v1beta1"]), st.none() | st.sampled_from(["nginx:1.25", "r.io:5000/a/b@sha256:0"])
)
@settings(max_examples=25, deadline=None)
def test_valid_with_the_same_rights(seen: list[Syscall], api: str, image: str | None) -> None:
    made = derive(trace(*seen), Options())
    chosen = {"api": api, **({"image": image} if image else {})}
    found = objects(spo(made, **chosen))
    version = found["SeccompProfile"]["apiVersion"].partition("/")[2]
    assert version == api
    assert len(found) == 1 + bool(image)
    same_rights(made)


@given(policies())
@settings(max_examples=25, deadline=None)
def test_hostile_policies_give_valid_objects(made: Policy) -> None:
    found = objects(spo(made, image="a/b:1"))
    assert set(found) > {"SeccompProfile", "AppArmorProfile"}
    bound = {name: item["spec"]["profileRef"] for name, item in found.items() if item["kind"] == "ProfileBinding"}
    names = {kind: item["metadata"]["name"] for kind, item in found.items() if item["kind"] != "ProfileBinding"}
    assert {(row["kind"], row["name"]) for row in bound.values()} == set(names.items())


@pytest.mark.parametrize(
    ("workload", "expected"),
    [
        (Workload(("/usr/sbin/nginx", "-g"), 0), "nginx"),
        (Workload(("x",), 0, image="registry:5000/team/Web_App:1.2@sha256:ab"), "web-app"),
        (Workload(("/bin/\n..",), 0), "workload"),
        (Workload((), 0), "workload"),
        (Workload(("title: x",), 0, joined=("/usr/bin/redis-server",)), "redis-server"),
        (Workload(("a" * 300,), 0), "a" * 63),
    ],
)
def test_name(workload: Workload, expected: str) -> None:
    assert object_name(workload) == expected


@pytest.mark.parametrize("name", ["Web", "-web", "web.", "a..b", "w" * 64, "web\n", "", ".".join(["a" * 50] * 5)])
def test_a_name_that_no_object_can_have(name: str, tmp_path: Path) -> None:
    path = tmp_path / "app.trace.json"
    write_trace(trace(call("read")), path)
    done = CliRunner().invoke(cli, ["generate", str(path), "-t", "spo", "-O", f"spo.name={name}"])
    assert isinstance(done.exception, InputError)


def test_what_a_seccomp_profile_cannot_say() -> None:
    wide = {"index": 0, "value": (1 << 64) - 1, "valueTwo": 1 << 63, "op": "SCMP_CMP_MASKED_EQ"}
    rule = {"names": ["prctl"], "action": "SCMP_ACT_ALLOW", "args": [wide]}
    made, losses = _seccomp({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "syscalls": [rule]})
    assert made["syscalls"][0]["args"] == [{**wide, "value": (1 << 63) - 1, "valueTwo": 0}]
    assert [(loss.section, loss.effect) for loss in losses] == [("refused", "refused"), ("arguments", "wider")]
    with pytest.raises(InputError, match="cannot hold 18446744073709551615"):
        _seccomp({"syscalls": [{**rule, "args": [{**wide, "op": "SCMP_CMP_EQ"}]}]})


def test_without_evidence_of_files_there_is_no_apparmor_profile() -> None:
    made = render_one("spo", replace(policy(), has_files=False))
    assert set(objects(made.files[0].data)) == {"SeccompProfile"}
    assert [loss.item for loss in made.losses] == ["capabilities"]


def test_usage_names_the_paths_on_the_node() -> None:
    made = render_one("spo", policy(file("/a", "read")), {"name": "web"})
    lines = [step.line({"spo.yaml": "out dir/spo.yaml"}) for step in made.usage]
    assert any("kubectl apply -n NAMESPACE -f 'out dir/spo.yaml'" in line for line in lines)
    assert any("operator/web.json" in line and "localhostProfile: web}" in line for line in lines)


def test_coverage_is_written_and_read(tmp_path: Path) -> None:
    """In how many recordings a call was seen: by the annotation of the operator, both ways."""
    for name, seen in (("a", ["read", "mknod"]), ("b", ["read"]), ("c", ["read"])):
        write_trace(trace(*(call(one) for one in seen)), tmp_path / f"{name}.trace.json")
    traces = [str(tmp_path / f"{name}.trace.json") for name in "abc"]
    done = CliRunner().invoke(cli, ["generate", "-q", *traces, "-t", "spo"])
    assert done.exit_code == 0, done.output
    item = objects(done.stdout_bytes)["SeccompProfile"]
    coverage = json.loads(item["metadata"]["annotations"]["spo.x-k8s.io/syscall-coverage"])
    assert coverage == {"version": "v1", "total": 3, "syscalls": {"mknod": 1, "read": 3}}
    found = rights(done.stdout_bytes, "spo.yaml")
    assert found.reason("syscall", "x86_64", "mknod").because == ("seen in 1 of 3 recordings",)

    out = tmp_path / "out"
    CliRunner().invoke(cli, ["generate", "-q", *traces, "-o", str(out)], catch_exceptions=False)
    again = CliRunner().invoke(cli, ["generate", "-q", str(out), "-t", "spo"])
    assert again.stdout == done.stdout
    one = CliRunner().invoke(cli, ["generate", "-q", traces[0], "-t", "spo"])
    assert "annotations" not in one.stdout


def counted(total: object, read: object) -> str:
    return json.dumps({"version": "v1", "total": total, "syscalls": {"read": read}})


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "[]",
        '{"version": "v2", "total": 1, "syscalls": {}}',
        '{"version": "v1", "total": 1}',
        "[" * 100_000,
        counted(2, 3),
        counted(2, 0),
        counted(2, -1),
        counted(0, 0),
        counted(-1, -1),
        counted(True, True),
        counted(2, 1.5),
        counted(10**30, 1),
    ],
)
def test_coverage_that_cannot_be_read_is_not_used(text: str) -> None:
    item = {
        "kind": "SeccompProfile",
        "metadata": {"annotations": {"spo.x-k8s.io/syscall-coverage": text}},
        "spec": {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]},
    }
    found = rights(json.dumps(item).encode(), "file")
    assert found.reason("syscall", "x86_64", "read").because == ()
    assert any("syscall-coverage cannot be read" in note for note in found.notes)
