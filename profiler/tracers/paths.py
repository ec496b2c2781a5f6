"""Resolve paths as another process sees them: symbolic links, its own root, its own /proc/self.

Both tracers name files as the user's mount namespace shows them (path_resolution(7), d_absolute_path in fs/d_path.c).
Nothing is really opened: every descriptor here is O_PATH (open(2)), so no FIFO blocks, no device acts and no file is
read. Nothing here waits for the server of a file system (served.py): another process asks it (errands.py).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import posixpath
import re
import stat
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from profiler.files import kernel_text
from profiler.kernel.files import UMODE_MASK
from profiler.tracers.errands import Errands, GaveUp, Guise, Patient, Task
from profiler.tracers.host import DELETED, is_memfd, shares_root
from profiler.tracers.served import Mounts, Served, Table, WouldAsk, status_of

LINKS_MAX = 40
"""The number of symbolic links followed for one path (MAXSYMLINKS, include/linux/namei.h)."""

OWN_MOUNTS = "/proc/self/mountinfo"
_O_PATH = os.O_PATH | os.O_CLOEXEC
_PROC_SUPER_MAGIC = 0x9FA0  # include/uapi/linux/magic.h
_PROC_ROOT_INO = 1  # include/linux/proc_ns.h
_PROCESS = re.compile(r"/proc/(\d+)(?:/|$)")
_NAMESPACE = re.compile(r"[a-z_]+:\[[0-9]+\]")
_PROC_LINKS = frozenset({"cwd", "root", "exe"})
_PROC_LINK_FOLDERS = frozenset({"fd", "ns", "map_files"})

_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
}


def kind_of(mode: int) -> str:
    """Return the word of FILE_KINDS (trace/model.py) for a file's mode."""
    return _KINDS.get(stat.S_IFMT(mode & UMODE_MASK), "unknown")


def kind_of_made(make: str | None, mode: int) -> str | None:
    """Return the kind of the file that a call makes (FileUse.make); a mode without a type is a file's (mknod(2))."""
    return make if make != "mode" else "file" if kind_of(mode) == "unknown" else kind_of(mode)


@dataclass(frozen=True)
class Found:
    """The file that a path leads to.

    ``path`` is absolute in the mount namespace. For a missing file it is the existing part, resolved, followed by the
    rest of the text; then ``kind`` is ``unknown``, ``uid`` None and ``exists`` False. ``state`` is one of FILE_STATES.
    ``sure`` is False if a directory on the way had to be guessed: it existed when the call was made, and is gone.
    """

    path: str
    kind: str = "unknown"
    uid: int | None = None
    exists: bool = False
    state: str = "linked"
    sure: bool = True
    reached: bool = True
    """Whether the directory that contains the file, or would contain it, exists."""
    look: str | None = None
    """How profgen opens the file, if it can. A symbolic link at the end is one of procfs, to be followed, or the file
    itself."""
    status: os.stat_result | None = field(default=None, compare=False)
    """The file's status, if profgen read it."""


@dataclass(frozen=True)
class View:
    """How one process sees the file system, and how profgen reaches the same files.

    ``tgid`` and ``tid`` are the numbers of the process in profgen's pid namespace, for /proc/self. ``root`` is its root
    directory as profgen opens it; ``root_path`` is the path of that directory in its mount namespace, ``/`` unless it
    is in a chroot. ``top`` is where profgen finds the root of that mount namespace; None if it cannot reach it.
    """

    tgid: int
    tid: int
    root: str = "/"
    root_path: str = "/"
    top: str | None = "/"
    mounts: str = OWN_MOUNTS
    """Where profgen reads the mounts that the process sees (proc_pid_mountinfo(5))."""

    @classmethod
    def of(cls, tgid: int, tid: int) -> View:
        """Return the view of a live thread. Raises OSError if it is gone."""
        if shares_root(tid):
            return cls(tgid, tid)
        root = f"/proc/{tid}/root"
        path = os.readlink(root)
        if os.readlink(f"/proc/{tid}/ns/mnt") == os.readlink("/proc/self/ns/mnt"):
            return cls(tgid, tid, root, path, "/")
        return cls(tgid, tid, root, path, root if path == "/" else None, f"/proc/{tid}/mountinfo")

    def reach(self, path: str) -> str | None:
        """Return how profgen opens a resolved path of this mount namespace."""
        if self.top == "/":
            return path
        if self.top is not None:
            return self.top + path
        inside = below(path, self.root_path)
        return None if inside is None else self.root + inside


def above(path: str, top: str) -> Iterator[str]:
    """Iterate over the directories that lead to a path, the nearest first, as far as they are below ``top``."""
    while len(path := posixpath.dirname(path)) > max(len(top), 1):
        yield path


def below(path: str, root: str) -> str | None:
    """Return the path as a process with this root names it; None if it is not below the root."""
    if root == "/":
        return path
    if path == root or path.startswith(root + "/"):
        return path[len(root) :] or "/"
    return None


class Memory:
    """The directories and symbolic links that the workload created, or used below a mount with a server, in the order
    of events.

    It serves paths that are resolved after those are gone. An entry stays when its file is removed; the newest
    ``limit`` are kept.
    """

    def __init__(self, limit: int = 1 << 16) -> None:
        self._limit = limit
        self._made: OrderedDict[str, str | None] = OrderedDict()
        """Path to the text of the link; None for a directory."""

    def made(self, path: str, target: str | None = None) -> None:
        """Note a directory, or with ``target`` a symbolic link."""
        self._made[path] = target
        self._made.move_to_end(path)
        if len(self._made) > self._limit:
            self._made.popitem(last=False)

    def renamed(self, old: str, new: str) -> None:
        """Copy what is known at and below ``old`` to ``new``."""
        if old not in self._made:
            return
        for path in [path for path in self._made if path == old or path.startswith(old + "/")]:
            self.made(new + path[len(old) :], self._made[path])

    def directory(self, path: str) -> bool:
        """Return whether the last thing created there was a directory."""
        return path in self._made and self._made[path] is None

    def link(self, path: str) -> str | None:
        """Return the text of the last symbolic link created there."""
        return self._made.get(path)


Way = tuple[os.stat_result, ...]
_T = TypeVar("_T")
_NO_MOUNTS = Table()
_UNKNOWN_MOUNTS = Table((Served("", "unknown"),))
_TABLES_MAX = 32
"""The number of tables of mounts that are kept open."""


@dataclass(frozen=True)
class _Place:
    """A directory on the way: its path, whether it exists or was guessed. ``personal``: only for this process."""

    path: str
    exists: bool = True
    sure: bool = True
    state: str = "linked"
    personal: bool = False
    way: Way | None = None
    """The status of each directory in which a component was looked up, then its own; None if not requested."""

    @property
    def directory(self) -> bool:
        """Whether it is a directory that exists."""
        return self.exists and (not self.way or stat.S_ISDIR(self.way[-1].st_mode))


class Resolver:
    """Resolves path texts. It caches directories for a second, or until :meth:`forget`."""

    def __init__(self, memory: Memory | None = None, errands: Errands | None = None) -> None:
        self.memory = memory
        self._errands = errands or Patient()
        self._followed: list[tuple[str, str]] | None = None
        """The symbolic links that a look-up in such a process followed, with their texts."""
        self._waits = False
        """Whether look-ups may wait for a server: in a process that does an errand."""
        self.cautious = False
        """Whether a mount is being made now, by a call that has not ended: any path may lead to a server."""
        self._own = f"/{os.getpid()}/"
        self._places: dict[tuple[object, ...], _Place] = {}
        """Directories by root, start, text and whether the call passed them. Without a memory they exist: one that is
        missing may appear by calls that are not known to change ways."""
        self._places_end = 0.0
        self._epoch = 0
        self._proc: dict[int, bool] = {}
        """Device number to whether it is a procfs."""
        self._true_names: set[tuple[str, int, int]] = set()
        self._mounts: dict[tuple[str, str], Mounts] = {}
        self._mounts_end = 0.0
        self._tables: dict[tuple[str, str], Table] | None = None
        """The mounts that were read in this moment; None if they are read at each look-up."""

    @property
    def remembers(self) -> bool:
        """Whether it has directories in its cache."""
        return bool(self._places)

    def forget(self) -> None:
        """Drop the cache: the workload may have changed where directories lead."""
        self._places.clear()
        self._epoch += 1

    def epoch(self) -> int:
        """Return a number that is another one after the cache was dropped."""
        now = time.monotonic()
        if now > self._places_end:
            self.forget()
            self._places_end = now + 1
        return self._epoch

    def moment(self) -> None:
        """Begin a moment in which the mounts that a process sees are read only once."""
        self._tables = {}

    def forget_mounts(self) -> None:
        """Read the mounts of other namespaces again: a process may be in another one, or have another root."""
        self._mounts = {key: mounts for key, mounts in self._mounts.items() if key[0] == OWN_MOUNTS}
        if self._tables is not None:
            self._tables.clear()

    def mounts(self, view: View) -> Table:
        """Return the mounts that a process sees; an empty table if profgen cannot read them."""
        root = "/" if view.mounts == OWN_MOUNTS else view.root_path
        key = view.mounts, root
        if self._tables is None:
            return self._read_mounts(key)
        table = self._tables.get(key)
        if table is None:
            table = self._tables[key] = self._read_mounts(key)
        return table

    def _read_mounts(self, key: tuple[str, str]) -> Table:
        now = time.monotonic()
        if now > self._mounts_end:
            self.forget_mounts()
            self._mounts_end = now + 1
        try:
            mounts = self._mounts.get(key)
            if mounts is None:
                if len(self._mounts) >= _TABLES_MAX:
                    self.forget_mounts()
                mounts = self._mounts[key] = Mounts(*key)
            return mounts.now()
        except OSError:
            self._mounts.pop(key, None)
            return _NO_MOUNTS

    def resolve(
        self,
        view: View,
        base: str | int,
        text: str,
        *,
        follow: bool = True,
        entry: bool = False,
        passed: bool = False,
        ways: list[Way] | None = None,
    ) -> Found:
        """Return the file that ``text`` means to a process.

        ``base`` is the start of a relative text: a resolved path in the mount namespace of the process, or a descriptor
        of profgen's own. ``follow``: a symbolic link at the end is followed (it also is if the text ends with a slash).
        ``entry``: the call acts on the name itself (creates, renames or removes it), which is never followed.
        ``passed``: the call is known to have passed every directory on its way, so one that is missing now has vanished
        since. ``ways`` receives the status of every directory that was searched, one tuple for each text (the path's
        own, that of a link at its end). A resolver without a memory always keeps them. Raises nothing but what the
        errands raise.
        """
        arguments = text, follow, entry, passed
        searched: list[Way] = []
        try:
            found = self._resolve(view, base, *arguments, None if ways is None else searched)
        except WouldAsk as mount:
            start = _text_of(base) if isinstance(base, int) else base
            kept = (base,) if isinstance(base, int) else ()
            work = partial(_search, None if self.memory is None else self, view, base, *arguments)
            try:
                key = "path", start, *arguments
                found, searched, followed = self.ask(view, key, str(mount), work, *kept, lasts=self.memory is None)
            except (GaveUp, OSError):
                start = view.root_path if text.startswith("/") else start
                return Found(posixpath.normpath(joined(start, text)), sure=False)
            if self.memory is not None:
                for link in followed:
                    self.memory.made(*link)
        if ways is not None:
            ways += searched
        return found

    def ask(
        self,
        view: View,
        key: tuple[object, ...],
        subject: str,
        work: Callable[[], Any],
        *kept: int,
        lasts: bool = False,
    ) -> Any:
        """Do work that may wait for the server of a mount in another process. Raises what the errands raise.

        ``kept``: descriptors that it needs, in addition to the view's own. ``lasts``: it can be pickled.
        """

        def elsewhere() -> Any:
            self._wait()
            return work()

        process = view.mounts.split("/")[2]
        owner = next((each.owner for each in self.mounts(view).served if each.point == subject), None)
        guise = Guise(int(process) if process.isdigit() else view.tid, owner)
        own = [int(path.split("/")[4]) for path in (view.root, view.top or "") if path.startswith("/proc/self/fd/")]
        lasts = lasts and not own and not kept
        task = Task((view.root, *key), subject, work if lasts else elsewhere, (*own, *kept), guise, lasts)
        return self._errands.ask(task)

    def _wait(self) -> None:
        """Note that this is another process now, which may wait for a server."""
        self._waits = True
        self._own = f"/{os.getpid()}/"

    def resolve_inside(
        self, view: View, look: str, root: str, text: str, *, follow: bool, passed: bool = False
    ) -> Found:
        """Return the file that ``text`` means with a directory as the root (RESOLVE_IN_ROOT of openat2(2)).

        ``look`` is how profgen opens that directory, ``root`` its path in the mount namespace of the process.
        """
        before, self.cautious = self.cautious, True  # the table of mounts is that of another root
        try:
            return self.resolve(replace(view, root=look, root_path=root), "/", "/" + text, follow=follow, passed=passed)
        finally:
            self.cautious = before

    def avoided(self, view: View) -> Table:
        """Return the mounts whose servers must not be asked in this process."""
        return _NO_MOUNTS if self._waits else _UNKNOWN_MOUNTS if self.cautious else self.mounts(view)

    def _resolve(
        self,
        view: View,
        base: str | int,
        text: str,
        follow: bool,
        entry: bool,
        passed: bool,
        ways: list[Way] | None,
        links: int = 0,
    ) -> Found:
        """Return what `resolve` does. Raises WouldAsk."""
        stripped = text.rstrip("/")
        follow = (follow or len(stripped) < len(text)) and not entry
        directory, _, leaf = stripped.rpartition("/")
        if leaf in ("", ".", ".."):
            directory, leaf = stripped, ""
        start = None if text.startswith("/") else base
        place = self._directory(view, start, directory, passed, ways is not None or self.memory is None)
        if ways is not None and place.way is not None:
            ways.append(place.way if leaf else place.way[:-1])
        if not leaf:
            return self._at(view, place)
        path = f"{place.path}/{leaf}" if place.path != "/" else f"/{leaf}"
        look = view.reach(path)
        try:
            nowhere = look is None or not place.exists or place.state != "linked"
            status = None if nowhere else self._status(view, path)
        except OSError as error:
            status = None
            if error.errno == errno.ENAMETOOLONG:
                return self._long(view, path, place)
        if status is None:
            target = None if self.memory is None or not follow else self.memory.link(path)
            if target is not None and links < LINKS_MAX:
                found = self._resolve(view, place.path, target, True, False, passed, ways, links + 1)
                return found if place.sure else replace(found, sure=False)
            known = self.memory is not None and self.memory.directory(path)
            kind = "directory" if known else "unknown"
            return Found(path, kind, None, False, place.state, place.sure, place.exists, look)
        if not stat.S_ISLNK(status.st_mode) or not follow or links >= LINKS_MAX:
            return Found(path, kind_of(status.st_mode), status.st_uid, True, "linked", place.sure, True, look, status)
        assert look is not None
        if (mount := self.avoided(view).over(path)) is not None:
            raise WouldAsk(mount.point)
        try:
            target = self._target(view, look, leaf, status)
            if target is None and is_namespace_link(path):
                return Found(path, "file", status.st_uid, True, "linked", place.sure, True, look)
            if target is None:
                return self._magic(view, look, path)
        except OSError:
            return Found(path, "symlink", status.st_uid, True, "linked", place.sure, True, look, status)
        self.follows(path, target)
        found = self._resolve(view, place.path, target, True, False, passed, ways, links + 1)
        return found if place.sure else replace(found, sure=False)

    def follows(self, path: str, target: str) -> None:
        """Note a symbolic link that is followed."""
        if self._followed is not None:
            self._followed.append((path, target))

    def descriptor(self, view: View, link: str) -> Found | None:
        """Return the file behind a descriptor, given by its procfs link (``/proc/TID/fd/N``); None if it is closed."""
        try:
            status = self._status_behind(view, link)
        except OSError:
            return None
        try:
            text = os.readlink(link)
        except OSError:  # longer than a page
            return Found("", kind_of(status.st_mode), status.st_uid, True, sure=False, status=status)
        path, state = self.named(view, text, status, link)
        return Found(path, kind_of(status.st_mode), status.st_uid, True, state, look=link, status=status)

    def _status_behind(self, view: View, link: str) -> os.stat_result:
        """Return the status of the file behind a descriptor. Raises OSError."""
        try:
            return status_of(link)
        except PermissionError:  # the server answers its user alone
            mount = self.avoided(view).over(os.readlink(link))
            if mount is None:
                raise
        try:
            status: os.stat_result = self.ask(view, ("behind", link), mount.point, partial(status_of, link), lasts=True)
            return status
        except GaveUp:
            raise TimeoutError from None

    def at(self, view: View, path: str) -> Found | None:
        """Return the file at a resolved path, a symbolic link itself; None if there is none, or it cannot be known."""
        look = view.reach(path)
        if look is None:
            return None
        try:
            try:
                status = self._status(view, path)
            except WouldAsk as mount:
                status = self.ask(view, ("at", path), str(mount), partial(os.lstat, look), lasts=True)
        except (OSError, GaveUp):
            return None
        return Found(path, kind_of(status.st_mode), status.st_uid, True, look=look, status=status)

    def text_of(self, view: View, path: str) -> str:
        """Return the text of the symbolic link at a resolved path. Raises OSError."""
        look = view.reach(path)
        if look is None:
            raise FileNotFoundError
        mount = self.avoided(view).over(path)
        if mount is None:
            return os.readlink(look)
        try:
            return str(self.ask(view, ("text", path), mount.point, partial(os.readlink, look), lasts=True))
        except GaveUp:
            raise TimeoutError from None

    def read(self, view: View, found: Found, what: str, work: Callable[[str], _T]) -> _T:
        """Return what a function makes of a file's content or attributes, given how profgen opens it.

        ``what`` tells this question from others about the file. Raises OSError.
        """
        look = found.look
        if look is None:
            raise FileNotFoundError
        mount = None if self._waits else self._server(view, found, look)
        if mount is None:
            return work(look)
        try:
            answer: _T = self.ask(view, (what, look), mount, lambda: work(look))
            return answer
        except GaveUp:
            raise TimeoutError from None

    def _server(self, view: View, found: Found, look: str) -> str | None:
        """Return the mount of a file if it may have a server. Raises OSError."""
        table = self.mounts(view)
        mount = table.over(found.path) if found.state == "linked" else None
        if mount is not None:
            return mount.point
        fd = os.open(look, _O_PATH)
        try:  # the file may be on a mount that its process does not see
            known = _mount_id(fd) in table.local | self.mounts(_OWN).local
        finally:
            os.close(fd)
        return None if known or not table.local else found.path

    def _status(self, view: View, path: str) -> os.stat_result:
        """Return the status of the file at a resolved path. Raises OSError, and WouldAsk."""
        look = view.reach(path)
        assert look is not None
        table = self.avoided(view)
        mount = table.over(path)
        if mount is None:
            return os.lstat(look)
        inside = below(path, view.root_path)
        if not mount.still or inside is None:
            raise WouldAsk(mount.point)
        fd = _openat2(view.root, inside, directory=False, flags=os.O_NOFOLLOW, resolve=_RESOLVE_CACHED)
        if fd < 0:
            if ctypes.get_errno() == errno.ENOENT:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            raise WouldAsk(mount.point)
        try:
            return status_of(fd)
        finally:
            os.close(fd)

    def named(self, view: View, text: str, status: os.stat_result, link: str | None = None) -> tuple[str, str]:
        """Return (path, state) of an open file with this text in its procfs link ``link``, of a live thread."""
        if not text.startswith("/"):
            return text, "detached"
        identity = text, status.st_dev, status.st_ino
        if identity in self._true_names:
            return text, "linked"
        look = view.reach(text)
        if look is not None and self.avoided(view).over(text) is None:
            with contextlib.suppress(OSError):
                if os.path.samestat(os.lstat(look), status):
                    if len(self._true_names) >= 1 << 14:
                        self._true_names.clear()
                    if not text.endswith(DELETED):  # the name can be removed without a change of the text
                        self._true_names.add(identity)
                    return text, "linked"
        if text.endswith(DELETED):
            path = text.removesuffix(DELETED)
            return (path[1:], "detached") if is_memfd(text, status) else (path, "deleted")
        return text, "linked" if link is None or _in_view(view, link) else "detached"

    # -- directories ---------------------------------------------------------------------------------------------------

    def _directory(self, view: View, start: str | int | None, text: str, passed: bool, way: bool) -> _Place:
        if isinstance(start, int):
            return self._walk(view, start, text, passed)
        if not text and not way:
            return _Place(
                view.root_path if start is None else start
            )  # the file is in the root or the working directory itself
        self.epoch()
        key = (view.root, start, text, passed)
        place = self._places.get(key)
        if place is None or (way and place.way is None):
            place = self._below(view, start, text, passed) if way else self._open(view, start, text)
            if place is None:
                place = self._walk(view, start, text, passed)
            if not place.personal and not self.cautious and (self.memory is not None or place.directory):
                self._places[key] = place
        return place

    def _below(self, view: View, start: str | None, text: str, passed: bool) -> _Place | None:
        """Step from the directory above into one that is not behind a link; None if the walk needs more than that.

        Raises WouldAsk.
        """
        above, _, name = text.rpartition("/")
        try:
            if not text:
                path = view.root_path if start is None else start
                if view.reach(path) is None:
                    return None
                status = status_of(view.root) if start is None else self._status(view, path)
                return _Place(path, way=(status,)) if stat.S_ISDIR(status.st_mode) else None
            if name in ("", ".", "..") or text.count("/") > LINKS_MAX:
                return None
            place = self._directory(view, start, above, passed, True)
            if place.personal or place.state != "linked" or not place.directory or place.way is None:
                return None
            path = f"{place.path}/{name}" if place.path != "/" else f"/{name}"
            if view.reach(path) is None:
                return None
            status = self._status(view, path)
        except FileNotFoundError:
            return _Place(path, False, way=place.way) if text and self.memory is None else None
        except OSError:
            return None
        return _Place(path, way=(*place.way, status)) if stat.S_ISDIR(status.st_mode) else None

    def _open(self, view: View, start: str | None, text: str) -> _Place | None:
        """Let the kernel walk, which is fast. None where it would not walk as it does for the process itself, and where
        links are to be noted."""
        if self._followed is not None and self.memory is not None:
            return None
        table, resolve = self.avoided(view), 0
        if table.served:
            # The kernel must not ask a server either: it stops at links, which may lead to one, or uses its cache.
            there = joined(view.root_path if start is None else start, text)
            sure = ".." not in text.split("/") and table.over(there) is None
            resolve = _RESOLVE_NO_SYMLINKS if sure else _RESOLVE_CACHED
        if start is not None:
            inside = below(start, view.root_path)
            if inside is None:
                return None
            text = f"{inside}/{text}"
        if resolve == _RESOLVE_CACHED and not table.still:
            return None
        fd = _openat2(view.root, text, resolve=resolve)
        if fd < 0 and resolve == _RESOLVE_NO_SYMLINKS and ctypes.get_errno() == errno.ELOOP and table.still:
            fd = _openat2(view.root, text, resolve=_RESOLVE_CACHED)
        if fd < 0:
            return None
        try:
            path = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            return None
        finally:
            os.close(fd)
        if self._own in path + "/" or path.endswith(DELETED):
            return None
        return _Place(path)

    def _walk(self, view: View, start: str | int | None, text: str, passed: bool) -> _Place:
        """Walk by components as link_path_walk (fs/namei.c) does, with procfs links as the process itself sees them."""
        with _Walk(self, view, passed) as walk:
            return walk.go(start, text)

    def _at(self, view: View, place: _Place) -> Found:
        look = view.reach(place.path)
        if look is not None and place.exists and place.state == "linked":
            with contextlib.suppress(OSError):
                status = self._status(view, place.path)
                return Found(
                    place.path, kind_of(status.st_mode), status.st_uid, True, sure=place.sure, look=look, status=status
                )
        if place.exists and place.state != "linked":
            return Found(place.path, "directory", None, True, place.state, place.sure)
        return Found(place.path, sure=place.sure, reached=place.exists)

    def _long(self, view: View, path: str, place: _Place) -> Found:
        """Open a path that is longer than one call accepts (PATH_MAX)."""
        if (mount := self.avoided(view).over(path)) is not None:
            raise WouldAsk(mount.point)
        with _Walk(self, view, False) as walk:
            status = walk.status(path)
        if status is None:
            return Found(path, sure=place.sure)
        return Found(path, kind_of(status.st_mode), status.st_uid, True, sure=place.sure, status=status)

    # -- links ---------------------------------------------------------------------------------------------------------

    def _target(self, view: View, look: str, name: str, status: os.stat_result) -> str | None:
        """Return the text of a symbolic link as the process sees it; None for a link straight to an open file."""
        if not self.on_procfs(look, status.st_dev):
            return os.readlink(look)
        folder = os.path.dirname(look)
        if name in ("self", "thread-self") and os.stat(folder).st_ino == _PROC_ROOT_INO:
            return self_text(view, name, status.st_dev)
        if _is_magic(folder, name):
            return None
        return os.readlink(look)

    def _magic(self, view: View, look: str, link: str) -> Found:
        fd = os.open(look, _O_PATH)
        try:
            status = status_of(fd)
            path, state = self.named(view, os.readlink(f"/proc/self/fd/{fd}"), status)
            found = Found(path, kind_of(status.st_mode), status.st_uid, True, state, look=look, status=status)
            # A namespace has no path. What the kernel checks is who may look into the process (fs/proc/namespaces.c).
            return replace(found, path=link, state="linked") if is_namespace(found) else found
        finally:
            os.close(fd)

    def on_procfs(self, path: str, device: int) -> bool:
        """Return whether the file (the link itself, if it is one) is on a procfs."""
        known = self._proc.get(device)
        if known is None:
            known = self._proc[device] = (
                os.major(device) == 0 and _filesystem(os.path.dirname(path) or "/") == _PROC_SUPER_MAGIC
            )
        return known


def _search(
    resolver: Resolver | None, view: View, base: str | int, text: str, follow: bool, entry: bool, passed: bool
) -> tuple[Found, list[Way], list[tuple[str, str]]]:
    """Resolve a path in a process that may wait for a server, by default with a resolver that remembers nothing.

    Returns what was found, the ways, and the symbolic links that were followed.
    """
    if resolver is None:
        resolver = Resolver()
        resolver._wait()
    searched: list[Way] = []
    followed: list[tuple[str, str]] = []
    resolver._followed = followed
    return resolver._resolve(view, base, text, follow, entry, passed, searched), searched, followed


class _Walk:
    """One walk: its place (a descriptor, or only a text once something is missing) and its open descriptors."""

    def __init__(self, resolver: Resolver, view: View, passed: bool) -> None:
        self.resolver = resolver
        self.view = view
        self.passed = passed
        self.mounts = resolver.avoided(view)
        self.root = self.at = -1
        self.here = "/"
        """The place, if ``at`` is not open."""
        self.state = "linked"
        """That of the last open directory, if ``at`` is not open."""
        self.sure = True
        self.lost = False
        """Whether the kernel would not have come this far: something on the way is missing."""
        self.personal = False
        """Whether the walk passed a procfs link that leads elsewhere for other processes."""
        self.way: list[os.stat_result] = []

    def __enter__(self) -> _Walk:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in {self.root, self.at} - {-1}:
            os.close(fd)

    def go(self, start: str | int | None, text: str) -> _Place:
        view = self.view
        try:
            self.root = os.open(view.root, _O_PATH | os.O_DIRECTORY)
        except OSError:
            # The process is gone, and with it its root.
            base = start if isinstance(start, str) else view.root_path
            return _Place(posixpath.normpath(f"{base}/{text}"), False, False)
        if isinstance(start, str):
            self._reopen(start)
        else:
            if start is not None and self.mounts.local:
                self._check(start)
            self._enter(os.dup(self.root if start is None else start))
        todo = parts_of(text)
        links = 0
        while todo:
            part = todo.pop()
            if self.at >= 0:
                self.way.append(self._status())
            if part == "..":
                self._up()
                continue
            target = self._step(part) if self.at >= 0 else self._recall(part)
            if target is None:
                continue
            links += 1
            if links > LINKS_MAX:
                return _Place(
                    posixpath.normpath(f"{self.path()}/{part}"),
                    False,
                    self.sure,
                    "linked",
                    self.personal,
                    tuple(self.way),
                )
            if target.startswith("/"):
                self._enter(os.dup(self.root))
            todo += parts_of(target)
        if self.at < 0:
            return _Place(self.here, False, self.sure, self.state, self.personal, tuple(self.way))
        status = self._status()
        path, state = self._named(self._text() or self.here, status)
        return _Place(path, not self.lost, self.sure, state, self.personal, (*self.way, status))

    def path(self) -> str:
        """Return the path of the place: without what the kernel appends to that of a removed directory."""
        return self._where()[0]

    def _where(self) -> tuple[str, str]:
        """Return (path, state) of the place."""
        text = self._text() if self.at >= 0 else None
        if text is None:
            return self.here, self.state
        return self._named(text, status_of(self.at)) if text.endswith(DELETED) else (text, "linked")

    def _text(self) -> str | None:
        """Return the text of the link of the open directory; None if it is longer than a page."""
        try:
            return os.readlink(f"/proc/self/fd/{self.at}")
        except OSError:
            self.sure = False
            return None

    def _named(self, text: str, status: os.stat_result) -> tuple[str, str]:
        return self.resolver.named(self.view, text, status, f"/proc/self/fd/{self.at}")

    def status(self, path: str) -> os.stat_result | None:
        """Return the status of a resolved path of any length."""
        todo = parts_of(path)
        try:
            self._enter(os.open(self.view.top or "/", _O_PATH))
            while todo:
                self._enter(os.open(todo.pop(), _O_PATH | os.O_NOFOLLOW, dir_fd=self.at))
            return status_of(self.at)
        except OSError:
            return None

    def _status(self) -> os.stat_result:
        """Return the status of the place. Raises WouldAsk where the server does not answer this process."""
        try:
            return status_of(self.at)
        except PermissionError:
            mount = self.mounts.over(self.path())
            if mount is None:
                raise
            raise WouldAsk(mount.point) from None

    def _check(self, start: int) -> None:
        """Raise WouldAsk for a directory on a mount that may have a server."""
        if _mount_id(start) not in self.mounts.local | self.resolver.avoided(_OWN).local:
            raise WouldAsk(_text_of(start))

    def _enter(self, fd: int) -> None:
        if self.at >= 0:
            os.close(self.at)
        self.at = fd

    def _leave(self, here: str, state: str = "linked") -> None:
        """Continue with text alone: a path below a directory with this state."""
        self._enter(-1)
        self.here, self.state = here, state

    def _reopen(self, path: str) -> None:
        look = self.view.reach(path)
        try:
            if look is None:
                raise FileNotFoundError
            if (mount := self.mounts.over(path)) is not None:
                raise WouldAsk(mount.point)
            self._enter(os.open(look, _O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW))
        except OSError:
            self._leave(path)
            self._missing(path)

    def _missing(self, path: str) -> None:
        """Handle a missing directory, which the call may have found."""
        memory = self.resolver.memory
        if memory is not None and memory.directory(path):
            return
        self.lost = True
        if self.passed:
            self.sure = False

    def _up(self) -> None:
        if self.at < 0:
            if self.here != self.view.root_path:
                self._reopen(posixpath.dirname(self.here))
            return
        here, root = self._status(), status_of(self.root)
        if os.path.samestat(here, root) and self.path() == self.view.root_path:
            return
        try:
            self._enter(os.open("..", _O_PATH | os.O_DIRECTORY, dir_fd=self.at))
        except OSError:
            self._leave(posixpath.dirname(self.path()))

    def _step(self, part: str) -> str | None:
        """Enter a directory, or return the text of a symbolic link that must be followed first."""
        if self.mounts.served:
            path = f"{self.path().rstrip('/')}/{part}"
            mount = self.mounts.over(path)
            if mount is not None and not (mount.still and mount.mappable and path == mount.point):
                raise WouldAsk(mount.point)
        try:
            fd = os.open(part, _O_PATH | os.O_NOFOLLOW, dir_fd=self.at)
        except OSError:
            above, state = self._where()
            memory, path = self.resolver.memory, f"{above.rstrip('/')}/{part}"
            target = None if memory is None else memory.link(path)
            if target is None:
                self._leave(path, state)
                self._missing(path)
            return target
        try:
            status = status_of(fd)
        except PermissionError:  # of a server that answers others
            status = None
        if status is None or not stat.S_ISLNK(status.st_mode):
            self._enter(fd)
            return None
        try:
            if self.resolver.on_procfs(f"/proc/self/fd/{self.at}/.", status.st_dev):
                self.personal = True
                if part in ("self", "thread-self") and status_of(self.at).st_ino == _PROC_ROOT_INO:
                    # To profgen, which has no number in another pid namespace, this link has no text.
                    return self_text(self.view, part, status.st_dev) or os.readlink("", dir_fd=fd)
                if _is_magic(f"/proc/self/fd/{self.at}", part, self.path()):
                    self._enter(os.open(part, _O_PATH, dir_fd=self.at))
                    return None
            target = os.readlink("", dir_fd=fd)
            self.resolver.follows(f"{self.path().rstrip('/')}/{part}", target)
            return target
        except OSError:
            self._leave(f"{self.path().rstrip('/')}/{part}")
            return None
        finally:
            os.close(fd)

    def _recall(self, part: str) -> str | None:
        """Step below something that is missing."""
        memory = self.resolver.memory
        path = f"{self.here.rstrip('/')}/{part}"
        target = None if memory is None else memory.link(path)
        if target is None:
            self.here = path
            self._missing(path)
        return target


_OWN = View(0, 0)
"""Profgen's own."""


def self_text(view: View, name: str, device: int) -> str | None:
    """Return what /proc/self or /proc/thread-self of a procfs says to the process (fs/proc/self.c, thread_self.c)."""
    tgid, tid = view.tgid, view.tid
    if device != _device("/proc/self/"):
        inner = inner_ids(tid)
        if inner is None:
            return None
        tgid, tid = inner
    return str(tgid) if name == "self" else f"{tgid}/task/{tid}"


def inner_ids(tid: int) -> tuple[int, int] | None:
    """Return (tgid, tid) of a thread in its own pid namespace (proc_pid_status(5)); None if it is gone."""
    ids = {}
    try:
        with kernel_text(f"/proc/{tid}/status") as file:
            for line in file:
                if line.startswith(("NStgid:", "NSpid:")):
                    ids[line[:4]] = int(line.split()[-1])
    except OSError:
        return None
    return (ids["NStg"], ids["NSpi"]) if len(ids) == 2 else None


def process_in(path: str) -> int | None:
    """Return the process or thread whose directory below /proc a path leads into, by its number there."""
    found = _PROCESS.match(path) if path.startswith("/proc/") else None
    return int(found[1]) if found else None


def owner_of(uid: int | None, fsuid: int | None) -> tuple[str, ...]:
    """Return File.owner (trace/model.py) for a file of ``uid`` that ``fsuid`` uses: empty when either is not known."""
    return () if uid is None or fsuid is None else ("self",) if uid == fsuid else ("other",)


def _in_process(path: str) -> list[str]:
    """Return the components behind /proc/PID or /proc/PID/task/TID."""
    parts = path.split("/")[3:]
    return parts[2:] if parts[:1] == ["task"] else parts


def through_link(path: str, follow: bool) -> bool:
    """Return whether a name below /proc/PID passes a link to an open file. ``follow``: also one at the end."""
    parts = _in_process(path)
    if not parts or is_namespace_link(path) or parts[0] not in _PROC_LINKS | _PROC_LINK_FOLDERS:
        return False
    return len(parts) >= (1 if parts[0] in _PROC_LINKS else 2) + (not follow)


def is_namespace_link(path: str) -> bool:
    """Return whether a name below /proc/PID is that of a namespace, as which the namespace itself is recorded."""
    parts = _in_process(path)
    return len(parts) == 2 and parts[0] == "ns"


def is_namespace(found: Found) -> bool:
    """Return whether a file was found that is a namespace (fs/nsfs.c), by the text of a link to it."""
    return found.kind == "file" and _NAMESPACE.fullmatch(found.path) is not None


def parts_of(text: str) -> list[str]:
    """Return the components, last first, without ``.`` and repeated slashes."""
    return [part for part in reversed(text.split("/")) if part not in ("", ".")]


def joined(base: str, text: str) -> str:
    """Append a path text to a directory, without ``.`` and repeated slashes."""
    return "/".join([base.rstrip("/"), *reversed(parts_of(text))]) or "/"


def _device(path: str) -> int:
    return os.stat(path).st_dev


def _is_magic(folder: str, name: str, folder_path: str | None = None) -> bool:
    """Return whether a link of procfs leads straight to an open file, whatever its text is."""
    fd = _openat2(folder, name, directory=False, in_root=False)
    if fd >= 0:
        os.close(fd)
        return False
    if ctypes.get_errno() == errno.ELOOP:
        return True
    return name in _PROC_LINKS or posixpath.basename(folder_path or folder) in _PROC_LINK_FOLDERS


def _text_of(fd: int) -> str:
    """Return the path of one of profgen's descriptors; "" if it is longer than the kernel tells."""
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return ""


def _mount_id(fd: int) -> int:
    """Return the mount of one of profgen's descriptors; -1 if the kernel does not tell (proc_pid_fdinfo(5))."""
    with kernel_text(f"/proc/self/fdinfo/{fd}") as file:
        return next((int(line.split()[1]) for line in file if line.startswith("mnt_id:")), -1)


def _in_view(view: View, link: str) -> bool:
    """Return whether its process sees a descriptor's mount: proc_pid_fdinfo(5), proc_pid_mountinfo(5)."""
    if view.top != "/" and view.root_path != "/":
        return True  # mountinfo shows only mounts below its root
    folder, _, number = link.rpartition("/")
    try:
        with kernel_text(f"{folder}info/{number}") as file:
            mount = next(line.split()[1] for line in file if line.startswith("mnt_id:"))
        # A descriptor from before its process entered the namespace leads into another one, by a whole path.
        for process in {"self", "self" if view.top == "/" else str(view.tid)}:
            with open(f"/proc/{process}/mountinfo", "rb") as file:
                if any(line.split(b" ", 1)[0] == mount.encode() for line in file):
                    return True
        return False
    except (OSError, StopIteration):
        return True


class _OpenHow(ctypes.Structure):
    """struct open_how, include/uapi/linux/openat2.h."""

    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


_OPENAT2 = 437  # the same on every architecture (include/uapi/asm-generic/unistd.h)
_RESOLVE_NO_MAGICLINKS, _RESOLVE_NO_SYMLINKS, _RESOLVE_IN_ROOT, _RESOLVE_CACHED = 0x02, 0x04, 0x10, 0x20
_AT_FDCWD = -100
_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long


def _openat2(
    root: str, text: str, *, directory: bool = True, in_root: bool = True, flags: int = 0, resolve: int = 0
) -> int:
    """Open a file below ``root`` without following magic links; returns a descriptor and 0, or -1 and errno.

    ``flags``, ``resolve``: more of these. Kernels before 5.6 lack this call, and RESOLVE_CACHED before 5.12.
    """
    flags |= _O_PATH | (os.O_DIRECTORY if directory else 0)
    resolve |= _RESOLVE_NO_MAGICLINKS
    name = os.fsencode(text)
    if root == "/" and in_root:
        return int(_syscall(_OPENAT2, _AT_FDCWD, name, ctypes.byref(_OpenHow(flags, 0, resolve)), 24))
    try:
        fd = os.open(root, _O_PATH | os.O_DIRECTORY)
    except OSError as error:
        ctypes.set_errno(error.errno or 0)
        return -1
    try:
        how = _OpenHow(flags, 0, resolve | (_RESOLVE_IN_ROOT if in_root else 0))
        result = int(_syscall(_OPENAT2, fd, name, ctypes.byref(how), 24))
        code = ctypes.get_errno()
    finally:
        os.close(fd)
    ctypes.set_errno(code)
    return result


def open_inside(root: str, path: str) -> int:
    """Open (O_PATH) the file with this absolute path for a process with this root, or return -1 if it does not exist.

    Links do not lead outside the root.
    """
    return _openat2(root, path, directory=False)


def _filesystem(path: str) -> int:
    """Return f_type of statfs(2), 0 if it cannot be determined."""
    buffer = (ctypes.c_long * 32)()
    return int(buffer[0]) if _libc.statfs(os.fsencode(path), ctypes.byref(buffer)) == 0 else 0
