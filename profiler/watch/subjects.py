"""What profgen records and does not start itself: containers, compose projects, processes, cgroups, systemd units."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from profiler.engines import cgroups, compose, hook, pods
from profiler.engines.commands import Compose
from profiler.engines.engine import Details, Engine, installed
from profiler.errors import InputError, ProgramError
from profiler.files import kernel_text
from profiler.trace.model import Container
from profiler.tracers.launch import quoted
from profiler.tracers.living import why_not_watchable
from profiler.tracers.watcher import Selection, Session
from profiler.watch.identify import first_known
from profiler.watch.loop import Accept
from profiler.wording import suggestion


@dataclass(frozen=True)
class Subject:
    """Something that is recorded. ``name``: its files are named after it. ``many``: it has several traces, in a
    directory. ``engines``: asked about its containers. The other members as in Plan."""

    name: str
    selection: Selection
    engines: tuple[Engine, ...] = ()
    many: bool = False
    watched: str | None = None
    accept: Accept | None = None
    awaited: tuple[Accept, ...] = ()
    by_details: bool = False
    container: Container | None = None
    first: int = 0


@dataclass(frozen=True)
class Group:
    """A cgroup that is recorded: a user's own, or a systemd unit's.

    ``where(wait)`` returns its directory in each hierarchy; with ``wait``, also where it does not exist yet. It raises
    InputError.
    """

    subject: str
    name: str
    watched: str
    where: Callable[[bool], tuple[str, ...]]


def container(name: str, *, wait: bool, follow: bool) -> Subject:
    """Return the container of this name or id. Raises InputError when it does not run, unless ``wait``.

    ``follow``: recording goes on across restarts, so another container of the same name counts too.
    """
    engines = installed()
    known = first_known(engines, name)
    identity = known[1].container.id if known is not None else None
    runs = known[1].pid > 0 if known is not None else name in cgroups.names() | cgroups.running_containers()
    if not runs and not wait:
        if known is not None:
            raise InputError(f"the container {quoted(name)} does not run: start it, or wait for that with --wait")
        asked = "; ".join(f"{engine.name}: {engine.why_not() or 'does not know it'}" for engine in engines)
        raise InputError(
            f"no container {quoted(name)} here{suggestion(name, _running(engines))} "
            f"({asked or 'no engine is installed'}), and no cgroup of that name: wait for it with --wait"
        )

    def wanted(session: Session, details: Details | None) -> bool:
        if session.subject in (name, identity) or (len(name) >= 12 and session.subject.startswith(name)):
            return True
        return details is not None and details.container.name == name

    # runc and crun name the cgroup as their user names the container. A container that is made again keeps its name and
    # gets another id.
    later = wait or follow
    chosen = (identity if identity is not None else name,)
    selection = Selection(containers=chosen, all_containers=later, running=not later)
    return Subject(name, selection, engines, accept=wanted)


def _running(engines: tuple[Engine, ...]) -> Iterator[str]:
    """Yield the names of the containers that run."""
    for engine in engines:
        with contextlib.suppress(ProgramError):
            yield from (row.container.name for row in engine.details(engine.running()) if row.container.name)


def containers(names: Sequence[str], *, wait: bool, follow: bool) -> Subject:
    """Return containers by name or id, as one subject; see :func:`container`."""
    found = [container(name, wait=wait, follow=follow) for name in names]
    if len(found) == 1:
        return found[0]

    def wanted(session: Session, details: Details | None) -> bool:
        return any(one.accept is None or one.accept(session, details) for one in found)

    selection = Selection(
        containers=tuple(dict.fromkeys(name for one in found for name in one.selection.containers)),
        all_containers=wait or follow,
        running=not (wait or follow),
    )
    awaited = tuple(one.accept for one in found if one.accept is not None)
    return Subject("containers", selection, found[0].engines, many=True, accept=wanted, awaited=awaited)


def all_containers(selectors: Sequence[pods.Selector] = ()) -> Subject:
    """Return every container of this machine, those that start later too; with selectors, those in pods that one of
    them selects. The container that profgen itself runs in is left out, as are those that only hold a pod's
    namespaces."""

    def wanted(session: Session, details: Details | None) -> bool:
        if details is None or details.pause:
            return details is None and not selectors
        return not selectors or any(selector.selects(details.container) for selector in selectors)

    running = cgroups.running_containers(without=os.getpid())
    selection = Selection(containers=tuple(sorted(running)), all_containers=True)
    return Subject("containers", selection, installed(), many=True, accept=wanted, by_details=bool(selectors))


def project(command: Compose) -> Subject:
    """Return the containers of a compose project."""
    name = compose.project(command)

    def ours(session: Session, details: Details | None) -> bool:
        return details is not None and details.labels.get(compose.PROJECT_LABEL) == name

    engine = Engine(command.engine, (command.engine,))
    return Subject(name, Selection(all_containers=True), (engine,), many=True, accept=ours)


def starting(state: hook.State) -> Subject:
    """Return a container that its runtime is about to start (an OCI hook)."""
    selection = Selection(starting=(state.identity,))
    return Subject(state.identity, selection, installed(), container=hook.container(state), first=state.pid)


def process(pid: int) -> Subject:
    """Return a process with its threads and descendants. Raises InputError when there is nothing to watch."""
    if reason := why_not_watchable(pid):
        raise InputError(reason)
    name = ""
    with contextlib.suppress(OSError, ValueError), kernel_text(f"/proc/{pid}/comm") as file:
        name = file.read().strip()
    return Subject(name or f"pid-{pid}", Selection(pids=(pid,), running=True), installed(), watched=f"pid {pid}")


def cgroup(path: str) -> Group:
    """Return a cgroup by its own path or by a directory of it."""

    def where(wait: bool) -> tuple[str, ...]:
        return (cgroups.places if wait else cgroups.directories)(path, cgroups.mounted())

    return Group(path, path.rstrip("/").rsplit("/", 1)[-1], f"cgroup {path}", where)


def unit(name: str) -> Group:
    """Return the cgroup of a systemd unit."""

    def where(wait: bool) -> tuple[str, ...]:
        group = cgroups.unit_group(name)
        if wait:
            return cgroups.places(cgroups.unit_place(name), cgroups.mounted())
        if group:
            with contextlib.suppress(InputError):
                return cgroups.directories(group, cgroups.mounted())
        raise InputError(f"the unit {quoted(name)} does not run: start it, or wait for that with --wait")

    return Group(name, name, f"unit {name}", where)
