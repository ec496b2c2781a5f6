"""Control groups: which processes are in one, and how the recorder identifies it (cgroups(7))."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable, Iterator
from functools import cache

from profiler.errors import InputError
from profiler.files import kernel_text, process_stat
from profiler.tracers.ebpf.shared import constant

NAME_BYTES = constant("ID_TEXT")

_ID = re.compile(rb"(?:.*-)?([0-9a-f]{64})(?:\.scope)?", re.DOTALL)


def container_name(component: str) -> tuple[bytes, bool]:
    """Return what a container is called in its cgroup's name, and whether that is an id of 64 digits.

    ``name_of`` in watch.bpf.c does the same.
    """
    name = os.fsencode(component)
    found = _ID.fullmatch(name)
    if found and not name[: found.start(1)].endswith(b"conmon-"):
        return found[1], True
    return name[: NAME_BYTES - 1], False


@cache
def hierarchies() -> dict[str, int]:
    """Return the mount points of cgroup file systems with the numbers of their hierarchies: 0 for version 2, else as in
    /proc/PID/cgroup."""
    numbers = {}
    with kernel_text("/proc/self/cgroup") as file:
        for line in file:
            number, controllers, _ = line.split(":", 2)
            numbers[frozenset(controllers.split(",")) - {""}] = int(number)
    found = {}
    with kernel_text("/proc/self/mountinfo") as file:
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
    """Return (id, hierarchy) of a cgroup's directory; the id is the inode number (kernfs). Raises InputError."""
    path = os.path.realpath(directory)
    places = [place for place in hierarchies() if path == place or path.startswith(place.rstrip("/") + "/")]
    if not places or not os.path.isdir(path):
        raise InputError(f"{directory!a} is not a directory of a cgroup file system")
    return os.stat(path).st_ino, hierarchies()[max(places, key=len)]


def _mount_of(path: str) -> str:
    """Return the mount point of a directory's cgroup file system; the directory need not exist. Raises InputError."""
    places = [place for place in hierarchies() if path == place or path.startswith(place.rstrip("/") + "/")]
    if not places:
        raise InputError(f"{path!a} is not in a cgroup file system")
    return max(places, key=len)


def components(directory: str) -> list[str]:
    """Return the names on the way from the top of a hierarchy to a cgroup, which need not exist. Raises InputError."""
    return [name for name in directory[len(_mount_of(directory)) :].split("/") if name]


def deepest(directory: str) -> tuple[str, int]:
    """Return the last directory on the way to a cgroup that exists, and how many names lead to it. Raises
    InputError."""
    path, depth = _mount_of(directory), 0
    for name in components(directory):
        if not os.path.isdir(f"{path.rstrip('/')}/{name}"):
            break
        path, depth = f"{path.rstrip('/')}/{name}", depth + 1
    return path, depth


def directories_of(name: str) -> tuple[str, ...]:
    """Return the directories that a container, by its id or name, has now; one in each hierarchy."""
    wanted = container_name(name)[0]
    found = []
    for place in hierarchies():
        for folder, below, _ in os.walk(place):
            here = [child for child in below if container_name(child)[0] == wanted]
            found += [os.path.join(folder, child) for child in here]
            below[:] = [child for child in below if child not in here]
    return tuple(found)


def processes_in(directories: Iterable[str]) -> Iterator[int]:
    """Yield the processes in cgroups and below them, by profgen's numbers."""
    for directory in directories:
        for folder, _, _ in os.walk(directory):
            # The cgroup may be gone by now. One of type "threaded" cannot be read; the one above lists its processes.
            with contextlib.suppress(OSError), kernel_text(os.path.join(folder, "cgroup.procs")) as file:
                yield from (pid for line in file if (pid := int(line)))


def there(pid: int, when: int) -> bool:
    """Whether the process that had this number at ``when`` still lives.

    ``when`` is on the kernel's monotonic clock, in ns. The start of a process is on the clock that also runs in suspend
    (proc_pid_stat(5), starttime).
    """
    try:
        ticks = int(process_stat(pid)[19])
    except OSError:
        return False
    suspended = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
    return ticks * 1_000_000_000 <= (when + suspended) * os.sysconf("SC_CLK_TCK")


def descendants(pids: Iterable[int]) -> set[int]:
    """Return these processes and all their descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, IndexError):
                children.setdefault(int(process_stat(entry)[1]), []).append(int(entry))
    found: set[int] = set()
    todo = list(pids)
    while todo:
        pid = todo.pop()
        if pid not in found:
            found.add(pid)
            todo += children.get(pid, ())
    return found
