"""What a stopped thread's calls do with sockets."""

from __future__ import annotations

import os
from functools import partial

from profiler.kernel.abi import ABIS
from profiler.kernel.sockets import (
    ADDRESS_MAX,
    IPPROTO_IPV6,
    IPV6_ADDRFORM,
    MESSAGES_MAX,
    SOCK_TYPE_MASK,
    SocketCall,
    Sort,
    family_name,
    parse_address,
    socket_calls,
    socketcalls,
    type_name,
    with_default,
)
from profiler.tracers.paths import Found
from profiler.tracers.ptrace.rows import Enter, Exit, Leave, Rows
from profiler.tracers.ptrace.threads import U32, Arguments, Threads, signed
from profiler.tracers.sockets import is_socket, socket_in_tables, socket_sort

_REMEMBERED = 1 << 16
_REPEATED = frozenset({"send", "receive", "getoption", "setoption", "name"})
"""Operations that programs repeat: watched until they have succeeded once on a socket."""

NO_SORT = (
    "some sockets that the workload was given are not recorded: pidfd_getfd(2) is refused here; "
    "in a container, allow it with --cap-add SYS_PTRACE"
)
"""The warning, given once, when nothing can be known of a socket."""


class Sorts:
    """The sorts of a recording's sockets, each read once."""

    def __init__(self, threads: Threads, warnings: list[str]) -> None:
        self._threads = threads
        self._warnings = warnings
        self._known: dict[str, Sort | None] = {}
        """By the text of a descriptor's link; None when nothing can be known."""

    def of(self, tid: int, fd: int, made: Sort | None = None) -> tuple[str, Sort] | None:
        """Return (link text, sort) of a thread's socket.

        None for another kind of descriptor, and when the sort cannot be known. ``made``: what the call that has just
        made the socket requested.
        """
        try:
            link = os.readlink(f"/proc/{tid}/fd/{signed(fd)}")
        except OSError:
            self._threads.unread(tid, "sockets")
            return None
        if not is_socket(link):
            return None
        if link not in self._known or (made and self._known[link] is None):
            try:
                sort = socket_sort(tid, signed(fd), self._threads.group(tid))
            except PermissionError:
                sort = socket_in_tables(tid, link) or made
                if sort is None and NO_SORT not in self._warnings:
                    self._warnings.append(NO_SORT)
            else:
                if sort is None:
                    return None
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[link] = sort
        known = self._known[link]
        return None if known is None else (link, known)

    def forget(self, tid: int, fd: int) -> None:
        """Read the sort of this socket again when it is next used."""
        try:
            self._known.pop(os.readlink(f"/proc/{tid}/fd/{signed(fd)}"), None)
        except OSError:
            self._threads.unread(tid, "sockets")


class Sockets:
    """Adds socket operations to a recording, and the files of unix sockets."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._threads = rows.threads
        self._sorts = Sorts(rows.threads, rows.recording.warnings)

    def watches(self, name: str, abi: str) -> Enter | None:
        """See Evidence.watches."""
        if name == "socketcall":
            return partial(self._socketcall, abi)
        call = socket_calls().get(name)
        return None if call is None else partial(self._enter, call, abi)

    def _socketcall(self, abi: str, tid: int, args: Arguments) -> Leave | None:
        """i386's older way to make socket calls (net/socket.c): a number, and where the arguments are."""
        name = socketcalls().get(args[0] & U32)
        words = None if name is None else self._rows.words(tid, args[1], "sockets")
        return None if name is None or words is None else self._enter(socket_calls()[name], abi, tid, words)

    def _enter(self, call: SocketCall, abi: str, tid: int, args: Arguments) -> Leave | None:
        if call.fd is None:
            return partial(self._made, call, args)
        if call.message is not None:
            return self._messages(call, abi, tid, args)
        peer = None
        if call.address is not None and call.length is not None:
            peer = self._peer(tid, args[call.address], args[call.length] & U32)
        leave = self._operate(call.operation, tid, args[call.fd], peer)
        if call.operation == "setoption" and (args[1] & U32, args[2] & U32) == (IPPROTO_IPV6, IPV6_ADDRFORM):
            return partial(self._converted, leave, args[call.fd])
        return leave

    def _converted(self, leave: Leave | None, fd: int, exit: Exit) -> None:
        """Note that a socket may have another family now."""
        if leave is not None:
            leave(exit)
        self._sorts.forget(exit.tid, fd)

    def _row(self, exit: Exit, sort: Sort, operation: str, port: int | None = None, address: str | None = None) -> None:
        family, kind, protocol = sort
        if exit.reached:
            self._rows.recording.socket(
                family_name(family),
                type_name(kind),
                protocol,
                operation,
                exit.outcome,
                exit.program,
                port=port,
                address=address,
            )

    def _made(self, call: SocketCall, args: Arguments, exit: Exit) -> None:
        asked = with_default((args[0] & U32, args[1] & SOCK_TYPE_MASK, args[2] & U32))
        fd: int | None = exit.result
        if call.pair is not None and not exit.code:
            data = self._threads.memory(exit.tid, args[call.pair], 4, "sockets")
            fd = None if data is None else int.from_bytes(data, "little")
        known = None if exit.code or fd is None else self._sorts.of(exit.tid, fd, asked)
        self._row(exit, asked if known is None else known[1], call.operation)

    def _peer(self, tid: int, pointer: int, length: int) -> bytes | None:
        """Read an address in memory."""
        return self._threads.memory(tid, pointer, min(length, ADDRESS_MAX), "sockets") if pointer and length else None

    def _operate(self, operation: str, tid: int, fd: int, data: bytes | None) -> Leave | None:
        """An operation on a socket, with the peer's address or the socket's own (struct sockaddr)."""
        known = self._sorts.of(tid, fd)
        if known is None:
            return None
        link, sort = known
        port, address = parse_address(sort[0], data) if data else (None, None)
        key = (operation, self._threads.life(tid), link, sort, port, address)
        repeated = operation in _REPEATED
        if repeated and self._rows.seen(key):
            return None
        # bind makes the file of a path. Those who connect or send to it look it up.
        binds = operation == "bind"
        file: Found | None = None
        if address and not address.startswith("@"):
            file = self._threads.find(tid, None, address, follow=not binds, entry=binds)
        place = address if file is None else file.path

        def leave(exit: Exit) -> None:
            self._row(exit, sort, operation, port, place)
            if file is not None and exit.reached:
                made = binds and not exit.code
                self._rows.file(exit, "bind" if binds else "connect", file, own=made, kind="socket" if made else "")
            if not exit.code and repeated:
                self._rows.once(key)

        return leave

    def _messages(self, call: SocketCall, abi: str, tid: int, args: Arguments) -> Leave | None:
        """sendmsg, sendmmsg: struct msghdr begins with the address and its length."""
        assert call.fd is not None
        assert call.message is not None
        width = ABIS[abi].bits // 8
        header, step = (56, 64) if width == 8 else (28, 32)  # sizeof(struct msghdr), sizeof(struct mmsghdr)
        count = 1 if call.count is None else min(args[call.count] & U32, MESSAGES_MAX)
        headers = self._threads.memory(tid, args[call.message], (count - 1) * step + header, "sockets") or b""
        leaves = []
        for start in range(0, len(headers) - header + 1, step):
            data = headers[start : start + header]
            pointer, length = int.from_bytes(data[:width], "little"), int.from_bytes(data[width : width + 4], "little")
            leaves.append(self._operate(call.operation, tid, args[call.fd], self._peer(tid, pointer, length)))
        wanted = [leave for leave in leaves if leave is not None]
        if not wanted:
            return None

        def leave(exit: Exit) -> None:
            # Of several messages, `result` were sent (sendmmsg(2)).
            sent = max(1, exit.result) if call.count is not None and not exit.code else 1
            for each in wanted[:sent]:
                each(exit)

        return leave
