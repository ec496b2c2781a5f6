"""Rights to compare with that are not in a file of the user: default profiles of engines, and no confinement."""

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
    return _default("docker", abi, None)


BASELINES: Mapping[str, str] = {
    "docker-default": "docker",
    "podman-default": "podman",
    "containerd-default": "containerd",
}
"""Default profiles of engines: name on the command line to that of the engine."""


def baseline(name: str) -> Source:
    """Return the profile of BASELINES that the command line names, or a file. Its rights are for a container with the
    given capabilities, by default those that the engine gives. Raises InputError as :func:`open_source` does."""
    if name in BASELINES:
        return Source(name, "seccomp", None, lambda abi, given: _default(BASELINES[name], abi, given))
    return open_source(name)


def _default(engine: str, abi: str, given: frozenset[str] | None) -> Rights:
    """Return what an engine's default profile allows in a container with these capabilities (None: its own)."""
    data = load(f"{engine}_default.yaml")
    capabilities = frozenset(data["capabilities"]) if given is None else given
    rights = from_bytes(json.dumps(data["profile"]).encode(), f"{engine}-default").rights(abi, capabilities)
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
