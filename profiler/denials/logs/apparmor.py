"""Make a Denial of a record of AppArmor.

Sources: security/apparmor/ of Linux 6.1 to 6.18: audit.c (audit_pre) and the ``audit_cb`` functions of file.c, net.c,
af_unix.c, ipc.c, task.c, mount.c and capability.c. Ubuntu's kernels write ``requested`` and ``denied`` instead of
``requested_mask`` and ``denied_mask`` for newer classes: sockets, POSIX message queues, user namespaces, io_uring.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from profiler.denials.logs.fields import known
from profiler.denials.model import Denial
from profiler.kernel import apparmor
from profiler.kernel.capabilities import CAPABILITIES
from profiler.targets.apparmor.rules import MOUNT_FLAGS
from profiler.trace.model import FILE_ACCESSES, SOCKET_OPERATIONS

_VERDICTS = {"DENIED": True, "KILLED": True, "ALLOWED": False}
"""Refused; refused, and the process was killed; would have been refused (complain mode). AUDIT, STATUS, HINT and ERROR
are not denials."""

_FILE_OPERATIONS = frozenset(
    {"open", "file_mmap", "file_mprotect", "file_lock", "file_perm", "file_inherit", "getattr"}
)
"""Operations whose records always have a mask after the name: without one the record was cut off, as printk does at
about 1 000 bytes."""

_SOCKET_WORDS = {"getopt": "getoption", "setopt": "setoption", "getattr": "name", "setattr": "setoption"} | {
    word: word for word in SOCKET_OPERATIONS
}
_SOCKET_OPERATIONS = {
    "sendmsg": "send",
    "recvmsg": "receive",
    "getsockname": "name",
    "getpeername": "name",
    "getsockopt": "getoption",
    "setsockopt": "setoption",
    "socket_shutdown": "shutdown",
    "create": "create",
    "bind": "bind",
    "connect": "connect",
    "listen": "listen",
    "accept": "accept",
}
"""Kernels before 4.17 write no mask for sockets."""
_DEFAULT_PROTOCOLS = {("inet", "stream"): 6, ("inet", "dgram"): 17, ("inet6", "stream"): 6, ("inet6", "dgram"): 17}
"""The protocol of a socket for which 0 was requested (ip(7)). The check of socket(2) itself sees 0."""

_MASKS = ("denied_mask", "denied", "requested_mask", "requested")
"""Where the refused accesses are, the best first."""

_FLAGS_OF_MOUNTS = {word: name for name, word in MOUNT_FLAGS.items()}
_PROPAGATION = ("unbindable", "private", "slave", "shared")


def _accesses(operation: str, mask: str, directory: bool) -> tuple[str, ...]:
    words = set(apparmor.reported(operation, mask))
    if directory and "read" in words:
        words = words - {"read"} | {"list"}
    return tuple(word for word in FILE_ACCESSES if word in words)


def _mount(operation: str, values: Mapping[str, str]) -> dict[str, Any]:
    """Return the members of a Denial, in the words of MountRule."""
    name, source = values.get("name", ""), values.get("srcname")
    if operation == "pivotroot":
        return {"operation": "pivot_root", "source": _place(name), "target": None if source is None else _place(source)}
    if operation == "umount":
        return {"operation": "umount", "target": _place(name)}
    flags: set[str] = set()
    for word in re.split(r"[, ]+", values.get("flags", "")):
        plain = word.removeprefix("r") if word in {f"r{kind}" for kind in (*_PROPAGATION, "bind")} else word
        if plain in (*_PROPAGATION, "bind", "remount", "move"):
            flags |= {plain, "rec"} if plain != word else {plain}
        elif word not in ("", "rw"):
            flags.add(_FLAGS_OF_MOUNTS.get(word, re.sub(r"[^a-z0-9_]", "_", word.lower()) or "unknown"))
    kind = "mount"
    if "remount" in flags:
        kind = "remount"
    elif "bind" in flags:
        kind = "rbind" if "rec" in flags else "bind"
    elif flags & set(_PROPAGATION):
        kind = "propagation"
    elif "move" in flags:
        kind = "move"
    is_path = kind in ("bind", "rbind", "move")
    return {
        "operation": kind,
        "source": _place(source) if source is not None and is_path else source,
        "target": _place(name),
        "filesystem": known(values.get("fstype")),
        "flags": tuple(sorted(flags)),
    }


def _place(name: str) -> str:
    return name.rstrip("/") or "/"


def _port(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and int(text[:6]) < 1 << 16 else None


def _signal(word: str) -> str:
    """Return a signal's name as a trace has it.

    AppArmor counts real-time signals from 32, as the trace does (security/apparmor/include/sig_names.h).
    """
    if word == "exists":
        return "0"
    if word == "rtmin+0":
        return "RTMIN"
    return {"stp": "TSTP"}.get(word, word.upper())


def denial(values: Mapping[str, str]) -> Denial | None:
    """Return the denial in a record, None if it is not one. Raises ValueError or KeyError for an incomplete record."""
    verdict = values["apparmor"]
    if not re.fullmatch(r"[A-Z]{2,20}", verdict):
        raise ValueError(verdict)
    if verdict not in _VERDICTS:
        return None
    operation = values["operation"]
    base = Denial(
        kind="other",
        by="apparmor",
        refused=_VERDICTS[verdict],
        operation=operation,
        info=known(values.get("info")),
        comm=known(values.get("comm")),
        exe=known(values.get("exe")),
        profile=known(values.get("profile") or values.get("label")),
    )
    mask = next((values[name] for name in _MASKS if name in values), "")
    letters, words = re.sub(r"[^a-z]", "", mask), re.split(r"[, ]+", mask)
    if values.get("class") == "posix_mqueue":
        return replace(base, info=base.info or "POSIX message queue", path=known(values.get("name")))
    if operation == "capable":
        name = values.get("capname")
        number = values.get("capability", "")
        if name is None and not (number.isascii() and number.isdigit() and int(number[:4]) < len(CAPABILITIES)):
            raise ValueError(number)
        return replace(base, kind="capability", capability=f"CAP_{name.upper()}" if name else CAPABILITIES[int(number)])
    if operation == "signal":
        directions = tuple(word for word in ("send", "receive") if word in words)
        return replace(
            base,
            kind="signal",
            signal=_signal(values["signal"]),
            operations=directions,
            peer=known(values.get("peer")),
        )
    if operation == "ptrace":
        # tracedby and readby report the same from the other side, under the profile of the traced process.
        directions = tuple(word for word in ("trace", "read", "tracedby", "readby") if word in words)
        return replace(base, kind="inspection", operations=directions, peer=known(values.get("peer")))
    if operation in ("mount", "umount", "pivotroot"):
        return replace(base, kind="mount", **_mount(operation, values))
    if operation.startswith("userns"):
        return replace(base, kind="user_namespace")
    if operation.startswith("uring"):
        return replace(base, kind="io_uring")
    if "family" in values and "name" not in values:
        kind, protocol = values.get("sock_type", "unknown"), int(values.get("protocol") or 0)
        operations = {_SOCKET_WORDS[word] for word in words if word in _SOCKET_WORDS} or {
            _SOCKET_OPERATIONS.get(operation, "create")
        }
        address = known(values.get("peer_addr") or values.get("addr"))
        return replace(
            base,
            kind="socket",
            family=values["family"],
            type=kind,
            protocol=protocol or _DEFAULT_PROTOCOLS.get((values["family"], kind), 0),
            operations=tuple(word for word in SOCKET_OPERATIONS if word in operations),
            port=_port(values.get("lport" if "bind" in operations else "fport")),
            address=None if address == "none" else address,
        )
    if "name" in values and not letters and (operation in _FILE_OPERATIONS or apparmor.has_one_access(operation)):
        raise ValueError("no mask")
    if "name" in values and letters and values.get("class", "file") == "file":
        path = values["name"]
        directory = len(path) > 1 and path.endswith("/")
        owners = values.get("fsuid"), values.get("ouid")
        return replace(
            base,
            kind="file",
            path=_place(path) if directory else path,
            directory=directory,
            access=_accesses(operation, letters, directory or path == "/"),
            mask=letters,
            owner=None if None in owners else owners[0] == owners[1],
            existing=known(values.get("target")) if operation == "link" else None,
        )
    return replace(base, peer=known(values.get("peer")), path=known(values.get("name")))
