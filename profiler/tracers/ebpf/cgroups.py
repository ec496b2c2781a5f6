"""Control groups as the kernel's side of a Watcher needs them: who is in one, and how the recorder knows it
(cgroups(7))."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable, Iterator
from functools import cache

from profiler.errors import InputError
from profiler.tracers.ebpf.shared import constant

NAME_BYTES = constant("ID_TEXT")

_ID = re.compile(rb"(?:.*-)?([0-9a-f]{64})(?:\.scope)?", re.DOTALL)


def container_name(component: str) -> tuple[bytes, bool]:
    """What a container is called by its cgroup's name, as ``name_of`` in watch.bpf.c has it, and whether that is an id
    of 64 digits."""
    name = os.fsencode(component)
    found = _ID.fullmatch(name)
    if found and not name[: found.start(1)].endswith(b"conmon-"):
        return found[1], True
    return name[: NAME_BYTES - 1], False


@cache
def hierarchies() -> dict[str, int]:
    """Mount points of cgroup file systems to the number of their hierarchy: 0 for version 2, else that of
    proc_pid_cgroup(5)."""
    numbers = {}
    with open("/proc/self/cgroup") as file:
        for line in file:
            number, controllers, _ = line.split(":", 2)
            numbers[frozenset(controllers.split(",")) - {""}] = int(number)
    found = {}
    with open("/proc/self/mountinfo") as file:
        for line in file:
            words = line.split()
            after = words.index("-")
            kind, options = words[after + 1], frozenset(words[after + 3].split(","))
            place = words[4].encode().decode("unicode_escape")
            if kind == "cgroup2":
                found[place] = 0
            elif kind == "cgroup":
                found[place] = next(
                    (number for controllers, number in numbers.items() if controllers and controllers <= options), -1
                )
    return found


def key_of(directory: str) -> tuple[int, int]:
    """(id, hierarchy) of a cgroup by its directory: the id is the inode's number (kernfs). Raises InputError."""
    path = os.path.realpath(directory)
    places = [place for place in hierarchies() if path == place or path.startswith(place.rstrip("/") + "/")]
    if not places or not os.path.isdir(path):
        raise InputError(f"{directory!a} is no directory of a cgroup file system")
    return os.stat(path).st_ino, hierarchies()[max(places, key=len)]


def _mount_of(path: str) -> str:
    """The mount point of the cgroup file system that this directory is in, or will be. Raises InputError."""
    places = [place for place in hierarchies() if path == place or path.startswith(place.rstrip("/") + "/")]
    if not places:
        raise InputError(f"{path!a} is in no cgroup file system")
    return max(places, key=len)


def components(directory: str) -> list[str]:
    """The names on the way to a cgroup from the top of its hierarchy. It need not be there. Raises InputError."""
    return [name for name in directory[len(_mount_of(directory)) :].split("/") if name]


def deepest(directory: str) -> tuple[str, int]:
    """The last directory on the way to a cgroup that is there, and how many names lead to it. Raises InputError."""
    path, depth = _mount_of(directory), 0
    for name in components(directory):
        if not os.path.isdir(f"{path.rstrip('/')}/{name}"):
            break
        path, depth = f"{path.rstrip('/')}/{name}", depth + 1
    return path, depth


def directories_of(name: str) -> tuple[str, ...]:
    """The directories of the container of this id or name, in every hierarchy where it has one now."""
    wanted = container_name(name)[0]
    found = []
    for place in hierarchies():
        for folder, below, _ in os.walk(place):
            here = [child for child in below if container_name(child)[0] == wanted]
            found += [os.path.join(folder, child) for child in here]
            below[:] = [child for child in below if child not in here]
    return tuple(found)


def processes_in(directories: Iterable[str]) -> Iterator[int]:
    """The processes in cgroups and below, by profgen's numbers."""
    for directory in directories:
        for folder, _, _ in os.walk(directory):
            # gone meanwhile; or threads of a process may be in different ones (cgroup type "threaded"): then the one
            # above has it
            with contextlib.suppress(OSError), open(os.path.join(folder, "cgroup.procs")) as file:
                yield from (pid for line in file if (pid := int(line)))


def there(pid: int, when: int) -> bool:
    """Whether there is a process of this number, and the one that had it at ``when``, on the kernel's monotonic clock
    in ns.

    A process says when it started on the clock that goes on in suspend (proc_pid_stat(5), starttime).
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            ticks = int(file.read().rpartition(b")")[2].split()[19])
    except OSError:
        return False
    suspended = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
    return ticks * 1_000_000_000 <= (when + suspended) * os.sysconf("SC_CLK_TCK")


def descendants(pids: Iterable[int]) -> set[int]:
    """These processes and all that come from them now."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, IndexError), open(f"/proc/{entry}/stat", "rb") as file:
                parent = int(file.read().rpartition(b")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry))
    found: set[int] = set()
    todo = list(pids)
    while todo:
        pid = todo.pop()
        if pid not in found:
            found.add(pid)
            todo += children.get(pid, ())
    return found
