"""Control groups: where they are mounted, in which of them a process is, and whose they are (cgroups(7),
proc_pid_cgroup(5)).

A machine may have version 2 (one hierarchy), version 1 (one for each controller or two), or both ("hybrid"). A group is
then one directory in each hierarchy, and a container's may exist in some of them only.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass

from profiler import run
from profiler.errors import InputError, ProfgenError, ProgramError

SECONDS = 10.0
"""For one question to systemd."""


@dataclass(frozen=True)
class Hierarchy:
    """A mounted hierarchy. ``controllers``: as /proc/PID/cgroup names it, empty for version 2. ``root``: the group that
    is mounted."""

    mount: str
    controllers: str
    root: str = "/"

    def directory(self, path: str) -> str | None:
        """Where the group of this path is, None when it is not below what is mounted."""
        inside = (
            path
            if self.root == "/"
            else path.removeprefix(self.root)
            if (path + "/").startswith(self.root + "/")
            else None
        )
        if inside is None:
            return None
        return self.mount + inside.rstrip("/")


def hierarchies(mountinfo: str) -> tuple[Hierarchy, ...]:
    """From the text of /proc/self/mountinfo (proc_pid_mountinfo(5)); of several mounts of one hierarchy the first that
    no later mount hides."""
    found: dict[str, Hierarchy] = {}
    lines: list[tuple[str, list[str], list[str]]] = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, rest = before.split(" "), after.split(" ")
        if len(fields) < 5 or len(rest) < 3:
            continue
        place = _unescaped(fields[4])
        if place != "/":
            lines = [other for other in lines if not (other[0] + "/").startswith(place + "/")]
        lines.append((place, fields, rest))
    for _, fields, rest in lines:
        if rest[0] not in ("cgroup", "cgroup2"):
            continue
        controllers = "" if rest[0] == "cgroup2" else _controllers(rest[2])
        root = _unescaped(fields[3])
        # A mount of a part of the hierarchy (a container's) is of use only where nothing better is.
        if controllers not in found or (found[controllers].root != "/" and root == "/"):
            found[controllers] = Hierarchy(_unescaped(fields[4]), controllers, root)
    return tuple(found.values())


_NO_CONTROLLERS = frozenset({"rw", "ro", "xattr", "noprefix", "clone_children", "seclabel", "favordynmods", "none"})


def _controllers(options: str) -> str:
    return ",".join(
        sorted(
            word for word in options.split(",") if word not in _NO_CONTROLLERS and not word.startswith("release_agent=")
        )
    )


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def paths(text: str) -> dict[str, str]:
    """Controllers to path, from the text of /proc/PID/cgroup; the path of version 2 is under ``""``."""
    found = {}
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if number.isdigit() and colon and path.startswith("/"):
            found[",".join(sorted(controllers.split(",")))] = path
    return found


def path_of(pid: int) -> str | None:
    """The path that says most about whose the process is: the longest. None when it is gone."""
    try:
        with open(f"/proc/{pid}/cgroup", errors="surrogateescape") as file:
            found = paths(file.read())
    except OSError:
        return None
    return max(found.values(), key=len, default=None)


def mounted() -> tuple[Hierarchy, ...]:
    """The hierarchies of this machine. Raises ProfgenError when there is none."""
    with open("/proc/self/mountinfo", errors="surrogateescape") as file:
        found = hierarchies(file.read())
    if not found:
        raise ProfgenError("no cgroup hierarchy is mounted here: mount one on /sys/fs/cgroup")
    return found


def places(path: str, known: Iterable[Hierarchy]) -> tuple[str, ...]:
    """The directories that the group that the user means has, or will have, in every hierarchy.

    ``path`` is a group's own (``/system.slice/redis.service``) or a directory below a mount point. Raises InputError
    for the root.
    """
    clean = os.path.normpath("/" + path.strip("/"))
    listed = list(known)
    for hierarchy in sorted(listed, key=lambda hierarchy: len(hierarchy.mount), reverse=True):
        if (clean + "/").startswith(hierarchy.mount + "/"):
            # The same group in the other hierarchies is meant too: on a hybrid machine only one of them may hold the
            # processes.
            clean = ("" if hierarchy.root == "/" else hierarchy.root) + clean[len(hierarchy.mount) :] or "/"
            break
    if clean == "/":
        raise InputError("the root cgroup holds the whole machine: name a group below it")
    return tuple(directory for row in listed if (directory := row.directory(clean)) is not None)


def directories(path: str, known: Iterable[Hierarchy]) -> tuple[str, ...]:
    """Those of :func:`places` that are there. Raises InputError for none, and for the root."""
    found = [directory for directory in places(path, known) if os.path.isdir(directory)]
    if not found:
        raise InputError(f"no cgroup {path} here; processes are in those of /proc/PID/cgroup")
    return tuple(found)


def first_process(groups: Iterable[str]) -> int:
    """The process of these groups that was there first and whose parent is not among them; 0 for none."""
    found: dict[int, tuple[int, int]] = {}
    for group in groups:
        for directory, _, _ in os.walk(group):
            try:
                with open(f"{directory}/cgroup.procs") as file:
                    listed = [int(line) for line in file if line.strip().isdigit()]
            except OSError:
                continue
            for pid in listed:
                try:
                    with open(f"/proc/{pid}/stat", errors="replace") as stat:
                        fields = stat.read().rpartition(")")[2].split()
                    found[pid] = int(fields[1]), int(fields[19])  # proc_pid_stat(5): parent, start time
                except (OSError, IndexError, ValueError):
                    continue
    outer = [(started, pid) for pid, (parent, started) in found.items() if parent not in found]
    return min(outer, default=(0, 0))[1]


_SHAPES = (
    ("docker", re.compile(r"(?:^|/)docker[-/]([0-9a-f]{64})(?:\.scope)?(?=/|$)")),
    ("podman", re.compile(r"(?:^|/)libpod-([0-9a-f]{64})(?:\.scope)?(?=/|$)")),
    ("nerdctl", re.compile(r"(?:^|/)nerdctl-([0-9a-f]{64})(?:\.scope)?(?=/|$)")),
    ("cri", re.compile(r"(?:^|/)(?:cri-containerd|crio)-([0-9a-f]{64})(?:\.scope)?(?=/|$)")),
    (None, re.compile(r"(?:^|/)([0-9a-f]{64})(?=/|$)")),
)
"""Engine, and its containers' groups: with systemd's and with the engine's own names (opencontainers/runc and crun,
cgroup managers)."""


def container_of(path: str) -> tuple[str | None, str] | None:
    """(engine, id of the container) of a group's path, the outermost; None for one that is no container's. The engine
    may not be told."""
    for engine, shape in _SHAPES:
        if found := shape.search(path):
            return engine, found[1]
    return None


def names() -> set[str]:
    """Return the last component of each cgroup's path on this machine."""
    return {os.path.basename(path) for hierarchy in mounted() for path, _, _ in os.walk(hierarchy.mount)}


def running_containers() -> set[str]:
    """Return the ids of the containers that have a process, whatever started them."""
    found = set()
    for hierarchy in mounted():
        for path, _, _ in os.walk(hierarchy.mount):
            told = container_of(path[len(hierarchy.mount) :])
            if told is not None and told[1] not in found and _occupied(path):
                found.add(told[1])
    return found


def _occupied(directory: str) -> bool:
    try:
        with open(f"{directory}/cgroup.procs") as file:
            return bool(file.read(1))
    except OSError:
        return False


def _name_of(unit: str) -> str:
    """The unit's full name. Raises InputError for what can be none."""
    if unit.startswith("-") or not unit or "/" in unit:
        raise InputError(f"{unit!a} is no name of a unit")
    return unit if "." in unit else f"{unit}.service"


def _ask(name: str, *words: str) -> dict[str, str]:
    """Properties that ``systemctl show`` tells. Raises InputError when systemd cannot be asked."""
    if shutil.which("systemctl") is None:
        raise InputError("--unit asks systemd, and systemctl is not installed here; use --cgroup")
    try:
        asked = run.ask(["systemctl", "show", *words], seconds=SECONDS)
    except ProgramError as error:
        raise InputError(str(error)) from error
    if asked.status:
        raise InputError(f"cannot ask systemd about {name}: {asked.reason}")
    return dict(line.partition("=")[::2] for line in asked.text.splitlines())


def unit_group(unit: str) -> str:
    """The path of a systemd unit's group, empty when it does not run. Raises InputError when there is none, or systemd
    cannot be asked."""
    name = _name_of(unit)
    answer = _ask(name, "--property=LoadState,ControlGroup", "--", name)
    if answer.get("LoadState") == "not-found":
        raise InputError(f"systemd has no unit {name}")
    return answer.get("ControlGroup", "")


def unit_place(unit: str) -> str:
    """The path that a unit's group has when it runs: its slice's, and its name (systemd.slice(5)). Raises InputError
    when systemd cannot be asked."""
    name = _name_of(unit)
    answer = _ask(name, "--property=Id,Slice,ControlGroup", "--", name)
    if answer.get("ControlGroup"):
        return answer["ControlGroup"]
    top = _ask(name, "--property=ControlGroup").get("ControlGroup", "").rstrip("/")
    return f"{top}{slice_path(answer.get('Slice') or 'system.slice')}/{answer.get('Id') or name}"


def slice_path(name: str) -> str:
    """The path of a slice below the root: ``a-b.slice`` is in ``a.slice`` (systemd.slice(5)); empty for the root
    slice."""
    words = name.removesuffix(".slice").split("-") if name != "-.slice" else []
    return "".join(f"/{'-'.join(words[: number + 1])}.slice" for number in range(len(words)))
