"""The union of SeccompProfiles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from inputs import examples
from unit.targets.spo.crds import schema

from profiler.cli.main import cli
from profiler.errors import InputError
from profiler.review.rights import Rights
from profiler.review.sources import from_bytes
from profiler.review.union import dumps, union

ALLOW, ERRNO = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"
COVERAGE = "spo.x-k8s.io/syscall-coverage"


def profile(*rules: dict[str, Any], default: str = ERRNO, coverage: Any = None, **spec: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": "web"}
    if coverage is not None:
        metadata["annotations"] = {COVERAGE: json.dumps(coverage)}
    spec = {"defaultAction": default, "architectures": ["SCMP_ARCH_X86_64"], "syscalls": list(rules), **spec}
    return {"kind": "SeccompProfile", "metadata": metadata, "spec": spec}


def rights(document: Any) -> Rights:
    return from_bytes(json.dumps(document).encode(), "file").rights("x86_64", None)


def merged(*documents: dict[str, Any]) -> dict[str, Any]:
    made = union([rights(document) for document in documents])
    jsonschema.Draft7Validator(schema("SeccompProfile")).validate(made)
    assert yaml.safe_load(dumps(made)) == made
    return made


def rule(name: str, *args: tuple[int, int], action: str = ALLOW, **members: Any) -> dict[str, Any]:
    listed = [{"index": index, "op": "SCMP_CMP_EQ", "value": value} for index, value in args]
    return {"names": [name], "action": action, **({"args": listed} if args else {}), **members}


ARGUMENTS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=2, unique_by=lambda row: row[0])
RULES = st.builds(lambda name, args: rule(name, *args), st.sampled_from(["read", "socket", "prctl"]), ARGUMENTS)
PROFILES = st.lists(RULES, max_size=4).map(lambda rules: profile(*rules))


@given(PROFILES, PROFILES, st.sampled_from(["read", "socket", "prctl"]), st.tuples(*[st.integers(0, 3)] * 3))
@settings(max_examples=examples(60), deadline=None)
def test_allows_what_one_of_them_allows(
    one: dict[str, Any], other: dict[str, Any], name: str, values: tuple[int, ...]
) -> None:
    from profiler.review.cubes import joined

    point = joined([*values, 0, 0, 0])

    def permits(document: dict[str, Any]) -> bool:
        return any(cube.has(point) for cube in rights(document).allowance("x86_64", name).cubes)

    assert permits(merged(one, other)) == (permits(one) or permits(other))
    assert merged(one, other)["spec"]["syscalls"] == merged(other, one)["spec"]["syscalls"]
    assert merged(one, one)["spec"] == merged(one)["spec"]


def test_other_members() -> None:
    one = profile(
        rule("ptrace", action=ERRNO, errnoRet=38), rule("bpf", action=ERRNO, errnoRet=1), default="SCMP_ACT_KILL"
    )
    other = profile(rule("bpf"), rule("ptrace", action=ERRNO, errnoRet=1))
    made = merged(one, other)
    assert made["spec"] == {
        "defaultAction": ERRNO,
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [
            {"action": ALLOW, "names": ["bpf"]},
            {"action": ERRNO, "names": ["ptrace"], "errnoRet": 38},
        ],
    }
    assert made["metadata"]["name"] == "web"


def test_counts_are_added_up() -> None:
    seen = {"version": "v1", "total": 3, "syscalls": {"read": 3, "mknod": 1, "gone": 2}}
    made = merged(profile(rule("read"), rule("mknod"), coverage=seen), profile(rule("read"), rule("write")))
    assert json.loads(made["metadata"]["annotations"][COVERAGE]) == {
        "version": "v1",
        "total": 4,
        "syscalls": {"mknod": 1, "read": 4, "write": 1},
    }


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (profile(default="SCMP_ACT_ALLOW"), "its default action does not refuse calls"),
        (profile(rule("read", (0, 1), action=ERRNO)), "refuses calls by their arguments"),
        (profile(rule("read", action="SCMP_ACT_LOG")), "has the action LOG"),
        (profile(rule("read"), baseProfileName="runc"), "have different base profiles"),
        (profile(architectures=["SCMP_ARCH_AARCH64"]), "SCMP_ARCH_X86_64, and file SCMP_ARCH_AARCH64: .* apart"),
        (profile(architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]), "the calls of one would be allowed"),
        (profile(architectures=[]), "and file that of each node alone"),
    ],
)
def test_what_cannot_be_combined(document: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=why):
        union([rights(profile()), rights(document)])


def test_the_command(tmp_path: Path) -> None:
    for name, call in (("a", "read"), ("b", "write")):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(profile(rule(call))))
    paths = [str(tmp_path / f"{name}.yaml") for name in "ab"]
    done = CliRunner().invoke(cli, ["merge", *paths], catch_exceptions=False)
    assert yaml.safe_load(done.stdout)["spec"]["syscalls"] == [{"action": ALLOW, "names": ["read", "write"]}]
    done = CliRunner().invoke(cli, ["merge", *paths, "-o", str(tmp_path / "c.yaml")], catch_exceptions=False)
    assert "merged 2 SeccompProfiles" in done.stderr
    assert CliRunner().invoke(cli, ["explain", str(tmp_path / "c.yaml"), "read"]).stdout.count("seen in 1 of 2") == 1
    for words in ([*paths, "--intersect"], [paths[0], __file__]):
        assert isinstance(CliRunner().invoke(cli, ["merge", *words]).exception, InputError)
