"""The mount namespaces that a workload makes, as its mount calls leave them.

profgen reads an event after its call. By then a sandbox's namespace may be gone, or another directory may be its root
(pivot_root(2)), so that nobody can look up a name in it any more. Its tree is kept here instead: which mount covers
which path, and what was made in file systems that are new.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from profiler.kernel.mounts import MountUse
from profiler.tracers.ebpf.events import OTHER_MOUNTS, Event
from profiler.tracers.paths import LINKS_MAX, Found, below, kind_of

_ELSEWHERE = {
    "proc": "/proc",
    "sysfs": "/sys",
    "mqueue": "/dev/mqueue",
    "devpts": "/dev/pts",
    "cgroup2": "/sys/fs/cgroup",
    "securityfs": "/sys/kernel/security",
    "debugfs": "/sys/kernel/debug",
    "tracefs": "/sys/kernel/tracing",
}
"""File systems whose files the kernel makes, and where profgen finds the same names."""

_EMPTY = frozenset({"tmpfs", "ramfs"})
"""File systems that hold only what was made in them."""

_OF_PROCESS = re.compile(r"/(\d+)(/task/\d+)?(?:/(fd/\d+|map_files/[^/]+|ns/[^/]+|root|cwd|exe))?(?=/|\Z)")
_FORGOTTEN = 1 << 16
"""The number of processes whose namespace is remembered, and of files in one file system."""


@dataclass(frozen=True)
class Node:
    """A file. ``target``: the text of a symbolic link; None for another file, and for a link straight to an open
    file."""

    kind: str
    uid: int | None
    target: str | None = None


class FileSystem:
    """What is known of the files of one file system. Paths begin at its root.

    ``outside``: where profgen finds its files; None if it cannot. ``type`` as in mount(2), "" for one that the workload
    did not mount.
    """

    def __init__(self, type: str = "", outside: str | None = None) -> None:
        self.type = type
        self.outside = _ELSEWHERE.get(type) if outside is None else outside
        self._seen: dict[str, Node] = {}

    @property
    def complete(self) -> bool:
        """Whether a file that is not known here does not exist."""
        return self.outside is not None or self.type in _EMPTY

    def note(self, path: str, node: Node) -> None:
        """Note what is at a path now."""
        known = self._seen.get(path)
        if node.target is None and known is not None and known.kind == node.kind:
            node = replace(node, target=known.target)
        if path in self._seen or len(self._seen) < _FORGOTTEN:
            self._seen[path] = node

    def renamed(self, old: str, new: str) -> None:
        """Copy what is known at and below ``old`` to ``new``."""
        for path in [path for path in self._seen if below(path, old) is not None]:
            self.note(new + path[len(old) :], self._seen[path])

    def look(self, path: str, event: Event) -> Node | None:
        """Return what is at a path; None if nothing is known to be there."""
        if self.outside is not None:
            with contextlib.suppress(OSError):
                return self._outside(self.outside + path, event)
        return self._seen.get(path)

    def _outside(self, path: str, event: Event) -> Node:
        of_process = _OF_PROCESS.match(path.removeprefix("/proc")) if path.startswith("/proc/") else None
        if path in ("/proc/self", "/proc/thread-self"):
            tgid, tid = (event.own_tgid, event.own_tid) if self.type else (event.tgid, event.tid)
            return Node("symlink", 0, f"{tgid}/task/{tid}" if path.endswith("thread-self") else str(tgid))
        if of_process is not None and self.type:
            # It numbers processes as their own namespace does. All have the same files.
            own = f"/proc/{os.getpid()}" + (f"/task/{os.getpid()}" if of_process[2] else "")
            path = own + path.removeprefix(f"/proc/{of_process[1]}{of_process[2] or ''}")
        status = os.lstat(path)
        kind, uid = kind_of(status.st_mode), status.st_uid
        if of_process is not None and int(of_process[1]) in (event.own_tgid, event.tgid):
            uid = event.fsuid  # fs/proc/base.c task_dump_owner
        open_file = of_process is not None and of_process[3] and of_process.end() == len(path.removeprefix("/proc"))
        return Node(kind, uid, os.readlink(path) if kind == "symlink" and not open_file else None)


@dataclass(frozen=True)
class Mounted:
    """A mount: where it is in the tree, and which directory of which file system it shows."""

    point: str
    system: FileSystem
    root: str = "/"


class Tree:
    """The mounts of one namespace, the newest last: it covers what is below its place."""

    def __init__(self, mounts: list[Mounted]) -> None:
        self.mounts = mounts

    def copy(self) -> Tree:
        """Return the tree of a new namespace (CLONE_NEWNS)."""
        return Tree(list(self.mounts))

    def covering(self, path: str) -> Mounted:
        """Return the mount that a path leads into."""
        return next(one for one in reversed(self.mounts) if below(path, one.point) is not None)

    def place(self, path: str) -> tuple[FileSystem, str]:
        """Return the file system that a path leads into, and the path there."""
        mount = self.covering(path)
        return mount.system, _join(mount.root, below(path, mount.point) or "/")

    def look(self, path: str, event: Event) -> Node | None:
        """Return what is at a path."""
        system, inside = self.place(path)
        return system.look(inside, event)

    def note(self, path: str, node: Node) -> None:
        """Note what is at a path now."""
        system, inside = self.place(path)
        system.note(inside, node)

    def renamed(self, old: str, new: str) -> None:
        """Note that a file has another name."""
        (system, inside), (other, name) = self.place(old), self.place(new)
        if system is other:
            system.renamed(inside, name)

    def find(self, event: Event, root: str, base: str, text: str, follow: bool, passed: bool) -> Found:
        """Return the file that ``text`` means, as Resolver.resolve does (profiler/tracers/paths.py).

        ``root``: the root directory of the process.
        """
        at, links, sure, reached = root if text.startswith("/") else base, 0, True, True
        todo = _parts(text)
        follow = follow or text.endswith("/")
        while todo:
            part = todo.pop()
            if part == "..":
                at = at if at == root else posixpath.dirname(at)
                continue
            path = _join(at, part)
            node = self.look(path, event)
            through = bool(todo) or follow
            system, inside = self.place(path)
            if node is None and through and passed and not system.complete and inside != "/":
                sure = False  # it may be a link, which the root of a mount is not
            if node is None and todo:
                reached = False
            at = path
            if node is None or node.kind != "symlink" or not through or links >= LINKS_MAX:
                continue
            links += 1
            target = node.target if node.target is not None else _open_file(path, event)
            if target is None:
                sure = False
                continue
            at = root if target.startswith("/") else posixpath.dirname(path)
            todo += _parts(target)
        node = self.look(at, event)
        if node is None:
            return Found(at, sure=sure, reached=reached)
        return Found(at, node.kind, node.uid, True, sure=sure)

    # -- calls that change the tree ------------------------------------------------------------------------------------

    def mount(
        self, use: MountUse, source: str | None, target: str | None, filesystem: str | None, uid: int | None
    ) -> None:
        """Do what a mount call of this user did. Paths are resolved; see trace.model.Mount for the words."""
        if target is None:
            return
        if use.operation == "mount":
            system = FileSystem(filesystem or "?")
            system.note("/", Node("directory", uid))
            self.mounts.append(Mounted(target, system))
        elif use.operation in ("bind", "rbind") and source is not None:
            system, inside = self.place(source)
            below_it = self._below(source) if use.operation == "rbind" else []
            self.mounts += [Mounted(target, system, inside)]
            self.mounts += [replace(one, point=_join(target, below(one.point, source) or "/")) for one in below_it]
        elif use.operation in ("move", "move_mount"):
            moved = [] if source is None else [one for one in self.mounts if below(one.point, source) is not None]
            if not moved or source is None or source == "/":
                self.mounts.append(Mounted(target, FileSystem("?")))  # of a descriptor
                return
            self.mounts = [one for one in self.mounts if one not in moved]
            self.mounts += [replace(one, point=_join(target, below(one.point, source) or "/")) for one in moved]
        elif use.operation == "umount" and target != "/":
            for index in reversed(range(len(self.mounts))):
                if self.mounts[index].point == target:
                    gone = self.mounts[index:]
                    self.mounts[index:] = [one for one in gone[1:] if below(one.point, target) is None]
                    return

    def _below(self, path: str) -> list[Mounted]:
        """Return the mounts below a directory that can be seen."""
        inside = [one for one in self.mounts if one.point != path and below(one.point, path) is not None]
        return [one for one in inside if self.covering(one.point) is one]

    def new_root(self) -> str:
        """Return where the directory is that pivot_root(2) made the root, if its text does not say: it is a mount
        point, and what was mounted last is that or is below it."""
        points = [one.point for one in self.mounts if one.point != "/"]
        return min((point for point in points if below(points[-1], point) is not None), key=len, default="/")

    def pivot(self, new: str, put: str) -> None:
        """Do what pivot_root(2) did."""
        if all(one.point != new for one in self.mounts):
            self.mounts.append(Mounted(new, *self.place(new)))
        moved = [one for one in self.mounts if below(one.point, new) is None]
        under = below(put, new)
        self.mounts = [replace(one, point=below(one.point, new) or "/") for one in self.mounts if one not in moved]
        if under not in (None, "/"):  # else nothing leads to the old root any more but an open directory
            self.mounts += [replace(one, point=_join(under or "/", one.point)) for one in moved]


@dataclass
class Trees:
    """The trees of one recording. ``root``: how profgen opens the root that the workload began with; None if it cannot
    any more."""

    root: Callable[[], str | None]
    _first: int = 0
    """The namespace that the workload began in."""
    _trees: dict[int, Tree] = field(default_factory=dict)
    _last: dict[int, int] = field(default_factory=dict)
    """Process to its namespace."""

    def of(self, event: Event) -> Tree | None:
        """Return the tree that an event's process sees; None if the workload did not make it."""
        self._first = self._first or event.mounts
        if len(self._last) > _FORGOTTEN:
            self._last.clear()
        self._last[event.tgid] = event.mounts
        return self._trees.get(event.mounts)

    def made(self, event: Event) -> None:
        """Note a new namespace. A process that made it for itself had the one that it was last seen in."""
        before = self._last.get(event.tgid, event.mounts_before)
        self._last[event.tgid] = event.mounts
        above, root = self._trees.get(before), self.root()
        if above is not None:
            self._trees[event.mounts] = above.copy()
        elif root is not None and (before == self._first or not event.facts & OTHER_MOUNTS):
            self._trees[event.mounts] = Tree([Mounted("/", FileSystem(outside=root))])


def _open_file(path: str, event: Event) -> str | None:
    """Return what a link of procfs to an open file leads to, while its process lives."""
    found = _OF_PROCESS.search(path)
    if found is None or found[3] is None or int(found[1]) not in (event.own_tgid, event.tgid):
        return None
    try:
        target = os.readlink(f"/proc/{event.tgid}/{found[3]}")
    except OSError:
        return None
    return target if target.startswith("/") else None


def _join(above: str, name: str) -> str:
    return "/" + posixpath.normpath(f"{above}/{name}").lstrip("/")


def _parts(text: str) -> list[str]:
    """Return the components, last first."""
    return [part for part in reversed(text.split("/")) if part not in ("", ".")]
