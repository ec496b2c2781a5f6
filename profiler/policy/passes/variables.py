"""Paths below the mounts of a container get a variable: where a volume or a directory of the host is mounted is a
matter of the deployment.

A volume with a name is the same one wherever it is mounted: where merged recordings had it at different places, what
was done at one of them is allowed at each, as it would have been done there. Where one recording used it at two places,
these stay two variables.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from profiler.policy.model import Options, Policy, Variable
from profiler.policy.places import destinations
from profiler.policy.reasons import said
from profiler.policy.rows import KEYS, file_of, in_order, plain_of
from profiler.policy.variables import unfolded, written
from profiler.quoting.text import printable
from profiler.trace.model import ContainerMount, Trace

_NAMELESS = re.compile(r"[0-9a-f]{64}")
"""How engines call a volume that nobody named."""
_LENGTH = 50
"""Characters of a name that come from the volume's name or the path."""


@dataclass(frozen=True)
class _Mounted:
    """Something at one or more places. ``volume``: its name, where it has one."""

    volume: str
    paths: tuple[str, ...]
    mounts: tuple[ContainerMount, ...]

    @property
    def word(self) -> str:
        """What its variable is called."""
        start, text = ("volume_", self.volume) if self.volume else ("mount_", self.paths[0])
        return start + (re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")[:_LENGTH] or "path")

    @property
    def because(self) -> str:
        """What is mounted, in words that are the same on every machine."""
        kinds = {mount.kind for mount in self.mounts}
        what = (
            f"volume {printable(self.volume)}"
            if self.volume
            else "volume without a name"
            if kinds == {"volume"}
            else "bind mount"
        )
        return what + (", read-only" if all(mount.read_only for mount in self.mounts) else "")


def _volume(mounts: Iterable[ContainerMount]) -> str:
    """The name of the one volume that was mounted; empty when it has none or there were several."""
    names = {
        mount.source if mount.kind == "volume" and not _NAMELESS.fullmatch(mount.source) else "" for mount in mounts
    }
    return names.pop() if len(names) == 1 else ""


def _used(trace: Trace, paths: Iterable[str]) -> dict[str, int]:
    """Of each of these places below which something was used or looked for: in how many of the recordings."""
    found = dict.fromkeys(paths, 0)
    for row in trace.files:
        inside = [path for path in found if row.path.startswith(path + "/")]
        if inside and row.state != "detached":
            place = max(inside, key=len)
            found[place] = max(found[place], row.runs or 1)
    return {path: runs for path, runs in found.items() if runs}


def _mounted(trace: Trace) -> list[_Mounted]:
    """What is mounted, a volume that every recording has at one place at most as one."""
    places = destinations(trace)
    used = _used(trace, places)
    volumes: dict[str, list[str]] = {}
    alone = []
    for path in used:
        name = _volume(places[path])
        if name:
            volumes.setdefault(name, []).append(path)
        else:
            alone.append(path)
    found = []
    for name, paths in sorted(volumes.items()):
        if sum(used[path] for path in paths) > trace.meta.runs:
            alone += paths
        else:
            found.append(_Mounted(name, tuple(paths), tuple(mount for path in paths for mount in places[path])))
    return [*found, *(_Mounted("", (path,), tuple(places[path])) for path in sorted(alone))]


def _variables(trace: Trace) -> tuple[Variable, ...]:
    made: dict[str, Variable] = {}
    for row in _mounted(trace):
        name, number = row.word, 2
        while name in made:
            name, number = f"{row.word}_{number}", number + 1
        made[name] = Variable(name, row.paths, (said("mounted", row.because),))
    return tuple(made[name] for name in sorted(made))


def _at_each(policy: Policy) -> Policy:
    """What was done at one path of a variable, at each of them."""
    whole = written(policy, whole=True)
    members: dict[str, Any] = {"sockets": unfolded(whole.sockets, policy.variables)}
    for section, key in KEYS.items():
        found: dict[Any, list[Any]] = {}
        join: Callable[[Sequence[Any]], Any] = file_of if section == "files" else plain_of
        for row in getattr(whole, section):
            found.setdefault(key(row), []).append(row)
        members[section] = in_order(section, unfolded(map(join, found.values()), policy.variables))
    return replace(policy, **members)


def variables(policy: Policy, trace: Trace, options: Options) -> Policy:
    """Name the places below which the workload used files."""
    if not trace.has_files:
        return policy
    policy = replace(policy, variables=_variables(trace))
    return _at_each(policy) if any(len(row.paths) > 1 for row in policy.variables) else policy
