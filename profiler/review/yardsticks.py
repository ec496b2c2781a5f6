"""Rights to compare with that are not in a file of the user: Docker's default profile, and no confinement."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace

from profiler.kernel.abi import SUB_ABIS
from profiler.kernel.capabilities import CAPABILITIES
from profiler.kernel.data import load
from profiler.review.foreign import Source
from profiler.review.rights import Rights
from profiler.review.sources import from_bytes, open_source


def docker_capabilities() -> frozenset[str]:
    """Return the capabilities that ``docker run`` gives a container by default."""
    return frozenset(load("docker_default.yaml")["capabilities"])


def docker_version() -> str:
    """Return which default profile of Docker this is, and its date."""
    data = load("docker_default.yaml")
    return f"{data['version']}, {data['date']}"


def docker_default(abi: str) -> Rights:
    """Return what ``docker run`` without options allows on a machine of this native ABI."""
    profile = json.dumps(load("docker_default.yaml")["profile"]).encode()
    capabilities = docker_capabilities()
    rights = from_bytes(profile, "docker-default").rights(abi, capabilities)
    return replace(rights, capabilities=capabilities)


def unconfined(abi: str) -> Rights:
    """Return what a program of root may do outside any container."""
    return Rights("unconfined", "seccomp", abi, (abi, *SUB_ABIS.get(abi, ())), "allow", {}, frozenset(CAPABILITIES))


YARDSTICKS: Mapping[str, Callable[[str], Rights]] = {"docker-default": docker_default, "unconfined": unconfined}
"""Name on the command line to the rights that it means."""


def named(name: str) -> Source:
    """Return what the command line names: one of YARDSTICKS, or a file (:func:`open_source`, with its errors)."""
    if name in YARDSTICKS:
        return Source(name, "seccomp", None, lambda abi, _: YARDSTICKS[name](abi))
    return open_source(name)
