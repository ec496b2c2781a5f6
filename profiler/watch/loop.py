"""The loop of a recording of others: sessions come and go, and each has a file, which is written on request, at
intervals and at the end."""

from __future__ import annotations

import datetime
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from profiler.engines import bundle, cgroups
from profiler.engines.engine import Details
from profiler.errors import InputError, OutputError
from profiler.files import STANDARD_OUTPUT
from profiler.progress import busy
from profiler.run import Client, shell_status
from profiler.trace.merge import merge
from profiler.trace.model import Container, Trace
from profiler.trace.store import dumps, read_trace
from profiler.tracers.base import Options
from profiler.tracers.launch import FORWARDED
from profiler.tracers.pace import Pace
from profiler.tracers.process import Process, look
from profiler.tracers.recording import Recording
from profiler.tracers.watcher import Selection, Session, Watcher
from profiler.watch.finish import finish
from profiler.watch.identify import Identifier, origin, unknown_container
from profiler.watch.metrics import Figures, figures_of, resident_bytes
from profiler.watch.outputs import Outputs, workload_name

TICK_SECONDS = 0.2
ANSWER_SECONDS = 10.0
"""Seconds that a finished recording waits for its engine's answer about the container."""

CLIENT_SECONDS = 5.0
"""Seconds that a session may go on after the client that waited for its container has ended."""

_MADE_MAX = 1000
"""Containers that were made and not started, of which the bundle is remembered."""

TRACER = "ebpf"
"""The tracer that can watch what it did not start."""


Accept = Callable[[Session, Details | None], bool]
"""Whether a session is wanted, by its engine's details, which are None for a container that no engine knows."""


@dataclass(frozen=True)
class Plan:
    """What to watch, and how.

    ``watched``: Meta.watched, None to name each container. ``accept``: None accepts all sessions. ``awaited``: each
    accepts a session that comes before the end. ``by_details``: a container without details may have been meant.
    ``snapshot``: seconds between writing. ``follow``: go on when sessions end, until all that are awaited have ended.
    ``user``: ids of the container's user, if they are known already.
    """

    selection: Selection
    options: Options
    outputs: Outputs
    watched: str | None = None
    accept: Accept | None = None
    awaited: tuple[Accept, ...] = ()
    by_details: bool = False
    snapshot: float | None = None
    follow: bool = False
    user: tuple[int, int] | None = None
    process: int = 0
    """Of a cgroup: the process whose command line and ids the trace has; 0 for any."""
    container: Container | None = None
    """What is known of a container that no engine knows."""
    first: int = 0
    """Of a container that is being made: its first process. If it ends before a recording begins, the loop ends."""


class Observer(Protocol):
    """Receives events of the loop."""

    def began(self, name: str, joined: bool) -> None:
        """A recording has begun; ``name`` is for people."""

    def wrote(self, path: Path, trace: Trace, final: bool) -> None:
        """A trace is on disk."""

    def warned(self, name: str, warning: str) -> None:
        """A recording that is over says why something was lost, for example."""

    def failed(self, reason: str) -> None:
        """A trace could not be written; recording goes on."""


@dataclass
class Kept:
    """A session and its state in the loop."""

    session: Session
    start: datetime.datetime
    process: Process | None
    bundle: Details | None = None
    """What its OCI bundle says, if it is in a container."""
    details: Details | None = None
    known: bool = False
    """Its engine has answered, or there is no engine to ask."""
    identity: str = ""
    """The id of the container that it is, or is in; empty outside of containers."""
    path: Path | None = None
    due: float = 0.0
    ended_at: float | None = None
    status: int | None = None
    last: Recording | None = None
    peeked_at: float = 0.0

    @property
    def name(self) -> str:
        """The name for people: the container's, else the session's subject."""
        return (self.details and self.details.container.full_name) or self.session.subject

    @property
    def in_pod(self) -> bool:
        """Whether it is a container of Kubernetes: no engine knows more than its bundle."""
        return self.bundle is not None and self.bundle.container.pod is not None


@dataclass
class Watch:
    """One run of the loop. ``client``: a process that waits for the container (``docker start --attach``), to which
    signals are forwarded."""

    watcher: Watcher
    plan: Plan
    identifier: Identifier
    observer: Observer
    client: Client | None = None
    attached: bool = False
    """Whether the client ends with the container, instead of once it has started."""
    stop_client: Callable[[], None] | None = None
    """Asks the container to end after the plan's duration."""
    publish: Callable[[Figures], None] | None = None
    kept: dict[int, Kept] = field(default_factory=dict)
    figures: Figures = field(default_factory=Figures)
    traces: list[Trace] = field(default_factory=list)
    """The final trace of each session, unless the plan follows restarts."""
    last: tuple[Trace, Path] | None = None
    """The newest trace on disk, and its file."""
    _deadline: float | None = None
    _asked: bool = False
    """Whether Options.stop was seen to be set."""
    unwanted: set[int] = field(default_factory=set)
    """Numbers of sessions that the plan does not accept, until they end."""
    told: bool = False
    """Whether a signal or Options.stop asked for the end."""
    replaced: bool = False
    """Whether a trace replaces a file that existed, with nothing of it kept."""
    _before: dict[Path, Trace | None] = field(default_factory=dict)
    """When runs are merged, what a file holds apart from the runs in ``kept``: two runs of one container may be there
    when it restarts at once."""
    _made: dict[str, Details] = field(default_factory=dict)
    """What bundles say of containers that have not been started."""
    _awaited: tuple[Accept, ...] = ()
    """Those of the plan that have not come yet."""
    _client_ended: float | None = None
    _pace: Pace = field(default_factory=lambda: Pace(0.0))
    _gone: int = 0
    _losses: Counter[str] = field(default_factory=Counter)

    def run(self) -> None:
        """Loop until a signal asks for the end, or nothing is left to watch. The watcher must have been started."""
        self._awaited = self.plan.awaited
        if self.plan.options.duration is not None:
            self._deadline = time.monotonic() + self.plan.options.duration
        while not self._over():
            self._signals()
            self.watcher.wait(TICK_SECONDS)
            self._sessions()
            self._identify()
            self._write_due()
            self._peek()
        self.watcher.stop()
        self._sessions()
        until = time.monotonic() + ANSWER_SECONDS
        with busy("waiting for the engine to describe the container"):
            while any(not self._settled(row) for row in self.kept.values()) and time.monotonic() < until:
                time.sleep(0.02)
                self._identify()
        for row in list(self.kept.values()):
            self._close(row)
        self.identifier.close()
        self._publish()

    # -- what happens ----------------------------------------------------------------------------------------------

    def _signals(self) -> None:
        while (info := signal.sigtimedwait(FORWARDED, 0)) is not None:
            if self.client is not None and self.client.poll() is None:
                # A signal of the terminal has reached the client already: it is in the same process group.
                if info.si_code <= 0:
                    self.client.send_signal(info.si_signo)
            elif info.si_signo == signal.SIGUSR1:
                for row in self.kept.values():
                    row.due = 0.0
            elif info.si_signo != signal.SIGUSR2:
                self.told = True

    def _over(self) -> bool:
        now = time.monotonic()
        if self.told:
            return True
        stop = self.plan.options.stop
        if stop is not None and stop.is_set() and not self._asked:
            self._asked, self._deadline = True, now
        if self._deadline is not None and now >= self._deadline:
            if self.client is None or self.client.poll() is not None or self.stop_client is None:
                self.told = self._asked
                return True
            self.stop_client()
            self._deadline = None
        live = [row for row in self.kept.values() if row.ended_at is None]
        if self.client is not None:
            if self.client.poll() is None:
                return False
            self._client_ended = self._client_ended or now
            settled = all(self._settled(row) for row in self.kept.values())
            # The client may see the end before the last task has ended; or it failed, and there never was a container.
            return (not live and settled and now >= self._client_ended + TICK_SECONDS) or (
                self.attached and now >= self._client_ended + CLIENT_SECONDS
            )
        if self.plan.follow and (self._awaited or not self.plan.awaited):
            return False
        if self.plan.first and not self.kept and not self.traces and not os.path.exists(f"/proc/{self.plan.first}"):
            # Events of its last moments may still be in the rings.
            self._gone += 1
            return self._gone > 2
        begun = self.kept or self.traces or self.plan.follow
        return bool(begun) and not live and all(self._settled(row) for row in self.kept.values())

    def _sessions(self) -> None:
        for identity, pid in self.watcher.made():
            # Its bundle may be gone when it has ended, which can be at once.
            if found := bundle.find(identity, pid):
                self._made[identity] = found
        while len(self._made) > _MADE_MAX:
            del self._made[next(iter(self._made))]
        for session in self.watcher.sessions():
            if session.number in self.unwanted:
                if session.ended:
                    self.unwanted.discard(session.number)
                    self.watcher.forget(session)
                continue
            row = self.kept.get(session.number)
            if row is None:
                row = self._begin(session)
            row.session = session
            if row.process is None and not session.ended:
                row.process = self._look(session)
            if session.ended and row.ended_at is None:
                row.ended_at = time.monotonic()
                if session.kind == "container" and self.identifier.engines and not row.in_pod:
                    row.known = False
                    self.identifier.want(row.identity)  # for its exit status
        if not self.plan.follow:
            return
        for row in [row for row in self.kept.values() if row.ended_at is not None and self._settled(row)]:
            self._close(row)

    def _look(self, session: Session) -> Process | None:
        if session.kind == "pid":
            return look(int(session.subject))
        main = look(self.plan.process) if self.plan.process else None
        return main or session.process or look(self._first(session))

    def _first(self, session: Session) -> int:
        return self.plan.process or (0 if session.gone else session.pid)

    def _begin(self, session: Session) -> Kept:
        start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=time.monotonic() - session.began)
        row = self.kept[session.number] = Kept(session, start, self._look(session))
        row.due = time.monotonic() + self.plan.snapshot if self.plan.snapshot is not None else float("inf")
        if session.kind == "container":
            row.identity = session.subject
        elif path := cgroups.path_of(int(session.subject) if session.kind == "pid" else self._first(session)):
            told = cgroups.container_of(path)
            row.identity = told[1] if told else ""
        row.bundle = self._made.pop(row.identity, None) or bundle.find(
            row.identity, int(session.subject) if session.kind == "pid" else self._first(session)
        )
        if row.identity and self.identifier.engines and not row.in_pod:
            self.identifier.want(row.identity)
        else:
            self._answer(row, None)
        return row

    def _identify(self) -> None:
        answers = self.identifier.work()
        for row in list(self.kept.values()):
            if not row.known and row.identity in answers:
                self._answer(row, answers[row.identity])

    def _answer(self, row: Kept, details: Details | None) -> None:
        """Take what an engine knows: None when it knows nothing, or there is none."""
        if details is None and (self.plan.container is None or row.in_pod):
            details = row.bundle
        first = row.path is None
        row.known = True
        if details is not None:
            row.details = details
            row.status = details.status if row.ended_at is not None and row.session.kind == "container" else None
            if (
                row.ended_at is not None
                and row.session.kind == "container"
                and row.status is None
                and details.pid == row.session.pid != 0
            ):
                row.known = False  # the engine has not seen the end yet
                self.identifier.want(row.identity)
        if not first:
            return
        if self.plan.accept is not None and not self.plan.accept(row.session, details):
            del self.kept[row.session.number]
            self.unwanted.add(row.session.number)
            if details is None and self.plan.by_details:
                self._losses["unknown"] += 1
                self.observer.warned(row.name, "it ended before profgen could look what it is, and is not recorded")
            return
        self._awaited = tuple(wanted for wanted in self._awaited if not wanted(row.session, details))
        row.path = self.plan.outputs.claim(workload_name(details.container) if details else None, row.session.subject)
        self.replaced |= row.path != STANDARD_OUTPUT and not self.plan.outputs.merge and row.path.exists()
        if self.plan.outputs.merge and row.path not in self._before:
            self._before[row.path] = None
            if row.path.exists():
                try:
                    self._before[row.path] = read_trace(row.path)
                except InputError as error:
                    self.observer.failed(f"{error}; the file will be replaced")
        self.figures = replace(self.figures, begun=self.figures.begun + 1)
        self.observer.began(row.name, row.session.joined)

    def _settled(self, row: Kept) -> bool:
        """Return whether nothing more will be learnt about the session."""
        return row.known or (row.ended_at is not None and time.monotonic() >= row.ended_at + ANSWER_SECONDS)

    # -- traces ----------------------------------------------------------------------------------------------------

    def trace(self, row: Kept) -> Trace:
        """Return the trace of a session so far."""
        recording = self.watcher.snapshot(row.session)
        row.last = recording
        container = None
        if row.details is not None:
            container = row.details.container
        elif row.session.kind == "container":
            path = cgroups.path_of(row.session.pid) if row.session.pid and not row.session.gone else None
            told = cgroups.container_of(path) if path else None
            container = self.plan.container or unknown_container(told[0] if told else None, row.session.subject)
        watched = self.plan.watched or (
            f"{row.session.kind} {row.name}" if row.session.kind != "container" or row.session.joined else None
        )
        status = row.status
        if (
            status is None
            and row.ended_at is not None
            and self.attached
            and self.client is not None
            and self.client.poll() is not None
        ):
            status = shell_status(self.client.returncode)
        whole = row.session.kind == "container"
        known = origin(row.process, container, watched, self.plan.user, whole, recording.first_program())
        return finish(recording, TRACER, known, row.start, status)

    def _write_due(self) -> None:
        """Write at most one snapshot: the kernel's rings must be emptied in between."""
        now = time.monotonic()
        row = min(
            (row for row in self.kept.values() if row.path is not None and row.ended_at is None),
            key=lambda row: row.due,
            default=None,
        )
        if row is None or row.due > now or row.path == STANDARD_OUTPUT:
            return
        row.due = now + self.plan.snapshot if self.plan.snapshot is not None else float("inf")
        self._write(row, final=False)

    def _write(self, row: Kept, final: bool) -> None:
        assert row.path is not None
        made = trace = self.trace(row)
        if self.plan.outputs.merge:
            before = self._before[row.path]
            others = [other for other in self.kept.values() if other.path == row.path and other is not row]
            runs = [*([before] if before is not None else []), made]
            trace = merge([*runs, *(self.trace(other) for other in others)])
            if final and others:
                self._before[row.path] = merge(runs)
            elif final:
                del self._before[row.path]  # the next session reads the file
        try:
            row.path = self.plan.outputs.write(row.path, dumps(trace).encode("ascii"))
        except OutputError as error:
            self.figures = replace(self.figures, failed=self.figures.failed + 1)
            if final and not self.plan.follow:
                raise
            self.observer.failed(str(error))
            return
        self.figures = replace(self.figures, written=self.figures.written + 1)
        if final and not self.plan.follow:
            self.traces.append(trace)
        if final:
            self._losses.update(made.meta.losses)
        self.last = (trace, row.path)
        self.observer.wrote(row.path, trace, final)
        for warning in row.last.warnings if final and row.last is not None else ():
            self.observer.warned(row.name, warning)

    def _close(self, row: Kept) -> None:
        """Write a session for the last time and release it."""
        if row.path is None and row.session.number in self.kept and not row.known:
            self._answer(row, None)
        if row.path is not None:
            self._write(row, final=True)
            self.figures = replace(self.figures, ended=self.figures.ended + 1)
        self.kept.pop(row.session.number, None)
        if row.session.ended:
            self.watcher.forget(row.session)

    # -- figures ---------------------------------------------------------------------------------------------------

    def _peek(self) -> None:
        """Refresh the figures of one session, in turn, if they are shown."""
        looks = self.plan.options.looks
        if looks is None or not self._pace.due():
            return
        rows = sorted((row for row in self.kept.values() if row.ended_at is None), key=lambda row: row.peeked_at)
        self._pace.least = looks / max(1, len(rows))
        with self._pace.turn():
            if rows:
                rows[0].peeked_at = time.monotonic()
                rows[0].last = self.watcher.snapshot(rows[0].session)
            self._publish()

    def _publish(self) -> None:
        losses = Counter(self._losses)
        if lost := self.watcher.lost():
            losses["sessions"] += lost
        shown = []
        for row in self.kept.values():
            if row.last is not None and row.path is not None:  # one without a path may not be wanted
                losses.update(row.last.losses)
                shown.append(figures_of(row.name, row.session.subject, row.last))
        self.figures = replace(
            self.figures,
            sessions=tuple(shown),
            losses=dict(losses),
            stores=dict(self.watcher.fill()),
            memory=resident_bytes(),
        )
        if self.publish is not None:
            self.publish(self.figures)
