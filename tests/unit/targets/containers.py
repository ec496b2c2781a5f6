"""Policies of containers, for the tests of their engines."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from unit.policy.making import call, check, trace

from profiler.policy.derive import derive
from profiler.policy.model import FileRule, Options, Policy
from profiler.trace.model import Container, ContainerMount

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
FUSE = FileRule("/dev/fuse", ("read", "write"), ("char",))
RUN, LIB, ETC = (FileRule(path, ("create",)) for path in ("/run/x", "/var/lib/x", "/etc/x"))


def recorded(
    *files: FileRule,
    argv: tuple[str, ...] = ("web", "-c", "a $x\n'b"),
    needs: tuple[str, ...] = (),
    uid: int = 0,
    tasks: int = 0,
    **container: Any,
) -> Policy:
    """A policy from a recording in a container."""
    where = replace(IN_A_CONTAINER, **container)
    capabilities = [check(name) for name in needs]
    seen = trace(call("read"), argv=argv, container=where, capabilities=capabilities, uid=uid, tasks=tasks)
    return replace(derive(seen, Options(runtime="none")), has_files=True, files=files)


def outside(*files: FileRule) -> Policy:
    """A policy from a recording of a command."""
    made = derive(trace(call("read"), argv=("./app", "-d"), uid=5, gid=6), Options())
    return replace(made, has_files=True, files=files)
