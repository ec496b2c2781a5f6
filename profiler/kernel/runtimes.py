"""Read runtimes.yaml and startup.yaml: the syscalls of container runtimes, and those that start programs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from profiler.kernel.arguments import parse, spec_for
from profiler.kernel.data import load


@dataclass(frozen=True)
class Base:
    """One measured set of syscalls. ``id`` names it in reasons.

    ``arguments`` holds, for names with filterable arguments, the values that the runtime uses: tuples in the order of
    the recorded fields. ``apart``: the set is not part of those of any runtime.
    """

    id: str
    runtimes: tuple[str, ...]
    versions: tuple[str | None, str | None]
    no_new_privs: bool | None
    measured: str
    measured_versions: tuple[str, ...]
    syscalls: tuple[str, ...]
    arguments: Mapping[str, tuple[tuple[int, ...], ...]]
    apart: bool = False


def _values(name: str, rows: list[list[str | int]]) -> tuple[tuple[int, ...], ...]:
    spec = spec_for(name)
    if spec is None:
        raise ValueError(f"runtimes.yaml: {name} has no recorded arguments")
    tuples = []
    for row in rows:
        values: list[int] = []
        for field, text in zip(spec.fields, row, strict=True):
            values.append(parse(name, field, text, values))
        tuples.append(tuple(values))
    return tuple(tuples)


def _base(row: Mapping[str, Any]) -> Base:
    """Return one set of either file; those of startup.yaml are of no runtime."""
    syscalls, measured = tuple(row["syscalls"]), row["measured"]
    versions = tuple(map(str, measured["versions"]))
    lowest, below = row.get("versions", (None, None))
    return Base(
        id=row["id"],
        runtimes=tuple(row.get("runtimes", ())),
        versions=(lowest, below),
        no_new_privs=row.get("no_new_privs"),
        measured=f"{', '.join(versions)} on {measured['arch']}, {measured['date']}",
        measured_versions=versions,
        syscalls=syscalls,
        arguments={name: _values(name, rows) for name, rows in row["arguments"].items() if name in syscalls},
        apart=row.get("apart", False),
    )


@cache
def bases() -> tuple[Base, ...]:
    """Return every set, in the order of the file."""
    return tuple(map(_base, load("runtimes.yaml")["sets"]))


def runtime_names() -> tuple[str, ...]:
    """Return the runtimes that have a base set, sorted."""
    return tuple(sorted({name for base in bases() for name in base.runtimes}))


@cache
def starts() -> tuple[Base, ...]:
    """Return the sets that programs need to start, whatever they do later, in the order of startup.yaml."""
    return tuple(map(_base, load("startup.yaml")["sets"]))


_VERSION = re.compile(r"\d+(\.\d+)*")


def version_key(version: str) -> tuple[int, ...]:
    """Return ``1.1.5+ds1`` as (1, 1, 5). Raises ValueError if the text does not start with a number."""
    match = _VERSION.match(version.removeprefix("v"))
    if match is None:
        raise ValueError(f"{version!r} is not a version: write it as 1.1.5")
    return tuple(int(part) for part in match.group().split("."))


def newest_measured(runtime: str) -> str:
    """Return the newest version of the OCI runtime that was measured for a runtime."""
    return max(
        (text for base in bases() if runtime in base.runtimes for text in base.measured_versions), key=version_key
    )


def base_for(runtime: str, version: str | None, no_new_privs: bool) -> list[Base]:
    """Return the sets for a runtime: ``any`` is the union of all OCI runtimes, ``none`` is empty.

    ``version`` is that of the OCI runtime (runc or crun), also for docker, containerd and podman; None means every
    version. A version newer than any measured one gets the newest set. Raises ValueError for an unknown runtime or a
    malformed version.
    """
    if runtime == "none":
        return []
    if runtime != "any" and runtime not in runtime_names():
        raise ValueError(f"unknown runtime {runtime!r}: one of any, none, {', '.join(runtime_names())}")
    key = version_key(version) if version is not None else None
    found = []
    for base in bases():
        if base.apart if runtime == "any" else runtime not in base.runtimes:
            continue
        if base.no_new_privs is not None and base.no_new_privs != no_new_privs:
            continue
        lowest, below = base.versions
        if key is not None and ((lowest and key < version_key(lowest)) or (below and key >= version_key(below))):
            continue
        found.append(base)
    return found
