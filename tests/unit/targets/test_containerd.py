"""containerd-run.sh."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from executables import write_program
from unit.policy.making import call, check, trace
from unit.targets.policies import file

from profiler.policy.derive import derive
from profiler.policy.model import FileRule, Options, Policy
from profiler.targets.catalogue import find
from profiler.targets.containerd import _reference
from profiler.targets.rendering import render
from profiler.trace.model import Container, ContainerMount


def started(tmp_path: Path, policy: Policy, words: Sequence[str], **variables: str) -> list[str]:
    """The script itself, under sh, with a ctr that prints its arguments."""
    place = tmp_path / "a 'b\" $c"
    place.mkdir(exist_ok=True)
    for made in render(policy, [find("containerd")]).files:
        (place / made.name).write_bytes(made.data)
    ctr = write_program(tmp_path / "ctr", "#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    done = subprocess.run(
        ["sh", str(place / "containerd-run.sh"), *words],
        env={**os.environ, "PROFGEN_CTR": f"{ctr} --namespace x", **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def policy(*files: FileRule, **meta: Any) -> Policy:
    from dataclasses import replace

    made = derive(trace(call("bind"), **meta), Options())
    return replace(made, files=files, has_files=True)


def test_the_options(tmp_path: Path) -> None:
    made = derive(trace(call("bind"), capabilities=[check("CAP_NET_BIND_SERVICE"), check("CAP_NET_ADMIN")]), Options())
    given = started(tmp_path, made, ["--rm", "docker.io/library/nginx:1", "web", "nginx", "-g", "daemon off;"])
    assert given[:5] == ["--namespace", "x", "run", "--seccomp", "--seccomp-profile"]
    assert given[5].endswith("a 'b\" $c/seccomp.json")
    assert given[-6:] == ["--rm", "docker.io/library/nginx:1", "web", "nginx", "-g", "daemon off;"]
    assert given[given.index("--cap-add") + 1] == "CAP_NET_ADMIN"
    assert "CAP_NET_BIND_SERVICE" not in given
    assert given.count("--cap-drop") == 13
    assert "--allow-new-privs" not in given
    assert "--read-only" not in given


def test_as_recorded(tmp_path: Path) -> None:
    container = Container(
        "ctr", "runc", "1", "web", "nginx", "sha256:12", directory="/srv", network="host",
        mounts=(ContainerMount("bind", "/srv/a,b", "/data", read_only=True),),
    )  # fmt: skip
    made = policy(container=container, argv=("nginx", "-g", "daemon off;"))
    given = started(tmp_path, made, ["--as-recorded", "--rm", "--label", "a=b c", "web 1"])
    assert given[-8:] == ["--rm", "--label", "a=b c", "docker.io/library/nginx:latest", "web 1", *made.workload.argv]
    assert "--net-host" in given
    assert given[given.index("--cwd") + 1] == "/srv"
    assert given[given.index("--mount") + 1] == 'type=bind,"src=/srv/a,b",dst=/data,options=rbind:ro'
    again = started(tmp_path, made, ["--as-recorded", "x"], IMAGE="other:1")
    assert again[-5:] == ["other:1", "x", *made.workload.argv]


def test_a_root_that_cannot_be_written(tmp_path: Path) -> None:
    made = policy(file("/tmp/a", "create", "write"), file("/run/b/c", "create", "execute"))
    given = started(tmp_path, made, ["NAME:1", "box"], PROFGEN_READ_ONLY="yes")
    assert "--read-only" in given
    mounts = {given[position + 1] for position, word in enumerate(given) if word == "--mount"}
    assert mounts == {
        "type=tmpfs,src=tmpfs,dst=/tmp,options=nosuid:nodev:noexec:mode=1777",
        "type=tmpfs,src=tmpfs,dst=/run/b,options=nosuid:nodev:mode=1777",
    }


def test_devices_come_whole(tmp_path: Path) -> None:
    made = policy(file("/dev/fuse", "read", kinds=("char",)), file("/dev/net/tun", "read", "write", kinds=("char",)))
    given = started(tmp_path, made, ["NAME:1", "box"])
    assert given[given.index("--device") + 1] == "/dev/fuse"
    losses = [loss for name, loss in render(made, [find("containerd")]).losses if loss.item]
    assert {(loss.item, loss.effect) for loss in losses} == {("/dev/fuse", "wider"), ("/dev/net/tun", "wider")}


def test_another_user_has_no_capabilities() -> None:
    made = derive(trace(call("bind"), capabilities=[check("CAP_KILL")], uid=33), Options())
    losses = [loss for _, loss in render(made, [find("containerd")]).losses if loss.item]
    assert [(loss.item, loss.effect) for loss in losses] == [("CAP_KILL", "refused")]


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1", "docker.io/library/nginx:1"),
        ("a/b:1", "docker.io/a/b:1"),
        ("quay.io/a/b", "quay.io/a/b:latest"),
        ("localhost/a", "localhost/a:latest"),
        ("localhost:5000/a:2", "localhost:5000/a:2"),
        ("a@sha256:12", "docker.io/library/a@sha256:12"),
        ("a\nb", None),
        ("-x", None),
        (None, None),
    ],
)
def test_names_of_images(image: str | None, reference: str | None) -> None:
    assert _reference(image) == reference
