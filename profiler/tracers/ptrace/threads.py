"""What a stopped thread's arguments mean: texts in its memory, files below its root, ids of processes.

Several readers look at one stop (capabilities, evidence of files): what one has read, the next does not read again.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from stat import S_ISDIR, S_ISLNK
from typing import TypeVar

from profiler.files import kernel_text, process_status
from profiler.kernel.arguments import NAMESPACE_FLAGS
from profiler.kernel.capabilities import number_of
from profiler.kernel.files import AT_EMPTY_PATH, AT_FDCWD, FileUse, file_uses
from profiler.kernel.mounts import mount_calls
from profiler.kernel.processes import credential_calls
from profiler.tracers.errands import Errands, GaveUp
from profiler.tracers.host import DELETED
from profiler.tracers.memory import (
    PAGE_BYTES,
    forget_memory,
    hides_memory,
    page_is_present,
    read_memory,
    read_memory_file,
    read_string,
)
from profiler.tracers.paths import Found, Resolver, View, Way, inner_ids
from profiler.tracers.served import status_of
from profiler.tracers.unchecked import Sets

PATH_MAX = 4096
"""Bytes of a path text with its NUL (include/uapi/linux/limits.h)."""

U32 = 0xFFFFFFFF
_ENCODING = sys.getfilesystemencoding()
READ, WRITE, EXECUTE = 4, 2, 1

Arguments = tuple[int, ...]
"""A call's six arguments."""


def signed(value: int) -> int:
    """Return a register as a signed int, as the kernel reads it."""
    value &= U32
    return value - (1 << 32) if value >> 31 else value


@dataclass(frozen=True)
class Credentials:
    """The credentials of one thread: real, effective, saved and filesystem ids, groups, capability sets as bits."""

    uids: tuple[int, int, int, int]
    gids: tuple[int, int, int, int]
    groups: frozenset[int]
    sets: Sets
    ambient: int
    bounding: int
    namespace: str
    """The user namespace's link text, ``user:[inode]``."""

    @property
    def effective(self) -> int:
        """The effective set."""
        return self.sets.effective

    def has(self, capability: str) -> bool:
        """Whether a capability is in the effective set."""
        return bool(self.effective >> (number_of(capability) or 0) & 1)

    def grants(self, status: os.stat_result, want: int) -> bool:
        """Whether mode bits alone allow ``want`` (rwx as 4, 2, 1): fs/namei.c acl_permission_check."""
        mode = status.st_mode
        if self.uids[3] == status.st_uid:
            mode >>= 6
        elif self.gids[3] == status.st_gid or status.st_gid in self.groups:
            mode >>= 3
        return mode & want == want


_CREDENTIALS = re.compile(
    rb"^Uid:(.*)\nGid:(.*)$(?s:.*?)^Groups:(.*)$(?s:.*?)"
    rb"^CapInh:\t(.*)\nCapPrm:\t(.*)\nCapEff:\t(.*)\nCapBnd:\t(.*)\nCapAmb:\t(.*)$",
    re.MULTILINE,
)
"""The lines of proc_pid_status(5) about credentials, in the order in which fs/proc/array.c prints them."""


def read_credentials(tid: int) -> Credentials | None:
    """Read the credentials of a thread (proc_pid_status(5)); None when it is gone."""
    try:
        with open(f"/proc/{tid}/status", "rb", buffering=0) as file:
            found = _CREDENTIALS.search(file.read())
        return None if found is None else _credentials(found.groups(), os.readlink(f"/proc/{tid}/ns/user"))
    except OSError:
        return None


@lru_cache(maxsize=256)
def _credentials(fields: tuple[bytes, ...], namespace: str) -> Credentials:
    """Return the credentials in the fields of _CREDENTIALS. Most processes of a workload have the same."""
    uids, gids, groups = (tuple(map(int, field.split())) for field in fields[:3])
    inheritable, permitted, effective, bounding, ambient = (int(field, 16) for field in fields[3:])
    sets = Sets(effective, permitted, inheritable)
    return Credentials(uids, gids, frozenset(groups), sets, ambient, bounding, namespace)  # type: ignore[arg-type]


def numbers(tid: int) -> frozenset[int]:
    """Return the numbers of a thread's process in every pid namespace that it is in (proc_pid_status(5))."""
    with contextlib.suppress(OSError), kernel_text(f"/proc/{tid}/status") as file:
        return frozenset(int(word) for line in file if line.startswith("NStgid:") for word in line.split()[1:])
    return frozenset()


def _field(path: str, key: str) -> int | None:
    """Read the number behind a key in a file of procfs, None when the key is missing. Raises OSError."""
    with kernel_text(path) as file:
        return next((int(line.split()[1]) for line in file if line.startswith(key)), None)


def lacking(credentials: Credentials, status: os.stat_result, want: int) -> list[str]:
    """Return the capability that replaces mode bits which do not allow ``want`` (fs/namei.c generic_permission). None
    replaces the bit by which a file can be executed, if no one has it."""
    if not want or credentials.grants(status, want):
        return []
    if S_ISDIR(status.st_mode):
        return ["CAP_DAC_OVERRIDE" if want & WRITE else "CAP_DAC_READ_SEARCH"]
    if want & EXECUTE and not status.st_mode & 0o111:
        return []
    return ["CAP_DAC_READ_SEARCH" if want == READ else "CAP_DAC_OVERRIDE"]


class Threads:
    """All threads of the workload, and what is known of each until a call changes it."""

    def __init__(self, kept_out: Callable[[str], None] = lambda loss: None, errands: Errands | None = None) -> None:
        """``kept_out``: called with a class of losses when a thread keeps profgen from reading it. ``errands``: do what
        may wait for the server of a file system."""
        self._kept_out = kept_out
        self.paths = Resolver(errands=errands)
        self._mounting: set[int] = set()
        """Threads in a call that may make a mount."""
        self.groups: dict[int, int] = {}
        """The thread group of every thread that is or was in the workload."""
        self._lives: dict[int, int] = {}
        """The number of each thread group's present life."""
        self._lives_seen = 0
        self._credentials: dict[int, Credentials] = {}
        self._views: dict[int, View] = {}
        self._inherits: dict[int, bool] = {}
        """Whether the child of a clone in flight has its parent's namespaces."""
        self._makers: dict[int, Credentials] = {}
        """The credentials of threads that are about to make a user namespace."""
        self.makers: dict[str, Credentials] = {}
        """For each user namespace that the workload made, the credentials of its maker at that time."""
        self.looked: set[int] = set()
        """Threads of programs that have read their capability sets."""
        self._texts: dict[int, str | None] = {}
        self._found: dict[tuple[object, ...], tuple[Found | None, list[Way]]] = {}
        self._asking: bool | None = None
        """The answer of :meth:`_asks` for this stop."""
        self._seen: bool | None = None
        """The answer of :meth:`sees` for this stop."""
        self._starts: dict[tuple[int, str], str] = {}
        """How profgen begins the paths of files in directories that threads may search, by thread and the directory's
        text."""
        self._starts_epoch = 0
        self._needs: dict[tuple[object, ...], tuple[Way, list[str]]] = {}
        """What directories need that were searched before."""
        self._pid_namespace = os.readlink("/proc/self/ns/pid")
        self._procfs = os.stat("/proc").st_dev

    # -- a thread's life -----------------------------------------------------------------------------------------------

    def stopped(self) -> None:
        """Forget what holds for one stop: another thread stopped, or the same thread again."""
        self._texts.clear()
        self._found.clear()
        self._seen = self._asking = None
        self.paths.moment()

    def before(self, tid: int, name: str, args: Arguments) -> bool:
        """Note that a thread is about to make one of the calls CHANGES. Returns whether to call :meth:`after` then."""
        uses = _CHANGES_WAYS.get(name)
        if uses is not None:
            return any(self._changes_ways(tid, use, args) for use in uses)
        self.after(tid, name)
        if name in mount_calls():
            self._mounting.add(tid)
        if name in _NAMESPACES:
            self._before_namespaces(tid, name, args)
        return True

    def _changes_ways(self, tid: int, use: FileUse, args: Arguments) -> bool:
        """Whether paths may lead elsewhere after a use, or a directory may let other users through.

        A file that is neither a directory nor a link is not on the way of any path.
        """
        if not self.paths.remembers:
            return True
        found = self.file(tid, use, args)
        return found is None or not found.sure or found.kind in ("directory", "symlink")

    def _before_namespaces(self, tid: int, name: str, args: Arguments) -> None:
        in_memory = name == "clone3"
        flags = int.from_bytes(read_memory(tid, args[0], 8) or bytes([255] * 8), "little") if in_memory else args[0]
        if name != "unshare":
            self._inherits[tid] = not flags & NAMESPACE_FLAGS
        maker = self.credentials(tid) if flags & CLONE_NEWUSER else None
        if maker is not None:
            self._makers[tid] = maker

    def born(self, tid: int, parent: int) -> None:
        """Give a new thread what its parent has, unless it was made with new namespaces."""
        group = self.group(parent)
        self._made(tid, parent)
        if parent in self.looked:
            self.looked.add(tid)
        self.groups[tid] = group if os.path.exists(f"/proc/{group}/task/{tid}") else tid
        self._lives.pop(tid, None)  # of a former process with this number
        if not self._inherits.pop(parent, True):
            return
        if parent in self._credentials:
            self._credentials[tid] = self._credentials[parent]
        view = self._views.get(parent)
        if view is not None and view.root == "/":
            self._views[tid] = View(self.groups[tid], tid)

    def executed(self, tid: int) -> None:
        """Note that a thread executed a program: it goes on as the leader of its group."""
        self.groups[tid] = tid
        self._lives.pop(tid, None)
        self._credentials.pop(tid, None)
        self._views.pop(tid, None)
        self.looked.discard(tid)

    def gone(self, tid: int) -> None:
        """Forget a thread that has ended."""
        forget_memory(tid)
        self._mounting.discard(tid)
        self._credentials.pop(tid, None)
        self._views.pop(tid, None)
        self._inherits.pop(tid, None)
        self._makers.pop(tid, None)
        self.looked.discard(tid)

    def _made(self, tid: int, by: int) -> None:
        """Note who made the user namespace of a thread, if ``by`` has just made one."""
        maker = self._makers.pop(by, None)
        if maker is None:
            return
        with contextlib.suppress(OSError):
            namespace = os.readlink(f"/proc/{tid}/ns/user")
            if namespace != maker.namespace:
                self.makers[namespace] = maker

    def after(self, tid: int, name: str) -> None:
        """Forget what one of the calls CHANGES may have changed."""
        self._made(tid, tid)
        self._mounting.discard(tid)
        if name in credential_calls():
            self._credentials.pop(tid, None)
        if name in _CHANGES_WAYS or name in _CHANGES_ROOT:
            self.paths.forget()
        if name in _CHANGES_ROOT:
            self._views.clear()
            self.paths.forget_mounts()

    # -- what a thread is ----------------------------------------------------------------------------------------------

    def group(self, tid: int) -> int:
        """Return the thread group (process) of a thread."""
        group = self.groups.get(tid)
        if group is None:
            group = self.groups[tid] = self._status(tid, "Tgid:", tid)
        return group

    def life(self, tid: int) -> int:
        """Return a number for the time in which a process runs one program.

        It is another one after an exec, and for another process with the same id.
        """
        group = self.group(tid)
        life = self._lives.get(group)
        if life is None:
            self._lives_seen += 1
            life = self._lives[group] = self._lives_seen
        return life

    def credentials(self, tid: int) -> Credentials | None:
        """Return the credentials of a thread; None when it is gone."""
        known = self._credentials.get(tid)
        if known is None:
            known = read_credentials(tid)
            if known is not None:
                self._credentials[tid] = known
        return known

    def view(self, tid: int) -> View:
        """Return how a thread sees the file system. Raises OSError when it is gone."""
        view = self._views.get(tid)
        if view is None:
            try:
                view = self._views[tid] = View.of(self.group(tid), tid)
                self.paths.forget_mounts()  # of a former thread with this number
            except PermissionError:
                self.unread(tid)
                raise
        return view

    def whom(self, tid: int, number: int) -> str:
        """Return one of WHOM (trace/model.py) for a process or thread, by the number that a thread has for it."""
        try:
            namespace = os.readlink(f"/proc/{tid}/ns/pid")
            if namespace != self._pid_namespace:
                number = self._outer(number, namespace)
        except OSError:
            pass
        return self.whom_outer(tid, number)

    def whose(self, tid: int, number: int, procfs: int | None = None) -> str:
        """Return the same for the process that a directory of a procfs is about.

        It has that number in the pid namespace of the procfs, which need not be the thread's: unshare(2) leaves /proc
        as it is, and a descriptor may lead to a procfs that is mounted nowhere any more. ``procfs``: its device number,
        None for the one at /proc.
        """
        with contextlib.suppress(OSError):
            if procfs is None:
                mounted = self.paths.at(self.view(tid), "/proc")
                procfs = None if mounted is None or mounted.status is None else mounted.status.st_dev
            if procfs == self._procfs:
                return self.whom_outer(tid, number)
        if number in numbers(tid):
            return "self"
        found = self.whom(tid, number)
        return self.whom_outer(tid, number) if found == "outside" else found

    def whom_outer(self, tid: int, number: int) -> str:
        """Return the same, by the number that profgen has for it."""
        group = self.groups.get(number)
        if group is None:
            return "outside"
        return "self" if group == self.group(tid) else "workload"

    def _outer(self, number: int, namespace: str) -> int:
        """Return profgen's number for the thread of the workload that has ``number`` in this pid namespace, or -1."""
        for tid in self.groups:
            try:
                if os.readlink(f"/proc/{tid}/ns/pid") == namespace and number in (inner_ids(tid) or ()):
                    return tid
            except OSError:
                continue
        return -1

    @staticmethod
    def kin(tid: int) -> tuple[int, int] | None:
        """Return the process of a thread that may be new, and the parent of that; None when the thread has ended."""
        try:
            fields = process_status(tid)
        except OSError:
            return None
        return None if fields["State"][0] in "ZX" else (int(fields["Tgid"][0]), int(fields["PPid"][0]))

    def parent(self, tid: int) -> int:
        """Return the parent of a thread's process; -1 when it is gone."""
        return self._status(tid, "PPid:", -1)

    @staticmethod
    def _status(tid: int, key: str, default: int) -> int:
        with contextlib.suppress(OSError):
            found = _field(f"/proc/{tid}/status", key)
            return default if found is None else found
        return default

    def pidfd(self, tid: int, fd: int) -> int | None:
        """Return the process of a pidfd, -1 when it has ended; None for another descriptor (proc_pid_fdinfo(5)).

        A directory /proc/PID also stands for its process (fs/proc/base.c tgid_pidfd_to_pid): the number is the one that
        its procfs has for it.
        """
        found = self._process_of(tid, fd)
        return None if found is None else found[0]

    def whom_of_pidfd(self, tid: int, fd: int) -> str | None:
        """Return one of WHOM for the process of such a descriptor; None for another descriptor."""
        found = self._process_of(tid, fd)
        if found is None:
            return None
        number, procfs = found
        return self.whom_outer(tid, number) if procfs is None else self.whose(tid, number, procfs)

    def _process_of(self, tid: int, fd: int) -> tuple[int, int | None] | None:
        """Return the process of such a descriptor, and the device of the procfs that numbers it: None for profgen's."""
        link = f"/proc/{tid}/fd/{signed(fd)}"
        try:
            text = os.readlink(link)
            directory = _PROCESS_DIRECTORY.fullmatch(text)
            if directory:
                if self.paths.avoided(self.view(tid)).over(text) is not None:
                    return None
                device = status_of(link).st_dev
                return (int(directory[1]), device) if self.paths.on_procfs(f"{link}/.", device) else None
            number = _field(f"/proc/{tid}/fdinfo/{signed(fd)}", "Pid:")
            return None if number is None else (number, None)
        except OSError:
            self.unread(tid, "processes")
            return None

    # -- arguments -----------------------------------------------------------------------------------------------------

    def unread(self, tid: int, loss: str = "paths") -> None:
        """Count a loss when a thread that is still there keeps profgen from reading something."""
        if hides_memory(tid):
            self._kept_out(loss)

    def memory(self, tid: int, address: int, size: int, loss: str = "paths") -> bytes | None:
        """Read memory as read_memory does. ``loss``: the class to count if that is refused."""
        data = self._read(tid, address, size)
        if data is None:
            self.unread(tid, loss)
        return data

    def text(self, tid: int, address: int) -> str | None:
        """Read a NUL-terminated text in memory, at most PATH_MAX bytes of it; None when it cannot be read."""
        if address not in self._texts:
            data = self._read(tid, address, PATH_MAX, string=True) if address else None
            if address and data is None:
                self.unread(tid)
            self._texts[address] = None if data is None else data.decode(_ENCODING, "surrogateescape")
        return self._texts[address]

    def _read(self, tid: int, address: int, size: int, *, string: bool = False) -> bytes | None:
        """Read memory, in another process if a page is of a file whose server would have to bring it."""
        if not self._asks(tid) or (
            not self._faults(tid, address)
            and not (address % PAGE_BYTES > PAGE_BYTES - 256 and self._faults(tid, address + 256))
        ):
            return read_string(tid, address, size) if string else read_memory(tid, address, size)
        try:
            memory = os.open(f"/proc/{tid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        view, key = self.view(tid), ("memory", address, size)
        try:
            work = partial(read_memory_file, memory, address, size, string=string)
            data: bytes | None = self.paths.ask(view, key, "", work, memory)
            return data
        except (OSError, GaveUp):
            return None
        finally:
            os.close(memory)

    def _asks(self, tid: int) -> bool:
        """Return whether a mount that a thread sees has a server."""
        if self._asking is None:
            try:
                self._asking = bool(self.paths.mounts(self.view(tid)).served)
            except OSError:
                return False
        return self._asking

    def _faults(self, tid: int, address: int) -> bool:
        """Return whether reading memory may wait for a server (proc_pid_pagemap(5), proc_pid_maps(5))."""
        try:
            table = self.paths.mounts(self.view(tid))
            if not any(each.mappable for each in table.served) or page_is_present(tid, address):
                return False
            with open(f"/proc/{tid}/maps", "rb") as file:
                for line in file:
                    low, _, high = line.split(b" ", 1)[0].partition(b"-")
                    if int(low, 16) <= address < int(high, 16):
                        words = line.split(None, 5)
                        major, minor = (int(word, 16) for word in words[3].split(b":"))
                        return words[4] != b"0" and (major, minor) not in table.devices
        except OSError:
            pass
        return False

    def read(self, tid: int, found: Found, what: str, work: Callable[[str], _T]) -> _T:
        """Return what a function makes of a file's content or attributes (Resolver.read). Raises OSError."""
        return self.paths.read(self.view(tid), found, what, work)

    def named(self, tid: int, name: str) -> os.stat_result | None:
        """Return the status of the file that a name means to a thread; None if there is none."""
        found = self.find(tid, None, name)
        return None if found is None else found.status

    def file(self, tid: int, use: FileUse, args: Arguments) -> Found | None:
        """Resolve the path of a use; None for an unreadable path, or an empty one that means nothing.

        Raises OSError when the thread is gone.
        """
        text = None if use.path is None else self.text(tid, args[use.path])
        flags = use.flags_of(args)
        if not text:
            if use.fd is None or (use.path is not None and text is None and args[use.path]):
                return None
            if text is not None and use.flags is not None and not flags & AT_EMPTY_PATH:
                return None
            return self.descriptor(tid, args[use.fd])
        return self.meant(tid, use, args, text, use.follows(flags))

    def meant(
        self, tid: int, use: FileUse, args: Arguments, text: str, follow: bool, in_root: bool = False
    ) -> Found | None:
        """Resolve the path of a use that has this text. ``follow``: also a symbolic link at its end. ``in_root``: the
        directory that it starts from is its root."""
        if len(text) > PATH_MAX // 4 and len(os.fsencode(text)) >= PATH_MAX:
            return None  # ENAMETOOLONG: no file is meant
        at = None if use.at is None else args[use.at]
        if in_root and at is not None:
            return self.find_inside(tid, at, text, follow=follow)
        return self.find(tid, at, text, follow=follow, entry=use.is_of_name)

    def sees(self, tid: int, use: FileUse, args: Arguments) -> bool:
        """Whether the path of a use leads to a file through directories that anybody in the thread's place may search.

        Also for a path that cannot be read, and an empty one, which means a descriptor. Raises OSError when the thread
        is gone.
        """
        if self._seen is None:
            self._seen = self._sees(tid, use, args)
        return self._seen

    def _sees(self, tid: int, use: FileUse, args: Arguments) -> bool:
        text = None if use.path is None else self.text(tid, args[use.path])
        credentials = self.credentials(tid)
        if not text or credentials is None:
            return True
        follow = use.follows(use.flags_of(args))
        directory, _, name = text.rpartition("/")
        plain = text[0] == "/" and name not in ("", ".", "..") and not self._mounting
        if plain and (start := self._start(tid, directory)) is not None:
            with contextlib.suppress(OSError):
                mode = os.lstat(start + name).st_mode  # also if the link is not followed: it may not be there
                return not (follow and S_ISLNK(mode))
        ways: list[Way] = []
        found = self.find(tid, None if use.at is None else args[use.at], text, follow=follow, ways=ways)
        if found is None or any(self.needs(credentials, way) for way in ways):
            return False
        if plain and len(ways) == 1 and found.reached and found.look is not None:
            self._starts[tid, directory] = found.look[: -len(name)]
        return found.exists and not (follow and found.kind == "symlink") and not text.endswith(("/", "/."))

    def _start(self, tid: int, directory: str) -> str | None:
        """Return how profgen begins the paths of files in a directory that the thread may search; None if it is not
        known, and when a file there may be on a mount with a server."""
        epoch = self.paths.epoch()
        if self._starts_epoch != epoch:
            self._starts_epoch = epoch
            self._starts.clear()
        start = self._starts.get((tid, directory))
        return None if start is None or self._asks(tid) else start

    def find(
        self,
        tid: int,
        dirfd: int | None,
        text: str,
        *,
        follow: bool = True,
        entry: bool = False,
        ways: list[Way] | None = None,
    ) -> Found | None:
        """Resolve a path text as a thread sees it (Resolver.resolve); None when it does not start from a directory.

        ``dirfd``: the descriptor that it starts from; AT_FDCWD or None for the working directory. Raises OSError when
        the thread is gone.
        """
        follow = (follow or text.endswith("/")) and not entry
        key = (dirfd, text, follow)
        known = self._found.get(key)
        if known is None:
            searched: list[Way] = []
            known = self._found[key] = self._resolve(tid, dirfd, text, follow, searched), searched
            if known[0] is None:
                self.unread(tid)
        if ways is not None:
            ways += known[1]
        return known[0]

    def find_inside(self, tid: int, dirfd: int, text: str, *, follow: bool) -> Found | None:
        """Resolve a path text with the directory ``dirfd`` as the root (RESOLVE_IN_ROOT of openat2(2)).

        None when that is not a directory. Raises OSError when the thread is gone.
        """
        top = self.descriptor(tid, dirfd)
        if top is None or top.look is None:
            return None
        return self.paths.resolve_inside(self.view(tid), top.look, top.path, text, follow=follow)

    def needs(self, credentials: Credentials, way: Way) -> list[str]:
        """Return the capabilities that searching these directories needs.

        A file among them is not searched: the call ends with ENOTDIR (fs/namei.c link_path_walk).
        """
        key = (id(way), credentials.uids[3], credentials.gids[3], credentials.groups)
        known = self._needs.get(key)
        if known is None:
            if len(self._needs) >= 4096:
                self._needs.clear()
            # The way is kept too, so that no other one can be given its id().
            found = [need for each in way if S_ISDIR(each.st_mode) for need in lacking(credentials, each, EXECUTE)]
            known = self._needs[key] = way, found
        return known[1]

    def _resolve(self, tid: int, dirfd: int | None, text: str, follow: bool, ways: list[Way]) -> Found | None:
        view, entry = self.view(tid), not follow
        self.paths.cautious = bool(self._mounting - {tid})
        if text.startswith("/"):
            return self.paths.resolve(view, "/", text, follow=follow, entry=entry, ways=ways)
        start = AT_FDCWD if dirfd is None else signed(dirfd)
        link = f"/proc/{tid}/cwd" if start == AT_FDCWD else f"/proc/{tid}/fd/{start}"
        try:
            base = os.readlink(link)
            if not base.startswith("/"):
                return None
            plain = not base.endswith(DELETED) and len(base) + len(text) < PATH_MAX - 1 and view.reach(base) is not None
            if plain and start != AT_FDCWD:
                plain = self.paths.named(view, base, status_of(link), link)[1] == "linked"
        except OSError:
            plain = False
        if plain:
            return self.paths.resolve(view, base, text, follow=follow, entry=entry, ways=ways)
        try:
            fd = os.open(link, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return self.paths.resolve(view, fd, text, follow=follow, entry=entry, ways=ways)
        finally:
            os.close(fd)

    def descriptor(self, tid: int, fd: int) -> Found | None:
        """Return the file behind a thread's descriptor, or its working directory (AT_FDCWD); None when it is closed."""
        number = signed(fd)
        link = f"/proc/{tid}/cwd" if number == AT_FDCWD else f"/proc/{tid}/fd/{number}"
        found = self.paths.descriptor(self.view(tid), link)
        if found is None:
            self.unread(tid)
        return found


_T = TypeVar("_T")
_PROCESS_DIRECTORY = re.compile(r"(?:.*/)?([0-9]+)(?: \(deleted\))?", re.DOTALL)
"""The text of a link to a directory of a procfs, wherever that is mounted; once its process has ended it is deleted."""
CLONE_NEWUSER = 0x10000000  # include/uapi/linux/sched.h
_CLONES = frozenset({"clone", "clone3"})
_NAMESPACES = _CLONES | {"unshare"}
_CHANGES_ROOT = frozenset(mount_calls()) | {"chroot", "unshare", "setns"}
"""Calls after which a thread may see other files under the same paths."""

_CHANGES_WAYS = {name: uses for name, uses in file_uses().items() if any(use.moves_directories for use in uses)}
"""Calls after which a path may lead elsewhere, or a directory may let other users through."""

CHANGES = credential_calls() | _CHANGES_ROOT | _CHANGES_WAYS.keys() | _CLONES
"""Calls, of any ABI, after which something known of their thread may no longer hold; clones decide what a new thread
has."""
