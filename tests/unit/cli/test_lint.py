"""profgen lint as a user calls it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from unit.cli import running
from unit.policy.making import call, trace
from unit.trace.written import write_trace

from profiler.cli.results import FORMATS
from profiler.policy.derive import derive
from profiler.policy.document import dumps
from profiler.policy.model import Options
from profiler.review import artifact
from profiler.review.lint import RULES
from profiler.targets.rendering import render_one


def profgen(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return running.profgen("lint", *arguments, **options)


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    found = derive(trace(call("read"), call("execve"), call("clone", [(0x1200000,)])), Options())
    for made in render_one("seccomp", found).files:
        (tmp_path / made.name).write_bytes(made.data)
    (tmp_path / "policy.yaml").write_text(dumps(found))
    return tmp_path / "policy.yaml"


@pytest.mark.parametrize("name", ["policy.yaml", "seccomp.json"])
def test_nothing_found(policy: Path, name: str) -> None:
    file = policy.with_name(name)
    done = profgen(file)
    assert (done.returncode, done.stdout) == (0, f"{file}: nothing found\n"), done.stdout


def test_findings_with_fixes(tmp_path: Path) -> None:
    file = tmp_path / "open.json"
    file.write_text(
        json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": []})
    )
    done = profgen(file)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["error", "default-allows"]
    assert any(line.strip().startswith("fix: ") for line in lines[1:-1])
    assert lines[-1].startswith(f"{file}: 1 error")
    data = json.loads(profgen(file, "--json").stdout)
    assert data["schema"] == "profgen.lint/1"
    assert data["counts"]["error"] == 1
    assert data["findings"][0]["rule"] == "default-allows"
    assert data["findings"][0]["line"] == 1


def test_notes_alone_are_no_failure(policy: Path) -> None:
    file = policy.with_name("seccomp.json")
    data = json.loads(file.read_text())
    value = {"index": 0, "value": 2, "valueTwo": 0, "op": "SCMP_CMP_EQ"}
    data["syscalls"].append({"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [value]})
    file.write_text(json.dumps(data))
    done = profgen(file)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, f"{file}: 1 note")


@pytest.fixture
def noted(policy: Path) -> Path:
    """A profile with one note."""
    file = policy.with_name("seccomp.json")
    data = json.loads(file.read_text())
    value = {"index": 0, "value": 2, "valueTwo": 0, "op": "SCMP_CMP_EQ"}
    data["syscalls"].append({"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [value]})
    file.write_text(json.dumps(data, indent=1))
    return file


@pytest.mark.parametrize(("level", "status"), [("note", 1), ("warning", 0), ("error", 0), ("never", 0)])
def test_the_level_that_fails(noted: Path, level: str, status: int) -> None:
    assert profgen(noted, "--fail-on", level).returncode == status


def test_a_finding_is_accepted_with_a_reason(noted: Path) -> None:
    for arguments in (["--ignore", "unmasked"], ["--reason", "x"], ["--until", "2999-01-01"]):
        done = profgen(noted, *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert "--reason" in done.stderr
    assert not noted.with_name(".profgen.yaml").exists()
    done = profgen(
        noted, "--fail-on", "note", "--ignore", "unmasked:socket", "--reason", "an int", "--until", "2999-01-01"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"{noted}: nothing found (1 ignored)\n")
    assert "reason: an int\n" in done.stdout
    assert "until: 2999-01-01" in noted.with_name(".profgen.yaml").read_text()
    data = json.loads(profgen(noted, "--json").stdout)
    assert (data["findings"], data["accepted"][0]["reason"]) == ([], "an int")
    unused = profgen(noted.with_name("policy.yaml"))
    assert (unused.returncode, unused.stdout.split()[:2]) == (0, ["note", "unused-ignore"])


def test_a_rule_that_does_not_exist_cannot_be_ignored(noted: Path) -> None:
    done = profgen(noted, "--ignore", "unmaskd", "--reason", "x")
    assert done.returncode == 2
    assert "did you mean unmasked?" in done.stderr


@pytest.mark.parametrize("form", FORMATS)
def test_formats(noted: Path, form: str) -> None:
    done = profgen(noted, "-f", form)
    assert (done.returncode, done.stderr) == (0, "")
    assert "unmasked" in done.stdout


def test_a_job_summary(noted: Path, tmp_path: Path) -> None:
    place = tmp_path / "summary.md"
    place.write_text("before\n")
    for form in ("github", "text"):
        assert profgen(noted, "-f", form, environ={"GITHUB_STEP_SUMMARY": str(place)}).returncode == 0
    text = place.read_text()
    assert text.startswith("before\n\n### profgen lint: ")
    assert text.count("###") == 1, "only the format github writes it"


def test_the_rules_are_listed() -> None:
    done = profgen("--rules")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == [*RULES, *artifact.RULES]


def test_trouble(tmp_path: Path) -> None:
    write_trace(trace(call("read")), tmp_path / "x.trace.json")
    (tmp_path / "bad.json").write_text('{"defaultAction": "SCMP_ACT_SOMETHING"}')
    for arguments in ([tmp_path / "none"], [tmp_path / "x.trace.json"], [tmp_path / "bad.json"], []):
        done = profgen(*arguments)
        assert done.returncode == 2, arguments
        assert done.stdout == ""
        assert done.stderr.startswith("profgen: ")
        assert len(done.stderr.splitlines()) == 1


def test_names_from_the_file_are_printed_safely(tmp_path: Path) -> None:
    file = tmp_path / "names.json"
    file.write_text(
        json.dumps(
            {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["\x1b[2J\n"], "action": "SCMP_ACT_ALLOW"}]}
        )
    )
    done = profgen(file)
    assert done.returncode == 1
    assert "\x1b" not in done.stdout
    assert "\\x1b[2J\\n" in done.stdout
