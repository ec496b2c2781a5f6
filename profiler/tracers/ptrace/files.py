"""What a stopped thread's calls do with files, other than executing them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

from profiler.kernel.files import (
    CREAT_FLAGS,
    F_WRLCK,
    LOCK_COMMANDS,
    MAP_ANONYMOUS,
    PROT_EXEC,
    RENAME_EXCHANGE,
    RESOLVE_IN_ROOT,
    FileUse,
    file_uses,
    flock_access,
    looked,
    open_accesses,
    open_follows,
)
from profiler.tracers.host import DELETED
from profiler.tracers.paths import Found, is_namespace, kind_of_made
from profiler.tracers.ptrace.rows import Enter, Exit, Leave, Rows
from profiler.tracers.ptrace.threads import U32, Arguments, signed

_LOOKED = looked()


class Files:
    """Adds the uses of files to a recording."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._threads = rows.threads

    def watches(self, name: str, abi: str) -> Enter | None:
        """See Evidence.watches."""
        uses = file_uses().get(name)
        if uses is None:
            return None
        use = uses[0]
        enter: Enter
        if len(uses) == 2:
            enter = partial(self._two, uses)
        elif use.access == "open":
            enter = partial(self._open, use, abi)
        elif use.access == "look":
            enter = partial(self._look, use)
        elif use.access == "list":
            enter = partial(self._list, use)
        elif use.only == "protected":
            enter = self._protect
        elif use.path is None:
            enter = partial(self._descriptor, use)
        else:
            enter = partial(self._path, use)
        return partial(self._from_memory, enter) if use.in_memory == abi else enter

    def _from_memory(self, enter: Enter, tid: int, args: Arguments) -> Leave | None:
        words = self._rows.words(tid, args[0])
        return None if words is None else enter(tid, words)

    def _row_of(self, access: str, found: Found) -> Leave:
        """Return what adds one row with the call's result."""

        def leave(exit: Exit) -> None:
            if exit.reached:
                self._rows.file(exit, access, found)

        return leave

    # -- opening and looking -------------------------------------------------------------------------------------------

    def _open(self, use: FileUse, abi: str, tid: int, args: Arguments) -> Leave | None:
        threads = self._threads
        in_root = False
        flags = CREAT_FLAGS if use.flags is None else args[use.flags] & U32
        if use.only == "how":
            how = threads.memory(tid, use.flags_of(args), 24)
            if how is None or len(how) < 24:
                return None
            flags = int.from_bytes(how[:8], "little")
            in_root = bool(how[16] & RESOLVE_IN_ROOT)
        words = open_accesses(flags)
        text = None if use.path is None else threads.text(tid, args[use.path])
        if text is None and use.only != "handle":
            return None

        def leave(exit: Exit) -> None:
            if not exit.reached or (not exit.code and not words):
                return
            found = None if exit.code else threads.descriptor(exit.tid, exit.result)
            if text and (found is None or is_namespace(found)):
                found = threads.meant(exit.tid, use, args, text, open_follows(flags, abi), in_root)
            if found is not None:
                for word in words or ("look",):
                    self._rows.file(exit, word, found)

        return leave

    def _look(self, use: FileUse, tid: int, args: Arguments) -> Leave | None:
        threads = self._threads
        found: Found | None = None
        if use.only == "found" and not (use.mode is not None and args[use.mode] & U32):
            if threads.sees(tid, use, args):
                return None  # it is sure to succeed, and needs no second stop
            found = threads.file(tid, use, args)

        def leave(exit: Exit) -> None:
            if exit.code not in _LOOKED:
                where = found or threads.file(exit.tid, use, args)
                if where is not None:
                    self._rows.file(exit, "look", where)

        return leave

    def _list(self, use: FileUse, tid: int, args: Arguments) -> Leave | None:
        assert use.fd is not None
        try:
            link = os.readlink(f"/proc/{tid}/fd/{signed(args[use.fd])}")
        except OSError:
            self._threads.unread(tid)
            return None
        key = ("list", self._threads.life(tid), link)
        if self._rows.seen(key):
            return None
        found = self._threads.descriptor(tid, args[use.fd])
        if found is None:
            return None

        def leave(exit: Exit) -> None:
            if exit.reached:
                self._rows.file(exit, "list", found)
                if not exit.code:
                    self._rows.once(key)

        return leave

    # -- names ---------------------------------------------------------------------------------------------------------

    def _path(self, use: FileUse, tid: int, args: Arguments) -> Leave | None:
        found = self._threads.file(tid, use, args)
        if found is None:
            return None
        made = kind_of_made(use.make, 0 if use.mode is None else args[use.mode])

        def leave(exit: Exit) -> None:
            done = made is not None and not exit.code
            if exit.reached:
                self._rows.file(exit, use.access, found, own=done, kind=made or "" if done else "")

        return leave

    def _two(self, uses: tuple[FileUse, ...], tid: int, args: Arguments) -> Leave | None:
        """link and rename."""
        first = uses[0]
        old, new = (self._threads.file(tid, use, args) for use in uses)
        if old is None or new is None:
            return None
        links = first.access == "existing"
        exchanges = not links and first.flags_of(args) & RENAME_EXCHANGE

        def leave(exit: Exit) -> None:
            if not exit.reached:
                return

            def becomes(there: Found, what: Found) -> Found:
                return Found(there.path, there.kind, there.uid if exit.code else what.uid, sure=there.sure)

            if links:
                named = replace(becomes(new, old), sure=new.sure and old.sure)
                self._rows.file(exit, "link", named, existing=old.path, kind="" if exit.code else old.kind)
                return
            for one, other in ((old, new), (new, old))[: 2 if exchanges else 1]:
                self._rows.file(exit, "rename_from", one)
                self._rows.file(exit, "rename_to", becomes(other, one), kind="" if exit.code else one.kind)

        return leave

    # -- descriptors and memory ----------------------------------------------------------------------------------------

    def _descriptor(self, use: FileUse, tid: int, args: Arguments) -> Leave | None:
        access: str | None = use.access
        if use.only == "flock":
            access = flock_access(args[1] & U32)
        elif use.only == "fcntl_lock":
            access = self._lock(tid, args)
        elif use.only == "executable" and (not args[2] & PROT_EXEC or args[3] & MAP_ANONYMOUS):
            return None
        assert use.fd is not None
        found = None if access is None else self._threads.descriptor(tid, args[use.fd])
        return None if found is None or access is None else self._row_of(access, found)

    def _lock(self, tid: int, args: Arguments) -> str | None:
        """Return the access of an fcntl(2) that takes a lock or gives it back, None for another command."""
        if args[1] & U32 not in LOCK_COMMANDS:
            return None
        lock = self._threads.memory(tid, args[2], 2)  # struct flock begins with its type
        if lock is None:
            return None
        return "lock_exclusive" if int.from_bytes(lock, "little") == F_WRLCK else "lock"

    def _protect(self, tid: int, args: Arguments) -> Leave | None:
        """mprotect of pages that map files."""
        if not args[2] & PROT_EXEC:
            return None
        mapped = list(self._mapped(tid, args[0], args[0] + args[1]))
        if not mapped:
            return None

        def leave(exit: Exit) -> None:
            for found in mapped if exit.reached else ():
                self._rows.file(exit, "map", found)

        return leave

    def _mapped(self, tid: int, start: int, end: int) -> Iterator[Found]:
        """Iterate over the files that are mapped in a range of a thread's memory (proc_pid_maps(5))."""
        try:
            with open(f"/proc/{tid}/maps", "rb") as file:
                lines: Iterable[bytes] = file.readlines()
        except OSError:
            self._threads.unread(tid)
            return
        for line in lines:
            words = line.split(None, 5)
            low, high = (int(word, 16) for word in words[0].split(b"-"))
            if len(words) < 6 or words[4] == b"0" or low >= end or high <= start:
                continue
            # The line writes a newline in the name as \012, and a backslash as itself: only the link has the name.
            link = f"/proc/{tid}/map_files/{low:x}-{high:x}"
            found = self._threads.paths.descriptor(self._threads.view(tid), link)  # needs a capability
            if found is None:
                try:
                    text = os.readlink(link)
                except OSError:
                    text = os.fsdecode(words[5].rstrip(b"\n"))
                found = self._unopened(tid, text, int(words[4]))
            yield found

    def _unopened(self, tid: int, text: str, inode: int) -> Found:
        """Identify a mapped file by the text of its link alone."""
        found = self._threads.paths.at(self._threads.view(tid), text)
        if found is not None and found.status is not None and found.status.st_ino == inode:
            return found
        if text.startswith("/memfd:") and text.endswith(DELETED):
            return Found(text.removesuffix(DELETED)[1:], "file", None, True, "detached")
        return Found(text.removesuffix(DELETED), "file", None, True, "deleted" if text.endswith(DELETED) else "linked")
