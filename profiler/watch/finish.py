"""A finished trace from a Recording: what was seen, and where and of whom."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, replace

from profiler import __version__
from profiler.files import as_invoking_user
from profiler.trace.model import Container, Meta, Program, Trace
from profiler.tracers.host import host, with_hashes
from profiler.tracers.recording import Recording


@dataclass(frozen=True)
class Origin:
    """Whose recording it is. ``watched`` and ``container`` as in Meta; ids and working directory as at the start, or
    when it was joined."""

    argv: tuple[str, ...]
    cwd: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    no_new_privs: bool = False
    container: Container | None = None
    watched: str | None = None


def _as_read(program: Program, hashes: tuple[str | None, str | None] | None) -> Program:
    return program if hashes is None else replace(program, sha256=hashes[0], build_id=hashes[1])


def finish(recording: Recording, tracer: str, origin: Origin, start: datetime.datetime, status: int | None) -> Trace:
    """The trace of a recording that began at ``start`` (UTC). ``status`` as a shell shows it, None while the workload
    runs."""
    duration = recording.elapsed()
    here = host()
    # In a container the libraries are the image's, and so is the distribution.
    own = origin.container is None
    losses = {name: count for name, count in sorted(recording.losses.items()) if count}
    meta = Meta(
        tool=f"profgen {__version__}",
        tracer=tracer,
        features=tuple(sorted(set(recording.features))),
        kernel=here.kernel,
        arch=recording.native,
        distribution=here.distribution if own else None,
        libc=here.libc if own else None,
        argv=origin.argv,
        cwd=origin.cwd,
        uid=origin.uid,
        gid=origin.gid,
        groups=origin.groups,
        no_new_privs=recording.no_new_privs or origin.no_new_privs,
        start=start.isoformat(timespec="seconds"),
        duration=round(duration, 3),
        exit_status=status,
        complete=not losses,
        losses=losses,
        last_new=round(min(recording.last_new, duration), 3),
        container=origin.container,
        watched=origin.watched,
    )
    with as_invoking_user():
        programs = [
            _as_read(program, recording.hashes.get(index)) if index in recording.foreign else with_hashes(program)
            for index, program in enumerate(recording.programs)
        ]
    return recording.trace(meta, programs)
