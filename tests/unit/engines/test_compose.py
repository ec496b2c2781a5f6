"""Which containers are those of a compose project."""

from __future__ import annotations

from pathlib import Path

import pytest
from executables import write_program

from profiler.engines.commands import Compose
from profiler.engines.compose import detached, project


def client(directory: Path, script: str) -> str:
    return str(write_program(directory / "docker-compose", f"#!/bin/sh\n{script}\n"))


def test_compose_itself_names_the_project(tmp_path: Path) -> None:
    tool = client(tmp_path, 'echo "$@" > "$0.asked"; echo \'{"name": "shop"}\'')
    assert project(Compose("docker", (tool, "up"), (tool, "-f", "x.yaml"))) == "shop"
    assert Path(f"{tool}.asked").read_text() == "-f x.yaml config --format json\n"


@pytest.mark.parametrize("answer", ["exit 1", "echo 'not JSON'", "echo '[]'", "echo '{}'", "echo '{\"name\": 3}'"])
@pytest.mark.parametrize(
    ("words", "named", "expected"),
    [
        ((), None, "my-app1"),
        (("-f", "/srv/The Shop/compose.yaml"), None, "theshop"),
        (("-p", "Mine"), None, "mine"),
        (("--project-name=Mine", "-f", "/srv/x/y.yaml"), "Other", "mine"),
        ((), "Other", "other"),
    ],
)
def test_else_its_name_is_derived_as_compose_does(
    answer: str,
    words: tuple[str, ...],
    named: str | None,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    directory = tmp_path / "My-App.1"
    directory.mkdir()
    monkeypatch.chdir(directory)
    monkeypatch.delenv("COMPOSE_PROJECT_NAME", raising=False)
    if named is not None:
        monkeypatch.setenv("COMPOSE_PROJECT_NAME", named)
    tool = client(tmp_path, answer)
    assert project(Compose("docker", (tool, *words, "up"), (tool, *words))) == expected
    plugin = (tool, "--context", "x", "compose", *words)
    assert project(Compose("docker", (*plugin, "up"), plugin)) == expected


def test_a_compose_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMPOSE_PROJECT_NAME", "x")
    assert project(Compose("docker", ("/none/such", "up"), ("/none/such",))) == "x"


def test_detached() -> None:
    assert detached(Compose("docker", ("docker", "compose", "up", "-d"), ()))
    assert not detached(Compose("docker", ("docker", "compose", "up"), ()))
