"""What a policy says in the configuration of an LXC container: groups of lines (lxc.container.conf(5)), as pure
functions.

Sources: src/lxc/confile.c and conf.c of LXC 5.0.2 and 7.0; tried with 5.0.2.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from profiler.kernel.devices import node_of
from profiler.policy.model import Policy
from profiler.policy.posture import Device, Posture, Temporary, posture
from profiler.policy.writable import within
from profiler.quoting.lxc import Inexpressible, field, unescaped
from profiler.quoting.text import printable
from profiler.rewriting.assignments import Assignment
from profiler.targets.base import Loss
from profiler.targets.containers import moves_lost

SECCOMP = "lxc.seccomp.profile"
APPARMOR = "lxc.apparmor.profile"
SELINUX = "lxc.selinux.context"
NO_NEW_PRIVS = "lxc.no_new_privs"
DROP, KEEP = "lxc.cap.drop", "lxc.cap.keep"
CGROUP = {"1": "lxc.cgroup", "2": "lxc.cgroup2"}
"""The version of the host's cgroups, and how keys for them begin. LXC 7 has no version 1."""
PATH, ROOT = "lxc.rootfs.path", "lxc.rootfs.options"
MOUNT = "lxc.mount.entry"
UID, GID = "lxc.init.uid", "lxc.init.gid"

_STANDARD = ("c 1:3", "c 1:5", "c 1:7", "c 1:8", "c 1:9", "c 5:0", "c 5:1", "c 5:2", "c 136:*")
"""null, zero, full, random, urandom, tty, console, ptmx and pts: what LXC puts into /dev."""


@dataclass(frozen=True)
class Group:
    """Lines that belong together. ``comment``: the reason. ``keys``: all that the group sets."""

    comment: str
    lines: tuple[Assignment, ...]

    @property
    def keys(self) -> frozenset[str]:
        """The keys of its lines."""
        return frozenset(key for key, _ in self.lines)


@dataclass(frozen=True)
class Wishes:
    """What the request says. ``seccomp``: the path of the policy on the host. ``read_only``: yes, no or auto.
    ``cgroup``: a word of CGROUP. ``held``: the assignments of the file that is rewritten."""

    seccomp: str
    apparmor: str | None = None
    selinux: str = ""
    read_only: str = "auto"
    cgroup: str = "2"
    held: tuple[Assignment, ...] = ()

    def value(self, key: str) -> str:
        """Return the last value that the file gives a key, empty when there is none."""
        return next((value for name, value in reversed(self.held) if name == key), "")


@dataclass(frozen=True)
class Config:
    """The groups, the mounts to add, and what is lost."""

    groups: tuple[Group, ...]
    mounts: tuple[Assignment, ...] = ()
    user: tuple[Assignment, ...] = ()
    losses: tuple[Loss, ...] = ()


def config(policy: Policy, wishes: Wishes) -> Config:
    """Return the lines for a policy."""
    stance = posture(policy)
    root, temporary, lost = _root(stance, wishes)
    shared = [memory(stance.shared)] if stance.shared else []
    rules, nodes, unknown = _devices(policy, stance, CGROUP[wishes.cgroup])
    user = tuple((key, str(number)) for key, number in ((UID, stance.uid), (GID, stance.gid)) if number)
    tasks = f"{CGROUP[wishes.cgroup]}.pids.max"
    groups = (
        Group("system calls", ((SECCOMP, wishes.seccomp),)),
        Group("capabilities: only these; the first two lines undo what was included", _capabilities(policy)),
        Group("set-user-ID programs and file capabilities give nothing", ((NO_NEW_PRIVS, "1"),))
        if policy.no_new_privs
        else None,
        Group("AppArmor: the profile must be loaded", ((APPARMOR, wishes.apparmor),)) if wishes.apparmor else None,
        Group("SELinux", ((SELINUX, wishes.selinux),)) if wishes.selinux else None,
        Group("devices: what LXC puts into /dev, and what was used", rules) if rules else None,
        Group("threads and processes", ((tasks, str(stance.tasks)),)) if stance.tasks else None,
        Group("a root that cannot be written", ((ROOT, root),)) if root else None,
    )
    return Config(
        tuple(group for group in groups if group),
        _new(wishes.held, (*temporary, *shared, *nodes)),
        user,
        (*_without_root(policy, wishes), *lost, *unknown),
    )


def _capabilities(policy: Policy) -> tuple[Assignment, ...]:
    """Return the lines for capabilities. LXC takes either what to drop or what to keep, and an empty value undoes the
    lines before it."""
    names = " ".join(name.removeprefix("CAP_").lower() for name in policy.needed())
    return ((DROP, ""), (KEEP, ""), (KEEP, names or "none"))


def _without_root(policy: Policy, wishes: Wishes) -> Iterator[Loss]:
    """Yield the capabilities that a user other than root does not get: LXC does not fill the ambient set."""
    uid = wishes.value(UID) if wishes.held else str(policy.workload.uid or "")
    if uid not in ("", "0"):
        why = "LXC gives capabilities to root only; another user has them in programs with file capabilities alone"
        for name in policy.needed():
            yield Loss("capabilities", name, why, "refused")


def _root(stance: Posture, wishes: Wishes) -> tuple[str | None, tuple[Assignment, ...], tuple[Loss, ...]]:
    """Return the options of the root (None: they stay), memory for what may be empty, and what is lost."""
    options = [word for word in wishes.value(ROOT).split(",") if word]
    already = "ro" in options
    mounted = _targets(wishes.held)
    places = [*stance.kept, *(row.destination for row in stance.mounts if not row.read_only)]
    missing = [path for path in dict.fromkeys(places) if not within(path, mounted)]
    breaks = [*missing, *(stance.elsewhere or () if not stance.read_only else ())]
    wanted = wishes.read_only == "yes" or (wishes.read_only == "auto" and stance.read_only and not breaks)
    if stance.elsewhere is None or not (wanted or already):
        return None, (), ()
    empty: list[Assignment] = []
    for row in stance.temporary:
        if within(row.path, mounted):
            continue
        try:
            empty.append(memory(row))
        except Inexpressible:
            breaks.append(row.path)
    why = f"the root cannot be written: bind a directory of the host there ({MOUNT})"
    losses = (*(Loss("files", printable(path), why, "refused") for path in breaks), *moves_lost(stance))
    kept = ",".join([*(word for word in options if word not in ("ro", "rw")), "ro"])
    return (None if already else kept), tuple(empty), losses


def memory(row: Temporary) -> Assignment:
    """Return the mount of memory. Raises Inexpressible."""
    flags = "rw,nosuid,nodev," + ("" if row.executed else "noexec,") + "mode=1777,create=dir"
    return MOUNT, f"tmpfs {field(row.path[1:])} tmpfs {flags} 0 0"


def _devices(
    policy: Policy, stance: Posture, cgroup: str
) -> tuple[tuple[Assignment, ...], tuple[Assignment, ...], tuple[Loss, ...]]:
    """Return the rules of the device cgroup, the nodes to bind into the container, and devices without numbers."""
    if not policy.has_files:
        return (), (), ()
    allow, deny = f"{cgroup}.devices.allow", f"{cgroup}.devices.deny"
    rules = [(allow, ""), (deny, ""), (deny, "a"), *((allow, f"{numbers} rwm") for numbers in _STANDARD)]
    nodes: list[Assignment] = []
    losses = [_unknown(pattern) for pattern in stance.device_patterns]
    for device in stance.devices:
        node = node_of(device.path)
        if node is None:
            losses.append(_unknown(device.path))
            continue
        rules.append((allow, f"{node.kind} {node.major}:{node.minor} {device.access}"))
        if _on_host(device):
            nodes.append((MOUNT, f"{device.path} {device.path[1:]} none bind,create=file 0 0"))
    return tuple(dict.fromkeys(rules)), tuple(nodes), tuple(losses)


def _on_host(device: Device) -> bool:
    """Return whether the node comes from the host; else the workload makes it."""
    return device.path.startswith("/dev/") and "m" not in device.access


def _unknown(path: str) -> Loss:
    why = f"its device number depends on the machine: add it with devices.allow, and its node with {MOUNT}"
    return Loss("files", printable(path), why, "refused")


def _targets(held: Sequence[Assignment]) -> tuple[str, ...]:
    """Return where the file mounts something, as paths in the container. A path of the host has the root in front."""
    path = next((value for key, value in reversed(held) if key == PATH), "")
    root = posixpath.normpath(path if path.startswith("/") else path.partition(":")[2]) + "/"
    fields = [re.split(r"[ \t]+", value) for key, value in held if key == MOUNT]
    places = [unescaped(row[1] if len(row) > 1 else "/") for row in fields]
    return tuple(posixpath.normpath("/" + place.removeprefix(root).lstrip("/")) for place in places)


def _new(held: Sequence[Assignment], mounts: Sequence[Assignment]) -> tuple[Assignment, ...]:
    """Return the mounts whose places the file does not name yet, each once."""
    known = _targets(held)
    return tuple(row for row in dict.fromkeys(mounts) if _targets([row])[0] not in known)


def below(held: Sequence[Assignment], mount: Assignment) -> Assignment:
    """Return the first mount below a new one, which must come after it; the new one itself when there is none."""
    path = next((value for key, value in reversed(held) if key == PATH), "")
    place = _targets([mount])[0]
    rows = [row for row in held if row[0] == MOUNT]
    return next((row for row in rows if within(_targets([(PATH, path), row])[0], [place])), mount)
