"""What a tracer is: one screen. A new one is a module with such a class and one line in ``select.py``."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from profiler.tracers.recording import Recording

GRACE_SECONDS = 10.0
"""Between asking a workload to end (SIGTERM) and ending it (SIGKILL)."""


@dataclass(frozen=True)
class Workload:
    """The command to run. ``path`` is the file to execute, already found; ``user`` is (uid, gid, groups) to become, or None to stay.

    ``mask`` is the signal mask it starts with: profgen itself has signals blocked by then (supervisor.py).
    """

    argv: tuple[str, ...]
    path: str
    env: Mapping[str, str]
    cwd: str
    user: tuple[int, int, tuple[int, ...]] | None = None
    mask: frozenset[signal.Signals] = frozenset()


@dataclass(frozen=True)
class Options:
    """``duration``: seconds after which the workload is asked to end. ``limits``: sizes of bounded stores, by name.

    ``files``: whether files, sockets, signals, inspections and mounts are watched too. ``denials``: whether a Watcher notes calls that
    a seccomp filter refuses.
    """

    duration: float | None = None
    limits: Mapping[str, int] = field(default_factory=dict)
    files: bool = True
    denials: bool = False


class Tracer(Protocol):
    """One way to observe."""

    name: str

    def unavailable(self) -> str | None:
        """Why it cannot work here, with what to do about it, or None when it can. Quick, changes nothing."""

    def record(self, workload: Workload, options: Options, recording: Recording) -> int:
        """Run the workload to the end of its last descendant and fill ``recording``.

        Returns the exit status as a shell shows it. Raises CommandNotFound, CommandNotExecutable or TracerError
        before the workload ran; whatever goes wrong later is a loss in ``recording``.
        """


# -- what others start ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Selection:
    """What a Watcher watches; any of these together. Each member becomes a session.

    ``containers``: the full id (64 hex digits) or the name that is a component of the path of the container's cgroup
    (``/docker/ID``, ``docker-ID.scope``, runc's ``cgroupsPath``). One that starts later is recorded from its entry point on, and again at
    every start; one that runs is joined. ``cgroups``: a name, and the directories of one cgroup in each hierarchy where it exists;
    all tasks in and below it, and those that enter. ``pids``: processes with all threads and descendants. ``all_containers``: every
    container
    that starts from now on (those that run already are named in ``containers`` by the caller).
    """

    containers: tuple[str, ...] = ()
    cgroups: tuple[tuple[str, tuple[str, ...]], ...] = ()
    pids: tuple[int, ...] = ()
    all_containers: bool = False


@dataclass(frozen=True)
class Session:
    """One recording of a Watcher.

    ``kind``: container, cgroup or pid. ``subject``: the container's id or name, the cgroup's name, the pid as text. ``joined``: it ran
    already, its
    start was not seen. ``pid``: a process of it, as profgen numbers it (the entry point's, unless joined); 0 before there is one.
    ``began``: time.monotonic(). ``ended``: the last task is gone, or the cgroup.
    """

    number: int
    kind: str
    subject: str
    joined: bool
    pid: int
    began: float
    ended: bool = False


@dataclass(frozen=True)
class Refused:
    """Calls that a seccomp filter refused, alike in all that is here but ``count``; ``pid`` and ``comm`` are of the first.

    ``program``: its index in the Recording's programs. ``arguments``: the six registers; of one (program, ABI, number, errno) the first
    16 that differ are kept.
    """

    program: int
    abi: str
    number: int
    arguments: tuple[int, ...]
    error: str
    pid: int
    comm: str
    count: int


class Watcher(Protocol):
    """Records what profgen does not start, and never disturbs it: nothing is stopped, nothing is killed, however profgen ends.

    A context manager; leaving it takes everything out of the kernel. Not thread-safe: one thread calls it, and calls ``wait`` at least
    every
    second, which empties the kernel's rings and keeps hold of what paths are resolved with.
    """

    def start(self, selection: Selection, options: Options) -> None:
        """What starts after this returns is not missed, and what ran is joined. Raises TracerError, InputError (no such process or
        cgroup)."""

    def sessions(self) -> tuple[Session, ...]:
        """All since the start that were not forgotten, oldest first."""

    def wait(self, timeout: float) -> bool:
        """Work for at most ``timeout`` seconds; returns True early when a session began or ended."""

    def snapshot(self, session: Session) -> Recording:
        """All that was seen of it so far, as a Recording of its own; it goes on. ``features`` has ``joined`` where the start was not
        seen."""

    def refused(self, session: Session) -> list[Refused]:
        """With ``Options.denials``: what a seccomp filter refused so far. Program indexes are those of the last ``snapshot``."""

    def forget(self, session: Session) -> None:
        """Give back the room of a session; it is not watched any more."""

    def fill(self) -> Mapping[str, tuple[int, int]]:
        """Of each store of the kernel: entries in use, and room."""

    def stop(self) -> None:
        """Detach: nothing is counted after this; snapshots still work until the context ends."""
