"""What a watcher is: it records workloads that profgen does not start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from profiler.tracers.base import Options
from profiler.tracers.process import Process
from profiler.tracers.recording import Recording


@dataclass(frozen=True)
class Selection:
    """What a Watcher watches, in any combination. Each item becomes a session.

    ``containers``: the full id (64 hex digits), or the name that is a component of the path of the container's cgroup
    (``/docker/ID``, ``docker-ID.scope``, runc's ``cgroupsPath``). A container that starts later is recorded from its
    entry point on, and each further start is another session; a running one is joined.

    ``cgroups``: a name, and the directory of one cgroup in each hierarchy, whether or not it exists yet. All tasks in
    and below it are joined, as are those that are moved there later. A task that moves itself, or is created there
    (CLONE_INTO_CGROUP), is recorded from its next exec on: what it did before is its manager's.

    ``pids``: processes with all their threads and descendants. ``all_containers``: every container that starts from now
    on (the caller names the running ones in ``containers``). ``starting``: containers of which the runtime is about to
    start the first program: what is in their cgroup now is the runtime's own (an OCI hook knows that). ``running``: all
    of these run already, and nothing is waited for.
    """

    containers: tuple[str, ...] = ()
    starting: tuple[str, ...] = ()
    cgroups: tuple[tuple[str, tuple[str, ...]], ...] = ()
    pids: tuple[int, ...] = ()
    all_containers: bool = False
    running: bool = False


@dataclass(frozen=True)
class Session:
    """One recording of a Watcher.

    ``kind``: container, cgroup or pid. ``subject``: the container's id or name, the cgroup's name, the pid as text.
    ``joined``: it was already running, and its start was not seen. ``pid``: its first process, as profgen numbers it,
    or any process of a joined one. It is 0 for a container that has not executed its entry point (listed only with
    ``Options.denials``), and for a cgroup that existed but is still empty. ``began``: time.monotonic(). ``ended``: its
    last task is gone; for a cgroup, the cgroup itself. ``gone``: its first process was already gone when it was looked
    for; another process may have its number now. ``process``: what that process was when it began, or when it was
    joined; None if it was gone too soon.
    """

    number: int
    kind: str
    subject: str
    joined: bool
    pid: int
    began: float
    ended: bool = False
    gone: bool = False
    process: Process | None = None


@dataclass(frozen=True)
class Refused:
    """Calls that a seccomp filter refused with an error; they are alike in every member but ``count``.

    ``pid`` and ``comm`` are those of the first call. ``path``: the program's; None for the runtime, between loading the
    filter and executing the entry point. ``arguments``: the six registers. For one (program, ABI, number, error) the
    first 16 different ones are kept; then one row with None counts all others.
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
    """Records what profgen does not start, and never disturbs it: it stops and kills nothing, however profgen ends.

    A context manager; leaving it removes everything from the kernel. Not thread-safe: one thread calls it, and calls
    ``wait`` at least every second, which empties the kernel's rings and holds on to what is needed to resolve paths.
    Whatever runs within a watched container, including another container, belongs to the outer one's session.
    """

    def start(self, selection: Selection, options: Options) -> None:
        """Start watching. What starts after this returns is not missed; what is running is joined.

        ``options.duration`` is not used. Raises TracerError, or InputError: there is no such process or cgroup, or what
        should be running has ended.
        """

    def sessions(self) -> tuple[Session, ...]:
        """All sessions since the start that were not forgotten, oldest first."""

    def made(self) -> tuple[tuple[str, int], ...]:
        """Return (name, process) of each container that was made since the last call. Its session begins when it is
        started; the process is its runtime's."""

    def wait(self, timeout: float) -> bool:
        """Work for at most ``timeout`` seconds; returns True early when a session began or ended, or one was made."""

    def snapshot(self, session: Session) -> Recording:
        """Return what was seen of a session so far, as a Recording of its own; watching goes on.

        ``features`` has ``joined`` if the start was not seen.
        """

    def snapshots(self, sessions: Sequence[Session]) -> list[Recording]:
        """Return the recordings of several sessions, which is faster than one by one."""

    def refused(self, session: Session) -> list[Refused]:
        """Return what seccomp filters have refused so far, with ``Options.denials``."""

    def forget(self, session: Session) -> None:
        """Release the memory of a session that has ended. Raises InputError for one that goes on."""

    def lost(self) -> int:
        """Return how many containers were missed for lack of room (``limits``: sessions, programs)."""

    def fill(self) -> Mapping[str, tuple[int, int]]:
        """Return the entries in use and the size of each store in the kernel, by the names of ``limits``."""

    def kernel_bytes(self) -> int:
        """Return the memory that the kernel holds for all of it."""

    def stop(self) -> None:
        """Detach: nothing is counted after this; snapshots still work until the context ends."""
