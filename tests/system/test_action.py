"""The steps of the GitHub action as plain shell, in a repository before and after a change that widens its profile."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from system.harness import CHECKOUT, TIMEOUT, Profgen, environment

ACTION = yaml.safe_load((CHECKOUT / "action.yml").read_text())
SCRIPTS = CHECKOUT / "templates" / "ci"
HOOKS = yaml.safe_load((CHECKOUT / ".pre-commit-hooks.yaml").read_text())


@dataclass
class Repository:
    """A checkout, its program and its report."""

    top: Path
    profgen: Path
    env: dict[str, str] = field(default_factory=dict)

    @property
    def report(self) -> Path:
        return self.top.with_name("report")

    def run(self, *command: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
        known = {
            "PATH": f"{self.profgen.parent}:/usr/bin:/bin",
            "PROFGEN": str(self.profgen),
            "PROFGEN_REPORT": str(self.report),
            "PROFGEN_PROFILE": "profgen",
            "PROFGEN_COMMAND": shlex.join(["sh", str(self.program)]),
            "PROFGEN_TRACER": "ptrace",
            **{f"GIT_{who}_{what}": "me" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
            "GIT_CONFIG_GLOBAL": "/dev/null",
        }
        return subprocess.run(
            list(map(str, command)),
            cwd=self.top,
            env=environment(**known, **self.env, **env),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )

    def git(self, *args: str) -> str:
        done = self.run("git", *args)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @property
    def program(self) -> Path:
        return self.top.with_name("app") / "it's.sh"

    def write(self, text: str) -> None:
        self.program.parent.mkdir(exist_ok=True)
        self.program.write_text(f"#!/bin/sh\n{text}\n")

    def step(self, name: str, **env: str) -> subprocess.CompletedProcess[str]:
        return self.run("sh", SCRIPTS / name, **env)

    def comment(self) -> str:
        return (self.report / "comment.md").read_text()


def recorded(repository: Repository) -> None:
    done = repository.step("record.sh")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository with a profile on main, and a branch that widens it and its profile."""
    top = tmp_path_factory.mktemp("sample") / "repository"
    top.mkdir()
    made = Repository(top, top.with_name("bin") / "profgen")
    made.profgen.parent.mkdir()
    Profgen().program(made.profgen)
    made.write("read -r name < /etc/hostname; echo $name")
    made.git("init", "-q", "-b", "main")
    made.git("commit", "-q", "--allow-empty", "-m", "nothing")
    recorded(made)
    shutil.copytree(made.report / "recorded", top / "profgen")
    made.git("add", ".")
    made.git("commit", "-q", "-m", "a profile")
    made.git("switch", "-q", "-c", "wider")
    made.write("read -r name < /etc/hostname; read -r name < /etc/passwd; echo $name")
    recorded(made)
    shutil.copyfile(made.report / "recorded" / "policy.yaml", top / "profgen" / "policy.yaml")
    made.git("commit", "-q", "-a", "-m", "wider")
    return made


@pytest.fixture
def repository(sample: Repository, tmp_path: Path) -> Repository:
    """A clone of it, in which nothing has run."""
    made = Repository(tmp_path / "repository", sample.profgen)
    shutil.copytree(sample.top, made.top)
    made.write("read -r name < /etc/hostname; echo $name")
    # The policy names the paths of the program; a long number in them, such as pytest's own, is any number.
    policy = made.top / "profgen" / "policy.yaml"
    named = re.compile(re.sub("[0-9]+", lambda number: rf"(?:{number[0]}|{{digits}})", re.escape(str(sample.program))))
    for branch in ("main", "wider"):
        made.git("switch", "-q", branch)
        policy.write_text(named.sub(str(made.program), policy.read_text()))
        made.git("commit", "-q", "-a", "-m", "its own paths")
    made.git("switch", "-q", "main")
    made.report.mkdir()
    return made


def counts(repository: Repository) -> set[int]:
    """How many new rights each format of the comparison has."""
    data = json.loads((repository.report / "diff.json").read_text())
    sarif = json.loads((repository.report / "diff.sarif").read_text())
    gitlab = json.loads((repository.report / "diff.gitlab").read_text())
    (run,) = sarif["runs"]
    for result in run["results"]:
        (location,) = result["locations"]
        assert location["physicalLocation"]["artifactLocation"]["uri"] == "profgen/policy.yaml"
        assert location["physicalLocation"]["region"]["startLine"] > 1
        assert result["partialFingerprints"]
    rows = re.findall(r"^\| (?:added|widened) \|", repository.comment(), re.MULTILINE)
    return {sum(row["risk"] is not None for row in data["changes"]), len(run["results"]), len(gitlab), len(rows)}


def test_a_change_within_the_profile(repository: Repository) -> None:
    base = repository.git("rev-parse", "main")
    done = repository.step("compare.sh", PROFGEN_BASE=base)
    assert done.returncode == 0, done.stderr
    assert counts(repository) == {0}
    assert "no difference" in repository.comment().lower()
    done = repository.step("verify.sh")
    assert done.returncode == 0, done.stderr
    done = repository.step("verdict.sh", GITHUB_OUTPUT=str(repository.report / "output"))
    assert (done.returncode, done.stderr) == (0, "")
    assert (repository.report / "output").read_text() == f"failed=0\nreport={repository.report}\n"


@pytest.mark.parametrize(("fail_on", "status"), [("widened", 1), ("never", 0)])
def test_a_change_that_widens_the_profile(repository: Repository, fail_on: str, status: int) -> None:
    base = repository.git("rev-parse", "main")
    repository.git("switch", "-q", "wider")
    output = repository.report / "compared"
    done = repository.step("compare.sh", PROFGEN_BASE=base, PROFGEN_FAIL_ON=fail_on, GITHUB_OUTPUT=str(output))
    assert done.returncode == 0, done.stderr
    assert output.read_text() == "compared=true\n"
    assert counts(repository) == {1}
    assert "/etc/passwd" in done.stdout
    assert repository.comment().startswith("### profgen: `profgen/policy.yaml`\n")
    assert "| added | path `/etc/passwd` | `read` | low |" in repository.comment()
    done = repository.step("verdict.sh")
    assert (done.returncode, "differs from the base" in done.stderr) == (status, bool(status))


def test_a_program_that_needs_more_than_its_profile(repository: Repository) -> None:
    repository.write("read -r name < /etc/hostname; read -r name < /etc/passwd; echo $name")
    assert repository.step("compare.sh", PROFGEN_BASE="main").returncode == 0
    done = repository.step("verify.sh")
    assert done.returncode == 0, done.stderr
    assert "/etc/passwd: read" in done.stderr + done.stdout
    (suite,) = ElementTree.parse(repository.report / "verify.xml").getroot()
    assert suite.get("failures") == "1"
    (run,) = json.loads((repository.report / "verify.sarif").read_text())["runs"]
    assert len(run["results"]) == json.loads((repository.report / "verify.json").read_text())["counts"]["error"] == 1
    assert not (repository.report / "verify.github").exists()
    assert "does not run under the policy" in repository.comment()
    done = repository.step("verdict.sh")
    assert (done.returncode, done.stderr) == (1, "profgen: the test command does not run under its policy: status 1\n")
    assert done.stdout == ""


def test_what_is_refused_is_annotated(repository: Repository) -> None:
    repository.write("read -r name < /etc/passwd; echo $name")
    done = repository.step("verify.sh", PROFGEN_LOG="github", GITHUB_STEP_SUMMARY=str(repository.report / "summary.md"))
    assert done.returncode == 0, done.stderr
    assert "::" not in done.stdout + done.stderr
    assert "/etc/passwd" in (repository.report / "summary.md").read_text()
    done = repository.step("verdict.sh")
    assert done.stdout.startswith("::error file=profgen/policy.yaml,line=")
    assert "/etc/passwd: read" in done.stdout


@pytest.mark.parametrize("case", ["no policy", "new branch", "no policy before", "no such commit", "trouble"])
def test_nothing_to_compare(repository: Repository, case: str) -> None:
    base = {"no policy before": repository.git("rev-list", "--max-parents=0", "main"), "no such commit": "1" * 40}
    if case == "no policy":
        shutil.rmtree(repository.top / "profgen")
    if case == "trouble":
        (repository.top / "profgen" / "policy.yaml").write_text("schema: profgen.policy/1\n")
    output = repository.report / "output"
    done = repository.step(
        "compare.sh", PROFGEN_BASE=base.get(case, "main" if case == "trouble" else "0" * 40), GITHUB_OUTPUT=str(output)
    )
    bad = case in ("no such commit", "trouble")
    assert done.returncode == (2 if bad else 0), done.stderr
    assert not output.exists()
    if not bad:
        assert repository.step("verdict.sh").returncode == 0
        assert repository.comment().startswith("### profgen\n")
        assert not (repository.report / "diff.sarif").exists()


def test_a_policy_that_is_removed(repository: Repository) -> None:
    shutil.rmtree(repository.top / "profgen")
    assert repository.step("compare.sh", PROFGEN_BASE="main").returncode == 0
    done = repository.step("verdict.sh")
    assert (done.returncode, done.stderr) == (1, "profgen: the change removes profgen/policy.yaml\n")


def test_a_command_that_fails_and_prints_commands(repository: Repository) -> None:
    repository.write("echo ::set-output name=x::y; exit 3")
    done = repository.run("sh", SCRIPTS / "apart.sh", "sh", SCRIPTS / "record.sh")
    assert done.returncode == 3
    lines = done.stdout.splitlines()
    token = lines[0].removeprefix("::stop-commands::")
    assert len(token) == 32
    assert lines.index("::set-output name=x::y") < lines.index(f"::{token}::")


# --- the comment


class GitHub(BaseHTTPRequestHandler):
    """The part of GitHub's API that the comment needs."""

    comments: list[dict[str, Any]] = []
    refuses = False

    def do_GET(self) -> None:
        page = int(self.path.rpartition("page=")[2])
        self._answer(200, self.comments[(page - 1) * 100 : page * 100])

    def do_POST(self) -> None:
        body = self._body()
        if not self.refuses:
            self.comments.append({"id": len(self.comments), "user": {"type": "Bot"}, "body": body})
        self._answer(403 if self.refuses else 201, {})

    def do_PATCH(self) -> None:
        self.comments[int(self.path.rpartition("/")[2])]["body"] = self._body()
        self._answer(200, {})

    def _body(self) -> str:
        assert self.headers["Authorization"] == "Bearer secret"
        data = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        return str(data["body"])

    def _answer(self, status: int, data: object) -> None:
        text = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def github() -> Iterator[type[GitHub]]:
    handler = type("Handler", (GitHub,), {"comments": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        handler.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield handler
        server.shutdown()


def written(github: type[GitHub], report: Path, text: str, profile: str = "profgen", pull: str = "7") -> str:
    """Write the comment, and return what the script prints."""
    (report / "comment.md").write_text(text)
    done = subprocess.run(
        ["python3", SCRIPTS / "comment.py"],
        env={
            **os.environ,
            "PROFGEN_REPORT": str(report),
            "PROFGEN_PROFILE": profile,
            "PROFGEN_PULL": pull,
            "GITHUB_TOKEN": "secret",
            "GITHUB_API_URL": github.url,  # type: ignore[attr-defined]
            "GITHUB_REPOSITORY": "me/it",
            "no_proxy": "*",
        },
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_one_comment_is_updated(github: type[GitHub], tmp_path: Path) -> None:
    github.comments += [{"id": at, "user": {"type": "User"}, "body": "hello"} for at in range(130)]
    written(github, tmp_path, "first")
    made = github.comments[-1]["body"]
    assert made.endswith(" -->\nfirst")
    github.comments.append({"id": 131, "user": {"type": "User"}, "body": made})  # a person imitates it
    written(github, tmp_path, "second")
    written(github, tmp_path, "other", profile="another")
    written(github, tmp_path, "no pull request", pull="")
    texts = [row["body"].rpartition("\n")[2] for row in github.comments[130:]]
    assert texts == ["second", "first", "other"]


def test_a_long_comment_is_cut(github: type[GitHub], tmp_path: Path) -> None:
    written(github, tmp_path, "- a right\n" * 10_000)
    (row,) = github.comments
    assert len(row["body"]) < 65_536
    assert row["body"].endswith("- a right\n\nThe rest is in the artifact of this run.\n")


def test_a_token_that_may_not_write_is_a_warning(github: type[GitHub], tmp_path: Path) -> None:
    github.refuses = True
    assert "pull-requests: write" in written(github, tmp_path, "text")


# --- the action, the hooks and the template themselves


def test_inputs_reach_scripts_as_variables_only() -> None:
    steps = ACTION["runs"]["steps"]
    for step in steps:
        assert "${{" not in step.get("run", ""), step["name"]
        if "uses" in step:
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step["uses"]), step["uses"]
    named = {text for step in steps for text in re.findall(r"inputs\.([a-z-]+)", json.dumps(step))}
    assert named == set(ACTION["inputs"])
    scripts = {name for step in steps for name in re.findall(r"templates/ci/([\w.]+)", step.get("run", ""))}
    assert scripts == {path.name for path in SCRIPTS.iterdir() if path.suffix in (".sh", ".py")}


def test_the_page_has_every_input_and_output() -> None:
    page = (CHECKOUT / "docs" / "ci.md").read_text()
    for name in (*ACTION["inputs"], *ACTION["outputs"]):
        assert f"\n| `{name}` |" in page, name


def hook(name: str) -> list[str]:
    """The command of a hook, to which pre-commit adds the files."""
    (entry,) = (row["entry"] for row in HOOKS if row["id"] == name)
    return shlex.split(entry)


def test_hooks(repository: Repository) -> None:
    policy = repository.top / "profgen" / "policy.yaml"
    done = repository.run(*hook("profgen-diff"), "profgen/policy.yaml", "new/policy.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    text = policy.read_text()
    policy.write_text(text.replace("capabilities: {}", "capabilities:\n  CAP_SYS_ADMIN:"))
    assert policy.read_text() != text
    done = repository.run(*hook("profgen-diff"), "profgen/policy.yaml")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "CAP_SYS_ADMIN" in done.stdout
    done = repository.run(*hook("profgen-lint"), "profgen/policy.yaml")
    assert done.returncode == 1, done.stdout + done.stderr
