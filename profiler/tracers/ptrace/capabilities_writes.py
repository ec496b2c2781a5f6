"""Which capabilities writing needs: to maps of user and group ids, and to netlink sockets.

Programs write often. These rules are used only once the workload has opened such a file or made such a socket.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator

from profiler.files import kernel_text
from profiler.kernel import netlink
from profiler.kernel.sockets import AF_NETLINK
from profiler.tracers.host import read_memory
from profiler.tracers.ptrace.capabilities_rules import Rule, Stop
from profiler.tracers.ptrace.threads import numbers, signed
from profiler.tracers.unchecked import Claim, bits_of

_ID_MAP = re.compile(r"/(\d+)/(?:task/\d+/)?([ug])id_map")
_READ_MAX = 4096  # a map is at most a page, and what is sent begins with its headers

ID_MAPS = ("uid_map", "gid_map")


def _written(stop: Stop) -> bytes:
    """Return the beginning of what a call writes; empty when it cannot be read."""
    address, size = stop.args[1], stop.args[2]
    if stop.name == "sendmsg":  # struct msghdr: the vectors and their number follow the address
        header = read_memory(stop.tid, address, 32) or b""
        address, size = struct.unpack_from("=QQ", header, 16) if len(header) == 32 else (0, 0)
    if stop.name in ("sendmsg", "writev"):
        vector = (read_memory(stop.tid, address, 16) or b"") if size else b""
        address, size = struct.unpack("=QQ", vector) if len(vector) == 16 else (0, 0)
    return (read_memory(stop.tid, address, min(size, _READ_MAX)) or b"") if size else b""


def _write(stop: Stop) -> tuple[str, ...]:
    link = os.readlink(f"/proc/{stop.tid}/fd/{signed(stop.args[0])}")
    if link.startswith("socket:"):
        return tuple(_sent(stop))
    found = _ID_MAP.search(link) if link.endswith(ID_MAPS) else None
    return () if found is None else _id_map(stop, int(found[1]), found[2])


def _id_map(stop: Stop, process: int, which: str) -> tuple[str, ...]:
    """kernel/user_namespace.c new_idmap_permitted, verify_root_map (Linux 5.12).

    A process may map its own id into a namespace that it made. Root, too, but only if it had CAP_SETFCAP.
    """
    own = stop.credentials
    rows = [[int(word) for word in line.split()] for line in _written(stop).decode("ascii").splitlines()]
    lower = [row[1] for row in rows if len(row) == 3]
    root = which == "u" and 0 in lower
    if process in numbers(stop.tid):
        maker = stop.threads.makers.get(own.namespace)
        if root and maker is not None:
            asked = bits_of("CAP_SETFCAP")
            stop.claims.append((Claim(asked, asked & ~(maker.effective | maker.bounding)), maker.namespace))
        return ()
    mine = len(rows) == 1 and rows[0][2:] == [1] and lower == [(own.uids if which == "u" else own.gids)[1]]
    if which == "g" and mine:
        with kernel_text(f"/proc/{process}/setgroups") as file:
            mine = file.read().strip() == "deny"
    return (*(["CAP_SETFCAP"] if root else []), *([] if mine else ["CAP_SETUID" if which == "u" else "CAP_SETGID"]))


def _sent(stop: Stop) -> Iterator[str]:
    """The answer to a message that lacks a capability comes as another message: the call succeeds."""
    known = stop.sorts.of(stop.tid, stop.args[0])
    if known is None or known[1][0] != AF_NETLINK or known[1][2] not in netlink.PROTOCOLS:
        return
    protocol, data, at = known[1][2], _written(stop), 0
    while at + 16 <= len(data):  # struct nlmsghdr
        length, kind = struct.unpack_from("=IH", data, at)
        need = netlink.capability_for(protocol, kind)
        if need is not None:
            yield need
        at += max(16, length + 3 & ~3)


WRITES: dict[str, Rule] = dict.fromkeys(("write", "pwrite64", "writev", "sendto", "sendmsg"), _write)
