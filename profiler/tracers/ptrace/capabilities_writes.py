"""Which capabilities writing needs: to files below /proc/PID, and to netlink sockets.

Programs write often. These rules are used only once the workload has opened such a file or made such a socket.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable, Iterator
from functools import partial

from profiler.files import kernel_text
from profiler.kernel import netlink
from profiler.kernel.sockets import AF_NETLINK
from profiler.tracers.memory import read_memory
from profiler.tracers.ptrace.capabilities_rules import Rule, Stop
from profiler.tracers.ptrace.threads import numbers, signed
from profiler.tracers.unchecked import Claim, bits_of

_READ_MAX = 4096  # a map is at most a page, and what is sent begins with its headers

_NO_LOGIN = 0xFFFFFFFF  # AUDIT_UID_UNSET, include/uapi/linux/audit.h


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
    found = _CHECKED.search(link)
    return () if found is None else _OF_PROCESS[found[2]](stop, int(found[1]))


def _user_map(stop: Stop, process: int) -> tuple[str, ...]:
    """kernel/user_namespace.c new_idmap_permitted, verify_root_map (Linux 5.12).

    A process may map its own id into a namespace that it made. Root, too, but only if it had CAP_SETFCAP.
    """
    own, rows = stop.credentials, _mapped(stop)
    root = any(lower == 0 for lower, _ in rows)
    if process in numbers(stop.tid):
        maker = stop.threads.makers.get(own.namespace)
        if root and maker is not None:
            asked = bits_of("CAP_SETFCAP")
            stop.claims.append((Claim(asked, asked & ~(maker.effective | maker.bounding)), maker.namespace))
        return ()
    return (*(["CAP_SETFCAP"] if root else []), *([] if rows == [(own.uids[1], 1)] else ["CAP_SETUID"]))


def _group_map(stop: Stop, process: int) -> tuple[str, ...]:
    """kernel/user_namespace.c new_idmap_permitted."""
    mine = _mapped(stop) == [(stop.credentials.gids[1], 1)]
    if process in numbers(stop.tid) or (mine and _present(stop, process, "setgroups") == "deny"):
        return ()
    return ("CAP_SETGID",)


def _mapped(stop: Stop) -> list[tuple[int, int]]:
    """Return the ids that a written map takes from the outer namespace, each with the length of its range."""
    rows = [[int(word) for word in line.split()] for line in _written(stop).decode("ascii").splitlines()]
    return [(row[1], row[2]) for row in rows if len(row) == 3]


def _present(stop: Stop, process: int, name: str) -> str:
    """Read a file below /proc/PID. ``process`` is a number as the caller sees it."""
    with kernel_text(f"/proc/{stop.tid if process in numbers(stop.tid) else process}/{name}") as file:
        return file.read().strip()


def _lower(name: str, stop: Stop, process: int) -> tuple[str, ...]:
    """fs/proc/base.c __set_oom_adj.

    The capability allows values below a bound that no file shows. Each write with the capability makes the written
    value the bound, so the present value is the bound unless it was written without.
    """
    value = int(_written(stop).decode("ascii").strip(), 0)
    return ("CAP_SYS_RESOURCE",) if value < int(_present(stop, process, name)) else ()


def _login(stop: Stop, process: int) -> tuple[str, ...]:
    """kernel/audit.c audit_set_loginuid_perm: the first id of a process' login may be set by anybody."""
    return ("CAP_AUDIT_CONTROL",) if int(_present(stop, process, "loginuid")) != _NO_LOGIN else ()


def _slack(stop: Stop, process: int) -> tuple[str, ...]:
    """fs/proc/base.c timerslack_ns_write."""
    return () if process in numbers(stop.tid) else ("CAP_SYS_NICE",)


_OF_PROCESS: dict[str, Callable[[Stop, int], tuple[str, ...]]] = {
    "uid_map": _user_map,
    "gid_map": _group_map,
    "oom_score_adj": partial(_lower, "oom_score_adj"),
    "oom_adj": partial(_lower, "oom_adj"),
    "loginuid": _login,
    "timerslack_ns": _slack,
}
CHECKED_FILES = tuple(_OF_PROCESS)
"""The files below /proc/PID for which the kernel checks capabilities as they are written."""
_CHECKED = re.compile(rf"/(\d+)/(?:task/\d+/)?({'|'.join(CHECKED_FILES)})\Z")


def _sent(stop: Stop) -> Iterator[str]:
    """Yield what each message to a netlink socket needs."""
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
