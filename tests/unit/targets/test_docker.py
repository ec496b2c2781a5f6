"""docker-run.sh, podman-run.sh and nerdctl-run.sh: run under sh, with an engine that prints its arguments."""

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
from executables import write_program
from hypothesis import given, settings
from inputs import examples
from unit.policy.making import call, check, trace
from unit.targets.containers import ETC, FUSE, LIB, RUN, outside, recorded
from unit.trace.strategies import traces

from profiler.errors import InputError
from profiler.policy.derive import derive
from profiler.policy.model import FileRule, Options, Policy, SocketRule
from profiler.targets.base import Artifact, Request
from profiler.targets.catalogue import find
from profiler.targets.rendering import render, render_one
from profiler.trace.model import Container

ENGINES = ("docker", "podman", "nerdctl")
EACH = pytest.mark.parametrize("engine", ENGINES)


def script(policy: Policy, engine: str = "docker") -> str:
    (file,) = render_one(engine, policy).files
    assert file.name == f"{engine}-run.sh"
    return file.data.decode("utf-8", "surrogateescape")


def run(path: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script; its engine prints each word as one line of Python."""
    engine = path.parent / "engine"
    write_program(engine, f"#!{sys.executable}\nimport sys\nfor word in sys.argv[1:]: print(ascii(word))\n")
    return subprocess.run(
        ["sh", str(path), *words],
        env={**os.environ, "PROFGEN_ENGINE": str(engine), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def started(made: Policy, directory: Path, *words: str, engine: str = "docker", **environment: str) -> list[str]:
    """The words that the engine gets."""
    path = directory / "run.sh"
    path.write_text(script(made, engine), "utf-8", "surrogateescape")
    done = run(path, *words, **environment)
    assert done.returncode == 0, done.stderr
    return [ast.literal_eval(line) for line in done.stdout.splitlines()]


def pairs(words: list[str]) -> set[tuple[str, str]]:
    return set(itertools.pairwise(words))


def test_the_script_runs_the_engine_with_the_options(tmp_path: Path) -> None:
    """From a directory with an awkward name."""
    policy = derive(
        trace(call("bind"), capabilities=[check("CAP_NET_BIND_SERVICE")], argv=("a\n`id`", "'\udcff")), Options()
    )
    place = tmp_path / "a 'b\" $c"
    place.mkdir()
    assert started(policy, place, "--rm", "image", "a b") == [
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


@EACH
def test_the_image_is_named(engine: str) -> None:
    container = Container("docker", "runc", "1", "db", "redis:7\n`id`", "sha256:12")
    made = script(derive(trace(call("read"), container=container), Options()), engine)
    assert "# Recorded in a container of redis:7\\n`id` (sha256:12).\n" in made


@EACH
def test_it_brings_the_profile_that_it_names(engine: str) -> None:
    made = render(derive(trace(call("read"), argv=("sh", "-c", "a  b\n")), Options()), [find(engine)])
    assert [(file.name, file.executable) for file in made.files] == [
        (f"{engine}-run.sh", True),
        ("seccomp.json", False),
    ]
    assert b"rights of: sh -c 'a  b" in made.files[0].data, "as one types it"


@EACH
def test_as_recorded(engine: str, tmp_path: Path) -> None:
    words = started(recorded(), tmp_path, "--as-recorded", "--rm", "--user=0", engine=engine)
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


def test_with_words_of_the_user_only_the_confinement_is_added(tmp_path: Path) -> None:
    words = started(recorded(LIB, FUSE, tasks=20), tmp_path, "--rm", "other")
    assert words[-2:] == ["--rm", "other"]
    assert not {"--publish", "--workdir", "--mount", "--read-only"} & set(words)
    assert pairs(words) >= {("--user", "33:33"), ("--device", "/dev/fuse:/dev/fuse:rw"), ("--pids-limit", "256")}


def test_what_is_not_known_is_left_to_the_engine(tmp_path: Path) -> None:
    words = started(outside(), tmp_path, "image")
    assert not {"--user", "--device", "--pids-limit", "--read-only"} & set(words)
    assert "# The workload was recorded as user 5:6; add --user" in script(outside())


MEMORY = {("--tmpfs", f"{path}:rw,nosuid,nodev,noexec") for path in ("/run", "/t")}


def test_a_root_that_cannot_be_written(tmp_path: Path) -> None:
    words = started(recorded(RUN), tmp_path, "image")
    assert "--read-only" in words
    assert pairs(words) >= MEMORY
    assert "--read-only" not in started(recorded(RUN), tmp_path, "image", PROFGEN_READ_ONLY="no")
    for rules in ((RUN, LIB), (RUN, ETC)):
        assert "--read-only" not in started(recorded(*rules), tmp_path, "image")
        assert "--read-only" in started(recorded(*rules, read_only=True), tmp_path, "image")
    words = started(recorded(RUN, LIB), tmp_path, "image", PROFGEN_READ_ONLY="yes")
    assert pairs(words) >= {*MEMORY, ("--mount", "type=volume,target=/var/lib")}
    wrong = run(tmp_path / "run.sh", "image", PROFGEN_READ_ONLY="maybe")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.endswith("run.sh: PROFGEN_READ_ONLY is maybe: set it to yes or no\n")
    assert "\n#   /etc/x\n" in script(recorded(ETC))
    mapped = FileRule("/run/{random}.so", ("create", "map"))
    assert ("--tmpfs", "/run:rw,nosuid,nodev,exec") in pairs(started(recorded(mapped), tmp_path, "image"))


def test_podman_mounts_memory_of_its_own_only_where_dev_is_written(tmp_path: Path) -> None:
    """Its --read-only brings /run, /tmp and /var/tmp as memory; without these, newer ones make /dev/shm read-only."""
    assert "--read-only-tmpfs=false" in started(recorded(RUN), tmp_path, "image", engine="podman")
    shared = FileRule("/dev/shm/{name}", ("create", "write"))
    words = started(recorded(RUN, shared), tmp_path, "image", engine="podman")
    assert "--read-only" in words
    assert "--read-only-tmpfs=false" not in words


@EACH
def test_the_setting_decides(engine: str) -> None:
    for word, default in (("yes", b":-yes}"), ("no", b":-no}")):
        assert default in render_one(engine, recorded(ETC), {"read-only": word}).files[0].data
    with pytest.raises(InputError, match="not one of auto, yes, no"):
        find(engine).settings[0].parse("maybe")


@pytest.mark.parametrize("image", ["--privileged", "-v/:/host", "a b", "$(id)", "x\n"])
@EACH
def test_an_image_cannot_pass_for_an_option(engine: str, image: str, tmp_path: Path) -> None:
    path = tmp_path / "run.sh"
    path.write_text(script(recorded(image=image), engine))
    done = run(path, "--as-recorded")
    assert done.returncode != 0
    assert "set IMAGE" in done.stderr


def test_a_sysctl_is_proposed_instead_of_a_capability() -> None:
    bound = (SocketRule("inet", "stream", 6, ("bind", "listen"), (), ports=(("bind", (443, 80)),)),)
    made = replace(recorded(needs=("CAP_NET_BIND_SERVICE",)), sockets=bound)
    assert "# NET_BIND_SERVICE lets it bind port 80; --sysctl net.ipv4.ip_unprivileged_port_start=80 does" in script(
        made
    )
    assert "sysctl" not in script(recorded())


def test_apparmor(tmp_path: Path) -> None:
    """Docker and nerdctl ignore it where the machine has none; Podman would fail, so its script looks first."""

    def with_apparmor(engine: str) -> subprocess.CompletedProcess[str]:
        artifacts = {
            "seccomp": Artifact("seccomp.json", b"{}", "seccomp.json"),
            "apparmor": Artifact("profgen-a b", b"", "apparmor.profile"),
        }
        path = tmp_path / "run.sh"
        path.write_bytes(find(engine).render(Request(recorded(), artifacts=artifacts)).files[0].data)
        return run(path, "image")

    for engine in ("docker", "nerdctl"):
        assert "apparmor=profgen-a b" in with_apparmor(engine).stdout
    done = with_apparmor("podman")
    enabled = Path("/sys/module/apparmor/parameters/enabled")
    if os.geteuid() == 0 and enabled.exists() and enabled.read_text().strip() == "Y":
        assert "apparmor=profgen-a b" in done.stdout
    else:
        assert "apparmor=" not in done.stdout
        assert "AppArmor does not confine the container" in done.stderr


def test_losses() -> None:
    """Podman gives added capabilities to every user; no engine gives a device that is not on the host."""

    def lost(engine: str, policy: Policy) -> list[tuple[str, str, str]]:
        return [(loss.section, loss.item, loss.effect) for loss in render_one(engine, policy).losses]

    other = recorded(needs=("CAP_KILL",), uid=33)
    assert lost("docker", other) == lost("nerdctl", other) == [("capabilities", "CAP_KILL", "refused")]
    assert lost("podman", other) == []
    assert lost("docker", recorded(needs=("CAP_KILL",))) == []
    devices = (
        FUSE,
        FileRule("/dev/input/event{digits}", ("read",), ("char",)),
        FileRule("/srv/null", ("make", "read"), ("char",)),
        FileRule("/srv/unused", ("make",), ("char",)),
    )
    for engine in ENGINES:
        assert lost(engine, recorded(*devices)) == [
            ("files", "/dev/input/event{digits}", "refused"),
            ("files", "/srv/null", "refused"),
        ]


@given(traces())
@settings(max_examples=examples(60), deadline=None)
def test_hostile_recordings_give_valid_files(recording: Any) -> None:
    try:
        made = derive(recording, Options())
    except InputError:
        return
    for engine in ENGINES:
        (file,) = render_one(engine, made).files
        done = subprocess.run(["sh", "-n"], input=file.data, capture_output=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
