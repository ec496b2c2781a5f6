"""Which file an event of uses.bpf.c means: its texts, resolved as the process saw them when the event is read."""

from __future__ import annotations

import contextlib
import os
import re
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from profiler.tracers.ebpf.events import OTHER_MOUNTS, OTHER_ROOT, ROOT, SAME_TOP, Event, text_of
from profiler.tracers.ebpf.loader import Programs
from profiler.tracers.ebpf.reader import Reader
from profiler.tracers.ebpf.trees import Node, Outside, Tree, Trees
from profiler.tracers.paths import OWN_MOUNTS, Found, Memory, View, above, joined, process_in, through_link
from profiler.tracers.served import same_file

_NOWHERE = "/proc/0"
_OWN_NAMESPACE = "/proc/self/ns/mnt"
_KNOWN_MAX = 1 << 16
_RESOLVED = frozenset({"ok", "EEXIST", "EISDIR", "ENOTEMPTY", "EBUSY", "EXDEV", "ETXTBSY", "ENOEXEC"})
"""Results of calls whose path lookup passed every directory on the way."""
_OWN_DESCRIPTOR = re.compile(r"/proc/(?:thread-)?self/fd/\d+(/.*|\Z)", re.DOTALL)
_SELF = re.compile(r"/+proc/+(?:(thread-self)|self)(?=/|\Z)")


@dataclass
class Roots:
    """Processes seen with a root of their own, newest last: profgen reaches the root through one that still lives."""

    limit: int = 16
    seen: dict[int, deque[int]] = field(default_factory=dict)
    pivoted: dict[int, str] = field(default_factory=dict)
    """Where a root was before pivot_root(2) made it one, in the namespace that the workload began in."""

    def find(self, root: int, tgid: int, top: str | None, same: bool) -> str | None:
        """Return how profgen opens a root; None when no process that had it is left.

        ``top``: the root that the workload began with. ``same``: whether this one is the same file, as a process may
        have another root by now. Without ``top``, a process in profgen's own mount namespace does not count: its number
        may have been given to it since.
        """
        known = self.seen.setdefault(root, deque(maxlen=self.limit))
        if tgid not in known:
            known.append(tgid)
        for pid in reversed(known):
            path = f"/proc/{pid}/root/."
            with contextlib.suppress(OSError):
                if top is None and not same_file(f"/proc/{pid}/ns/mnt", _OWN_NAMESPACE):
                    return path
                if top is not None and same_file(path, top) == same:
                    return path
        return self.pivoted.get(root)


class Lookup:
    """Resolves the paths of a recording's events, and remembers files that are gone before they can be looked at."""

    def __init__(self, programs: Programs, reader: Reader) -> None:
        self._programs = programs
        self._reader = reader
        self.resolver = reader.resolver
        self.roots = Roots()
        self.trees = Trees(self._outside)
        self._known: OrderedDict[str, tuple[str, int | None]] = OrderedDict()
        """What was last seen at a path: kind and owner."""

    def remember(self, event: Event, path: str, kind: str, uid: int | None) -> None:
        """Note what is at a path now, and the directories above it where only a server knows them."""
        tree = self.trees.of(event)
        if tree is not None and path.startswith("/"):
            tree.note(path, Node(kind, uid))
            tree.note_directories(path)
        elif path.startswith("/"):
            mount = self.resolver.mounts(self._view(event)).over(path)
            for directory in above(path, path if mount is None else mount.point):
                if self._memory.directory(directory):
                    break
                self._memory.made(directory)
        self._known[path] = kind, uid
        self._known.move_to_end(path)
        if len(self._known) > _KNOWN_MAX:
            self._known.popitem(last=False)

    def made(self, event: Event, path: str, kind: str, target: str | None) -> None:
        """Note a new directory, or with ``target`` a new symbolic link."""
        tree = self.trees.of(event)
        if tree is None:
            self._memory.made(path, target)
        else:
            tree.note(path, Node(kind, event.fsuid, target))

    def renamed(self, event: Event, old: str, new: str) -> None:
        """Note that a file has another name."""
        tree = self.trees.of(event)
        if tree is None:
            self._memory.renamed(old, new)
        else:
            tree.renamed(old, new)

    def before(self, found: Found) -> Found:
        """Return a file as it was before a call removed it: what is there now is another file."""
        kind, uid = self._known.get(found.path, ("unknown", None))
        return Found(found.path, kind, uid, sure=found.sure, state=found.state)

    @property
    def _memory(self) -> Memory:
        assert self.resolver.memory is not None
        return self.resolver.memory

    def _outside(self) -> Outside | None:
        """Return the files below the root that the workload began with, a container's or profgen's; None if profgen
        cannot open it."""
        held = self._reader.root
        if held is None:
            return None if self._reader.gone else Outside(self.resolver, View(0, 0))
        return Outside(self.resolver, View(0, 0, held, "/", held, self._reader.mounts))

    def whose(self, event: Event, number: int) -> str:
        """Return one of WHOM (trace/model.py) for a process, by the number that the event's process has for it."""
        if number in (event.own_tgid, event.own_tid):
            return "self"
        return "workload" if number in self._programs.members(self._reader.session) else "outside"

    def find(
        self, event: Event, piece: int, *, follow: bool, entry: bool = False, inside: bool = False
    ) -> Found | None:
        """Return the file that one of an event's texts means; None for an event without it.

        ``inside``: the directory that the text starts from is the root (RESOLVE_IN_ROOT of openat2(2)).
        """
        text, base = text_of(event.texts[piece]), event.paths[piece]
        if text is None:
            return None
        base = base if base is not None else "/"
        state = event.state(piece)
        if not text:
            return self.at(event, base, state)
        if inside:
            return self._checked(event, self._inside(event, base, "/" + text, follow), follow)
        if not text.startswith("/") and state != "linked":
            # A directory that is not in any mount namespace: nobody can look into it any more.
            return Found(
                joined(base, text), state="linked" if state == "deleted" else state, sure=".." not in text.split("/")
            )
        through = _OWN_DESCRIPTOR.match(text)
        if through and event.paths[piece] is not None:
            text = through[1]  # the kernel told where the descriptor leads
            if not text.strip("/"):
                return self.at(event, base, state)
            text = text.lstrip("/")
        tree = self.trees.of(event)
        if tree is not None:
            root = event.paths[ROOT] or "/"
            found = tree.find(event, root, base, text, follow and not entry, True)
            passed = event.result in _RESOLVED
            for view in () if found.sure else self._living(event, tree):
                found = self.resolver.resolve(view, base, text, follow=follow, entry=entry, passed=passed)
                if found.sure:
                    break  # else its process may have ended meanwhile
            if not found.sure:
                found = tree.find(event, root, base, text, follow and not entry, passed)
            return self._checked(event, found, follow and not entry)
        own = _SELF.match(text)
        if own and event.facts & OTHER_MOUNTS and event.own_tgid != event.tgid:
            # /proc of another pid namespace numbers processes as that namespace does: /proc/self leads profgen nowhere.
            task = f"/task/{event.own_tid}" if own[1] else ""
            text = f"/proc/{event.own_tgid}{task}{text[own.end() :]}"
        found = self._resolved(event, self._view(event), base, text, follow, entry)
        return self._checked(event, found, follow and not entry)

    def _inside(self, event: Event, root: str, text: str, follow: bool) -> Found:
        tree = self.trees.of(event)
        if tree is not None:
            return tree.find(event, root, root, text, follow, event.result in _RESOLVED)
        view = self._view(event)
        look = view.reach(root)
        if look is None:
            return Found(joined(root, text), sure=False)
        passed = event.result in _RESOLVED
        return self.resolver.resolve_inside(view, look, root, text, follow=follow, passed=passed)

    def _living(self, event: Event, tree: Tree) -> Iterator[View]:
        """Iterate over the views of processes that are still in an event's mount namespace, and see the mounts with a
        server that the event's process saw."""
        top, points = event.paths[ROOT] or "/", tree.served()
        for pid in self.trees.processes(event) if points else ():
            root = f"/proc/{pid}/root"
            with contextlib.suppress(OSError):
                # A process of profgen's own namespace has the number of one that has ended.
                if os.readlink(root) == top and not same_file(f"/proc/{pid}/ns/mnt", _OWN_NAMESPACE):
                    reach = root if top == "/" else None
                    view = View(event.tgid, event.tid, root, top, reach, f"/proc/{pid}/mountinfo")
                    if points <= {each.point for each in self.resolver.mounts(view).served}:
                        yield view

    def _checked(self, event: Event, found: Found, follow: bool) -> Found:
        """Return what was found, or what was there before it was gone."""
        there = found.sure and found.exists and found.state == "linked"
        process = None if there or through_link(found.path, follow) else process_in(found.path)
        if process is not None and self.whose(event, process) != "outside":
            # The directory of a process that has ended since: it was there, and belonged to the process (fs/proc/base.c
            # task_dump_owner).
            itself = process in (event.own_tgid, event.own_tid)
            return replace(found, sure=True, state="linked", uid=event.fsuid if itself else None)
        return found if found.exists else self._recall(found)

    def _resolved(self, event: Event, view: View, base: str, text: str, follow: bool, entry: bool) -> Found:
        found = self.resolver.resolve(view, base, text, follow=follow, entry=entry, passed=event.result in _RESOLVED)
        if found.sure and found.exists:
            return found
        again = self._view(event)
        if again == view or again.root == _NOWHERE:
            return found
        # The process through which the root was reached has ended since, and there is another one.
        return self._resolved(event, again, base, text, follow, entry)

    def at(self, event: Event, path: str, state: str) -> Found:
        """Return the file at a path that the kernel resolved; ``state`` is one of FILE_STATES."""
        tree = self.trees.of(event)
        if tree is not None:
            node = tree.look(path, event) if state == "linked" else None
            return Found(path, state=state) if node is None else Found(path, node.kind, node.uid, True)
        found = self.resolver.at(self._view(event), path) if state == "linked" else None
        if found is not None:
            return replace(found, look=None)
        return self._recall(Found(path, state=state, exists=path in self._known))

    def _recall(self, found: Found) -> Found:
        kind, uid = self._known.get(found.path, (found.kind, found.uid))
        return replace(found, kind=kind, uid=uid)

    def _view(self, event: Event) -> View:
        """Return how the event's process sees the file system, and how profgen reaches it."""
        if not event.facts & (OTHER_ROOT | OTHER_MOUNTS):
            return View(event.tgid, event.tid)
        root_path = event.paths[ROOT] or "/"
        held = self._reader.root
        if held is not None and not event.facts & OTHER_ROOT:
            return View(event.tgid, event.tid, held, "/", held, self._reader.mounts)
        if not event.facts & OTHER_MOUNTS:
            return View(event.tgid, event.tid, root_path, root_path, "/")
        held = None if self._reader.gone else held or "/"
        root = self.roots.find(event.root, event.tgid, held, bool(event.facts & SAME_TOP))
        if root is None and event.facts & SAME_TOP and held is not None:
            # A copy of the first namespace that no process is left in.
            return View(
                event.tgid, event.tid, held, "/", held, self._reader.mounts if self._reader.root else OWN_MOUNTS
            )
        if root is None:
            root = _NOWHERE  # no process that had it is left
        mounts = f"{root.removesuffix('/root/.')}/mountinfo" if root.endswith("/root/.") else OWN_MOUNTS
        return View(event.tgid, event.tid, root, root_path, root if root_path == "/" else None, mounts)
