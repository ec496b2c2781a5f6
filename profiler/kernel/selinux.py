"""Read selinux.yaml: which permissions of which classes SELinux checks, and the types of the reference policy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from profiler.kernel.capabilities import number_of
from profiler.kernel.data import load

FILE_CLASSES = ("blk_file", "chr_file", "dir", "fifo_file", "file", "lnk_file", "sock_file")
_DIRECTORIES_ONLY = frozenset({"add_name", "remove_name", "reparent", "rmdir", "search"})
_FILES_ONLY = frozenset({"entrypoint", "execute_no_trans"})


def table(name: str) -> Any:
    """Return one table of selinux.yaml. Callers must not modify it."""
    return load("selinux.yaml")[name]


def classes_of(kinds: Iterable[str]) -> tuple[str, ...]:
    """Return the classes of files of these kinds (FILE_KINDS of a trace). An unknown kind may be a file or a
    directory."""
    found = {table("kinds").get(kind) for kind in kinds}
    return tuple(sorted({"file", "dir"} | found - {None} if None in found or not found else found))


def own(access: str, kind: str) -> tuple[str, ...]:
    """Return the permissions that an access needs on an object of the class ``kind`` itself."""
    row: Mapping[str, list[str]] = table("accesses")[access]
    names = row["dir"] if kind == "dir" and "dir" in row else row["own"]
    without = frozenset() if kind == "dir" else _DIRECTORIES_ONLY
    without |= frozenset() if kind == "file" else _FILES_ONLY
    return tuple(name for name in names if name not in without)


def holder(access: str) -> tuple[str, ...]:
    """Return the permissions that an access needs on the directory with the name."""
    row: Mapping[str, list[str]] = table("accesses")[access]
    return tuple(row.get("holder", ()))


def socket_class(family: str, kind: str, protocol: int) -> str:
    """Return the class of sockets of a family, type and protocol (socket_type_to_security_class)."""
    if family in ("inet", "inet6"):
        return f"{table('internet').get(kind, {}).get(protocol, 'rawip')}_socket"
    if family == "netlink":
        return f"{table('netlink').get(protocol, 'netlink')}_socket"
    known = table("families").get(family, "")
    name = known if isinstance(known, str) else known.get(kind, "")
    return f"{name}_socket" if name else "socket"


def socket_permissions(kind: str, operations: Iterable[str]) -> frozenset[str]:
    """Return the permissions that operations on sockets of a class need on the process's own type."""
    found = {*table("socket_always"), *(name for each in operations for name in table("socket_operations")[each])}
    if kind in table("netlink_with_messages"):
        found.update(table("netlink_messages"))
    if kind == "netlink_audit_socket":
        found.update(table("netlink_audit"))
    return frozenset(found)


@cache
def _ranges(protocol: str) -> tuple[tuple[int, int, str], ...]:
    rows = table("ports").get(protocol, {})
    found = []
    for text, name in rows.items():
        first, _, last = text.partition("-")
        found.append((int(first), int(last or first), name))
    return tuple(found)


def port_type(protocol: str, port: int) -> str | None:
    """Return the type of a port in the reference policy, None for 0. ``protocol``: tcp, udp, sctp or dccp."""
    for name in (protocol, "any"):
        for first, last, found in _ranges(name):
            if first <= port <= last:
                return found
    return None


def capability(name: str, userns: bool = False) -> tuple[str, str]:
    """Return the class and the permission of a capability (CAP_CHOWN: capability, chown). ``userns``: in a user
    namespace other than the first one."""
    number = number_of(name) or 0
    stem = "cap" if userns else "capability"
    second = "2" if number >= table("first_capability2") else ""
    return f"{stem}{second}{'_userns' if userns else ''}", name.removeprefix("CAP_").lower()


def signal_permission(signal: str) -> str:
    """Return the permission of class process for a signal's name without SIG."""
    return str(table("signals").get(signal, "signal"))
