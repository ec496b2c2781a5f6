"""The OCI bundle of a container: where it is, and what its config.json says (runtime-spec, bundle.md and config.md).

A bundle is found through the process that made or holds the container, which is its first process's parent:
containerd's shim has the bundle as its working directory, or that of another container of the pod; runc, crun and
conmon (CRI-O, Podman) have it on their command lines. So it does not matter where the engine keeps its state, nor in
which mount namespace.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from profiler.engines import cgroups, inspect, pods
from profiler.engines.engine import Details
from profiler.files import process_stat, process_status, read_start

CONFIG_LIMIT_BYTES = 1 << 20

_USUAL = (
    "/run/containerd/io.containerd.runtime.v2.task/k8s.io/{}",
    "/run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io/{}",
    "/run/containers/storage/overlay-containers/{}/userdata",
)
"""Where containerd, K3s and CRI-O keep bundles, for a container whose processes have ended."""

_IMAGE = "org.opencontainers.image.ref.name"
_GENERATIONS_MAX = 64


def find(identity: str, pid: int) -> Details | None:
    """Return what a container's bundle says of it; None when the bundle is not found.

    ``pid``: any process in the container's cgroup, 0 when none is known. Only what root's processes say is believed.
    """
    if "/" in identity or identity in ("", ".", ".."):
        return None
    found = next((found for place in _places(identity, pid) if (found := read(identity, place))), None)
    told = cgroups.container_of(cgroups.path_of(pid) or "") if found is not None and pid else None
    if found is None or told is None or found.container.engine is not None:
        return found
    return replace(found, container=replace(found.container, engine=told[0]))


def read(identity: str, bundle: str) -> Details | None:
    """Return what the config.json in a directory says of a container; None when there is none.

    It does not say whether the container runs.
    """
    try:
        config: Any = json.loads(read_start(f"{bundle}/config.json", CONFIG_LIMIT_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(config, dict):
        return None
    found = config.get("annotations")
    named = {key: value for key, value in found.items() if isinstance(value, str)} if isinstance(found, dict) else {}
    said = inspect.containerd({"ID": identity, "Image": named.get(_IMAGE), "Spec": config})
    container = pods.in_pod(replace(said, engine=None), named)
    return Details(container, 0, None, named, pause=pods.is_pause(named))


def _places(identity: str, pid: int) -> Iterator[str]:
    """Yield the directories that may be the bundle."""
    try:
        holder = _holder(identity, pid) if pid else 0
        if holder and process_status(holder)["Uid"][1] == "0":
            yield f"/proc/{holder}/cwd/../{identity}"
            with open(f"/proc/{holder}/cmdline", "rb") as file:
                words = file.read(1 << 16).decode("utf-8", "surrogateescape").split("\0")
            for option, value in itertools.pairwise(words):
                if option in ("-b", "--bundle"):
                    yield f"/proc/{holder}/root/{value}" if value.startswith("/") else f"/proc/{holder}/cwd/{value}"
    except (OSError, KeyError, IndexError, ValueError):
        pass  # it has ended
    yield from (place.format(identity) for place in _USUAL)


def _holder(identity: str, pid: int) -> int:
    """Return the nearest ancestor of a process that is not in the container; 0 when there is none."""
    for _ in range(_GENERATIONS_MAX):
        pid = int(process_stat(pid)[1])
        if not pid or not _inside(identity, pid):
            return pid
    return 0


def _inside(identity: str, pid: int) -> bool:
    path = cgroups.path_of(pid) or ""
    told = cgroups.container_of(path)
    return told[1] == identity if told else identity in path.split("/")
