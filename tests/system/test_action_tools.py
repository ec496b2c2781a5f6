"""What tools say of the action, the GitLab job and the pre-commit hooks."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from sysconfig import get_path

import pytest
import yaml
from system.harness import CHECKOUT, TIMEOUT, Profgen, environment
from unit.denials.test_propose import policy

from profiler.policy.document import dumps

ACTION = yaml.safe_load((CHECKOUT / "action.yml").read_text())
SCRIPTS = CHECKOUT / "templates" / "ci"


def test_scripts_and_steps_are_clean(tmp_path: Path) -> None:
    runs = [step["run"] for step in ACTION["runs"]["steps"] if "run" in step]
    for number, text in enumerate(runs):
        (tmp_path / f"{number}.sh").write_text(f"#!/bin/bash\n{text}")
    files = [*SCRIPTS.glob("*.sh"), *tmp_path.iterdir()]
    done = subprocess.run(["shellcheck", *files], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, done.stdout


def test_zizmor_finds_nothing() -> None:
    done = tool("zizmor", "--offline", "--no-progress", "--persona=auditor", CHECKOUT / "action.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("schema", "file"),
    [("github-actions", CHECKOUT / "action.yml"), ("gitlab-ci", SCRIPTS / "gitlab.yml")],
    ids=["github", "gitlab"],
)
def test_published_schemas(schema: str, file: Path) -> None:
    done = tool("check-jsonschema", "--builtin-schema", f"vendor.{schema}", file)
    assert done.returncode == 0, done.stdout


def tool(name: str, *args: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program of the tests' environment."""
    command = [Path(get_path("scripts")) / name, *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)


def test_pre_commit_runs_the_hooks(tmp_path: Path) -> None:
    """From a repository with the hooks alone, which find profgen in PATH: installing it takes a minute."""
    program = tmp_path / "bin" / "profgen"
    program.parent.mkdir()
    Profgen().program(program)
    env = environment(
        PATH=f"{program.parent}:/usr/bin:/bin",
        PRE_COMMIT_HOME=str(tmp_path / "cache"),
        GIT_CONFIG_GLOBAL="/dev/null",
        **{f"GIT_{who}_{what}": "me" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    )

    def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=TIMEOUT, check=False)

    hooks, used = tmp_path / "hooks", tmp_path / "used"
    for directory in (hooks, used):
        directory.mkdir()
        assert run("git", "init", "-q", cwd=directory).returncode == 0
    text = (CHECKOUT / ".pre-commit-hooks.yaml").read_text()
    (hooks / ".pre-commit-hooks.yaml").write_text(text.replace("language: python", "language: system"))
    (used / "policy.yaml").write_text(dumps(policy()))
    for directory in (hooks, used):
        for args in (["add", "."], ["commit", "-q", "-m", "all"]):
            assert run("git", *args, cwd=directory).returncode == 0
    command = [Path(get_path("scripts")) / "pre-commit", "try-repo", hooks, "--all-files", "--verbose"]
    done = run(*command, cwd=used)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.findall(r"^profgen (\w+)\.+(\w+)$", done.stdout, re.MULTILINE)
    assert sorted(found) == [("diff", "Passed"), ("lint", "Passed")]
