"""Where paths are: the pattern that a policy's file rules give to a path, and the mounts of a container."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterable
from functools import lru_cache

from profiler.errors import InputError
from profiler.policy.model import FileRule, Policy
from profiler.policy.patterns import is_literal, literal, matches
from profiler.trace.model import ContainerMount, Trace


@lru_cache(maxsize=4)
def _by_access(files: tuple[FileRule, ...]) -> tuple[frozenset[str], dict[str, list[str]]]:
    literals: set[str] = set()
    classed: dict[str, list[str]] = {}
    for rule in files:
        if is_literal(rule.pattern):
            literals.add(rule.pattern)
            continue
        for word in rule.access:
            classed.setdefault(word, []).append(rule.pattern)
    return frozenset(literals), classed


def pattern_for(policy: Policy, path: str, accesses: Collection[str]) -> str:
    """Return the pattern of the file rule with one of these accesses that fits the path, or else the path's own
    literal pattern. Raises InputError for a path that no file can have."""
    literals, classed = _by_access(policy.files)
    exact = literal(path)
    if exact in literals:
        return exact
    candidates: Iterable[str] = (pattern for word in sorted(accesses) for pattern in classed.get(word, ()))
    return next((pattern for pattern in candidates if matches(pattern, path)), exact)


_KINDS = frozenset({"bind", "volume"})
_KERNELS = ("/proc", "/sys", "/dev")
"""Places whose names the kernel gives, wherever the workload runs."""


def destinations(trace: Trace) -> dict[str, list[ContainerMount]]:
    """Return where volumes and directories of the host were mounted, as the kernel writes the paths, with what was
    mounted there."""
    container = trace.meta.container
    found: dict[str, list[ContainerMount]] = {}
    for mount in () if container is None else container.mounts:
        if mount.kind not in _KINDS or not mount.destination.startswith("/") or "\0" in mount.destination:
            continue
        path = "/" + posixpath.normpath(mount.destination).strip("/")
        if path == "/" or any(path == place or path.startswith(place + "/") for place in _KERNELS):
            continue
        try:
            literal(path)
        except InputError:
            continue
        found.setdefault(path, []).append(mount)
    return {path: sorted(found[path]) for path in sorted(found)}
