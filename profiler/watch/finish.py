"""Make a trace of a Recording: what was seen, where, and of whom."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from profiler import __version__
from profiler.files import as_invoking_user, kernel_text
from profiler.trace.model import Container, Meta, Program, Trace
from profiler.tracers.base import Workload
from profiler.tracers.host import host, with_hashes
from profiler.tracers.launch import standing
from profiler.tracers.paths import Found, Resolver, View
from profiler.tracers.recording import Recording


@dataclass(frozen=True)
class Origin:
    """What was recorded. ``watched`` and ``container`` as in Meta; ids and working directory as they were at the start,
    or when it was joined."""

    argv: tuple[str, ...]
    cwd: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    no_new_privs: bool = False
    container: Container | None = None
    watched: str | None = None
    standing: tuple[str, ...] = ()


def origin_of(workload: Workload, no_new_privs: bool = False) -> Origin:
    """Return the origin of a command that profgen starts. ``no_new_privs``: profgen sets it for the command."""
    uid, gid, groups = workload.user or (os.geteuid(), os.getegid(), tuple(sorted(os.getgroups())))
    return Origin(
        workload.argv,
        workload.cwd,
        uid,
        gid,
        groups,
        no_new_privs=no_new_privs or _no_new_privs(),
        standing=standing(),
    )


def _no_new_privs() -> bool:
    with kernel_text("/proc/self/status") as file:
        return any(line.startswith("NoNewPrivs:") and line.split()[1] == "1" for line in file)


def meta(
    origin: Origin,
    tracer: str,
    arch: str,
    start: datetime.datetime,
    duration: float,
    status: int | None,
    *,
    features: tuple[str, ...] = (),
    losses: Mapping[str, int],
    last_new: float,
    tasks: int = 0,
) -> Meta:
    """Return a trace's head. ``start``: in UTC; ``status`` as a shell shows it, None while the workload runs."""
    here = host()
    # In a container the libraries and the distribution are the image's.
    own = origin.container is None
    lost = {name: count for name, count in sorted(losses.items()) if count}
    return Meta(
        tool=f"profgen {__version__}",
        tracer=tracer,
        features=features,
        kernel=here.kernel,
        arch=arch,
        distribution=here.distribution if own else None,
        libc=here.libc if own else None,
        argv=origin.argv,
        cwd=origin.cwd,
        uid=origin.uid,
        gid=origin.gid,
        groups=origin.groups,
        no_new_privs=origin.no_new_privs,
        start=start.isoformat(timespec="seconds"),
        duration=round(duration, 3),
        exit_status=status,
        complete=not lost,
        losses=lost,
        last_new=round(min(last_new, duration), 3),
        container=origin.container,
        watched=origin.watched,
        standing=origin.standing,
        tasks=tasks,
    )


def finish(recording: Recording, tracer: str, origin: Origin, start: datetime.datetime, status: int | None) -> Trace:
    """Return the trace of a recording that began at ``start`` (UTC). ``status`` as in :func:`meta`."""
    head = meta(
        replace(origin, no_new_privs=recording.no_new_privs or origin.no_new_privs),
        tracer,
        recording.native,
        start,
        recording.elapsed(),
        status,
        features=tuple(sorted(set(recording.features))),
        losses=recording.losses,
        last_new=recording.last_new,
        tasks=recording.tasks,
    )
    resolver = Resolver()
    with as_invoking_user():
        programs = [
            _as_read(program, recording.hashes.get(index)) if index in recording.foreign else _hashed(resolver, program)
            for index, program in enumerate(recording.programs)
        ]
    return recording.trace(head, programs)


def _hashed(resolver: Resolver, program: Program) -> Program:
    """Return a program with the hash of its file, if the file can be read, and a server does not keep it back."""
    if not program.path.startswith("/"):
        return program  # it has no name
    file = Found(program.path, look=program.path)
    try:
        return resolver.read(View(0, 0), file, "hashes", lambda _look: with_hashes(program))
    except (OSError, ValueError):
        return program


def _as_read(program: Program, hashes: tuple[str | None, str | None] | None) -> Program:
    return program if hashes is None else replace(program, sha256=hashes[0], build_id=hashes[1])
