"""What a policy changes in a config.json, given what the file holds already: pure functions.

Nothing that the file restricts is given back, except a read-only root that the workload cannot run with, which is
reported. Sources: the OCI runtime specification (config.md, config-linux.md); the paths that ``runc spec`` masks.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from profiler.kernel.devices import node_of
from profiler.policy import patterns
from profiler.policy.model import Policy
from profiler.policy.posture import Posture, Temporary, posture
from profiler.policy.writable import within
from profiler.quoting.text import printable
from profiler.targets.base import Loss
from profiler.targets.containers import moves_lost
from profiler.wording import listed

MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
    "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
)  # fmt: skip
"""Paths that every engine hides (runc 1.1 spec, containerd and Docker's oci/defaults.go)."""
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
"""Paths that every engine makes read-only (the same sources)."""

_WRITES = frozenset({"write", "append", "create", "truncate", "make", "remove"})
_SHOWN = 4


@dataclass(frozen=True)
class Mount:
    """A tmpfs to add, and its place in the list of mounts: before those below it."""

    index: int
    value: Mapping[str, Any]


@dataclass(frozen=True)
class Changes:
    """What to set or to add; None or empty: nothing.

    ``read_only``: the value of root.readonly. ``nodes`` and ``rules``: what linux.devices gets, and what
    linux.resources.devices becomes. ``tasks``: linux.resources.pids.limit. ``masked`` and ``read_only_paths``: paths
    that the file does not name yet.
    """

    read_only: bool | None = None
    mounts: tuple[Mount, ...] = ()
    nodes: tuple[Mapping[str, Any], ...] = ()
    rules: tuple[Mapping[str, Any], ...] = ()
    tasks: int | None = None
    masked: tuple[str, ...] = ()
    read_only_paths: tuple[str, ...] = ()
    losses: tuple[Loss, ...] = ()


def changes(policy: Policy, read_only: str, document: Mapping[str, Any]) -> Changes:
    """Return the changes of a file. ``read_only``: yes, no or auto; ``document``: the file, whose members have the
    types that the specification gives them."""
    stance = posture(policy)
    linux = document.get("linux") or {}
    mounts = _destinations(document)
    already = bool((document.get("root") or {}).get("readonly"))
    root, losses = _root(stance, read_only, already, mounts)
    nodes, rules, lost = _devices(policy, stance, linux, mounts)
    cgroup = not _is_rootless(linux)
    masked = _missing(linux.get("maskedPaths") or (), MASKED)
    fixed = _missing(linux.get("readonlyPaths") or (), READ_ONLY)
    return Changes(
        read_only=root,
        mounts=_temporary(stance.temporary, mounts) if (already if root is None else root) else (),
        nodes=nodes,
        rules=rules if cgroup else (),
        tasks=_tasks(stance.tasks, (linux.get("resources") or {}).get("pids") or {}) if cgroup else None,
        masked=masked,
        read_only_paths=fixed,
        losses=(*losses, *lost, *(() if stance.sure else _hidden(policy, masked, fixed))),
    )


def _is_rootless(linux: Mapping[str, Any]) -> bool:
    """Return whether the file is for an ordinary user, as ``runc spec --rootless`` writes it: without limits, since no
    cgroup can be made. runc does not start a container whose limit cannot be set."""
    namespaces = linux.get("namespaces")
    kinds = [row.get("type") for row in namespaces if isinstance(row, dict)] if isinstance(namespaces, list) else []
    return "user" in kinds and "resources" not in linux


def _destinations(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Return where the file mounts something, in the order in which the runtime does."""
    return tuple(posixpath.normpath(str(row.get("destination", ""))) for row in document.get("mounts") or ())


def _root(stance: Posture, wish: str, already: bool, mounts: Sequence[str]) -> tuple[bool | None, tuple[Loss, ...]]:
    """Return the value to set for root.readonly (None: leave it), and what is lost by it."""
    if stance.elsewhere is None or (wish == "no" and not already):
        return None, ()
    writable = [*stance.kept, *(row.destination for row in stance.mounts if not row.read_only)]
    unmounted = [path for path in dict.fromkeys(writable) if not within(path, mounts)]
    breaks = [*unmounted, *(stance.elsewhere if not stance.read_only else ())]
    if wish == "yes":
        why = "the root file system is read-only: mount a directory there"
        lost = (Loss("files", printable(path), why, "refused") for path in breaks)
        return True, (*lost, *moves_lost(stance))
    if wish == "auto" and (stance.read_only or already) and not breaks and not stance.apart:
        return (None if already else True), ()
    if wish == "no" or not already:
        return (False if already else None), ()
    together = [f"{one} and {other} (in one mount)" for one, other in stance.apart]
    what = listed([printable(path) for path in (*breaks, *together)], _SHOWN)
    why = f"the workload writes to {what}: mount directories there, and generate with -O oci.read-only=yes"
    return False, (Loss("files", "a root file system that can be written", why),)


def _temporary(rows: Iterable[Temporary], mounts: Sequence[str]) -> tuple[Mount, ...]:
    """Return a tmpfs for each directory that the file does not mount yet, in the order of their places."""
    found = []
    for row in rows:
        if within(row.path, mounts):
            continue
        below = (index for index, path in enumerate(mounts) if within(path, [row.path]))
        options = ["nosuid", "nodev", *(() if row.executed else ("noexec",)), "mode=1777"]
        value = {"destination": row.path, "type": "tmpfs", "source": "tmpfs", "options": options}
        found.append(Mount(next(below, len(mounts)), value))
    return tuple(sorted(found, key=lambda mount: mount.index))


def _devices(
    policy: Policy, stance: Posture, linux: Mapping[str, Any], mounts: Sequence[str]
) -> tuple[tuple[Mapping[str, Any], ...], tuple[Mapping[str, Any], ...], tuple[Loss, ...]]:
    """Return the nodes to add, the rules of the device cgroup, and the devices without known numbers."""
    if not policy.has_files:
        return (), (), ()
    given = {str(row.get("path")): row for row in linux.get("devices") or ()}
    nodes: list[Mapping[str, Any]] = []
    rules: list[Mapping[str, Any]] = [{"allow": False, "access": "rwm"}]
    losses = [_unknown(pattern) for pattern in stance.device_patterns]
    for device in stance.devices:
        known, own = node_of(device.path), given.get(device.path)
        if own is not None:
            numbers = {key: own[key] for key in ("type", "major", "minor") if key in own}
        elif known is not None:
            numbers = {"type": known.kind, "major": known.major, "minor": known.minor}
            if device.path not in mounts:
                nodes.append({"path": device.path, **numbers, "fileMode": 0o666, "uid": 0, "gid": 0})
        else:
            losses.append(_unknown(device.path))
            continue
        rules.append({"allow": True, **numbers, "access": device.access})
    return tuple(nodes), tuple(rules), tuple(losses)


def _unknown(device: str) -> Loss:
    why = "its device number depends on the machine: add it to linux.devices and linux.resources.devices"
    return Loss("files", printable(device), why, "refused")


def _tasks(limit: int | None, given: Mapping[str, Any]) -> int | None:
    """Return the limit of tasks to set: never above the one of the file."""
    own = given.get("limit")
    lower = isinstance(own, int) and limit is not None and 0 < own <= limit
    return None if lower else limit


def _missing(given: Iterable[str], every: Sequence[str]) -> tuple[str, ...]:
    known = {posixpath.normpath(str(path)) for path in given}
    return tuple(path for path in every if path not in known)


def _hidden(policy: Policy, masked: Sequence[str], fixed: Sequence[str]) -> Iterator[Loss]:
    """Yield what the policy allows and the added paths refuse."""
    for rule in policy.files:
        start = patterns.start_of(rule.pattern)
        uses = set(rule.access) - {"look"}
        if uses and within(start, masked):
            yield Loss("files", printable(rule.pattern), "every runtime hides it from containers", "refused")
        elif uses & _WRITES and within(start, fixed):
            yield Loss("files", printable(rule.pattern), "every runtime makes it read-only in containers", "refused")
