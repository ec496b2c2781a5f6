"""Quadlet units: read as Podman's generator reads them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from inputs import examples
from unit.policy.making import call, trace
from unit.targets.containers import ETC, FUSE, LIB, RUN, outside, recorded
from unit.targets.quadlets import command, lines
from unit.trace.strategies import traces

from profiler.errors import InputError
from profiler.policy.derive import derive
from profiler.policy.model import FileRule, Options, Policy, SocketRule, Workload
from profiler.targets.base import Artifact, Output, Request
from profiler.targets.catalogue import find
from profiler.targets.naming import name_of
from profiler.targets.rendering import render_one


def unit(policy: Policy, **settings: object) -> str:
    (file,) = render_one("quadlet", policy, settings).files
    return file.data.decode()


def test_the_unit_is_as_recorded() -> None:
    made = recorded(RUN, FUSE, needs=("CAP_KILL", "CAP_CHOWN"), tasks=40)
    assert command(unit(made)) == [
        "--entrypoint=web",
        "--user=33:33",
        "--workdir=/srv/a b",
        "--publish=80:80/tcp",
        '--mount=type=bind,"source=/a,b","target=/b ""c",readonly=true',
        "--mount=type=volume,source=db,target=/data",
        "--read-only=true",
        "--read-only-tmpfs=false",
        "--tmpfs=/run:rw,nosuid,nodev,noexec",
        "--tmpfs=/t:rw,nosuid,nodev,noexec",
        "--device=/dev/fuse:/dev/fuse:rw",
        "--pids-limit=256",
        "--cap-drop=all",
        "--cap-add=CHOWN",
        "--cap-add=KILL",
        "--security-opt=no-new-privileges",
        "--security-opt=seccomp=%E/containers/systemd/web.seccomp.json",
        "web:1",
        "-c",
        "a $x\n'b",
    ]
    assert ("Tmpfs", "/run:rw,nosuid,nodev,noexec") in lines(unit(made)), "its own key where one will do"


def test_the_root_is_written_where_it_must_be() -> None:
    assert "--read-only=true" not in command(unit(recorded(ETC)))
    assert "# ReadOnly=true\n" in unit(recorded(ETC))
    words = command(unit(recorded(RUN, LIB), **{"read-only": "yes"}))
    assert "--mount=type=volume,target=/var/lib" in words
    shared = FileRule("/dev/shm/{name}", ("create", "write"))
    words = command(unit(recorded(RUN, shared)))
    assert "--read-only=true" in words
    assert "--read-only-tmpfs=false" not in words


def test_what_was_not_in_a_container_is_there_to_be_uncommented() -> None:
    assert command(unit(outside(LIB))) == [
        "--cap-drop=all",
        "--security-opt=no-new-privileges",
        "--security-opt=seccomp=%E/containers/systemd/app.seccomp.json",
    ]
    for line in ("# Image=IMAGE", "# Entrypoint=./app", "# Exec=-d", "# PodmanArgs=--user=5:6", "# ReadOnly=true"):
        assert f"\n{line}\n" in unit(outside(LIB))


@pytest.mark.parametrize("image", ["x.build", "x.image", "a b", "--privileged", "x\n"])
def test_an_image_that_the_unit_cannot_name(image: str) -> None:
    assert "\n# Image=IMAGE\n" in unit(recorded(image=image))


def test_apparmor() -> None:
    def made(**settings: object) -> Output:
        artifacts = {
            "seccomp": Artifact("seccomp.json", b"{}", "seccomp.json"),
            "apparmor": Artifact("profgen-a b", b"", "apparmor.profile"),
        }
        return find("quadlet").render(Request(recorded(), settings, artifacts=artifacts))

    off = made()
    assert [loss.item for loss in off.losses] == ["the AppArmor profile profgen-a b is not used"]
    assert '\n# PodmanArgs="--security-opt=apparmor=profgen-a b"\n' in off.files[0].data.decode()
    on = made(apparmor=True)
    assert on.losses == ()
    assert "--security-opt=apparmor=profgen-a b" in command(on.files[0].data.decode())


def test_a_sysctl_is_proposed_instead_of_a_capability() -> None:
    bound = (SocketRule("inet", "stream", 6, ("bind", "listen"), (), ports=(("bind", (80,)),)),)
    made = replace(recorded(needs=("CAP_NET_BIND_SERVICE",)), sockets=bound)
    assert "\n# Sysctl=net.ipv4.ip_unprivileged_port_start=80\n" in unit(made)


@pytest.mark.parametrize(
    ("image", "argv", "name"),
    [
        ("registry.example:5000/a/web:1.2@sha256:12", ("x",), "web"),
        ("db", ("x",), "db"),
        ("é x", ("/usr/sbin/my app",), "x"),
        ("\n", ("/usr/sbin/my app",), "my-app"),
        (None, ("/usr/bin/...",), "workload"),
        (None, (), "workload"),
        (None, ("a" * 99,), "a" * 64),
    ],
)
def test_names(image: str | None, argv: tuple[str, ...], name: str) -> None:
    assert name_of(Workload(argv, 0, image=image)) == name
    assert find("quadlet").settings[1].parse(name) == name


def test_its_name_is_given() -> None:
    made = render_one("quadlet", recorded(), {"name": "shop"})
    assert made.files[0].name == "shop.container"
    assert "systemctl start shop" in made.usage[1].text
    for name in ("", "a/b", "-x", "a b", "x" * 65):
        with pytest.raises(InputError, match="is not a name"):
            find("quadlet").settings[1].parse(name)


@given(traces())
@settings(max_examples=examples(60), deadline=None)
def test_hostile_recordings_give_valid_units(recording: Any) -> None:
    try:
        made = derive(recording, Options())
    except InputError:
        return
    assert "--cap-drop=all" in command(unit(made))


def test_nothing_known() -> None:
    assert "[Container]" in unit(derive(trace(call("read")), Options()))
