"""What a stopped thread's calls do to files, sockets, other processes and mounts: the ptrace tracer's side of it.

Each call is looked at before it is made, and again when its result is known. A path text is resolved before the call
when the call may change where it leads, and after it when only a failure is of interest: a call that failed has changed
nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable
from functools import partial

from profiler.kernel.abi import ABIS
from profiler.kernel.errno import name_of as error_name
from profiler.kernel.files import (
    AT_EMPTY_PATH,
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
from profiler.kernel.mounts import MountCall, mount_calls, operation, source_is_path, source_matters
from profiler.kernel.signals import signal_name
from profiler.tracers.host import DELETED
from profiler.tracers.paths import Found, Way, kind_of
from profiler.tracers.ptrace.threads import CHANGES_CREDENTIALS, PATH_MAX, Threads, signed
from profiler.tracers.recording import Recording
from profiler.tracers.sockets import Sockets, Sort, family_name, parse_address, type_name

Arguments = tuple[int, ...]
Leave = Callable[[int, int, int, int, int], None]
"""After a call: (thread, result, errno or 0, the program that made it, the program that the thread runs now)."""
Enter = Callable[[int, Arguments], "Leave | None"]
"""Before a call: (thread, arguments); gives what is to be done with its result, None when that does not matter."""

_U32 = 0xFFFFFFFF
_O_EXCL = 0o200  # include/uapi/asm-generic/fcntl.h
_PROT_EXEC, _MAP_ANONYMOUS = 0x4, 0x20
_LOCK_SH, _LOCK_EX, _LOCK_NB, _LOCK_UN = 1, 2, 4, 8
_F_WRLCK = 1
_LOCK_COMMANDS = frozenset(
    {6, 7, 13, 14, 37, 38}
)  # F_SETLK, F_SETLKW, F_SETLK64, F_SETLKW64, F_OFD_SETLK, F_OFD_SETLKW
_RENAME_EXCHANGE = 2
_RESOLVE_IN_ROOT = 0x10
_SCRIPT_HEAD_BYTES = 256  # BINPRM_BUF_SIZE, include/uapi/linux/binfmts.h
_SCRIPTS_MAX = 5  # fs/exec.c exec_binprm
_ADDRESS_MAX = 128  # struct sockaddr_storage
_MESSAGES_MAX = 1024  # UIO_MAXIOV, include/uapi/linux/uio.h: sendmmsg(2) sends no more
_REMEMBERED = 1 << 16

_PROCESS = re.compile(r"/proc/(\d+)(?:/|$)")


class Evidence:
    """Fills a recording with files, sockets, signals, inspections and mounts."""

    def __init__(self, recording: Recording, threads: Threads) -> None:
        self._recording = recording
        self._threads = threads
        self._seen: set[tuple[object, ...]] = set()
        """Uses that succeeded and may come again and again: once is enough."""
        self._sockets = Sockets(threads, recording.warnings)
        self._interpreters: dict[tuple[int, ...], tuple[Found, ...]] = {}

    def watches(self, name: str, abi: str, native: bool) -> Enter | None:
        """What to do before a call of this name; None when it leaves no evidence."""
        uses = file_uses().get(name)
        if uses is not None:
            return self._files(name, uses, abi)
        if name in mount_calls():
            return partial(self._mount, name, mount_calls()[name])
        if name in _SOCKET_CALLS:
            return partial(_SOCKET_CALLS[name], self, name, abi)
        if name == "socketcall":
            return partial(self._socketcall, abi)
        if name in _PROCESS_CALLS:
            return partial(_PROCESS_CALLS[name], self)
        if not native and name.removesuffix("32") in CHANGES_CREDENTIALS:
            return partial(self._changes, name)  # the native ones are followed where capabilities are inferred
        if not native and name in ("clone", "clone3"):
            return partial(self._clones, name)
        return None

    # -- rows ----------------------------------------------------------------------------------------------------------

    def _row(
        self,
        tid: int,
        access: str,
        found: Found,
        result: str,
        program: int,
        *,
        existing: str | None = None,
        own: bool = False,
        kind: str = "",
        fsuid: int | None = None,
    ) -> None:
        """``own``: the thread has made the file, as ``kind``. ``fsuid``: what the thread's was, when it may have
        changed."""
        path = found.path
        if not path.startswith(("/", "memfd:")) and found.sure:
            return  # a pipe, a socket, an anonymous inode
        owner: tuple[str, ...] = ()
        if own:
            owner = ("self",)
        elif found.uid is not None:
            credentials = self._threads.credentials(tid) if fsuid is None else None
            fsuid = credentials.uids[3] if credentials is not None else fsuid
            owner = () if fsuid is None else ("self" if fsuid == found.uid else "other",)
        whose = None
        if path.startswith("/proc/"):
            process = _PROCESS.match(path)
            whose = self._threads.whom(tid, int(process[1])) if process else None
        self._recording.file(
            path if found.sure else "",
            access,
            kind or found.kind,
            result,
            program,
            state=found.state,
            owner=owner,
            existing=existing,
            whose=whose,
        )

    def _once(self, key: tuple[object, ...]) -> None:
        if len(self._seen) >= _REMEMBERED:
            self._seen.clear()
        self._seen.add(key)

    def _lost(self) -> None:
        self._recording.losses["paths"] += 1

    def _changes(self, name: str, tid: int, _args: Arguments) -> Leave | None:
        return lambda tid, *_: self._threads.changes(tid, name)

    def _clones(self, name: str, tid: int, args: Arguments) -> Leave | None:
        self._threads.clones(tid, name, args)
        return None

    # -- files ---------------------------------------------------------------------------------------------------------

    def _files(self, name: str, uses: tuple[FileUse, ...], abi: str) -> Enter:
        use = uses[0]
        if use.access == "open":
            return partial(self._open, use, abi)
        if use.access == "execute":
            return partial(self._execute, use)
        if use.access == "look":
            return partial(self._look, name, use)
        if use.access == "list":
            return partial(self._list, use)
        if use.only == "protected":
            return self._protect
        if len(uses) == 2:
            return partial(self._two, name, uses)
        if use.only == "executable" and name == "mmap" and abi == "i386":
            return partial(self._old_mmap, use)
        if use.path is None:
            return partial(self._descriptor, name, use)
        return partial(self._path, name, use)

    def _find(
        self, tid: int, use: FileUse, args: Arguments, text: str | None, *, follow: bool | None = None
    ) -> Found | None:
        """The file of a use, None for an unreadable or empty path."""
        threads = self._threads
        assert use.path is not None
        flags = 0 if use.flags is None or use.access == "open" else args[use.flags]
        if not text:
            if use.fd is None or (text is None and args[use.path]):
                return None
            if text is not None and use.flags is not None and not flags & AT_EMPTY_PATH:
                return None
            return threads.descriptor(tid, args[use.fd])
        if len(text) > PATH_MAX // 4 and len(os.fsencode(text)) >= PATH_MAX:
            self._lost()
            return None
        if follow is None:
            follow = (use.follow and not flags & AT_SYMLINK_NOFOLLOW) or bool(flags & AT_SYMLINK_FOLLOW)
        entry = use.access in _ENTRIES
        return threads.find(tid, None if use.at is None else args[use.at], text, follow=follow, entry=entry)

    def _open(self, use: FileUse, abi: str, tid: int, args: Arguments) -> Leave | None:
        threads = self._threads
        beneath = False
        if use.only == "how":
            assert use.flags is not None
            how = threads.memory(tid, args[use.flags], 24)
            if how is None or len(how) < 24:
                return None
            flags = int.from_bytes(how[:8], "little")
            beneath = bool(how[16] & _RESOLVE_IN_ROOT)
        else:
            flags = CREAT_FLAGS if use.flags is None else args[use.flags] & _U32
        words = open_accesses(flags)
        text = None if use.path is None else threads.text(tid, args[use.path])
        if text is None and use.only != "handle":
            return None
        if beneath and text is not None:
            text = text.lstrip("/") or "."
        # With both, a link at the end is not followed, whatever it leads to: EEXIST (open(2)).
        follow = not flags & O_NOFOLLOW[abi] and flags & (O_CREAT | _O_EXCL) != O_CREAT | _O_EXCL

        def leave(tid: int, result: int, code: int, program: int, _now: int) -> None:
            outcome = error_name(code) if code else "ok"
            if outcome in NO_USE or (not code and not words):
                return
            found = None if code else threads.descriptor(tid, result)
            if found is None:
                found = None if use.path is None else self._find(tid, use, args, text, follow=follow)
            if found is None:
                return
            for word in words or ("look",):
                self._row(tid, word, found, outcome, program)

        return leave

    def _look(self, name: str, use: FileUse, tid: int, args: Arguments) -> Leave | None:
        assert use.path is not None
        if (name in _LOOKS_UP or (name in _ASKS and not args[_ASKS[name]] & _U32)) and self._will_be_found(
            use, tid, args
        ):
            return None

        def leave(tid: int, _result: int, code: int, program: int, _now: int) -> None:
            outcome = error_name(code) if code else "ok"
            if not code or outcome in NO_USE or allowed("look", outcome):
                return
            assert use.path is not None
            found = self._find(tid, use, args, self._threads.text(tid, args[use.path]))
            if found is not None:
                self._row(tid, "look", found, outcome, program)

        return leave

    def _will_be_found(self, use: FileUse, tid: int, args: Arguments) -> bool:
        """Whether a call that only looks a file up is sure to find it: a stop spared. A descriptor has no way to go."""
        assert use.path is not None
        text = self._threads.text(tid, args[use.path])
        credentials = self._threads.credentials(tid)
        if not text or credentials is None:
            return True
        flags = 0 if use.flags is None else args[use.flags]
        follow = use.follow and not flags & AT_SYMLINK_NOFOLLOW
        ways: list[Way] = []
        found = self._threads.find(tid, None if use.at is None else args[use.at], text, follow=follow, ways=ways)
        if found is None or not found.exists or (follow and found.kind == "symlink") or text.endswith(("/", "/.")):
            return False
        return not any(self._threads.needs(credentials, way) for way in ways)

    def _path(self, name: str, use: FileUse, tid: int, args: Arguments) -> Leave | None:
        assert use.path is not None
        self._threads.changes(tid, name)
        found = self._find(tid, use, args, self._threads.text(tid, args[use.path]))
        if found is None:
            return None
        made = use.make if use.make != "mode" else kind_of(args[use.mode or 0] or stat.S_IFREG)
        if made == "unknown":
            made = "file"  # a mode without a type (mknod(2))

        def leave(tid: int, _result: int, code: int, program: int, _now: int) -> None:
            outcome = error_name(code) if code else "ok"
            self._threads.changes(tid, name)
            if outcome in NO_USE:
                return
            done = made is not None and not code
            self._row(tid, use.access, found, outcome, program, own=done, kind=made or "" if done else "")

        return leave

    def _two(self, name: str, uses: tuple[FileUse, ...], tid: int, args: Arguments) -> Leave | None:
        """link and rename."""
        threads = self._threads
        threads.changes(tid, name)
        ends = []
        for use in uses:
            assert use.path is not None
            ends.append(self._find(tid, use, args, threads.text(tid, args[use.path])))
        old, new = ends
        if old is None or new is None:
            return None
        exchange = name == "renameat2" and bool(args[4] & _RENAME_EXCHANGE)

        def leave(tid: int, _result: int, code: int, program: int, _now: int) -> None:
            outcome = error_name(code) if code else "ok"
            threads.changes(tid, name)
            if outcome in NO_USE:
                return
            kind = "" if code else old.kind
            if uses[0].access == "existing":
                named = Found(new.path, new.kind, old.uid if not code else new.uid, sure=new.sure and old.sure)
                self._row(tid, "link", named, outcome, program, existing=old.path, kind=kind)
                return
            for one, other in ((old, new), (new, old))[: 2 if exchange else 1]:
                self._row(tid, "rename_from", one, outcome, program)
                there = Found(other.path, other.kind, one.uid if not code else other.uid, sure=other.sure)
                self._row(tid, "rename_to", there, outcome, program, kind="" if code else one.kind)

        return leave

    def _descriptor(self, name: str, use: FileUse, tid: int, args: Arguments) -> Leave | None:
        access = use.access
        if use.only in ("flock", "fcntl_lock"):
            word = self._lock(use.only, tid, args)
            if word is None:
                return None
            access = word
        if use.only == "executable" and (not args[2] & _PROT_EXEC or args[3] & _MAP_ANONYMOUS):
            return None
        assert use.fd is not None
        found = self._threads.descriptor(tid, args[use.fd])
        return None if found is None else self._result_of(access, found, name)

    def _lock(self, condition: str, tid: int, args: Arguments) -> str | None:
        """``lock`` or ``lock_exclusive``, None for a call that neither takes a lock nor gives one back."""
        if condition == "flock":
            return {_LOCK_EX: "lock_exclusive", _LOCK_SH: "lock", _LOCK_UN: "lock"}.get(args[1] & _U32 & ~_LOCK_NB)
        if args[1] & _U32 not in _LOCK_COMMANDS:
            return None
        lock = self._threads.memory(tid, args[2], 2)  # struct flock begins with its type
        if lock is None:
            return None
        return "lock_exclusive" if int.from_bytes(lock, "little") == _F_WRLCK else "lock"

    def _result_of(self, access: str, found: Found, name: str = "") -> Leave:
        def leave(tid: int, _result: int, code: int, program: int, _now: int) -> None:
            outcome = error_name(code) if code else "ok"
            if name:
                self._threads.changes(tid, name)
            if outcome not in NO_USE:
                self._row(tid, access, found, outcome, program)

        return leave

    def _old_mmap(self, use: FileUse, tid: int, args: Arguments) -> Leave | None:
        """i386's first mmap has its arguments in memory (arch/x86/kernel/sys_ia32.c struct mmap_arg_struct32)."""
        data = self._threads.memory(tid, args[0], 24)
        if data is None or len(data) < 24:
            return None
        return self._descriptor(
            "mmap", use, tid, tuple(int.from_bytes(data[at : at + 4], "little") for at in range(0, 24, 4))
        )

    def _list(self, use: FileUse, tid: int, args: Arguments) -> Leave | None:
        assert use.fd is not None
        try:
            link = os.readlink(f"/proc/{tid}/fd/{signed(args[use.fd])}")
        except OSError:
            self._threads.unread(tid)
            return None
        key = ("list", self._threads.life(tid), link)
        if key in self._seen:
            return None
        found = self._threads.descriptor(tid, args[use.fd])
        if found is None:
            return None

        def leave(tid: int, _result: int, code: int, program: int, _now: int) -> None:
            outcome = error_name(code) if code else "ok"
            if outcome in NO_USE:
                return
            self._row(tid, "list", found, outcome, program)
            if not code:
                self._once(key)

        return leave

    def _protect(self, tid: int, args: Arguments) -> Leave | None:
        """mprotect of pages that map a file."""
        if not args[2] & _PROT_EXEC:
            return None
        start = args[0]
        mapped = [each for low, high, each in self._mapped(tid) if low < start + args[1] and start < high]
        if not mapped:
            return None

        def leave(tid: int, _result: int, code: int, program: int, _now: int) -> None:
            for found in mapped:
                self._row(tid, "map", found, error_name(code) if code else "ok", program)

        return leave

    def _mapped(self, tid: int, *, executable: bool = False) -> list[tuple[int, int, Found]]:
        """File mappings of a thread, from proc_pid_maps(5): (start, end, file)."""
        rows = []
        try:
            view = self._threads.view(tid)
            with open(f"/proc/{tid}/maps", "rb") as file:
                lines = file.readlines()
        except OSError:
            self._threads.unread(tid)
            return []
        for line in lines:
            words = line.split(None, 5)
            if len(words) < 6 or words[4] == b"0" or (executable and words[1][2:3] != b"x"):
                continue
            low, high = (int(word, 16) for word in words[0].split(b"-"))
            # The line writes a newline in the name as \012, and a backslash as itself: only the link has the name.
            link = f"/proc/{tid}/map_files/{low:x}-{high:x}"
            found = self._threads.paths.descriptor(view, link)  # follows the link, which takes a capability
            if found is None:
                try:
                    text = os.readlink(link)
                except OSError:
                    text = os.fsdecode(words[5].rstrip(b"\n"))
                found = self._unopened(tid, text, int(words[4]))
            rows.append((low, high, found))
        return rows

    def _unopened(self, tid: int, text: str, inode: int) -> Found:
        """A mapped file by the text of its link alone."""
        look = self._threads.view(tid).reach(text)
        with contextlib.suppress(OSError):
            status = None if look is None else os.lstat(look)
            if status is not None and status.st_ino == inode:
                return Found(text, kind_of(status.st_mode), status.st_uid, True)
        if text.startswith("/memfd:") and text.endswith(DELETED):
            return Found(text.removesuffix(DELETED)[1:], "file", None, True, "detached")
        return Found(text.removesuffix(DELETED), "file", None, True, "deleted" if text.endswith(DELETED) else "linked")

    # -- executing -----------------------------------------------------------------------------------------------------

    def _execute(self, use: FileUse, tid: int, args: Arguments) -> Leave | None:
        assert use.path is not None
        found = self._find(tid, use, args, self._threads.text(tid, args[use.path]))
        if found is None:
            return None
        scripts = self._scripts(tid, found)
        credentials = self._threads.credentials(tid)
        fsuid = -1 if credentials is None else credentials.uids[3]

        def leave(tid: int, _result: int, code: int, program: int, now: int) -> None:
            if code:
                if error_name(code) not in NO_USE:
                    self._row(tid, "execute", found, error_name(code), program)
                return
            binary = self._threads.paths.descriptor(self._threads.view(tid), f"/proc/{tid}/exe")
            if binary is None:
                return
            before = [each for each in scripts if each.path != binary.path]
            if not before and found.path != binary.path:
                before = [found]  # run by another way than #! (binfmt_misc)
            for each in (*before, binary):
                self._row(tid, "execute", each, "ok", program, fsuid=fsuid)
            for each in (binary, *self._loader(tid, binary)):
                self._row(tid, "map", each, "ok", now)
                self._row(tid, "read", each, "ok", now)

        return leave

    def _scripts(self, tid: int, found: Found) -> list[Found]:
        """``found``, when it is a script, and every script among its interpreters (fs/binfmt_script.c)."""
        scripts: list[Found] = []
        each: Found | None = found
        while each is not None and each.kind == "file" and each.look is not None and len(scripts) < _SCRIPTS_MAX:
            head = _head(each.look)
            if not head.startswith(b"#!"):
                break
            scripts.append(each)
            words = head[2:].split(b"\n", 1)[0].split(None, 1)
            each = self._threads.find(tid, None, os.fsdecode(words[0])) if words else None
        return scripts

    def _loader(self, tid: int, binary: Found) -> tuple[Found, ...]:
        """The ELF interpreter that the kernel has mapped beside the program (PT_INTERP, fs/binfmt_elf.c)."""
        try:
            status = os.stat(f"/proc/{tid}/exe")
            key = (status.st_dev, status.st_ino, status.st_mtime_ns, self._root(tid))
        except OSError:
            return ()
        known = self._interpreters.get(key)
        if known is None:
            found = {each.path: each for _, _, each in self._mapped(tid, executable=True)}
            found.pop(binary.path, None)
            known = self._interpreters[key] = tuple(found.values())
        return known

    def _root(self, tid: int) -> int:
        view = self._threads.view(tid)
        return 0 if view.root == "/" else os.stat(view.root).st_ino

    # -- sockets -------------------------------------------------------------------------------------------------------

    def _socket_row(
        self, sort: Sort, word: str, code: int, program: int, port: int | None = None, address: str | None = None
    ) -> None:
        outcome = error_name(code) if code else "ok"
        if outcome in NO_USE:
            return
        family, kind, protocol = sort
        self._recording.socket(
            family_name(family), type_name(kind), protocol, word, outcome, program, port=port, address=address
        )

    def _create(self, name: str, abi: str, _tid: int, args: Arguments) -> Leave | None:
        asked = (args[0] & _U32, args[1] & 0xF, args[2] & _U32)

        def leave(tid: int, result: int, code: int, program: int, _now: int) -> None:
            fd: int | None = result
            if name == "socketpair" and not code:
                data = self._threads.memory(tid, args[3], 4, "sockets")
                fd = None if data is None else int.from_bytes(data, "little")
            known = None if code or fd is None else self._sockets.sort(tid, fd, asked)
            sort = asked if known is None else known[1]
            self._socket_row(sort, "create" if name == "socket" else "pair", code, program)

        return leave

    def _addressed(
        self, word: str, address: int, length: int, name: str, abi: str, tid: int, args: Arguments
    ) -> Leave | None:
        """Calls with a socket, and the address of another or its own."""
        return self._operate(word, tid, args[0], self._peer(tid, args[address], args[length] & _U32))

    def _peer(self, tid: int, pointer: int, length: int) -> bytes | None:
        """An address in memory."""
        return self._threads.memory(tid, pointer, min(length, _ADDRESS_MAX), "sockets") if pointer and length else None

    def _operate(self, word: str, tid: int, fd: int, data: bytes | None) -> Leave | None:
        known = self._sockets.sort(tid, fd)
        if known is None:
            return None
        link, sort = known
        port, address = parse_address(sort[0], data) if data else (None, None)
        key = (word, self._threads.life(tid), link, port, address)
        if word in _OFTEN and key in self._seen:
            return None
        # A path is looked up by bind, which makes it, and by those who connect or send to it.
        path: Found | None = None
        if address and not address.startswith("@"):
            path = self._threads.find(tid, None, address, follow=word != "bind", entry=word == "bind")

        def leave(tid: int, _result: int, code: int, program: int, _now: int) -> None:
            self._socket_row(sort, word, code, program, port, address)
            if path is not None:
                outcome = error_name(code) if code else "ok"
                if word == "bind":
                    self._row(tid, "bind", path, outcome, program, own=not code, kind="" if code else "socket")
                elif outcome not in NO_USE:
                    self._row(tid, "connect", path, outcome, program)
            if not code and word in _OFTEN:
                self._once(key)

        return leave

    def _plain(self, _name: str, _abi: str, tid: int, args: Arguments, *, word: str) -> Leave | None:
        return self._operate(word, tid, args[0], None)

    def _message(self, name: str, abi: str, tid: int, args: Arguments) -> Leave | None:
        """sendmsg, sendmmsg: struct msghdr begins with the address and its length."""
        width = ABIS[abi].bits // 8
        header, step = (56, 64) if width == 8 else (28, 32)
        count = min(args[2] & _U32, _MESSAGES_MAX) if name == "sendmmsg" else 1
        headers = self._threads.memory(tid, args[1], (count - 1) * step + header, "sockets") or b""
        leaves = []
        for start in range(0, len(headers) - header + 1, step):
            data = headers[start : start + header]
            pointer, length = int.from_bytes(data[:width], "little"), int.from_bytes(data[width : width + 4], "little")
            leaves.append(self._operate("send", tid, args[0], self._peer(tid, pointer, length)))
        wanted = [leave for leave in dict.fromkeys(leaves) if leave is not None]
        if not wanted:
            return None

        def leave(tid: int, result: int, code: int, program: int, now: int) -> None:
            # Of several messages, `result` were sent (sendmmsg(2)).
            for each in wanted[: max(1, result)] if name == "sendmmsg" and not code else wanted[:1]:
                each(tid, result, code, program, now)

        return leave

    def _socketcall(self, abi: str, tid: int, args: Arguments) -> Leave | None:
        """i386's older way to all socket calls: number and a list of arguments (net/socket.c)."""
        number = args[0] & _U32
        name = _SOCKETCALLS.get(number)
        data = self._threads.memory(tid, args[1], 24, "sockets")
        if name is None or data is None:
            return None
        words = tuple(int.from_bytes(data[at : at + 4], "little") for at in range(0, 24, 4))
        return _SOCKET_CALLS[name](self, name, abi, tid, words)

    # -- other processes -----------------------------------------------------------------------------------------------

    def _signal(self, target: int, number: int, tid: int, args: Arguments) -> Leave | None:
        pid = signed(args[target])
        whom = "group" if pid <= 0 else self._threads.whom(tid, pid)
        return self._signalled(whom, args[number])

    def _signal_pidfd(self, tid: int, args: Arguments) -> Leave | None:
        pid = self._pidfd(tid, args[0])
        return None if pid is None else self._signalled(self._threads.whom_outer(tid, pid), args[1])

    def _pidfd(self, tid: int, fd: int) -> int | None:
        """The process of a pidfd, -1 when it has ended; None when it is no pidfd (proc_pid_fdinfo(5))."""
        try:
            with open(f"/proc/{tid}/fdinfo/{signed(fd)}") as file:
                return next((int(line.split()[1]) for line in file if line.startswith("Pid:")), None)
        except OSError:
            self._threads.unread(tid, "processes")
            return None

    def _signalled(self, whom: str, number: int) -> Leave:
        name = signal_name(signed(number))

        def leave(_tid: int, _result: int, code: int, program: int, _now: int) -> None:
            outcome = error_name(code) if code else "ok"
            if outcome not in NO_USE:
                self._recording.signal(name, whom, outcome, program)

        return leave

    def _inspection(self, word: str, whom: str) -> Leave:
        def leave(_tid: int, _result: int, code: int, program: int, _now: int) -> None:
            outcome = error_name(code) if code else "ok"
            if outcome not in NO_USE:
                self._recording.inspection(word, whom, outcome, program)

        return leave

    def _ptrace(self, tid: int, args: Arguments) -> Leave | None:
        request = args[0] & _U32
        if request == 0:  # PTRACE_TRACEME: its parent is to trace it
            return self._inspection("traceme", self._threads.whom_outer(tid, _parent(tid)))
        if request in (16, 0x4206):  # PTRACE_ATTACH, PTRACE_SEIZE
            return self._inspection("trace", self._threads.whom(tid, signed(args[1])))
        return None

    def _memory(self, word: str, tid: int, args: Arguments) -> Leave | None:
        return self._inspection(word, self._threads.whom(tid, signed(args[0])))

    def _compare(self, tid: int, args: Arguments) -> Leave | None:
        """kcmp looks at two processes: the one that is further away counts."""
        whom = {self._threads.whom(tid, signed(pid)) for pid in args[:2]}
        return self._inspection("read", next(word for word in ("outside", "workload", "self") if word in whom))

    def _take_descriptor(self, tid: int, args: Arguments) -> Leave | None:
        pid = self._pidfd(tid, args[0])
        return None if pid is None else self._inspection("read", self._threads.whom_outer(tid, pid))

    # -- mounts --------------------------------------------------------------------------------------------------------

    def _mount(self, name: str, call: MountCall, tid: int, args: Arguments) -> Leave | None:
        flags = 0 if call.flags is None else args[call.flags] & _U32
        what = operation(name, flags)
        if what is None:
            return None
        threads = self._threads
        word, names = what
        follow = not {"symlink_nofollow", "nofollow"} & set(names)
        moves = name == "move_mount"  # which follows only where it is told to
        source = filesystem = target = None
        if call.source is not None and source_matters(word):
            if source_is_path(word):
                source = self._place(
                    tid, call.source_at, args[call.source], args, "f_symlinks" in names if moves else follow
                )
            else:
                source = threads.text(tid, args[call.source])
        if call.target is not None:
            target = self._place(
                tid, call.target_at, args[call.target], args, "t_symlinks" in names if moves else follow
            )
        if call.filesystem is not None and word in ("mount", "fsopen"):
            filesystem = threads.text(tid, args[call.filesystem])

        def leave(tid: int, _result: int, code: int, program: int, _now: int) -> None:
            outcome = error_name(code) if code else "ok"
            threads.changes(tid, name)
            if outcome not in NO_USE:
                self._recording.mount(word, source, target, filesystem, names, outcome, program)

        return leave

    def _place(self, tid: int, at: int | None, address: int, args: Arguments, follow: bool) -> str | None:
        text = self._threads.text(tid, address)
        if text is None:
            return None
        found = (
            self._threads.find(tid, None if at is None else args[at], text, follow=follow)
            if text
            else None
            if at is None
            else self._threads.descriptor(tid, args[at])
        )
        if found is None:
            return None
        if not found.sure:
            self._lost()
        return found.path


_ENTRIES = frozenset({"make", "remove", "rename_from", "rename_to", "link"})
"""Uses of a name itself: a symbolic link at the end is never followed, even before a slash."""

_LOOKS_UP = frozenset({"stat", "stat64", "oldstat", "lstat", "lstat64", "oldlstat", "newfstatat", "fstatat64", "statx"})
"""Calls that succeed when the way to the file may be gone and it is there."""

_ASKS = {"access": 1, "faccessat": 2, "faccessat2": 2}
"""So do these, when the mode in this argument is F_OK."""

_OFTEN = frozenset({"send", "receive", "getoption", "setoption", "name"})
"""Socket operations that a program repeats: watched until they have succeeded once on a socket."""

_SOCKET_CALLS: dict[str, Callable[[Evidence, str, str, int, Arguments], Leave | None]] = {
    "socket": Evidence._create,
    "socketpair": Evidence._create,
    "bind": lambda self, *rest: self._addressed("bind", 1, 2, *rest),
    "connect": lambda self, *rest: self._addressed("connect", 1, 2, *rest),
    "sendto": lambda self, *rest: self._addressed("send", 4, 5, *rest),
    "sendmsg": Evidence._message,
    "sendmmsg": Evidence._message,
    **{
        name: partial(Evidence._plain, word=word)
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

_SOCKETCALLS = {
    1: "socket",
    2: "bind",
    3: "connect",
    4: "listen",
    5: "accept",
    6: "getsockname",
    7: "getpeername",
    8: "socketpair",
    9: "send",
    10: "recv",
    11: "sendto",
    12: "recvfrom",
    13: "shutdown",
    14: "setsockopt",
    15: "getsockopt",
    16: "sendmsg",
    17: "recvmsg",
    18: "accept4",
    19: "recvmmsg",
    20: "sendmmsg",
}
"""include/uapi/linux/net.h SYS_*."""

_PROCESS_CALLS: dict[str, Callable[[Evidence, int, Arguments], Leave | None]] = {
    "kill": lambda self, *rest: self._signal(0, 1, *rest),
    "tkill": lambda self, *rest: self._signal(0, 1, *rest),
    "tgkill": lambda self, *rest: self._signal(1, 2, *rest),
    "rt_sigqueueinfo": lambda self, *rest: self._signal(0, 1, *rest),
    "rt_tgsigqueueinfo": lambda self, *rest: self._signal(1, 2, *rest),
    "pidfd_send_signal": Evidence._signal_pidfd,
    "ptrace": Evidence._ptrace,
    "process_vm_readv": lambda self, *rest: self._memory("read", *rest),
    "process_vm_writev": lambda self, *rest: self._memory("trace", *rest),
    "kcmp": Evidence._compare,
    "pidfd_getfd": Evidence._take_descriptor,
}


def _head(path: str) -> bytes:
    """The first bytes of a regular file; empty for all else."""
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return b""
        with open(f"/proc/self/fd/{fd}", "rb", buffering=0) as file:
            return file.read(_SCRIPT_HEAD_BYTES)
    except OSError:
        return b""
    finally:
        os.close(fd)


def _parent(tid: int) -> int:
    try:
        with open(f"/proc/{tid}/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("PPid:"))
    except (OSError, StopIteration):
        return -1
