"""docker-run.sh and compose.yaml."""

from __future__ import annotations

import ast
import itertools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from executables import write_program
from hypothesis import given, settings
from unit.policy.making import call, check, trace
from unit.trace.strategies import traces

from profiler.errors import InputError
from profiler.policy.derive import derive
from profiler.policy.model import FileRule, Options, Policy
from profiler.targets.catalogue import find
from profiler.targets.rendering import render, render_one
from profiler.trace.model import Container, ContainerMount


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


# What was recorded.

IN_A_CONTAINER = Container(
    "podman",
    "crun",
    "1",
    "web",
    "web:1",
    "sha256:12",
    user="33:33",
    directory="/srv/a b",
    mounts=(
        ContainerMount("volume", "db", "/data", False),
        ContainerMount("bind", "/a,b", '/b "c', True),
        ContainerMount("tmpfs", "", "/t", False),
    ),
    ports=("80/tcp",),
)


def recorded(*files: FileRule, argv: tuple[str, ...] = ("web", "-c", "a $x\n'b"), **container: Any) -> Policy:
    where = replace(IN_A_CONTAINER, **container)
    made = derive(trace(call("read"), argv=argv, container=where), Options(runtime="none"))
    return replace(made, has_files=True, files=files)


def started(made: Policy, directory: Path, *words: str, **environment: str) -> list[str]:
    """The words that the engine gets, each as one line of Python."""
    script = directory / "docker-run.sh"
    script.write_bytes(docker(made)["docker-run.sh"])
    engine = directory / "engine"
    engine.write_text(f"#!{sys.executable}\nimport sys\nfor word in sys.argv[1:]: print(ascii(word))\n")
    engine.chmod(0o755)
    done = subprocess.run(
        ["sh", str(script), *words],
        env={**os.environ, "PROFGEN_ENGINE": str(engine), **environment},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [ast.literal_eval(line) for line in done.stdout.splitlines()]


def pairs(words: list[str]) -> set[tuple[str, str]]:
    return set(itertools.pairwise(words))


def test_as_recorded(tmp_path: Path) -> None:
    words = started(recorded(), tmp_path, "--as-recorded", "--rm", "--user=0")
    assert words[words.index("--rm") :] == ["--rm", "--user=0", "--entrypoint", "web", "web:1", "-c", "a $x\n'b"]
    assert pairs(words) >= {
        ("--publish", "80:80/tcp"),
        ("--user", "33:33"),
        ("--workdir", "/srv/a b"),
        ("--mount", "type=volume,source=db,target=/data"),
        ("--mount", 'type=bind,"source=/a,b","target=/b ""c",readonly'),
    }
    assert words.index("--user") < words.index("--user=0"), "what the user gives is last, and wins"
    other = started(recorded(), tmp_path, "--as-recorded", IMAGE="other")
    assert "other" in other
    assert "web:1" not in other
    assert pairs(started(recorded(network="host"), tmp_path, "--as-recorded")) >= {("--network", "host")}
    assert "--publish" not in started(recorded(network="host"), tmp_path, "--as-recorded")


def test_with_words_of_the_user_only_the_rights_are_added(tmp_path: Path) -> None:
    words = started(recorded(FileRule("/srv/x", ("create",))), tmp_path, "--rm", "other")
    assert words[-2:] == ["--rm", "other"]
    assert not {"--publish", "--user", "--workdir", "--mount", "--read-only"} & set(words)


READ_ONLY = {("--tmpfs", "/run"), ("--tmpfs", "/t")}


def test_a_root_that_cannot_be_written(tmp_path: Path) -> None:
    temporary, kept, inside = (FileRule(path, ("create",)) for path in ("/run/x", "/var/lib/x", "/etc/x"))
    words = started(recorded(temporary), tmp_path, "image")
    assert "--read-only" in words
    assert pairs(words) >= READ_ONLY
    assert "--read-only" not in started(recorded(temporary), tmp_path, "image", PROFGEN_READ_ONLY="no")
    for rules in ((temporary, kept), (temporary, inside)):
        assert "--read-only" not in started(recorded(*rules), tmp_path, "image")
        assert "--read-only" in started(recorded(*rules, read_only=True), tmp_path, "image")
    words = started(recorded(temporary, kept), tmp_path, "image", PROFGEN_READ_ONLY="yes")
    assert pairs(words) >= {*READ_ONLY, ("--mount", "type=volume,target=/var/lib")}
    assert b"\n#   /etc/x\n" in docker(recorded(inside))["docker-run.sh"]


def test_the_setting_decides() -> None:
    for word, default in (("yes", b":-yes}"), ("no", b":-no}")):
        made = render_one("docker", recorded(FileRule("/etc/x", ("create",))), {"read-only": word})
        assert default in made.files[0].data
    with pytest.raises(InputError, match="not one of auto, yes, no"):
        find("docker").settings[0].parse("maybe")


@pytest.mark.parametrize("image", ["--privileged", "-v/:/host", "a b", "$(id)", "x\n"])
def test_an_image_cannot_pass_for_an_option(image: str, tmp_path: Path) -> None:
    made = recorded(image=image)
    script = tmp_path / "docker-run.sh"
    script.write_bytes(docker(made)["docker-run.sh"])
    done = subprocess.run(["sh", script, "--as-recorded"], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode != 0
    assert "set IMAGE" in done.stderr


def service(made: Policy) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(docker(made)["compose.yaml"])["services"]["app"]
    return found


def test_the_service_is_as_recorded() -> None:
    made = recorded(FileRule("/run/x", ("create",)))
    found = service(made)
    assert found["entrypoint"] == ["web"]
    assert found["command"] == ["-c", "a $$x\n'b"], "a $ begins a variable"
    assert (found["user"], found["working_dir"], found["ports"]) == ("33:33", "/srv/a b", ["80:80/tcp"])
    assert (found["read_only"], found["tmpfs"]) == (True, ["/run", "/t"])
    assert found["volumes"] == [
        {"type": "bind", "source": "/a,b", "target": '/b "c', "read_only": True},
        {"type": "volume", "source": "db", "target": "/data"},
    ]
    assert yaml.safe_load(docker(made)["compose.yaml"])["volumes"] == {"db": {"name": "db"}}
    assert service(recorded(network="none"))["network_mode"] == "none"
    unsure = service(recorded(FileRule("/etc/x", ("create",))))
    assert not {"read_only", "tmpfs"} & set(unsure)


def test_what_was_not_in_a_container_is_there_to_be_uncommented() -> None:
    made = derive(trace(call("read"), argv=("./app", "-d"), uid=5, gid=6), Options())
    made = replace(made, has_files=True, files=(FileRule("/srv/x", ("create",)),))
    assert not {"entrypoint", "command", "user", "read_only", "volumes"} & set(service(made))
    text = docker(made)["compose.yaml"].decode().replace("    # ", "    ")
    found = yaml.safe_load(text.replace("    The ", "    # The "))["services"]["app"]
    assert (found["entrypoint"], found["command"], found["user"]) == (["./app"], ["-d"], "5:6")
    assert (found["read_only"], found["volumes"]) == (True, [{"type": "volume", "target": "/srv"}])


@given(traces())
@settings(max_examples=60, deadline=None)
def test_hostile_recordings_give_valid_files(recording: Any) -> None:
    try:
        made = derive(recording, Options())
    except InputError:
        return
    files = docker(made)
    assert set(yaml.safe_load(files["compose.yaml"])) <= {"services", "volumes"}
    done = subprocess.run(["sh", "-n"], input=files["docker-run.sh"], capture_output=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
