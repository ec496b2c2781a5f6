"""Make a Denial of a record of SELinux.

``avc:  denied  { read } for  pid=7 comm="app" name="shadow" dev="vda1" ino=3 scontext=... tcontext=... tclass=file
permissive=0``. Sources: security/selinux/avc.c (avc_audit_pre_callback, avc_audit_post_callback) and
security/lsm_audit.c (dump_common_audit_data) of Linux 6.1 to 6.18.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from profiler.denials.logs.fields import known
from profiler.denials.model import Denial
from profiler.kernel.capabilities import CAPABILITIES
from profiler.kernel.selinux import FILE_CLASSES, table
from profiler.trace.model import FILE_ACCESSES, SOCKET_OPERATIONS

MARK = b"avc:"
_HEAD = re.compile(rb"avc: {1,2}(denied|granted) {1,2}\{ ([a-z0-9_]{1,40}(?: [a-z0-9_]{1,40}){0,40}) \} for  ?")
_SIGNALS = {"sigchld": "CHLD", "sigkill": "KILL", "sigstop": "STOP", "signull": "0"}
_SOCKETS = {
    "tcp_socket": ("inet", "stream", 6), "udp_socket": ("inet", "dgram", 17), "rawip_socket": ("inet", "raw", 0),
    "sctp_socket": ("inet", "stream", 132), "dccp_socket": ("inet", "dccp", 33), "icmp_socket": ("inet", "dgram", 1),
    "packet_socket": ("packet", "raw", 0), "unix_stream_socket": ("unix", "stream", 0),
    "unix_dgram_socket": ("unix", "dgram", 0),
}  # fmt: skip
_SOCKET_WORDS = {
    "name_bind": "bind", "node_bind": "bind", "name_connect": "connect", "connectto": "connect", "sendto": "send",
    "read": "receive", "write": "send", "getopt": "getoption", "setopt": "setoption", "getattr": "name",
} | {word: word for word in SOCKET_OPERATIONS}  # fmt: skip


def split(body: bytes) -> tuple[bool, tuple[str, ...], bytes] | None:
    """Return whether it is a refusal, the permissions, and the rest of the record; None for another record."""
    found = _HEAD.match(body)
    if found is None:
        return None
    return found[1] == b"denied", tuple(found[2].decode("ascii").split()), body[found.end() :]


def denial(values: Mapping[str, str], denied: bool, rights: tuple[str, ...]) -> Denial | None:
    """Return the denial in a record, None if it is not one. Raises ValueError or KeyError for an incomplete record."""
    kind = values["tclass"]
    if not denied:
        return None
    source, target = _type(values["scontext"]), _type(values["tcontext"])
    base = Denial(
        kind="other",
        by="selinux",
        refused=values.get("permissive") != "1",
        operation=" ".join(rights),
        info=f"{kind} {target}",
        comm=known(values.get("comm")),
        exe=known(values.get("exe")),
        profile=source,
        peer=target,
    )
    if kind in ("capability", "capability2", "cap_userns", "cap2_userns"):
        number = values["capability"]
        if not (number.isascii() and number.isdigit() and int(number[:4]) < len(CAPABILITIES)):
            raise ValueError(number)
        return replace(base, kind="capability", capability=CAPABILITIES[int(number)])
    if kind in FILE_CLASSES:
        return _file(base, values, kind, rights)
    if kind in _SOCKETS:
        return _socket(base, values, kind, rights)
    if kind == "process" and rights == ("ptrace",):
        return replace(base, kind="inspection", operations=("trace",))
    if kind == "process" and len(rights) == 1 and rights[0] in _SIGNALS:
        return replace(base, kind="signal", signal=_SIGNALS[rights[0]], operations=("send",))
    if kind == "user_namespace":
        return replace(base, kind="user_namespace")
    return replace(base, kind="io_uring") if kind == "io_uring" else base


def _type(context: str) -> str:
    """Return the type in a context. Raises ValueError."""
    parts = context.split(":")
    if len(parts) < 3:
        raise ValueError(context)
    return parts[2]


def _file(base: Denial, values: Mapping[str, str], kind: str, rights: tuple[str, ...]) -> Denial:
    """Return the denial of a use of a file. Most records have the last part of its name only."""
    means: Mapping[str, str] = table("records")
    words = {means[right] for right in rights if right in means}
    if "execute" in words and "execute" in rights and "execute_no_trans" not in rights and "path" in values:
        words = words - {"execute"} | {"map"}  # an exec asks for execute_no_trans; before that, it has no path
    if kind == "dir":  # to write to one is to change its names: the record of the file itself tells which
        words = words - {"read", "write"} | ({"list"} if "read" in words else set())
    kinds = {name: word for word, name in table("kinds").items()}
    return replace(
        base,
        kind="file",
        path=known(values.get("path")) or known(values.get("name")),
        directory=kind == "dir",
        file_kind=kinds[kind],
        access=tuple(word for word in FILE_ACCESSES if word in words),
        mask=" ".join(rights),
    )


def _socket(base: Denial, values: Mapping[str, str], kind: str, rights: tuple[str, ...]) -> Denial:
    family, sort, protocol = _SOCKETS[kind]
    words = {_SOCKET_WORDS[right] for right in rights if right in _SOCKET_WORDS}
    address = known(values.get("path"))
    name = "dest" if "connect" in words else "src"
    port = values.get(name, "")
    return replace(
        base,
        kind="socket",
        family=family,
        type=sort,
        protocol=protocol,
        operations=tuple(word for word in SOCKET_OPERATIONS if word in words),
        port=int(port) if port.isascii() and port.isdigit() and int(port[:6]) < 1 << 16 else None,
        address=address,
    )
