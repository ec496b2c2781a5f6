"""lint --for kep-6061."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from unit.policy.making import call, check, trace

from profiler.cli.main import cli
from profiler.errors import InputError
from profiler.policy.derive import derive
from profiler.policy.document import dumps
from profiler.policy.model import Options
from profiler.review.artifact import RULES, report
from profiler.review.findings import Report
from profiler.review.sources import open_source
from profiler.review.yardsticks import BASELINES, named
from profiler.review.yardsticks import baseline as baseline_of
from profiler.targets.rendering import render_one

POLICY = derive(trace(call("read"), call("socket", [(2, 1, 0)]), call("mount")), Options(runtime="none"))


def checked(path: Path, baseline: str | None = None) -> Report:
    return report(open_source(path), None if baseline is None else baseline_of(baseline))


def found(made: Report) -> set[tuple[str, str, tuple[str, ...]]]:
    return {(finding.rule, finding.level, finding.about) for finding in made.findings}


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(dumps(POLICY))
    return path


def written(path: Path, *rows: Any, **members: Any) -> Path:
    path.write_text(json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rows, **members}, indent=1))
    return path


def test_what_is_pushed_of_a_policy_breaks_no_rule(policy: Path) -> None:
    assert found(checked(policy)) == set()


def test_what_is_left_of_a_policy(policy: Path) -> None:
    made = checked(policy, "docker-default")
    assert found(made) == {
        ("artifact-baseline", "warning", ("mount",)),
        ("artifact-narrowed", "note", ("socket",)),
    }
    assert made.data == {"for": "kep-6061", "baseline": "docker-default"}
    assert {finding.rule for finding in made.findings} <= RULES.keys()
    (narrowed,) = (finding for finding in made.findings if finding.level == "note")
    assert "domain below AF_ALG" in narrowed.what


def test_capabilities_open_calls_of_the_baseline(tmp_path: Path) -> None:
    seen = trace(call("mount"), capabilities=[check("CAP_SYS_ADMIN")])
    path = tmp_path / "policy.yaml"
    path.write_text(dumps(derive(seen, Options(runtime="none"))))
    assert not any("mount" in finding.about for finding in checked(path, "docker-default").findings)


def test_the_generated_profile_itself_loses_calls(tmp_path: Path) -> None:
    path = tmp_path / "seccomp.json"
    path.write_bytes(render_one("seccomp", POLICY).files[0].data)
    assert ("artifact-merge", "error", ("socket",)) in found(checked(path, "docker-default"))


def test_rules_of_a_stranger(tmp_path: Path) -> None:
    rows = ({"names": ["read"], "action": "SCMP_ACT_NOTIFY"}, {"names": ["write"], "action": "SCMP_ACT_ALLOW"})
    made = checked(written(tmp_path / "a.json", *rows, listenerPath="/run/x"), "docker-default")
    assert [(finding.rule, finding.where) for finding in made.findings] == [
        ("artifact-listener", "syscalls[0].action"),
        ("artifact-listener", "listenerPath"),
    ]
    assert made.failures
    assert made.findings[1].line > 1


def test_several_rules_of_two_conditions(tmp_path: Path) -> None:
    def tests(*values: int) -> list[dict[str, Any]]:
        return [{"index": index, "value": value, "op": "SCMP_CMP_EQ"} for index, value in enumerate(values)]

    rows = [{"names": ["splice"], "action": "SCMP_ACT_ALLOW", "args": tests(1, value)} for value in (1, 2)]
    made = checked(written(tmp_path / "a.json", *rows))
    assert found(made) == {("artifact-merge", "error", ("splice",))}


def test_some_of_the_arguments(tmp_path: Path) -> None:
    def row(value: int) -> dict[str, Any]:
        test = {"index": 0, "value": value, "op": "SCMP_CMP_EQ"}
        return {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [test]}

    made = checked(written(tmp_path / "a.json", row(0), row(0x4000000)), "docker-default")
    assert found(made) == {("artifact-baseline", "warning", ("personality",))}


def test_conditions_that_are_alternatives(tmp_path: Path) -> None:
    """The merge takes them, as each one alone can be merged: the call would be allowed with any argument."""

    def entry(*operators: str) -> dict[str, Any]:
        tests = [{"index": 0, "op": f"SCMP_CMP_{word}", "value": 3} for word in operators]
        return {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": tests}

    expected = {("artifact-alternatives", "warning", ("read",))}
    for baseline in (None, "docker-default"):
        assert found(checked(written(tmp_path / "a", entry("GE", "LE")), baseline)) == expected
        assert found(checked(written(tmp_path / "a", entry("GE"), entry("LE")), baseline)) == set()


def test_a_baseline_must_be_a_seccomp_profile(tmp_path: Path, policy: Path) -> None:
    with pytest.raises(InputError, match="is not a seccomp profile, which a runtime merges"):
        checked(policy, str(policy))
    done = CliRunner().invoke(cli, ["lint", str(policy), "--for", "kep-6061", "--baseline", str(tmp_path)])
    assert f"{tmp_path}/seccomp.json" in str(done.exception)


def test_a_baseline_that_is_a_file(tmp_path: Path, policy: Path) -> None:
    everything = written(tmp_path / "all.json", defaultAction="SCMP_ACT_ALLOW")
    assert found(checked(policy, str(everything))) == set()


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_baselines(name: str, policy: Path) -> None:
    """Calls that every engine allows to a plain container, and some that none does. Podman's allows mount: rootless
    containers may need it."""
    assert (("artifact-baseline", "warning", ("mount",)) in found(checked(policy, name))) is (name != "podman-default")
    rights = baseline_of(name).rights("x86_64", frozenset())
    assert rights.capabilities == frozenset()
    for call_, allowed in (("read", True), ("execve", True), ("futex", True), ("kexec_load", False), ("bpf", False)):
        assert rights.allowance("x86_64", call_).refused is not allowed, call_
    assert not baseline_of(name).rights("x86_64", frozenset({"CAP_SYS_ADMIN"})).allowance("x86_64", "mount").refused


def test_what_no_artifact_holds(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"ociVersion": "1.0.2", "linux": {}}')
    with pytest.raises(InputError, match="neither a policy nor a seccomp profile"):
        checked(path)
    with pytest.raises(InputError, match="neither"):
        report(named("docker-default"), None)
