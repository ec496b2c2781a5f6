"""profgen score as a user calls it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from unit.cli import running
from unit.policy.making import call, check, trace
from unit.trace.written import write_trace

from profiler.kernel.cves import cves
from profiler.policy.derive import derive
from profiler.policy.document import dumps
from profiler.policy.model import Options


def profgen(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return running.profgen("score", *arguments, **options)


def example() -> object:
    return trace(
        call("read"),
        call("write"),
        call("execve"),
        call("socket", [(2, 1, 0)]),
        call("clone", [(0x1200000,)]),
        call("chown"),
        capabilities=[check("CAP_NET_BIND_SERVICE")],
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("score")
    recording = example()
    write_trace(recording, directory / "app.trace.json")  # type: ignore[arg-type]
    (directory / "policy.yaml").write_text(dumps(derive(recording, Options())))  # type: ignore[arg-type]
    (directory / "names").mkdir()
    (directory / "names" / "policy.yaml").write_text(dumps(derive(recording, Options(arguments=False))))  # type: ignore[arg-type]
    rules = [{"names": ["read", "socket"], "action": "SCMP_ACT_ALLOW"}]
    profile = {"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": rules}
    (directory / "seccomp.json").write_text(json.dumps(profile))
    return directory


def points(*arguments: str | Path) -> int:
    done = profgen("--json", *arguments)
    assert done.returncode == 0, done.stderr
    found: int = json.loads(done.stdout)["score"]
    return found


def test_one_file(files: Path) -> None:
    done = profgen(files / "policy.yaml")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"{files / 'policy.yaml'}: {points(files / 'policy.yaml')} of 100"
    assert any(line.startswith("capabilities held") and line.endswith("1 of 41") for line in lines)
    assert "capabilities held: CAP_NET_BIND_SERVICE" in lines
    assert any("neither CAP_NET_ADMIN nor a new user namespace" in line for line in lines)
    assert "CVE-2024-1086" not in done.stdout
    assert max(len(line) for line in lines) <= 110
    assert done.stderr == ""


def test_verbose_names_every_cve_and_call(files: Path) -> None:
    text = profgen("-v", files / "policy.yaml").stdout
    assert all(cve.identifier in text for cve in cves())
    assert "filtered arguments:" in text
    assert all(f" {name}" in text for name in ("chown", "execve"))
    assert max(len(line) for line in text.splitlines()) <= 110


def test_beside_others(files: Path) -> None:
    names = files / "names" / "policy.yaml"
    done = profgen(files / "policy.yaml", "--compare", "unconfined", "--compare", "docker-default", "--compare", names)
    assert done.returncode == 0, done.stderr
    head, scores = done.stdout.splitlines()[:2]
    assert head.split() == [f"{files.name}/policy.yaml", "unconfined", "docker-default", "names/policy.yaml"]
    numbers = [int(word) for word in scores.split()[1:]]
    assert numbers[1] == 0 < numbers[2] < numbers[3] < numbers[0]
    assert "open here and not in docker-default:" in done.stdout
    assert "moby/profiles" in done.stdout


def test_json(files: Path) -> None:
    done = profgen(files / "policy.yaml", "--compare", "docker-default", "--json")
    data = json.loads(done.stdout)
    assert data["abi"] == "x86_64"
    assert data["capabilities"] == {"held": ["CAP_NET_BIND_SERVICE"], "assumed": False}
    assert len(data["cves"]["blocked"]) + len(data["cves"]["reachable"]) == len(cves())
    other = data["compared"][0]
    assert other["name"] == "docker-default"
    assert other["score"] < data["score"]
    assert other["open_here_only"]["syscalls"] == []


@pytest.mark.parametrize(("least", "status"), [("0", 0), ("same", 0), ("more", 1), ("100", 1)])
def test_a_least_score(files: Path, least: str, status: int) -> None:
    own = points(files / "policy.yaml")
    wanted = {"same": own, "more": own + 1}.get(least, least)
    done = profgen(files / "policy.yaml", "--not-below", str(wanted))
    assert done.returncode == status
    assert done.stdout.startswith(str(files))
    assert done.stderr == ("" if status == 0 else f"profgen: the score is {own}, below {wanted}\n")


def test_not_below_another_file(files: Path) -> None:
    names, policy = files / "names" / "policy.yaml", files / "policy.yaml"
    assert profgen(policy, "--not-below", names).returncode == 0
    assert profgen(policy, "--not-below", files).returncode == 0, "the directory of a policy stands for it"
    done = profgen(names, "--not-below", policy)
    assert done.returncode == 1
    assert "profgen: calls with unfiltered arguments: " in done.stderr
    assert profgen(names, "--not-below", policy, "--fail-on", "never").returncode == 0
    assert profgen(policy, "--fail-on", "note").returncode == 1


def test_badge(files: Path) -> None:
    found = json.loads(profgen(files / "policy.yaml", "-f", "badge").stdout)
    assert found["message"] == f"{points(files / 'policy.yaml')} of 100"


def test_capabilities_for_a_file_that_says_nothing_of_them(files: Path) -> None:
    file = files / "seccomp.json"
    assert points(file) == points(file, "--capabilities", "docker")
    assert points(file, "--capabilities", "all") < points(file) < points(file, "--capabilities", "none")
    assert points(file, "--capabilities", "chown,CAP_KILL") > points(file)
    assert "capabilities held (assumed):" in profgen(file).stdout
    policy = files / "policy.yaml"
    assert points(policy, "--capabilities", "all") == points(policy), "a policy says what it needs"


def test_a_trace_is_scored_for_what_it_needs(files: Path) -> None:
    assert points(files / "app.trace.json") >= points(files / "policy.yaml")


def test_trouble(files: Path, tmp_path: Path) -> None:
    (tmp_path / "not.json").write_text('{"a": 1}')
    for arguments in (
        [tmp_path / "none.json"],
        [tmp_path / "not.json"],
        [files / "policy.yaml", "--compare", tmp_path / "none.json"],
        [files / "policy.yaml", "--not-below", "101"],
        [files / "policy.yaml", "--not-below", tmp_path / "none.json"],
        [files / "seccomp.json", "--capabilities", "CAP_NOSUCH"],
        [],
    ):
        done = profgen(*arguments)
        assert done.returncode == 2, (arguments, done.stderr)
        assert done.stdout == ""
        assert done.stderr.startswith("profgen: ")
        assert len(done.stderr.splitlines()) == 1


def test_names_of_files_are_printed_safely(tmp_path: Path) -> None:
    file = tmp_path / "a\x1b[31m\n.json"
    file.write_text('{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"]}')
    done = profgen(file, "--compare", file)
    assert done.returncode == 0
    assert "\x1b" not in done.stdout + done.stderr


def test_help_gives_the_formula() -> None:
    text = " ".join(profgen("--help").stdout.split())
    for weight in ("35 x", "5 x", "15 x", "20 x", "25 x"):
        assert weight in text
