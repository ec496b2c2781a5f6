"""docker-run.sh and compose.yaml."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from programs import write_program
from unit.policy.making import call, check, trace

from profiler.policy.derive import derive
from profiler.policy.model import Options, Policy
from profiler.targets.catalogue import find
from profiler.targets.rendering import render, render_one
from profiler.trace.model import Container


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
    engine = write_program(tmp_path / "engine", "#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    done = subprocess.run(
        ["sh", str(script), "--rm", "image", "a b"],
        env={**os.environ, "PROFGEN_ENGINE": str(engine)},
        capture_output=True,
        text=True,
        timeout=120,
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
