"""What calls did with files, sockets, other processes and mounts: events and maps of uses.bpf.c as rows of a Recording.

The kernel sends the first use of each sort with its names. How often and when it was seen is in a map, read at the end.
A path is resolved as soon as its event is read, as what it leads to may be gone later. What cannot be known is counted
as lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from profiler.kernel.errno import result_of
from profiler.kernel.files import (
    AT_REMOVEDIR,
    AT_SYMLINK_FOLLOW,
    CREAT_FLAGS,
    NO_USE,
    RENAME_EXCHANGE,
    RESOLVE_IN_ROOT,
    FileUse,
    allowed,
    file_uses,
    open_accesses,
    open_follows,
)
from profiler.kernel.mounts import mount_calls, mount_use
from profiler.kernel.processes import process_calls, signal_name, trace_requests
from profiler.kernel.sockets import family_name, socket_calls, type_name, unix_address, with_default
from profiler.tracers.ebpf.events import DESCRIPTOR, NEW_MOUNTS, OTHERS, OWN, WHOSE, Event, call_of, parse, text_of
from profiler.tracers.ebpf.execution import Executions
from profiler.tracers.ebpf.loader import Programs
from profiler.tracers.ebpf.lookup import Lookup
from profiler.tracers.ebpf.reader import Maps, Reader
from profiler.tracers.ebpf.shared import constant, structure
from profiler.tracers.ebpf.specs import name_in_specs
from profiler.tracers.ebpf.trees import new_root
from profiler.tracers.paths import Found, joined, kind_of, kind_of_made, owner_of, process_in
from profiler.tracers.recording import Recording

Write = Callable[[Recording, int, int, float, float], None]
"""Records a use: (where, index of the program, count, first, last)."""

_NO_PORT = constant("NO_PORT")
_KIND, _WHOSE_SHIFT = constant("DETAIL_KIND"), constant("DETAIL_WHOSE_SHIFT")
_UNIX_TYPE_SHIFT, _UNIX_PROTOCOL_MASK = constant("UNIX_TYPE_SHIFT"), constant("UNIX_PROTOCOL_MASK")
_Tally = structure("tally")


@dataclass(slots=True)
class _Row:
    """How a use is recorded, and the number of its program."""

    program: int
    write: Write


class Uses:
    """The uses of one recording."""

    def __init__(self, programs: Programs, reader: Reader) -> None:
        self._recording = reader.recording
        self._reader = reader
        self._abis = reader.abis
        self._lookup = Lookup(programs, reader)
        self._executions = Executions(reader, self._lookup.resolver)
        self._raw: deque[bytes] = deque()
        self._rows: dict[bytes, list[_Row]] = {}
        self._mounted: deque[str] = deque(maxlen=1024)

    # -- while it runs -------------------------------------------------------------------------------------------------

    def add(self, event: bytes) -> None:
        """Take an event from the ring: nothing more, so that there is room again."""
        self._raw.append(event)

    def resolve(self, limit: int = 2000) -> bool:
        """Work through at most so many events; whether there are more."""
        for _ in range(min(limit, len(self._raw))):
            event = parse(self._raw.popleft())
            try:
                self._resolve(event)
            except Exception as error:
                self._rows[event.key] = []
                made = event.abi == NEW_MOUNTS
                name = "" if made else self._name(event.abi, event.number)
                self._recording.failed("a new mount namespace" if made else f"a call of {name}", error)
        return bool(self._raw)

    def _resolve(self, event: Event) -> None:
        if event.abi == NEW_MOUNTS:
            self._lookup.trees.made(event)
        else:
            self._lookup.trees.saw(event)
            self._rows[event.key] = [_Row(event.program, write) for write in self._interpret(event)]

    # -- at the end, or at any time ------------------------------------------------------------------------------------

    def collect(self, recording: Recording, maps: Maps, *, over: bool = False) -> None:
        """Write everything that is known so far into a recording. ``over``: no event is still on its way."""
        seconds = self._reader.seconds
        while self.resolve():
            pass
        nameless = 0
        for key, data in maps.entries("uses", self._reader.numbers()):
            value = _Tally.from_buffer_copy(data)
            first, last = seconds(value.first), seconds(max(value.first, value.last))
            rows = self._rows.get(key)
            nameless += rows is None
            for row in rows or ():
                row.write(recording, self._reader.index(row.program, recording), value.count, first, last)
        if over and nameless > recording.losses["paths"]:
            recording.losses["paths"] = nameless  # the kernel counted only some of them
        self._collect_sockets(recording, maps)
        self._collect_contacts(recording, maps)
        self._executions.collect(recording, maps)

    def _collect_sockets(self, recording: Recording, maps: Maps) -> None:
        seconds = self._reader.seconds
        for key, value in maps.rows("sockets", self._reader.numbers()):
            call = socket_calls()[self._name(*call_of(key.call))]
            result = result_of(key.error)
            if result in NO_USE:
                continue
            index = self._reader.index(key.program, recording)
            # A call that failed to make a socket has the protocol that was requested.
            family, kind, protocol = key.family, key.type, key.protocol
            if call.fd is None:
                family, kind, protocol = with_default((family, kind, protocol))
            recording.socket(
                family_name(family), type_name(kind), protocol, call.operation, result, index,
                port=None if key.port == _NO_PORT else key.port,
                count=value.count, first=seconds(value.first), last=seconds(value.last),
            )  # fmt: skip

    def _collect_contacts(self, recording: Recording, maps: Maps) -> None:
        seconds = self._reader.seconds
        for key, value in maps.rows("contacts", self._reader.numbers()):
            call = process_calls()[self._name(*call_of(key.call))]
            index, result = self._reader.index(key.program, recording), result_of(key.error)
            if result in NO_USE:
                continue
            times = value.count, seconds(value.first), seconds(value.last)
            if call.signal is not None:
                name = signal_name(key.number - (key.number >> 31 << 32))
                recording.signal(name, WHOSE[key.whom] or "group", result, index, *times)
                continue
            word = call.operation if call.request is None else trace_requests().get(key.number)
            if word is not None:
                recording.inspection(word, WHOSE[key.whom] or "outside", result, index, *times)

    # -- what an event says --------------------------------------------------------------------------------------------

    def _name(self, abi: int, number: int) -> str:
        return name_in_specs(self._abis[abi], number)

    def _interpret(self, event: Event) -> Iterator[Write]:
        name = self._name(event.abi, event.number)
        if event.result in NO_USE:
            return
        if name in socket_calls():
            yield from self._socket(event, socket_calls()[name].operation)
        elif name in mount_calls():
            yield from self._mount(event, name)
        elif event.facts & DESCRIPTOR:
            yield from self._descriptor(event, file_uses()[name][0])
        elif len(file_uses()[name]) == 2:
            yield from self._two(event, file_uses()[name][0])
        elif file_uses()[name][0].access == "open":
            yield from self._open(event, file_uses()[name][0])
        else:
            yield from self._text(event, file_uses()[name][0])

    def _file(
        self, event: Event, access: str, found: Found, *, kind: str = "", own: bool = False, existing: str | None = None
    ) -> Write:
        path = found.path if found.sure else ""
        if event.result == "ENOENT":  # what is there now was not there then
            found, kind = replace(found, kind="unknown", uid=None), ""
        changed = access == "owner" and event.result == "ok"
        owner = ("self",) if own else () if changed else owner_of(found.uid, event.fsuid)
        whose, process = None, process_in(path)
        if event.facts & DESCRIPTOR:
            whose = WHOSE[event.detail >> _WHOSE_SHIFT & 3]
        elif process is not None:
            whose = self._lookup.whose(event, process)
        kind, result, state = kind or found.kind, event.result, found.state
        if path:
            self._recording.path_seen(path)
        if path and kind != "unknown":
            self._lookup.remember(event, path, kind, event.fsuid if own else found.uid)

        def write(recording: Recording, program: int, count: int, first: float, last: float) -> None:
            recording.file(
                path, access, kind, result, program,
                state=state, owner=owner, existing=existing, whose=whose, count=count, first=first, last=last,
            )  # fmt: skip

        return write

    def _descriptor(self, event: Event, use: FileUse) -> Iterator[Write]:
        path = event.paths[0]
        if path is None:
            return
        kind = kind_of(event.detail & _KIND)
        # The kernel compared the owner with the user: any number that is equal or not stands for the owner.
        uid = event.fsuid if event.detail & OWN else event.fsuid + 1 if event.detail & OTHERS else None
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

    def _open(self, event: Event, use: FileUse) -> Iterator[Write]:
        if use.path is None:
            return
        flags = CREAT_FLAGS if use.flags is None else event.flags
        inside = use.only == "how" and bool(event.mode & RESOLVE_IN_ROOT)
        found = self._lookup.find(event, 0, follow=open_follows(flags, self._abis[event.abi]), inside=inside)
        kind = "file" if event.result == "ok" else ""  # a namespace, which is named by its link
        if found is not None:
            for word in open_accesses(flags) or ("look",):
                yield self._file(event, word, found, kind=kind)

    def _text(self, event: Event, use: FileUse) -> Iterator[Write]:
        lookup, result = self._lookup, event.result
        done = result == "ok"
        if use.access == "look" and allowed("look", result):
            return
        if use.access == "chroot" and done:
            assert event.paths[0] is not None
            lookup.resolver.forget()
            yield self._file(event, "chroot", lookup.at(event, event.paths[0], event.state(0)), kind="directory")
            return
        found = lookup.find(event, 0, follow=use.follows(event.flags), entry=use.access in ("make", "remove"))
        if found is None:
            return
        kind = ""
        if use.make is not None and done:
            kind = kind_of_made(use.make, event.mode) or ""
            if kind in ("directory", "symlink"):
                lookup.made(event, found.path, kind, text_of(event.texts[1]) if kind == "symlink" else None)
            lookup.resolver.forget()
        elif use.access == "readlink" and done:
            kind = "symlink"
        elif use.access == "remove" and done:
            kind = "directory" if use.only == "directory" or event.flags & AT_REMOVEDIR else ""
            found = lookup.before(found)
            lookup.resolver.forget()
        yield self._file(event, use.access, found, kind=kind, own=use.make is not None and done)

    def _two(self, event: Event, first: FileUse) -> Iterator[Write]:
        """link and rename."""
        lookup, done = self._lookup, event.result == "ok"
        link = first.access == "existing"
        old = lookup.find(event, 0, follow=link and bool(event.flags & AT_SYMLINK_FOLLOW), entry=not link)
        new = lookup.find(event, 1, follow=False, entry=True)
        if old is None or new is None:
            return
        if link:
            kind, uid = (new.kind, new.uid) if done and new.exists else (old.kind, old.uid)
            if not event.texts[0] or event.texts[0] == b"\0":
                old = replace(old, sure=True)
            named = replace(new, kind=kind, uid=uid, sure=new.sure and old.sure)
            yield self._file(event, "link", named, existing=old.path)
            return
        if not done:
            yield self._file(event, "rename_from", old)
            yield self._file(event, "rename_to", new)
            return
        lookup.resolver.forget()
        lookup.renamed(event, old.path, new.path)
        if event.flags & RENAME_EXCHANGE:
            for one, other in ((old, new), (new, old)):
                yield self._file(event, "rename_from", replace(one, kind=other.kind, uid=other.uid))
                yield self._file(event, "rename_to", replace(other, kind=other.kind, uid=other.uid))
            return
        moved = new if new.exists or new.kind != "unknown" else lookup.before(old)
        if moved.kind != "unknown":
            for path in (old.path, new.path):
                lookup.remember(event, path, moved.kind, moved.uid)
        yield self._file(event, "rename_from", replace(old, kind=moved.kind, uid=moved.uid))
        yield self._file(event, "rename_to", replace(new, kind=moved.kind, uid=moved.uid))

    def _socket(self, event: Event, word: str) -> Iterator[Write]:
        """An operation with a unix address."""
        address = unix_address(event.texts[0] or b"")
        bound, found = word == "bind", None
        if not address.startswith("@"):
            found = self._lookup.find(event, 0, follow=not bound, entry=bound)
        kind, protocol = type_name(event.flags >> _UNIX_TYPE_SHIFT), event.flags & _UNIX_PROTOCOL_MASK
        place = address if found is None else found.path

        def write(recording: Recording, program: int, count: int, first: float, last: float) -> None:
            recording.socket(
                "unix", kind, protocol, word, event.result, program, address=place, count=count, first=first, last=last
            )  # fmt: skip

        yield write
        if found is not None:
            done = bound and event.result == "ok"
            yield self._file(event, "bind" if bound else "connect", found, kind="socket" if done else "", own=done)

    def _mount(self, event: Event, name: str) -> Iterator[Write]:
        use = mount_use(name, event.flags)
        if use is None:
            return
        self._lookup.resolver.forget()
        result = event.result
        source = filesystem = target = None
        pivoted = self._pivoted(event) if use.operation == "pivot_root" and result == "ok" else None
        if pivoted is not None:
            source, target = pivoted
        elif use.operation == "move_mount" and result == "ok" and not text_of(event.texts[0]):
            source = "/"  # a mount of open_tree(2) or fsmount(2): until it was moved, it was the root of its own tree
        elif use.source_is_path:
            source = self._place(event, 0, use.follows_source)
        elif use.has_source:
            source = text_of(event.texts[0])
        if event.texts[1] is not None and pivoted is None:
            target = self._place(event, 1, use.follows_target)
        if use.has_filesystem:
            filesystem = text_of(event.texts[2])
        tree = self._lookup.trees.of(event)
        if result == "ok" and tree is not None and pivoted is None:
            tree.mount(use, source, target, filesystem, event.fsuid)
        elif result == "ok" and target is not None and use.operation != "umount":
            self._mounted.append(target)

        def write(recording: Recording, program: int, count: int, first: float, last: float) -> None:
            recording.mount(
                use.operation, source, target, filesystem, use.flags, result, program, count, first, last
            )  # fmt: skip

        yield write

    def _pivoted(self, event: Event) -> tuple[str, str] | None:
        """Return (new root, place of the old one) as they were named before pivot_root(2).

        They have no name when the call is over. The new root is a mount point, and what was mounted last is that or is
        below it. None when no mount was seen.
        """
        tree = self._lookup.trees.of(event)
        points = self._mounted if tree is None else [one.point for one in tree.mounts]
        source, target = (text_of(event.texts[piece]) or "" for piece in (0, 1))
        new = self._place(event, 0, True) if tree is not None and source.startswith("/") else new_root(points)
        if new is None or (event.paths[0] is None and tree is None):
            return None
        if tree is None:
            self._lookup.roots.pivoted[event.root] = new
            return joined(new, source), joined(new, target)
        # A relative text begins at a directory that the kernel names below the new root.
        put = (
            self._place(event, 1, True) if target.startswith("/") else joined(new, f"{event.paths[1] or '/'}/{target}")
        )
        if put is None:
            return None
        tree.pivot(new, put)
        return new, put

    def _place(self, event: Event, piece: int, follow: bool) -> str | None:
        found = self._lookup.find(event, piece, follow=follow)
        if found is None:
            return None
        if not found.sure:
            self._recording.losses["paths"] += 1
        return found.path
