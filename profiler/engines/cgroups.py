"""Control groups: where they are mounted, which one a process is in, and which container or unit they belong to
(cgroups(7), proc_pid_cgroup(5)).

A machine may have version 2 (one hierarchy), version 1 (a hierarchy for each controller or two), or both ("hybrid"). A
cgroup then has a directory in each hierarchy; that of a container may exist only in some of them.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass

from profiler import run
from profiler.errors import InputError, ProfgenError, ProgramError
from profiler.files import kernel_text, process_stat

SECONDS = 10.0
"""Time limit for a question to systemd."""


@dataclass(frozen=True)
class Hierarchy:
    """A mounted hierarchy. ``controllers``: its name in /proc/PID/cgroup, empty for version 2. ``root``: the cgroup
    that is mounted."""

    mount: str
    controllers: str
    root: str = "/"

    def directory(self, path: str) -> str | None:
        """Return the directory of the cgroup with this path, None when it is not below the mounted one."""
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
    """Return the hierarchies in the text of /proc/self/mountinfo (proc_pid_mountinfo(5)); for several mounts of one
    hierarchy the first that no later mount hides."""
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
        # A mount of a part of the hierarchy, such as a container's, is the second choice.
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
    """Return controllers to path, from the text of /proc/PID/cgroup; the path of version 2 is under ``""``."""
    found = {}
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if number.isdigit() and colon and path.startswith("/"):
            found[",".join(sorted(controllers.split(",")))] = path
    return found


def path_of(pid: int) -> str | None:
    """Return the longest cgroup path of a process, which identifies its owner best. None when it has ended."""
    try:
        with kernel_text(f"/proc/{pid}/cgroup") as file:
            found = paths(file.read())
    except OSError:
        return None
    return max(found.values(), key=len, default=None)


def mounted() -> tuple[Hierarchy, ...]:
    """Return the hierarchies of this machine. Raises ProfgenError when there are none."""
    with kernel_text("/proc/self/mountinfo") as file:
        found = hierarchies(file.read())
    if not found:
        raise ProfgenError("no cgroup hierarchy is mounted here: mount one on /sys/fs/cgroup")
    return found


def places(path: str, known: Iterable[Hierarchy]) -> tuple[str, ...]:
    """Return the cgroup's directory in each hierarchy, whether or not it exists yet.

    ``path`` is the cgroup's own (``/system.slice/redis.service``), or a directory below a mount point. Raises
    InputError for the root.
    """
    clean = os.path.normpath("/" + path.strip("/"))
    listed = list(known)
    for hierarchy in sorted(listed, key=lambda hierarchy: len(hierarchy.mount), reverse=True):
        if (clean + "/").startswith(hierarchy.mount + "/"):
            # On a hybrid machine the processes may be only in the same cgroup of another hierarchy.
            clean = ("" if hierarchy.root == "/" else hierarchy.root) + clean[len(hierarchy.mount) :] or "/"
            break
    if clean == "/":
        raise InputError("the root cgroup holds the whole machine: name a group below it")
    return tuple(directory for row in listed if (directory := row.directory(clean)) is not None)


def directories(path: str, known: Iterable[Hierarchy]) -> tuple[str, ...]:
    """Return the directories of :func:`places` that exist. Raises InputError when none does, and for the root."""
    found = [directory for directory in places(path, known) if os.path.isdir(directory)]
    if not found:
        raise InputError(f"there is no cgroup {path}; /proc/PID/cgroup shows the cgroup of a process")
    return tuple(found)


def first_process(groups: Iterable[str]) -> int:
    """Return the oldest process of these cgroups whose parent is not in them; 0 when they are empty."""
    found: dict[int, tuple[int, int]] = {}
    for group in groups:
        for directory, _, _ in os.walk(group):
            try:
                with kernel_text(f"{directory}/cgroup.procs") as file:
                    listed = [int(line) for line in file if line.strip().isdigit()]
            except OSError:
                continue
            for pid in listed:
                try:
                    fields = process_stat(pid)
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
"""Engine, and the cgroups of its containers: as systemd and as the engine itself name them (the cgroup managers of
opencontainers/runc and crun)."""


def container_of(path: str) -> tuple[str | None, str] | None:
    """Return (engine, container id) for a cgroup's path, of the outermost container; None when it does not belong to
    one. The engine is None when the path does not tell."""
    for engine, shape in _SHAPES:
        if found := shape.search(path):
            return engine, found[1]
    return None


def names() -> set[str]:
    """Return the last component of each cgroup's path on this machine."""
    return {os.path.basename(path) for hierarchy in mounted() for path, _, _ in os.walk(hierarchy.mount)}


def running_containers(without: int = 0) -> set[str]:
    """Return the ids of the containers that have a process, whatever started them.

    ``without``: a process; the container that it is in is left out. Its own path in /proc does not name the container
    when it has a cgroup namespace of its own (cgroup_namespaces(7)).
    """
    found: set[str] = set()
    left_out: set[str] = set()
    for hierarchy in mounted():
        for path, _, _ in os.walk(hierarchy.mount):
            told = container_of(path[len(hierarchy.mount) :])
            if told is not None and (processes := _processes(path)):
                found.add(told[1])
                if without in processes:
                    left_out.add(told[1])
    return found - left_out


def _processes(directory: str) -> set[int]:
    try:
        with kernel_text(f"{directory}/cgroup.procs") as file:
            return {int(line) for line in file}
    except (OSError, ValueError):
        return set()


def _name_of(unit: str) -> str:
    """Return the unit's full name. Raises InputError for text that cannot be one."""
    if unit.startswith("-") or not unit or "/" in unit:
        raise InputError(f"{unit!a} is not the name of a unit")
    return unit if "." in unit else f"{unit}.service"


def _ask(name: str, *words: str) -> dict[str, str]:
    """Return the properties that ``systemctl show`` prints. Raises InputError when systemd cannot be asked."""
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
    """Return the path of a systemd unit's cgroup, empty when it does not run. Raises InputError when there is no such
    unit, or systemd cannot be asked."""
    name = _name_of(unit)
    answer = _ask(name, "--property=LoadState,ControlGroup", "--", name)
    if answer.get("LoadState") == "not-found":
        raise InputError(f"systemd has no unit {name}")
    return answer.get("ControlGroup", "")


def unit_place(unit: str) -> str:
    """Return the path that a unit's cgroup has when it runs: its slice's path and its name (systemd.slice(5)). Raises
    InputError when systemd cannot be asked."""
    name = _name_of(unit)
    answer = _ask(name, "--property=Id,Slice,ControlGroup", "--", name)
    if answer.get("ControlGroup"):
        return answer["ControlGroup"]
    top = _ask(name, "--property=ControlGroup").get("ControlGroup", "").rstrip("/")
    return f"{top}{slice_path(answer.get('Slice') or 'system.slice')}/{answer.get('Id') or name}"


def slice_path(name: str) -> str:
    """Return the path of a slice: ``a-b.slice`` is in ``a.slice`` (systemd.slice(5)); empty for the root slice."""
    words = name.removesuffix(".slice").split("-") if name != "-.slice" else []
    return "".join(f"/{'-'.join(words[: number + 1])}.slice" for number in range(len(words)))
