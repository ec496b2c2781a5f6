"""What the eBPF tracer makes of uses.bpf.c: which calls it looks at, and events and maps as rows of a Recording.

The kernel sends the first use of each sort with its names; how often and when it was seen is in a map, read at the end.
A path text is resolved as soon as its event is read: what it leads to may be gone by then, and what cannot be known is
counted as lost.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import stat
import struct
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from profiler.kernel.errno import name_of as error_name
from profiler.kernel.files import (
    AT_SYMLINK_FOLLOW,
    AT_SYMLINK_NOFOLLOW,
    CREAT_FLAGS,
    NO_USE,
    O_CREAT,
    O_NOFOLLOW,
    FileUse,
    allowed,
    file_uses,
    open_accesses,
)
from profiler.kernel.mounts import mount_calls, operation, source_is_path, source_matters
from profiler.kernel.signals import signal_name
from profiler.kernel.syscalls import name_of, number_of
from profiler.tracers.ebpf.loader import Programs
from profiler.tracers.ebpf.reader import BY_ENTERED, Executed, Maps, Reader
from profiler.tracers.ebpf.shared import constant, names, structure
from profiler.tracers.host import absolute
from profiler.tracers.paths import Found, Memory, Resolver, View, kind_of, through_link
from profiler.tracers.recording import Recording
from profiler.tracers.sockets import family_name, path_address, type_name

NONE = constant("NO_ARGUMENT")

ROUTES = names("route", "ROUTE_", "TAIL_")
"""Programs of uses.bpf.c by their index in ``tails``; ``open`` is either of two."""
FAILURES = constant("ROUTE_FAILURES")
CONDITIONS = names("only", "ONLY_")
TAILS = tuple((f"on_{name}", index) for index, name in enumerate(ROUTES) if name not in ("none", "open"))

_O_EXCL = 0o200  # include/uapi/asm-generic/fcntl.h
_AT_REMOVEDIR = 0x200
_RENAME_EXCHANGE = 2
_RESOLVE_IN_ROOT = 0x10 << 32
_OPEN_FLAGS = 0xFFFFFFFF & ~0o2000000  # all but O_CLOEXEC
_RESOLVED = frozenset({"ok", "EEXIST", "EISDIR", "ENOTEMPTY", "EBUSY", "EXDEV", "ETXTBSY", "ENOEXEC"})
"""Results of calls that got past every directory on their way."""


@dataclass(frozen=True)
class Spec:
    """Where a call's arguments say what it uses: ``struct spec`` of recorder.bpf.c, by positions."""

    route: str
    only: str = "all"
    failures: bool = False
    fd: int = NONE
    flags: int = NONE
    mode: int = NONE
    optional: int = 0
    plain: int = 0
    follow: int = 0
    """Bit 0: a link at the end of the first text is followed; bit 1: with AT_SYMLINK_FOLLOW."""
    at: tuple[int, ...] = ()
    path: tuple[int, ...] = ()
    flags_mask: int = 0

    def fill(self, row: Any) -> None:
        """Write it into a ``struct spec``."""
        row.route = ROUTES.index(self.route) | (FAILURES if self.failures else 0)
        row.only, row.fd, row.flags, row.mode = CONDITIONS.index(self.only), self.fd, self.flags, self.mode
        row.optional, row.plain, row.follow, row.flags_mask = self.optional, self.plain, self.follow, self.flags_mask
        for index in range(constant("PLACES")):
            row.at[index] = self.at[index] if index < len(self.at) else NONE
            row.path[index] = self.path[index] if index < len(self.path) else NONE


def _or_none(position: int | None) -> int:
    return NONE if position is None else position


def _file_spec(name: str, abi: str, uses: tuple[FileUse, ...]) -> Spec:
    use = uses[0]
    at, path = tuple(_or_none(each.at) for each in uses), tuple(_or_none(each.path) for each in uses)
    fd, flags = _or_none(use.fd), _or_none(use.flags)
    if use.access == "open":
        opened = Spec("open", flags=flags, flags_mask=_OPEN_FLAGS, at=at, path=path)
        if use.only == "handle":
            return replace(opened, route="descriptor")
        return replace(opened, only="how" if use.only == "how" else "all")
    if use.path is None:
        if use.only == "executable" and name == "mmap" and abi == "i386":
            return Spec("descriptor", only="old_mmap", fd=fd)  # its arguments lie in memory
        return Spec("descriptor", only=use.only or "all", fd=fd)
    text = Spec("text", fd=fd, flags=flags, flags_mask=0xFFFFFFFF, at=at, path=path, mode=_or_none(use.mode))
    text = replace(text, follow=int(use.follow))
    if use.access in ("look", "execute"):
        return replace(text, failures=True, only="execute" if use.access == "execute" else "all")
    if len(uses) == 2:
        # linkat(2) takes an empty first path; the flags of renameat2(2) tell an exchange.
        flags = 4 if name == "renameat2" else flags
        return replace(
            text, only="names", fd=NONE, flags=flags, optional=int(use.fd is not None), follow=2 * (name == "linkat")
        )
    if use.access == "remove":
        return replace(text, only="names", flags=2 if name == "unlinkat" else NONE, flags_mask=_AT_REMOVEDIR)
    if use.make == "symlink":
        return replace(text, only="symlink", path=(path[0], 0), at=(at[0], NONE), plain=2)
    return replace(text, only="chroot") if use.access == "chroot" else text


_SOCKET_SPECS: dict[str, tuple[str, Spec]] = {
    "socket": ("create", Spec("socket")),
    "socketpair": ("pair", Spec("socket", only="pair")),
    "bind": ("bind", Spec("socket", fd=0, path=(1, 2))),
    "connect": ("connect", Spec("socket", fd=0, path=(1, 2))),
    "sendto": ("send", Spec("socket", fd=0, path=(4, 5))),
    "sendmsg": ("send", Spec("socket", fd=0, at=(1,))),
    "sendmmsg": ("send", Spec("socket", only="messages", fd=0, at=(1,))),
    **{
        name: (word, Spec("socket", fd=0))
        for word, names in {
            "listen": ("listen",),
            "accept": ("accept", "accept4"),
            "send": ("send",),
            "receive": ("recv", "recvfrom", "recvmsg", "recvmmsg", "recvmmsg_time64"),
            "getoption": ("getsockopt",),
            "setoption": ("setsockopt",),
            "name": ("getsockname", "getpeername"),
            "shutdown": ("shutdown",),
        }.items()
        for name in names
    },
}

SOCKETCALLS = constant("SOCKETCALLS")
SOCKETCALL_NAMES = dict(
    enumerate(
        (
            "socket",
            "bind",
            "connect",
            "listen",
            "accept",
            "getsockname",
            "getpeername",
            "socketpair",
            "send",
            "recv",
            "sendto",
            "recvfrom",
            "shutdown",
            "setsockopt",
            "getsockopt",
            "sendmsg",
            "recvmsg",
            "accept4",
            "recvmmsg",
            "sendmmsg",
        ),
        1,
    )
)
"""include/uapi/linux/net.h SYS_*."""

_PROCESS_SPECS: dict[str, tuple[str, Spec]] = {
    "kill": ("signal", Spec("process", path=(0,), mode=1)),
    "tkill": ("signal", Spec("process", path=(0,), mode=1)),
    "tgkill": ("signal", Spec("process", path=(1,), mode=2)),
    "rt_sigqueueinfo": ("signal", Spec("process", path=(0,), mode=1)),
    "rt_tgsigqueueinfo": ("signal", Spec("process", path=(1,), mode=2)),
    "pidfd_send_signal": ("signal", Spec("process", at=(0,), mode=1)),
    "ptrace": ("trace", Spec("process", only="ptrace", path=(1,), mode=0)),
    "process_vm_readv": ("read", Spec("process", path=(0,))),
    "process_vm_writev": ("trace", Spec("process", path=(0,))),
    "kcmp": ("read", Spec("process", path=(0, 1))),
    "pidfd_getfd": ("read", Spec("process", at=(0,))),
}


def _mount_spec(name: str) -> Spec:
    call = mount_calls()[name]
    return Spec(
        "text",
        only="mount",
        flags=_or_none(call.flags),
        flags_mask=0xFFFFFFFF,
        optional=7,
        plain=4,
        at=(_or_none(call.source_at), _or_none(call.target_at), NONE),
        path=(_or_none(call.source), _or_none(call.target), _or_none(call.filesystem)),
    )


@cache
def specs(abi: str) -> dict[str, Spec]:
    """Syscall name to what is looked at, for an ABI."""
    found = {name: _file_spec(name, abi, uses) for name, uses in file_uses().items()}
    found |= {name: spec for table in (_SOCKET_SPECS, _PROCESS_SPECS) for name, (_, spec) in table.items()}
    found |= {name: _mount_spec(name) for name in mount_calls()}
    found["socketcall"] = Spec("socket", only="socketcall")
    return {name: spec for name, spec in found.items() if number_of(abi, name) is not None}


def rows(abi: str) -> dict[int, Spec]:
    """The same by number; with i386's socketcall, the calls it stands for at numbers of their own."""
    found = {number: spec for name, spec in specs(abi).items() if (number := number_of(abi, name)) is not None}
    if "socketcall" in specs(abi):
        found |= {SOCKETCALLS + number: _SOCKET_SPECS[name][1] for number, name in SOCKETCALL_NAMES.items()}
    return found


# -- events
# --------------------------------------------------------------------------------------------------------------

_ERROR_MASK = constant("DETAIL_ERROR")
_KIND_SHIFT, _WHOSE_SHIFT = constant("DETAIL_KIND_SHIFT"), constant("DETAIL_WHOSE_SHIFT")
_OWN, _OTHERS, _PSEUDO = constant("DETAIL_OWN"), constant("DETAIL_OTHERS"), constant("DETAIL_PSEUDO")
_WHOSE = (None, *names("whom", "WHOM_")[1:])
_DELETED, _DETACHED, _PIECE_BITS = constant("FACT_DELETED"), constant("FACT_DETACHED"), constant("FACT_PIECE_BITS")
_OTHER_ROOT, _OTHER_MOUNTS = constant("FACT_OTHER_ROOT"), constant("FACT_OTHER_MOUNTS")
_DESCRIPTOR, _SAME_TOP = constant("FACT_DESCRIPTOR"), constant("FACT_SAME_TOP")
_TEXTS, _ROOT = constant("TEXTS"), constant("PIECES") - 1
_NO_PORT = constant("NO_PORT")

_Event, _Tally = structure("use_event"), structure("tally")


def _call(call: int) -> tuple[int, int]:
    """Return the ABI and the number of a call, from a key's ``call``."""
    return call >> constant("CALL_ABI_SHIFT"), call & constant("CALL_NUMBER_MASK")


@dataclass
class Event:
    """``struct use_event`` of uses.bpf.c."""

    key: bytes
    program: int
    abi: int
    number: int
    flags: int
    detail: int
    root: int
    mode: int
    facts: int
    fsuid: int
    tgid: int
    tid: int
    own_tgid: int
    own_tid: int
    texts: tuple[bytes | None, ...]
    paths: tuple[str | None, ...]

    @property
    def result(self) -> str:
        """``ok`` or an errno name."""
        error = self.detail & _ERROR_MASK
        return error_name(error) if error else "ok"

    def state(self, piece: int) -> str:
        """One of FILE_STATES, of one of the paths."""
        facts = self.facts >> _PIECE_BITS * piece
        return "detached" if facts & _DETACHED else "deleted" if facts & _DELETED else "linked"


def program_of(data: bytes) -> int:
    """The number of the program that an event is of."""
    return int(_Event.from_buffer_copy(data).key.program)


def parse(data: bytes) -> Event:
    """An event as it comes from the ring."""
    head = _Event.from_buffer_copy(data)
    key = head.key
    at = ctypes.sizeof(_Event)
    pieces = []
    for length in (*head.text_length, *head.path_length):
        pieces.append(data[at : at + length] if length else None)
        at += length
    pseudo = bool(key.detail & _PSEUDO)
    return Event(
        bytes(key),
        key.program,
        *_call(key.call),
        key.flags,
        key.detail,
        head.root,
        head.mode,
        head.facts,
        head.fsuid,
        head.tgid,
        head.tid,
        head.own_tgid,
        head.own_tid,
        tuple(pieces[:_TEXTS]),
        tuple(None if piece is None else _path(piece, pseudo) for piece in pieces[_TEXTS:]),
    )


def _path(components: bytes, pseudo: bool = False) -> str:
    """From NUL-ended components, leaf first, and a byte that ends them all."""
    parts = components[:-1].split(b"\0")[:-1]
    parts.reverse()
    return os.fsdecode((b"" if pseudo else b"/") + b"/".join(parts))


def text_of(data: bytes | None) -> str | None:
    """A text with its NUL."""
    return None if data is None else os.fsdecode(data.split(b"\0", 1)[0])


Write = Callable[[Recording, int, int, float, float], None]
"""Records a use: (where, index of the program, count, first, last)."""


@dataclass(slots=True)
class _Row:
    """How a use is recorded, and whose it is."""

    program: int
    write: Write


@dataclass
class Known:
    """What was last seen of a path: for files that are gone before they can be looked at."""

    kind: str
    uid: int | None


@dataclass
class _Opened:
    """What the kernel opens when it executes a program."""

    executed: Executed
    scripts: list[Found] = field(default_factory=list)
    loader: Found | None = None


_NOWHERE = "/proc/0"
_OWN_MOUNTS = "/proc/self/ns/mnt"


@dataclass
class _Roots:
    """Processes that were seen with a root of their own, newest last: through one that lives, profgen finds it."""

    limit: int = 16
    seen: dict[int, deque[int]] = field(default_factory=dict)
    pivoted: dict[int, str] = field(default_factory=dict)
    """Where the root was before pivot_root(2) made it one: in the namespace that the workload began in."""

    def find(self, root: int, tgid: int, top: str | None, same: bool) -> str | None:
        """``top``: the root that the workload began with, and whether this one is the ``same`` file: a process may have
        another by now. None when that root is not known: then it is no process of profgen's own mount namespace, which
        may have got the number since."""
        known = self.seen.setdefault(root, deque(maxlen=self.limit))
        if tgid not in known:
            known.append(tgid)
        for pid in reversed(known):
            path = f"/proc/{pid}/root/."
            with contextlib.suppress(OSError):
                if top is None and not os.path.samefile(f"/proc/{pid}/ns/mnt", _OWN_MOUNTS):
                    return path
                if top is not None and os.path.samefile(path, top) == same:
                    return path
        return self.pivoted.get(root)


class Uses:
    """Of one recording."""

    def __init__(self, programs: Programs, reader: Reader) -> None:
        self._programs = programs
        self._recording = reader.recording
        self._reader = reader
        self._abis = reader.abis
        reader.on_executed = self._executed
        self._kernel_opened: dict[int, _Opened] = {}
        self._raw: deque[bytes] = deque()
        self._rows: dict[bytes, list[_Row]] = {}
        self._memory = Memory()
        self._resolver = Resolver(self._memory)
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._roots = _Roots()
        self._generation = 0
        """Of the newest program (Reader.generation)."""
        self._mounted: deque[str] = deque(maxlen=1024)

    # -- while it runs -------------------------------------------------------------------------------------------------

    def add(self, event: bytes) -> None:
        """Take an event from the ring: nothing more, so that there is room again."""
        self._raw.append(event)

    def resolve(self, limit: int = 2000) -> bool:
        """Work through events, at most so many; whether there are more."""
        for _ in range(min(limit, len(self._raw))):
            event = parse(self._raw.popleft())
            self._rows[event.key] = [_Row(event.program, write) for write in self._interpret(event)]
        return bool(self._raw)

    # -- at the end, or at any time ------------------------------------------------------------------------------------

    def collect(self, recording: Recording, maps: Maps, *, over: bool = False) -> None:
        """Write everything that is known so far into a recording. ``over``: nothing is on its way any more."""
        seconds = self._reader.seconds
        while self.resolve():
            pass
        nameless = 0
        for entry in maps.entries("uses", self._reader.numbers()):
            value = _Tally.from_buffer_copy(entry[1])
            rows = self._rows.get(entry[0])
            if rows is None:
                nameless += 1
                continue
            for row in rows:
                row.write(
                    recording,
                    self._reader.index(row.program, recording),
                    value.count,
                    seconds(value.first),
                    seconds(max(value.first, value.last)),
                )
        if over and nameless > recording.losses["paths"]:
            recording.losses["paths"] = nameless  # the kernel counted some of them, or none
        self._collect_sockets(recording, maps)
        self._collect_contacts(recording, maps)
        self._collect_execs(recording, maps)

    def _collect_sockets(self, recording: Recording, maps: Maps) -> None:
        seconds = self._reader.seconds
        for key, value in maps.rows("sockets", self._reader.numbers()):
            word = _SOCKET_SPECS[self._name(*_call(key.call))][0]
            result = error_name(key.error) if key.error else "ok"
            if result in NO_USE:
                continue
            index = self._reader.index(key.program, recording)
            recording.socket(
                family_name(key.family), type_name(key.type), key.protocol, word, result, index,
                port=None if key.port == _NO_PORT else key.port,
                count=value.count, first=seconds(value.first), last=seconds(value.last),
            )  # fmt: skip

    def _collect_contacts(self, recording: Recording, maps: Maps) -> None:
        seconds = self._reader.seconds
        for key, value in maps.rows("contacts", self._reader.numbers()):
            number, whom = key.number, key.whom
            word = _PROCESS_SPECS[name := self._name(*_call(key.call))][0]
            result = error_name(key.error) if key.error else "ok"
            index = self._reader.index(key.program, recording)
            if result in NO_USE:
                continue
            times = value.count, seconds(value.first), seconds(value.last)
            if word == "signal":
                recording.signal(
                    signal_name(number - (number >> 31 << 32)), _WHOSE[whom] or "group", result, index, *times
                )
                continue
            if name == "ptrace":
                if number not in (0, 16, 0x4206):  # PTRACE_TRACEME, PTRACE_ATTACH, PTRACE_SEIZE
                    continue
                word = "trace" if number else "traceme"
            recording.inspection(word, _WHOSE[whom] or "outside", result, index, *times)

    # -- executing -----------------------------------------------------------------------------------------------------

    def _executed(self, program: int, executed: Executed) -> None:
        """Look at once at what the kernel opened beside the program: its scripts and its loader. A script is told of
        again when a link was made or moved since: its text may mean another file."""
        if executed.generation != self._generation:
            # What moved a link is told in the other ring, perhaps later: what was found before does not hold any more.
            self._generation = executed.generation
            self._resolver.forget()
        before = self._kernel_opened.get(program)
        opened = self._kernel_opened[program] = _Opened(executed, before.scripts if before is not None else [])
        if executed.name is not None:
            known = {found.path for found in opened.scripts if found.sure}
            opened.scripts += [found for found in self._scripts(executed) if found.path not in known]
        view = executed.view
        assert view is not None
        if executed.loader is not None:
            path, own = executed.loader
            opened.loader = Found(path, "file", executed.fsuid + (not own), True) if path else None
            return
        # Linux before 6.1
        image = f"/proc/{view.tgid}/exe" if executed.state != "linked" else view.reach(executed.binary)
        name = None if image is None else _loader(image)
        if name is None:
            self._recording.losses["paths"] += 1
        elif name:
            opened.loader = self._resolver.resolve(view, "/", name, passed=True)

    def _scripts(self, executed: Executed) -> list[Found]:
        """The script, and every script among its interpreters (fs/binfmt_script.c)."""
        scripts: list[Found] = []
        name, base = executed.name, executed.cwd
        assert executed.view is not None
        while name and len(scripts) < _SCRIPTS_MAX:
            found = self._resolver.resolve(executed.view, base, name, passed=True)
            if found.path != absolute(base, name) and self._reader.generation() != executed.generation:
                found = replace(found, sure=False)  # a link may have led elsewhere
            if found.path == executed.binary:
                break
            scripts.append(found)
            head = b"" if found.look is None or found.kind != "file" else _head(found.look)
            words = head[2:].split(b"\n", 1)[0].split(None, 1) if head.startswith(b"#!") else []
            name = os.fsdecode(words[0]) if words else None
        return scripts

    def _collect_execs(self, recording: Recording, maps: Maps) -> None:
        calls = self._spans(recording)
        for by, program, count in self._reader.execs(maps):
            opened = self._kernel_opened.get(program)
            if opened is None:
                continue
            executed = opened.executed
            index = self._reader.index(program, recording)
            # The runtime that brings a program into a container is no part of it: the program itself stands for it.
            caller = index if by == BY_ENTERED else self._reader.index(by, recording)
            files = [
                (found.path if found.sure else "", found.kind, "linked", self._owner(found, executed))
                for found in opened.scripts
            ]
            files.append((executed.binary, "file", executed.state, ("self" if executed.own else "other",)))
            mapped = files[-1:]
            if (found := opened.loader) is not None:
                mapped.append((found.path if found.sure else "", found.kind, "linked", self._owner(found, executed)))
            uses = [("execute", caller, files), ("map", index, mapped), ("read", index, mapped)]
            # When it was executed is not kept: about when it made its first call, and of several the last at its last
            # call at the latest.
            first, last = calls.get(index, (None, None))
            last = first if count == 1 else last
            for access, user, rows in uses:
                for path, kind, state, owner in rows:
                    recording.file(
                        path, access, kind, "ok", user, state=state, owner=owner, count=count, first=first, last=last
                    )

    @staticmethod
    def _spans(recording: Recording) -> dict[int, tuple[float, float]]:
        """First and last call of each program, in seconds from the start."""
        spans: dict[int, tuple[float, float]] = {}
        for (program, _, _), row in recording.rows.items():
            first, last = spans.get(program, (row.first, row.last))
            spans[program] = (min(first, row.first), max(last, row.last))
        return spans

    def _owner(self, found: Found, executed: Executed) -> tuple[str, ...]:
        return () if found.uid is None else ("self",) if found.uid == executed.fsuid else ("other",)

    # -- what an event says --------------------------------------------------------------------------------------------

    def _name(self, abi: int, number: int) -> str:
        if number > SOCKETCALLS and self._abis[abi] == "i386":
            return SOCKETCALL_NAMES.get(number - SOCKETCALLS, "")
        return name_of(self._abis[abi], number) or ""

    def _interpret(self, event: Event) -> Iterator[Write]:
        name = self._name(event.abi, event.number)
        result = event.result
        if result in NO_USE:
            return
        if name in _SOCKET_SPECS:
            yield from self._socket(event, _SOCKET_SPECS[name][0])
        elif name in mount_calls():
            yield from self._mount(event, name)
        elif event.facts & _DESCRIPTOR:
            yield from self._descriptor(event, file_uses()[name][0])
        else:
            yield from self._text(event, name, file_uses()[name])

    def _file(
        self, event: Event, access: str, found: Found, *, kind: str = "", own: bool = False, existing: str | None = None
    ) -> Write:
        path = found.path if found.sure else ""
        if event.result == "ENOENT":  # what is there by now was not
            found, kind = replace(found, kind="unknown", uid=None), ""
        if own:
            owner: tuple[str, ...] = ("self",)
        elif found.uid is None or (access == "owner" and event.result == "ok"):
            owner = ()  # not known, or another than it was
        else:
            owner = ("self" if found.uid == event.fsuid else "other",)
        whose = None
        if event.facts & _DESCRIPTOR:
            whose = _WHOSE[event.detail >> _WHOSE_SHIFT & 3]
        elif path.startswith("/proc/") and (process := _PROCESS.match(path)):
            whose = self._whose(event, int(process[1]))
        kind, result, state = kind or found.kind, event.result, found.state
        if path:
            self._recording.path_seen(path)
        if path and kind != "unknown":
            self._remember(path, Known(kind, event.fsuid if own else found.uid))

        def write(recording: Recording, program: int, count: int, first: float, last: float) -> None:
            recording.file(
                path, access, kind, result, program,
                state=state, owner=owner, existing=existing, whose=whose, count=count, first=first, last=last,
            )  # fmt: skip

        return write

    def _remember(self, path: str, known: Known) -> None:
        self._known[path] = known
        self._known.move_to_end(path)
        if len(self._known) > 1 << 16:
            self._known.popitem(last=False)

    def _whose(self, event: Event, number: int) -> str:
        if number in (event.own_tgid, event.own_tid):
            return "self"
        return "workload" if number in self._programs.members(self._reader.session) else "outside"

    def _descriptor(self, event: Event, use: FileUse) -> Iterator[Write]:
        path = event.paths[0]
        if path is None:
            return
        kind = kind_of((event.detail >> _KIND_SHIFT & 15) << 12)
        # The owner was compared in the kernel: any number that is or is not the user's stands for it.
        uid = event.fsuid if event.detail & _OWN else event.fsuid + 1 if event.detail & _OTHERS else None
        found = Found(path, kind, uid, True, event.state(0))
        if not path.startswith(("/", "memfd:")):
            return
        words: tuple[str, ...] = (use.access,)
        if use.access == "open":
            words = open_accesses(CREAT_FLAGS if use.flags is None else event.flags)
        elif use.access == "lock" and event.mode:
            words = ("lock_exclusive",)
        for word in words:
            if use.access != "look" or event.result != "ok":
                yield self._file(event, word, found)

    def _view(self, event: Event) -> View:
        if not event.facts & (_OTHER_ROOT | _OTHER_MOUNTS):
            return View(event.tgid, event.tid)
        root_path = event.paths[_ROOT] or "/"
        held = self._reader.root
        if held is not None and not event.facts & _OTHER_ROOT:
            return View(event.tgid, event.tid, held, "/", held)
        if not event.facts & _OTHER_MOUNTS:
            return View(event.tgid, event.tid, root_path, root_path, "/")
        held = None if self._reader.gone else held or "/"
        root = self._roots.find(event.root, event.tgid, held, bool(event.facts & _SAME_TOP))
        if root is None and event.facts & _SAME_TOP and held is not None:
            return View(
                event.tgid, event.tid, held, "/", held
            )  # a copy of the first namespace, and nobody is left in it
        if root is None:
            root = _NOWHERE  # all who had it are gone
        return View(event.tgid, event.tid, root, root_path, root if root_path == "/" else None)

    def _find(self, event: Event, piece: int, *, follow: bool, entry: bool = False) -> Found | None:
        """The file that one of an event's texts means."""
        text, base = text_of(event.texts[piece]), event.paths[piece]
        if text is None:
            return None
        base = base if base is not None else "/"
        state = event.state(piece)
        if not text:
            return self._look_at(event, base, state)
        if not text.startswith("/") and state != "linked":
            # A directory that is on no tree: nobody can look into it any more.
            return Found(
                _joined(base, text), state="linked" if state == "deleted" else state, sure=".." not in text.split("/")
            )
        if event.facts & _OTHER_MOUNTS and event.own_tgid != event.tgid:
            # /proc of another pid namespace leads profgen nowhere by these names, and numbers processes as that
            # namespace does.
            text = (
                _SELF.sub(
                    lambda link: f"/proc/{event.own_tgid}{f'/task/{event.own_tid}' if link[1] else ''}", text, count=1
                )
                if _SELF.match(text)
                else text
            )
        found = self._resolved(event, self._view(event), base, text, follow, entry)
        gone = not (found.sure and found.exists and found.state == "linked") and not through_link(
            found.path, follow and not entry
        )
        if gone and (process := _PROCESS.match(found.path)) and self._whose(event, int(process[1])) != "outside":
            # The directory of a process that has ended meanwhile: it was there, and its own (fs/proc/base.c
            # task_dump_owner).
            own = int(process[1]) in (event.own_tgid, event.own_tid)
            return replace(found, sure=True, state="linked", uid=event.fsuid if own else None)
        return found if found.exists else self._recall(found)

    def _resolved(self, event: Event, view: View, base: str, text: str, follow: bool, entry: bool) -> Found:
        found = self._resolver.resolve(view, base, text, follow=follow, entry=entry, passed=event.result in _RESOLVED)
        if found.sure and found.exists:
            return found
        again = self._view(event)
        if again == view or again.root == _NOWHERE:
            return found
        # The process through whose root it was looked for has ended meanwhile, and there is another way.
        return self._resolved(event, again, base, text, follow, entry)

    def _look_at(self, event: Event, path: str, state: str) -> Found:
        look = self._view(event).reach(path)
        if look is not None and state == "linked":
            with contextlib.suppress(OSError):
                status = os.lstat(look)
                return Found(path, kind_of(status.st_mode), status.st_uid, True)
        known = self._known.get(path)
        return Found(path, known.kind, known.uid, True, state) if known else Found(path, state=state)

    def _recall(self, found: Found) -> Found:
        known = self._known.get(found.path)
        if known is None:
            return found
        return replace(found, kind=known.kind, uid=known.uid)

    def _text(self, event: Event, name: str, uses: tuple[FileUse, ...]) -> Iterator[Write]:
        use, result = uses[0], event.result
        abi = self._abis[event.abi]
        if use.access == "look" and (result == "ok" or allowed("look", result)):
            return
        if len(uses) == 2:
            yield from self._two(event, name, uses)
            return
        flags = event.flags if use.flags is not None else CREAT_FLAGS if use.access == "open" else 0
        if use.access == "open":
            if use.path is None:
                return
            follow = not flags & O_NOFOLLOW[abi] and flags & (O_CREAT | _O_EXCL) != O_CREAT | _O_EXCL
            found = self._find(event, 0, follow=follow)
            for word in open_accesses(flags) or ("look",):
                if found is not None:
                    yield self._file(event, word, found)
            return
        if use.access == "chroot" and result == "ok":
            assert event.paths[0] is not None
            self._resolver.forget()
            yield self._file(event, "chroot", self._look_at(event, event.paths[0], event.state(0)), kind="directory")
            return
        follow = (use.follow and not flags & AT_SYMLINK_NOFOLLOW) or bool(flags & AT_SYMLINK_FOLLOW)
        found = self._find(event, 0, follow=follow, entry=use.access in ("make", "remove"))
        if found is None:
            return
        done = result == "ok"
        kind = ""
        if use.make is not None and done:
            kind = use.make if use.make != "mode" else kind_of(event.mode or stat.S_IFREG)
            if kind == "directory":
                self._memory.made(found.path)
            elif kind == "symlink":
                self._memory.made(found.path, text_of(event.texts[1]))
            self._resolver.forget()
        if use.access == "readlink" and done:
            kind = "symlink"
        if use.access == "remove" and done:
            directory = name == "rmdir" or bool(event.flags & _AT_REMOVEDIR)
            found = self._removed(found)
            kind = "directory" if directory else ""
            self._resolver.forget()
        yield self._file(event, use.access, found, kind=kind, own=use.make is not None and done)

    def _removed(self, found: Found) -> Found:
        """What is there now is another file: what was removed is known from before."""
        known = self._known.get(found.path)
        return Found(
            found.path,
            known.kind if known else "unknown",
            known.uid if known else None,
            sure=found.sure,
            state=found.state,
        )

    def _two(self, event: Event, name: str, uses: tuple[FileUse, ...]) -> Iterator[Write]:
        """link and rename."""
        done = event.result == "ok"
        link = uses[0].access == "existing"
        follow = link and bool(event.flags & AT_SYMLINK_FOLLOW)
        old = self._find(event, 0, follow=follow, entry=not link)
        new = self._find(event, 1, follow=False, entry=True)
        if old is None or new is None:
            return
        if link:
            kind, uid = (new.kind, new.uid) if done and new.exists else (old.kind, old.uid)
            if not event.texts[0] or event.texts[0] == b"\0":
                old = replace(old, sure=True)
            yield self._file(
                event, "link", replace(new, kind=kind, uid=uid, sure=new.sure and old.sure), existing=old.path
            )
            return
        if not done:
            yield self._file(event, "rename_from", old)
            yield self._file(event, "rename_to", new)
            return
        exchange = name == "renameat2" and bool(event.flags & _RENAME_EXCHANGE)
        self._resolver.forget()
        self._memory.renamed(old.path, new.path)
        if exchange:
            for one, other in ((old, new), (new, old)):
                yield self._file(event, "rename_from", replace(one, kind=other.kind, uid=other.uid))
                yield self._file(event, "rename_to", replace(other, kind=other.kind, uid=other.uid))
            return
        moved = new if new.exists or new.kind != "unknown" else self._removed(old)
        for path in [path for path in (old.path, new.path) if moved.kind != "unknown"]:
            self._remember(path, Known(moved.kind, moved.uid))
        yield self._file(event, "rename_from", replace(old, kind=moved.kind, uid=moved.uid))
        yield self._file(event, "rename_to", replace(new, kind=moved.kind, uid=moved.uid))

    def _socket(self, event: Event, word: str) -> Iterator[Write]:
        """An operation with a unix address."""
        data = event.texts[0] or b""
        abstract = data.startswith(b"\0")
        address = "@" + os.fsdecode(data[1:]) if abstract else path_address(text_of(data) or "")
        kind, protocol, result = type_name(event.flags >> 16), event.flags & 0xFFFF, event.result

        def write(recording: Recording, program: int, count: int, first: float, last: float) -> None:
            recording.socket(
                "unix", kind, protocol, word, result, program, address=address, count=count, first=first, last=last
            )  # fmt: skip

        yield write
        if not abstract:
            bound = word == "bind"
            found = self._find(event, 0, follow=not bound, entry=bound)
            if found is not None:
                done = bound and result == "ok"
                yield self._file(event, "bind" if bound else "connect", found, kind="socket" if done else "", own=done)

    def _mount(self, event: Event, name: str) -> Iterator[Write]:
        what = operation(name, event.flags)
        if what is None:
            return
        word, names = what
        follow = not {"symlink_nofollow", "nofollow"} & set(names)
        moves = name == "move_mount"
        self._resolver.forget()
        source = filesystem = target = None
        pivoted = self._pivoted(event) if word == "pivot_root" and event.result == "ok" else None
        if pivoted is not None:
            source, target = pivoted
        elif source_matters(word):
            source = text_of(event.texts[0])
            if source is not None and source_is_path(word):
                source = self._place(event, 0, "f_symlinks" in names if moves else follow)
        if event.texts[1] is not None and pivoted is None:
            target = self._place(event, 1, "t_symlinks" in names if moves else follow)
        if word in ("mount", "fsopen"):
            filesystem = text_of(event.texts[2])
        result = event.result
        if result == "ok" and target is not None and word != "umount":
            self._mounted.append(target)

        def write(recording: Recording, program: int, count: int, first: float, last: float) -> None:
            recording.mount(word, source, target, filesystem, names, result, program, count, first, last)

        yield write

    def _pivoted(self, event: Event) -> tuple[str, str] | None:
        """(new root, where the old one goes) as they were named before: the place has no name any more when the call is
        over.

        The new root is a mount point, and what was mounted last is it or below it. None when no mount was seen.
        """
        last = self._mounted[-1] if self._mounted else "/"
        above = [path for path in self._mounted if path != "/" and (last == path or last.startswith(path + "/"))]
        if not above or event.paths[0] is None:
            return None
        place = min(above, key=len)
        self._roots.pivoted[event.root] = place
        return _joined(place, text_of(event.texts[0]) or ""), _joined(place, text_of(event.texts[1]) or "")

    def _place(self, event: Event, piece: int, follow: bool) -> str | None:
        found = self._find(event, piece, follow=follow)
        if found is None:
            return None
        if not found.sure:
            self._recording.losses["paths"] += 1
        return found.path


_SELF = re.compile(r"/+proc/+(?:(thread-self)|self)(?=/|\Z)")
_PROCESS = re.compile(r"/proc/(\d+)(?:/|$)")


_SCRIPT_HEAD_BYTES = 256  # BINPRM_BUF_SIZE, include/uapi/linux/binfmts.h
_SCRIPTS_MAX = 5  # fs/exec.c exec_binprm
_PT_INTERP = 3


def _head(path: str, size: int = _SCRIPT_HEAD_BYTES) -> bytes:
    """The first bytes of a regular file; empty for all else."""
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return b""
        with open(f"/proc/self/fd/{fd}", "rb", buffering=0) as file:
            return file.read(size)
    except OSError:
        return b""
    finally:
        os.close(fd)


def _loader(path: str) -> str | None:
    """PT_INTERP of an ELF file (elf(5)); empty for a static program, None when the file cannot be read."""
    image = _head(path, 1 << 16)
    if image[:4] != b"\x7fELF":
        return None if not image else ""
    order = "<" if image[5] == 1 else ">"
    try:
        if image[4] == 2:
            table, size, count = (
                *struct.unpack_from(order + "Q", image, 32),
                *struct.unpack_from(order + "HH", image, 54),
            )
            layout, places = order + "IIQQQQ", (2, 5)
        else:
            table, size, count = (
                *struct.unpack_from(order + "I", image, 28),
                *struct.unpack_from(order + "HH", image, 42),
            )
            layout, places = order + "IIIII", (1, 4)
        for index in range(count):
            header = struct.unpack_from(layout, image, table + index * size)
            if header[0] == _PT_INTERP:
                start, length = header[places[0]], header[places[1]]
                return os.fsdecode(image[start : start + length].split(b"\0", 1)[0])
    except struct.error:
        return None
    return ""


def _joined(base: str, text: str) -> str:
    parts = [part for part in text.split("/") if part not in ("", ".")]
    return "/".join([base.rstrip("/"), *parts]) or "/"
