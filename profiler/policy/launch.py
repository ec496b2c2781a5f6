"""How a workload is started: what launchers need, taken from a recording. posture.py has what follows from a policy."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from profiler.policy.model import Launch, Variable
from profiler.policy.strict import Reader
from profiler.trace.model import ContainerMount, Meta

_ANONYMOUS = re.compile(r"[0-9a-f]{64}")
"""The name that an engine gives to a volume without one: another one each time."""

_GROUP = re.compile(r":[0-9]+\Z")
_TEXTS = ("engine", "pod", "container", "unit", "user", "directory", "network")
_NUMBERS = ("gid", "tasks")
LIMITS = (256, 1024, 4096, 16384)
"""Limits of tasks. Few steps, so that two recordings whose peaks differ give the same policy; the first has room for a
runtime that starts threads for each processor, on a larger machine than the one that recorded it."""
_ROOM = 4
_MOUNT_KINDS = ("bind", "volume", "tmpfs")


def launch_of(meta: Meta) -> Launch:
    """Return how the workload of a recording was started.

    Where profgen started it, the working directory is left out: it is whatever directory the user was in.
    """
    unit = meta.watched.removeprefix("unit ") if meta.watched and meta.watched.startswith("unit ") else None
    user = f"{meta.uid}:{meta.gid}" if meta.uid else None
    container = meta.container
    if container is None:
        return Launch(
            engine="systemd" if unit else None,
            unit=_text(unit),
            user=user,
            directory=_text(meta.cwd) if unit else None,
            tasks=task_limit(meta.tasks),
        )
    pod = container.pod
    known = pod is not None and pod.namespace is not None and pod.workload is not None
    exact = all(_text(word) is not None for word in meta.argv) and not all(map(str.isprintable, meta.argv))
    return Launch(
        engine=_text(container.engine) if pod is None else "kubernetes",
        pod=_text(f"{pod.namespace}/{pod.workload}") if pod is not None and known else None,
        container=_text(container.name) if pod is not None else None,
        user=(given := _text(container.user) or None),
        gid=meta.gid if meta.uid and not _GROUP.search(given or "") else None,
        directory=_text(container.directory),
        network=container.network if container.network in ("host", "none") else None,
        command=meta.argv if exact else (),
        ports=tuple(port for port in container.ports if port.isprintable()),
        mounts=_mounts(mount for row in container.mounts if (mount := _mount(row))),
        read_only=container.read_only,
        tasks=task_limit(meta.tasks),
    )


def task_limit(peak: int) -> int | None:
    """Return the first of LIMITS that has room for _ROOM times the peak; None when there is none, or the peak is not
    known."""
    return next((limit for limit in LIMITS if limit >= _ROOM * peak), None) if peak else None


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

    limits = [launch.tasks for launch in launches if launch.tasks is not None]
    return Launch(
        **{name: same(name) for name in (*_TEXTS, "gid", "command")},
        ports=tuple(sorted({port for launch in launches for port in launch.ports})),
        mounts=_mounts(row for launch in launches for row in launch.mounts),
        read_only=all(launch.read_only for launch in launches),
        tasks=max(limits) if len(limits) == len(launches) else None,
    )


def data(launch: Launch, variables: Sequence[Variable]) -> dict[str, Any]:
    """Return the plain data of ``workload.launch`` in policy.yaml, without what is not known. A destination that a
    variable names is written with it, so that one line of the file moves a mount."""
    names = {row.paths[0]: f"{{@{row.name}}}" for row in variables if len(row.paths) == 1}
    found: dict[str, Any] = {
        name: value for name in (*_TEXTS, *_NUMBERS) if (value := getattr(launch, name)) is not None
    }
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
    given = reader.keys(value, where, (), (*_TEXTS, *_NUMBERS, "command", "ports", "read_only", "mounts"))
    if given.get("tasks") == 0:
        reader.fail(f"{where}.tasks", "must be at least 1: leave it out for no limit")
    texts: dict[str, Any] = {
        name: reader.typed(given[name], str, f"{where}.{name}") for name in _TEXTS if name in given
    }
    numbers: dict[str, Any] = {
        name: reader.number(given[name], f"{where}.{name}") for name in _NUMBERS if name in given
    }
    rows = reader.typed(given.get("mounts", []), list, f"{where}.mounts")
    places = {f"{{@{row.name}}}": row.paths[0] for row in variables}
    return Launch(
        **texts,
        **numbers,
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
