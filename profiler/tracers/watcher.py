"""What a watcher is: it records workloads that profgen does not start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from profiler.tracers.base import Options
from profiler.tracers.recording import Recording


@dataclass(frozen=True)
class Selection:
    """What a Watcher watches; any of these together. Each member becomes a session.

    ``containers``: the full id (64 hex digits) or the name that is a component of the path of the container's cgroup
    (``/docker/ID``, ``docker-ID.scope``, runc's ``cgroupsPath``). One that starts later is recorded from its entry
    point on, and again, as another session, at every start; one that runs is joined. ``cgroups``: a name, and the
    directories of one cgroup in each hierarchy where it is or will be: all tasks in and below it are joined, and those
    that are moved there later. One that moves itself, or is made there (CLONE_INTO_CGROUP), is recorded from its next
    exec on: what is before that is its manager's. ``pids``: processes with all threads and descendants.
    ``all_containers``: every container that starts from now on (those that run are for the caller to name in
    ``containers``). ``starting``: as ``containers``, of which the runtime is about to start the first program: what is
    in its cgroup now is the runtime's own (an OCI hook knows that).
    """

    containers: tuple[str, ...] = ()
    starting: tuple[str, ...] = ()
    cgroups: tuple[tuple[str, tuple[str, ...]], ...] = ()
    pids: tuple[int, ...] = ()
    all_containers: bool = False


@dataclass(frozen=True)
class Session:
    """One recording of a Watcher.

    ``kind``: container, cgroup or pid. ``subject``: the container's id or name, the cgroup's name, the pid as text.
    ``joined``: it ran already, its start was not seen. ``pid``: its first process, as profgen numbers it (of one that
    was joined, any); 0 of a container whose entry point was not executed, yet or ever, which is listed only with
    ``Options.denials``; 0 of a cgroup that was there, as long as nothing is in it. ``began``: time.monotonic().
    ``ended``: the last task is gone, of a cgroup the cgroup itself. ``gone``: so was the first process when it was
    looked for; another may have its number.
    """

    number: int
    kind: str
    subject: str
    joined: bool
    pid: int
    began: float
    ended: bool = False
    gone: bool = False


@dataclass(frozen=True)
class Refused:
    """Calls to which a seccomp filter gave an error, alike in all that is here but ``count``; ``pid`` and ``comm`` are
    of the first.

    ``path``: the program's; None for the runtime, between loading the filter and executing the entry point.
    ``arguments``: the six registers. Of one (program, ABI, number, error) the first 16 that differ are kept, then one
    row with None counts all others.
    """

    path: str | None
    abi: str
    number: int
    arguments: tuple[int, ...] | None
    error: str
    pid: int
    comm: str
    count: int


class Watcher(Protocol):
    """Records what profgen does not start, and never disturbs it: nothing is stopped, nothing is killed, however
    profgen ends.

    A context manager; leaving it takes everything out of the kernel. Not thread-safe: one thread calls it, and calls
    ``wait`` at least every second, which empties the kernel's rings and keeps hold of what paths are resolved with.
    What runs within a container that is watched, another container too, belongs to the outer one's session.
    """

    def start(self, selection: Selection, options: Options) -> None:
        """What starts after this returns is not missed; what ran is joined.

        ``options.duration`` is not used. Raises TracerError, InputError (no such process or cgroup).
        """

    def sessions(self) -> tuple[Session, ...]:
        """All since the start that were not forgotten, oldest first."""

    def wait(self, timeout: float) -> bool:
        """Work for at most ``timeout`` seconds; returns True early when a session began or ended."""

    def snapshot(self, session: Session) -> Recording:
        """All that was seen of it so far, as a Recording of its own; watching goes on.

        ``features`` has ``joined`` where the start was not seen.
        """

    def snapshots(self, sessions: Sequence[Session]) -> list[Recording]:
        """Of several: quicker than one by one."""

    def refused(self, session: Session) -> list[Refused]:
        """With ``Options.denials``: what seccomp filters refused so far."""

    def forget(self, session: Session) -> None:
        """Give back the room of a session that has ended. Raises InputError for one that goes on."""

    def lost(self) -> int:
        """Containers for which there was no room (``limits``: sessions, programs)."""

    def fill(self) -> Mapping[str, tuple[int, int]]:
        """Of each store of the kernel, by the names of ``limits``: entries in use, and room."""

    def kernel_bytes(self) -> int:
        """Memory that the kernel holds for it all."""

    def stop(self) -> None:
        """Detach: nothing is counted after this; snapshots still work until the context ends."""
