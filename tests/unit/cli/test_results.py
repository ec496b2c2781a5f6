"""The JSON of every command: one form, and the members that docs/json.md lists."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from unit.cli.running import profgen
from unit.documents import rows, section
from unit.policy.making import call, trace
from unit.trace.written import write_trace

from profiler.cli import doctor, hook, main, record_data
from profiler.cli.main import COMMANDS, cli
from profiler.cli.minimise_report import as_data
from profiler.cli.results import formatted, json_text
from profiler.cli.verify_report import VerifyReport
from profiler.enforce.base import Outcome
from profiler.policy.derive import derive
from profiler.policy.document import dumps, read_policy
from profiler.policy.model import Options
from profiler.tracers import survey

NO_RESULT = {"run", "completion", "report", "watch"}
"""Commands that print nothing but what was asked for."""
REPORTS = ("lint", "score", "verify", "refine")
QUICK: dict[str, tuple[str, ...]] = {
    "generate": ("generate", "app.trace.json", "-o", "made", "--json"),
    "targets": ("targets", "--json"),
    "diff": ("diff", "policy.yaml", "docker-default", "--json"),
    "explain": ("explain", "policy.yaml", "read", "--json"),
    "explain --all": ("explain", "policy.yaml", "--all", "--json"),
    "coverage": ("coverage", "app.trace.json", "--json"),
    "merge": ("merge", "app.trace.json", "app.trace.json", "-o", "all.trace.json", "--json"),
    "lint": ("lint", "policy.yaml", "--json"),
    "lint --image": ("lint", "policy.yaml", "--image", "empty", "--json"),
    "lint --for": ("lint", "policy.yaml", "--for", "kep-6061", "--baseline", "docker-default", "--json"),
    "score": ("score", "policy.yaml", "--json", "--compare", "docker-default"),
    "refine": ("refine", "policy.yaml", "--from", "log", "--json"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("results")
    recording = trace(call("read"), call("execve"))
    write_trace(recording, directory / "app.trace.json")
    (directory / "policy.yaml").write_text(dumps(derive(recording, Options())))
    (directory / "log").write_text("")
    (directory / "empty").mkdir()
    return directory


def members(name: str) -> set[str]:
    """The members that the document lists for a command."""
    parts = [*(["Findings"] if name in REPORTS else []), name]
    tables = [section("docs/json.md", part).partition("\nA finding:")[0] for part in parts]
    cells = [row[0] for table in tables for row in rows(table) if len(row) == 2]
    found = {word for cell in cells for word in re.findall(r"`(\w+)`", cell)}
    return found - ({"text", "json", "markdown", "sarif", "github", "junit", "gitlab"} if name in REPORTS else set())


@pytest.mark.parametrize("name", QUICK)
def test_members(name: str, place: Path) -> None:
    done = profgen(*QUICK[name], cwd=place)
    found = json.loads(done.stdout)
    command = name.partition(" ")[0]
    assert (next(iter(found)), found["schema"]) == ("schema", f"profgen.{command}/1")
    elsewhere = {
        "explain": {"all"},
        "explain --all": {"items"},
        "lint": {"image", "for", "baseline"},
        "lint --image": {"for", "baseline"},
        "lint --for": {"image", "libseccomp"},
    }.get(name, set())
    assert not set(found) & elsewhere
    assert set(found) | elsewhere == members(command)
    assert done.stdout == json.dumps(found, indent=1) + "\n", "one indentation"


def test_members_of_verify(place: Path) -> None:
    path = place / "policy.yaml"
    report = VerifyReport(read_policy(path), Outcome(0), "direct", "enforce", path).report
    assert set(json.loads(formatted(report, "json"))) == members("verify")


def test_members_of_record(place: Path) -> None:
    found = record_data.as_data(trace(call("read")), place / "app.trace.json")
    assert {"file", "capabilities", "complete", "losses", "notes"} < set(found)
    assert members("record") == {"schema", "traces"}


def test_members_of_doctor(monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    monkeypatch.setattr(doctor, "survey", lambda: iter([survey.Finding("tracers", "ptrace", "ok", "works")]))
    assert main.run(["doctor", "--json"]) in (0, 1)
    found = json.loads(capsysbinary.readouterr().out)
    assert set(found) == members("doctor")


def test_members_of_minimise() -> None:
    report: Any = SimpleNamespace(findings=(), runs=1, seconds=1.0, finished=True, sure=True, promoted=False)
    assert set(json.loads(json_text("minimise", as_data(report)))) == members("minimise")


def test_members_of_hook(monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    for name in ("web", None):
        monkeypatch.setattr(hook, "_start", lambda *_, name=name: (SimpleNamespace(identity="4f"), name))
        assert main.run(["hook", "--json"]) == 0
        found = json.loads(capsysbinary.readouterr().out)
        assert (found["recorded"], found["name"]) == (name is not None, name)
        assert set(found) == members("hook")


def test_every_command_has_it() -> None:
    context = click.Context(cli)
    named = {name.partition(" ")[0] for name in QUICK} | {
        "verify",
        "record",
        "minimise",
        "hook",
        "doctor",
        "push",
        "pull",
    }
    assert set(COMMANDS) - named <= NO_RESULT
    for name in sorted(named):
        command = cli.get_command(context, name)
        assert command is not None
        assert "--json" in {word for parameter in command.params for word in parameter.opts}, name
        assert "schema" in members(name), name


@pytest.mark.parametrize("words", [QUICK["merge"], QUICK["generate"]])
def test_a_file_and_json_cannot_both_be_printed(words: tuple[str, ...], place: Path) -> None:
    done = profgen(
        *words[: words.index("-o")],
        "-o",
        "-",
        *(["-t", "seccomp"] if words[0] == "generate" else []),
        "--json",
        cwd=place,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "standard output" in done.stderr
