"""How a workload is started: what launchers need, taken from a recording, and what follows from a policy's rights."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from profiler.policy import patterns
from profiler.policy.covering import EPHEMERAL
from profiler.policy.model import FileRule, Launch, Policy, Variable
from profiler.policy.strict import Reader
from profiler.trace.model import ContainerMount, Meta

_ANONYMOUS = re.compile(r"[0-9a-f]{64}")
"""The name that an engine gives to a volume without one: another one each time."""

_TEXTS = ("engine", "user", "directory", "network")
_MOUNT_KINDS = ("bind", "volume", "tmpfs")


def launch_of(meta: Meta) -> Launch:
    """Return how the workload of a recording was started.

    Where profgen started it, the working directory is left out: it is whatever directory the user was in.
    """
    unit = meta.watched is not None and meta.watched.startswith("unit ")
    user = f"{meta.uid}:{meta.gid}" if meta.uid else None
    container = meta.container
    if container is None:
        return Launch(engine="systemd" if unit else None, user=user, directory=_text(meta.cwd) if unit else None)
    exact = all(_text(word) is not None for word in meta.argv) and not all(map(str.isprintable, meta.argv))
    return Launch(
        engine=_text(container.engine),
        user=_text(container.user) or None,
        directory=_text(container.directory),
        network=container.network if container.network in ("host", "none") else None,
        command=meta.argv if exact else (),
        ports=tuple(port for port in container.ports if port.isprintable()),
        mounts=_mounts(mount for row in container.mounts if (mount := _mount(row))),
        read_only=container.read_only,
    )


def _text(text: str | None) -> str | None:
    """Return the text, or None when YAML cannot hold it: it has bytes that are not UTF-8."""
    return text if text is not None and not any("\ud800" <= char <= "\udfff" for char in text) else None


def _mount(row: ContainerMount) -> ContainerMount | None:
    known = row.kind in _MOUNT_KINDS and _text(row.source) is not None and _text(row.destination) is not None
    if not known or not row.destination.startswith("/"):
        return None
    anonymous = row.kind == "volume" and _ANONYMOUS.fullmatch(row.source)
    return ContainerMount(row.kind, "" if anonymous else row.source, posixpath.normpath(row.destination), row.read_only)


def _mounts(rows: Iterable[ContainerMount]) -> tuple[ContainerMount, ...]:
    """Return one mount for each destination: a volume without a name where recordings had different ones."""
    found: dict[str, ContainerMount] = {}
    for row in rows:
        if found.setdefault(row.destination, row) != row:
            found[row.destination] = ContainerMount("volume", "", row.destination, read_only=False)
    return tuple(sorted(found.values(), key=lambda row: row.destination))


def merged(launches: Sequence[Launch]) -> Launch:
    """Return what is the same in all, and the ports and mounts of any."""

    def same(name: str) -> Any:
        values = {getattr(launch, name) for launch in launches}
        return values.pop() if len(values) == 1 else getattr(Launch(), name)

    return Launch(
        **{name: same(name) for name in (*_TEXTS, "command")},
        ports=tuple(sorted({port for launch in launches for port in launch.ports})),
        mounts=_mounts(row for launch in launches for row in launch.mounts),
        read_only=all(launch.read_only for launch in launches),
    )


def data(launch: Launch, variables: Sequence[Variable]) -> dict[str, Any]:
    """Return the plain data of ``workload.launch`` in policy.yaml, without what is not known. A destination that a
    variable names is written with it, so that one line of the file moves a mount."""
    names = {row.paths[0]: f"{{@{row.name}}}" for row in variables if len(row.paths) == 1}
    found: dict[str, Any] = {name: value for name in _TEXTS if (value := getattr(launch, name)) is not None}
    found |= {name: list(value) for name in ("command", "ports") if (value := getattr(launch, name))}
    if launch.read_only:
        found["read_only"] = True
    if launch.mounts:
        found["mounts"] = [
            {"kind": row.kind, "destination": names.get(row.destination, row.destination)}
            | ({"source": row.source} if row.source else {})
            | ({"read_only": True} if row.read_only else {})
            for row in launch.mounts
        ]
    return found


def read(reader: Reader, value: Any, where: str, variables: Sequence[Variable]) -> Launch:
    """Return the Launch of plain data. Raises InputError."""
    given = reader.keys(value, where, (), (*_TEXTS, "command", "ports", "read_only", "mounts"))
    rows = reader.typed(given.get("mounts", []), list, f"{where}.mounts")
    places = {f"{{@{row.name}}}": row.paths[0] for row in variables}
    return Launch(
        **{name: reader.typed(given[name], str, f"{where}.{name}") for name in _TEXTS if name in given},
        command=reader.texts(given.get("command", []), f"{where}.command"),
        ports=reader.texts(given.get("ports", []), f"{where}.ports"),
        mounts=tuple(_read_mount(reader, row, f"{where}.mounts", places) for row in rows),
        read_only=reader.typed(given.get("read_only", False), bool, f"{where}.read_only"),
    )


def _read_mount(reader: Reader, value: Any, where: str, places: Mapping[str, str]) -> ContainerMount:
    row = reader.keys(value, where, ("kind", "destination"), ("source", "read_only"))
    destination = reader.typed(row["destination"], str, where)
    destination = places.get(destination, destination)
    if not destination.startswith("/"):
        reader.fail(where, f"{destination[:80]!r} is neither an absolute path nor a variable of this policy")
    return ContainerMount(
        kind=reader.word(row["kind"], where, _MOUNT_KINDS),
        source=reader.typed(row.get("source", ""), str, where),
        destination=destination,
        read_only=reader.typed(row.get("read_only", False), bool, where),
    )


# --- what follows from the rights

_PROTOCOLS = {"stream": "tcp", "dgram": "udp"}
_PORT = re.compile(r"([1-9][0-9]{0,4})/(tcp|udp)")


def listened(policy: Policy) -> tuple[tuple[int, str], ...]:
    """Return the ports at which others reach the workload, as (port, tcp or udp), sorted: what it listens on, and what
    its container exposes. A datagram socket that is bound to a port which the kernel also gives to clients is taken for
    a client."""
    found = set()
    for rule in policy.sockets:
        protocol = _PROTOCOLS.get(rule.type)
        if rule.family not in ("inet", "inet6") or protocol is None:
            continue
        if protocol == "tcp" and "listen" not in rule.operations:
            continue
        for port in dict(rule.ports).get("bind", ()):
            if port and (protocol == "tcp" or port not in EPHEMERAL):
                found.add((port, protocol))
    for text in policy.workload.launch.ports:
        if (match := _PORT.fullmatch(text)) and int(match[1]) <= 0xFFFF:
            found.add((int(match[1]), match[2]))
    return tuple(sorted(found))


_CHANGES = frozenset(
    {
        "write", "append", "create", "truncate", "make", "remove", "rename_from", "rename_to", "link", "mode", "owner",
        "times", "xattr", "bind",
    }
)  # fmt: skip
"""Accesses that a read-only file system refuses with EROFS."""
_ATTRIBUTES = frozenset({"mode", "owner", "times", "xattr"})
_OPENS = frozenset({"read", "write", "append", "lock", "lock_exclusive"})
_MAKES = frozenset({"create", "make", "rename_to", "link", "bind"})
_RUNTIMES_OWN = ("/dev", "/proc", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
"""Places that a runtime or an engine mounts into every container."""
_SYSTEM = frozenset({"bin", "boot", "etc", "lib", "lib32", "lib64", "libx32", "sbin", "usr"})
"""Top directories that hold the image itself."""
_TEMPORARY = ("/tmp", "/var/tmp", "/run", "/var/run")


@dataclass(frozen=True)
class Written:
    """Where a workload writes, outside of what is mounted anyway.

    ``temporary``: directories that may be empty at each start, with whether programs in them are executed. ``kept``:
    directories with content of the image, or that may have to last. ``elsewhere``: patterns of what is written among
    the image's own files, or at places that are not known: a root that cannot be written would break the workload.
    """

    temporary: tuple[tuple[str, bool], ...] = ()
    kept: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()


def written(policy: Policy) -> Written | None:
    """Return where the workload writes, None when the recording did not watch files."""
    if not policy.has_files:
        return None
    mounted = (*_RUNTIMES_OWN, *(row.destination for row in policy.workload.launch.mounts))
    places: set[str] = set()
    elsewhere: set[str] = set()
    for rule in policy.files:
        if not _changes(rule):
            continue
        place = _place(rule)
        if place is None or place == "/" or place.split("/")[1] in _SYSTEM:
            if not within(patterns.start_of(rule.pattern), mounted):
                elsewhere.add(rule.pattern)
        elif not within(place, mounted):
            places.add(place)
    outer = [place for place in sorted(places) if not within(posixpath.dirname(place), places)]
    empty = [place for place in outer if within(place, _TEMPORARY) and not _filled(policy, place)]
    return Written(
        tuple((place, any(_executes(rule, place) for rule in policy.files)) for place in empty),
        tuple(place for place in outer if place not in empty),
        tuple(sorted(elsewhere)),
    )


def within(path: str, directories: Collection[str]) -> bool:
    """Return whether the path is one of the directories, or below one."""
    return any(path == top or path.startswith(top.rstrip("/") + "/") for top in directories)


def _changes(rule: FileRule) -> bool:
    """Return whether a read-only file system refuses a use of the rule. Devices, pipes and sockets may be opened."""
    files = set(rule.kinds) & {"file", "directory", "symlink", "unknown"}
    changes = _CHANGES & set(rule.access)
    return "linked" in rule.states and bool(changes) and (bool(files) or not changes <= _OPENS)


def _place(rule: FileRule) -> str | None:
    """Return the directory that must be writable, None when it is not known."""
    start = patterns.start_of(rule.pattern)
    if not start.startswith("/"):
        return None
    if rule.kinds == ("directory",) and set(rule.access) & _CHANGES <= _ATTRIBUTES and start == rule.pattern:
        return posixpath.normpath(start)
    return posixpath.dirname(start)


def _below(rule: FileRule, place: str) -> bool:
    return patterns.start_of(rule.pattern).startswith(place + "/")


def _filled(policy: Policy, place: str) -> bool:
    """Return whether the workload uses something below the directory that it did not make there."""
    return any(
        _below(rule, place) and not set(rule.access) & _MAKES and set(rule.access) - {"remove", "chroot"}
        for rule in policy.files
        if rule.kinds != ("directory",)
    )


def _executes(rule: FileRule, place: str) -> bool:
    return _below(rule, place) and bool({"execute", "map"} & set(rule.access))
