"""Which types the files have that a policy names by their paths."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from profiler.kernel.selinux import table
from profiler.policy import patterns
from profiler.policy.model import FileRule, Policy
from profiler.policy.writable import within
from profiler.targets.selinux.contexts import Contexts, renamed

CONTAINER = "container_file_t"
"""What a runtime gives to every file in a container (container_contexts of container-selinux; podman and docker mount
with it)."""
OWN = "data"
"""The type of the block for what the workload makes where the distribution has no label."""
PROCESS, ANYONE = "process", "domain"
"""The workload's own processes, and the attribute of all processes."""

_SAMPLES = {
    "pid": "1", "tid": "1", "uuid": "0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f", "hex": "0123456789abcdef", "digits": "1",
    "random": "a1b2c3", "date": "2020-01-01", "version": "1.2", "name": "x", "tree": "x", "home": "/home/x",
}  # fmt: skip
"""A text of each class of patterns without a length."""
_MAKES = frozenset({"create", "make", "bind", "link", "rename_to"})


def sample(pattern: str) -> str:
    """Return one path that fits the pattern."""
    parts = []
    for token in patterns.parse(pattern):
        if isinstance(token, patterns.Literal):
            parts.append(token.text)
        elif isinstance(token, patterns.Class):
            sized = patterns.sized(token.name)
            parts.append("0" * sized[1] if sized else _SAMPLES[token.name])
    return "".join(parts)


@dataclass(frozen=True)
class Labels:
    """Where types come from, the first that has an answer: ``given`` (path to type, for all below it), the kernel, the
    engine (``container``; ``mounted`` maps a place in the container to the host's path), ``relabelled`` (directories of
    the host that get the workload's own type), a machine's ``contexts``, or the reference policy.

    ``makers``: patterns of what the workload makes itself.
    """

    given: Mapping[str, str] = field(default_factory=dict)
    relabelled: tuple[str, ...] = ()
    container: bool = False
    mounted: Mapping[str, str] = field(default_factory=dict)
    contexts: Contexts | None = None
    makers: tuple[str, ...] = ()

    def of(self, path: str, kind: str) -> str | None:
        """Return the type of a path as a file of a class, None where a file gets that of its directory."""
        if place := _longest(path, self.given):
            return self.given[place]
        kernel: Mapping[str, str] = table("kernel_paths")
        if (place := _longest(path, kernel)) and not (self.container and place == "/dev/pts"):
            return kernel[place]
        if self.container:
            place = _longest(path, self.mounted)
            if not place:
                return CONTAINER
            path = self.mounted[place].rstrip("/") + path[len(place) :]
        if within(path, self.relabelled):
            return OWN
        if self.contexts is not None:
            found = self.contexts.find(path, kind)
            return found.type if found else None
        known: Mapping[str, str] = table("paths")
        path = renamed(path, table("same").items())
        place = _longest(path, known)
        return None if path != place and place in table("shared") else known[place or "/"]

    def made(self, path: str) -> bool:
        """Return whether the workload makes the file itself, or a directory that it is in, at a place for which the
        distribution has no label."""
        while path != "/" and path:
            if self.of(path, "file") is None and any(patterns.matches(maker, path) for maker in self.makers):
                return True
            path = posixpath.dirname(path)
        return False

    def types(self, path: str, kind: str) -> str:
        """Return the type of a path, also where the distribution has no label for it."""
        found = self.of(path, kind)
        if found is not None:
            return found
        if self.made(path):
            return OWN
        return "root_t" if path in ("/", "") else self.types(posixpath.dirname(path), "dir")


def _longest(path: str, places: Iterable[str]) -> str:
    return max((place for place in places if within(path, (place,))), key=len, default="")


def makers(policy: Policy) -> tuple[str, ...]:
    """Return the patterns of files that the workload makes."""
    return tuple(rule.pattern for rule in policy.files if _MAKES & set(rule.access) and "linked" in rule.states)


def makes(rule: FileRule) -> bool:
    """Return whether the rule lets the workload make a file."""
    return bool(_MAKES & set(rule.access))


def mounted(policy: Policy) -> dict[str, str]:
    """Return where directories of the host are in the container."""
    return {
        posixpath.normpath(row.destination): posixpath.normpath(row.source)
        for row in policy.workload.launch.mounts
        if row.kind == "bind" and row.source.startswith("/") and row.destination.startswith("/")
    }
