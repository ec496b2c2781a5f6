"""The mount namespaces that a workload makes, as its mount calls leave them.

profgen reads an event after its call. By then a sandbox's namespace may be gone, or another directory may be its root
(pivot_root(2)), so that nobody can look up a name in it any more. Its tree is kept here instead: which mount covers
which path, and what was made in file systems that are new.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import posixpath
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from profiler.kernel.mounts import MountUse, file_systems
from profiler.tracers.ebpf.events import OTHER_MOUNTS, Event
from profiler.tracers.paths import (
    LINKS_MAX,
    Found,
    Resolver,
    View,
    above,
    below,
    is_namespace_link,
    joined,
    parts_of,
    through_link,
)

_OF_PROCESS = re.compile(r"/proc/(\d+)(/task/\d+)?(?=/|\Z)")
_NAMESPACES_MAX = 1 << 10
"""The number of namespaces that are followed: the oldest is forgotten for a new one."""
_LOOKED_AT = 16
"""The number of processes that are tried, to look into their namespace."""
_REMEMBERED = 1 << 16
"""The number of processes whose namespace is remembered, and of files in one file system."""


@dataclass(frozen=True)
class Node:
    """A file. ``target``: the text of a symbolic link; None for another file, and for a link straight to an open
    file."""

    kind: str
    uid: int | None
    target: str | None = None


@dataclass(frozen=True)
class Outside:
    """Files that profgen can look at: how it resolves them, as whom, and below which directory there."""

    resolver: Resolver
    view: View
    below: str = ""


class FileSystem:
    """What is known of the files of one file system. Paths begin at its root.

    ``outside``: where profgen finds its files; None if it cannot. ``type`` as in mount(2), "" for one that the workload
    did not mount.
    """

    def __init__(self, type: str = "", outside: Outside | None = None) -> None:
        self.type = type
        place = file_systems().seen_at.get(type)
        self.outside = outside if place is None else Outside(Resolver(), View(0, 0), place)
        self._seen: dict[str, Node] = {}

    @property
    def complete(self) -> bool:
        """Whether a file that is not known here does not exist."""
        return self.outside is not None or self.type in file_systems().empty

    def note(self, path: str, node: Node) -> None:
        """Note what is at a path now."""
        known = self._seen.get(path)
        if node.target is None and known is not None and known.kind == node.kind:
            node = replace(node, target=known.target)
        if path in self._seen or len(self._seen) < _REMEMBERED:
            self._seen[path] = node

    def note_new(self, path: str, node: Node) -> bool:
        """Note what is at a path, unless something is known to be there. Returns whether nothing was."""
        new = path not in self._seen
        if new:
            self.note(path, node)
        return new

    def renamed(self, old: str, new: str) -> None:
        """Copy what is known at and below ``old`` to ``new``."""
        for path in [path for path in self._seen if below(path, old) is not None]:
            self.note(new + path[len(old) :], self._seen[path])

    def look(self, path: str, event: Event) -> Node | None:
        """Return what is at a path; None if nothing is known to be there."""
        if self.outside is not None:
            with contextlib.suppress(OSError):
                return self._outside(self.outside, path, event)
        return self._seen.get(path)

    def _outside(self, outside: Outside, path: str, event: Event) -> Node:
        """Return what is at a path. Raises OSError."""
        name = look = outside.below + path
        of_process = _OF_PROCESS.match(name)
        if name in ("/proc/self", "/proc/thread-self"):
            tgid, tid = (event.own_tgid, event.own_tid) if self.type else (event.tgid, event.tid)
            return Node("symlink", 0, f"{tgid}/task/{tid}" if name.endswith("thread-self") else str(tgid))
        if of_process is not None and self.type:
            # It numbers processes as their own namespace does. All have the same files.
            own = f"/proc/{os.getpid()}" + (f"/task/{os.getpid()}" if of_process[2] else "")
            look = own + name[of_process.end() :]
        found = outside.resolver.at(outside.view, look)
        if found is None:
            raise FileNotFoundError
        kind, uid = found.kind, found.uid
        if of_process is not None and int(of_process[1]) in (event.own_tgid, event.tgid):
            uid = event.fsuid  # fs/proc/base.c task_dump_owner
        if of_process is not None and is_namespace_link(name):
            return Node("file", uid)
        to_open_file = of_process is not None and through_link(name, True)
        link = kind == "symlink" and not to_open_file
        return Node(kind, uid, outside.resolver.text_of(outside.view, look) if link else None)


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
        return mount.system, joined(mount.root, below(path, mount.point) or "/")

    def look(self, path: str, event: Event) -> Node | None:
        """Return what is at a path."""
        system, inside = self.place(path)
        return system.look(inside, event)

    def note(self, path: str, node: Node) -> None:
        """Note what is at a path now."""
        system, inside = self.place(path)
        system.note(inside, node)

    def served(self) -> set[str]:
        """Return where the file systems with a server are that the workload mounted."""
        local = file_systems().local | {"", "?", "overlay"}
        return {one.point for one in self.mounts if one.system.type not in local}

    def note_directories(self, path: str) -> None:
        """Note that what leads to a path are directories, in a file system that profgen cannot look into."""
        mount = self.covering(path)
        for directory in above(path, mount.point):
            inside = joined(mount.root, below(directory, mount.point) or "/")
            if mount.system.outside is not None or not mount.system.note_new(inside, Node("directory", None)):
                break

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
        todo = parts_of(text)
        follow = follow or text.endswith("/")
        while todo:
            part = todo.pop()
            if part == "..":
                at = at if at == root else posixpath.dirname(at)
                continue
            path = joined(at, part)
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
            todo += parts_of(target)
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
            self.mounts += [replace(one, point=joined(target, below(one.point, source) or "/")) for one in below_it]
        elif use.operation in ("move", "move_mount"):
            moved = [] if source is None else [one for one in self.mounts if below(one.point, source) is not None]
            if not moved or source is None or source == "/":
                self.mounts.append(Mounted(target, FileSystem("?")))  # of a descriptor
                return
            self.mounts = [one for one in self.mounts if one not in moved]
            self.mounts += [replace(one, point=joined(target, below(one.point, source) or "/")) for one in moved]
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

    def pivot(self, new: str, put: str) -> None:
        """Do what pivot_root(2) did."""
        if all(one.point != new for one in self.mounts):
            self.mounts.append(Mounted(new, *self.place(new)))
        moved = [one for one in self.mounts if below(one.point, new) is None]
        under = below(put, new)
        self.mounts = [replace(one, point=below(one.point, new) or "/") for one in self.mounts if one not in moved]
        if under not in (None, "/"):  # else nothing leads to the old root any more but an open directory
            self.mounts += [replace(one, point=joined(under or "/", one.point)) for one in moved]


def new_root(points: Sequence[str]) -> str | None:
    """Return where the directory was that pivot_root(2) made the root, if its text does not say: it is a mount point,
    and what was mounted last is that or is below it. ``points``: in their order. None when nothing was mounted."""
    points = [point for point in points if point != "/"]
    return min((point for point in points if below(points[-1], point) is not None), key=len, default=None)


@dataclass
class Trees:
    """The trees of one recording. ``root``: the files below the root that the workload began with; None if profgen
    cannot open it any more."""

    root: Callable[[], Outside | None]
    _first: int = 0
    """The namespace that the workload began in."""
    _trees: dict[int, Tree] = field(default_factory=dict)
    _last: dict[int, int] = field(default_factory=dict)
    """Process to its namespace."""

    def saw(self, event: Event) -> None:
        """Note in which namespace an event's process is."""
        self._first = self._first or event.mounts
        if len(self._last) >= _REMEMBERED:
            self._last.clear()
        self._last.pop(event.tgid, None)  # it is the newest
        self._last[event.tgid] = event.mounts

    def processes(self, event: Event) -> list[int]:
        """Return some living processes that were last seen in an event's mount namespace, those that were seen longest
        ago first: they are likely to live on."""
        known = (tgid for tgid, mounts in self._last.items() if mounts == event.mounts)
        return list(itertools.islice((tgid for tgid in known if os.path.exists(f"/proc/{tgid}")), _LOOKED_AT))

    def of(self, event: Event) -> Tree | None:
        """Return the tree that an event's process sees; None if the workload did not make it."""
        return self._trees.get(event.mounts)

    def made(self, event: Event) -> None:
        """Note a new namespace. A process that made it for itself had the one that it was last seen in."""
        before = self._last.get(event.tgid, event.mounts_before)
        self._last[event.tgid] = event.mounts
        above, root = self._trees.get(before), self.root()
        if above is not None:
            tree = above.copy()
        elif root is not None and (before == self._first or not event.facts & OTHER_MOUNTS):
            tree = Tree([Mounted("/", FileSystem(outside=root))])
        else:
            return
        while len(self._trees) >= _NAMESPACES_MAX:
            del self._trees[next(iter(self._trees))]
        self._trees[event.mounts] = tree


def _open_file(path: str, event: Event) -> str | None:
    """Return what a link of procfs to an open file leads to, while its process lives."""
    found = _OF_PROCESS.search(path)
    if found is None or int(found[1]) not in (event.own_tgid, event.tgid):
        return None
    try:
        target = os.readlink(f"/proc/{event.tgid}{path[found.end() :]}")
    except OSError:
        return None
    return target if target.startswith("/") else None
