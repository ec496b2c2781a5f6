"""Record what engines, systemd and others start, from the first look to the last trace."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from profiler.engines import cgroups, commands, compose
from profiler.engines.engine import Creation, Engine, installed
from profiler.errors import FAILED, InputError, ProgramError, TracerError
from profiler.files import STANDARD_OUTPUT, check_writable, make_directory
from profiler.progress import busy
from profiler.run import foreground, shell_status
from profiler.trace.model import Trace
from profiler.tracers.base import Options
from profiler.tracers.guard import guarded
from profiler.tracers.host import uses_terminal
from profiler.tracers.select import watcher, why_no_watcher
from profiler.tracers.supervisor import hold_signals
from profiler.tracers.watcher import Selection, Watcher
from profiler.watch import notify
from profiler.watch.identify import Identifier
from profiler.watch.loop import TRACER, Observer, Plan, Watch
from profiler.watch.metrics import Figures, Server, serving
from profiler.watch.outputs import Nowhere, Outputs, default_output, output_for, plain_name
from profiler.watch.subjects import Group, Subject


@dataclass(frozen=True)
class Request:
    """How to record.

    ``output``: a file, or a directory for a subject with many traces; None for a default name. ``snapshot``: seconds
    between writing; recording then goes on across restarts. ``merge``: one trace for all runs. ``wait``: for the
    subject's start. ``metrics``: the address and port to serve figures on. ``chosen``: a stranger's name for the trace,
    which goes into the directory ``output`` (see Outputs).
    """

    options: Options
    output: Path | None = None
    snapshot: float | None = None
    merge: bool = False
    wait: bool = False
    metrics: tuple[str, int] | None = None
    chosen: str | None = None
    keep: bool = True
    """Whether traces are written."""

    @property
    def follow(self) -> bool:
        """Whether recording goes on across restarts."""
        return self.snapshot is not None


class Console(Observer, Protocol):
    """Receives events, and may show the figures while recording goes on."""

    looks: float | None
    """Seconds between two looks at the figures, None if it does not show them."""
    stop: threading.Event | None
    """Set when its user wants the recording to end."""

    def watching(self, waits: bool) -> None:
        """Nothing that starts from now on is missed. ``waits``: the subject has not started yet."""

    def shown(self, figures: Callable[[], Figures], occupied: Callable[[], bool]) -> AbstractContextManager[None]:
        """Entered while recording goes on. ``occupied``: whether the client or the subject uses the terminal."""


@dataclass(frozen=True)
class Ended:
    """A recording that has ended. ``last``: the newest trace and its file, None when nothing was recorded. ``traces``:
    the final ones. ``status``: of the client that started the subject, 0 without one."""

    last: tuple[Trace, Path] | None
    traces: tuple[Trace, ...]
    figures: Figures
    status: int = 0
    replaced: bool = False
    """Whether a file that existed was replaced."""


_METRICS_SECONDS = 1.0
"""Seconds between two looks at the figures that are served."""

Attach = Callable[[frozenset[signal.Signals], Watch], None]
"""Starts the subject once it is watched; gets the signal mask that profgen was started with."""


def need_watcher(tracer: str) -> None:
    """Raise InputError when ``tracer`` cannot watch what profgen does not start, TracerError when it cannot here."""
    if tracer not in ("auto", TRACER):
        raise InputError(
            f"the {tracer} tracer watches only what it starts; containers and running processes need {TRACER}"
        )
    if reason := why_no_watcher():
        raise TracerError(f"containers and running processes need the {TRACER} tracer: {reason}")


def record(subject: Subject, request: Request, console: Console, attach: Attach | None = None) -> Ended:
    """Record a subject to its end, or until a signal ends profgen. Raises ProfgenError."""
    outputs = _outputs(subject, request)
    everything = subject.many and subject.selection.all_containers and attach is None
    plan = Plan(
        subject.selection,
        request.options,
        outputs,
        subject.watched,
        subject.accept,
        () if request.follow else subject.awaited,
        subject.by_details,
        request.snapshot,
        # A process does not come again.
        follow=everything or (request.follow and not subject.selection.pids and attach is None),
        container=subject.container,
        first=subject.first,
    )
    mask = hold_signals()
    with serving(request.metrics) as server, watcher() as opened:
        start = None if attach is None else partial(attach, mask)
        return _ended(_watched(opened, plan, subject.engines, console, server, start))


def record_project(command: commands.Compose, subject: Subject, request: Request, console: Console) -> Ended:
    """Run the ``up`` of a compose project, and record its containers. Raises ProfgenError."""

    def attach(mask: frozenset[signal.Signals], watch: Watch) -> None:
        watch.attached = not compose.detached(command)
        watch.client = foreground(command.words, mask)

    return record(subject, request, console, attach)


def record_made(
    engine: Engine, run: commands.Run, path: Path, request: Request, console: Console, *, remove: bool
) -> Ended:
    """Make a container, record it from its entry point to its end, and remove it with ``remove``, or if it was not
    started, also when profgen is interrupted or killed. Raises ProfgenError."""
    check_writable(path)
    creation = Creation(engine)
    with guarded(lambda: creation.undo(started=remove)):
        # Pulling the image may take minutes, and a signal ends that at once: signals are held only after it.
        identity = creation.make(run.options, run.image_and_command)
        mask = hold_signals()
        with serving(request.metrics) as server:
            known = engine.details([identity])
            if not known:
                raise ProgramError(f"{engine.name} made a container that it does not know: {identity[:80]}")
            made = known[0].container
            identity = made.id or identity
            # With --rm the engine may forget the container before it can be asked, so what it is, is asked now.
            plan = Plan(
                Selection(containers=(identity,)),
                request.options,
                Outputs(path, None, False),
                user=engine.user_ids(identity, made.user or ""),
                container=made,
            )

            def start(watch: Watch) -> None:
                watch.attached = not run.detached
                watch.client = foreground(engine.start(identity, not run.detached, run.interactive), mask)
                watch.stop_client = lambda: engine.stop_later(identity)

            with watcher() as opened:
                watch = _watched(opened, plan, (engine,), console, server, start)
            ended = _ended(watch)
            if ended.last is None:
                told = next((row.status for row in engine.details([identity]) if row.status), None)
                return replace(ended, status=told or ended.status or FAILED)
            return replace(ended, status=ended.last[0].meta.exit_status or 0) if run.detached else ended


def record_group(group: Group, request: Request, console: Console) -> Ended:
    """Record a cgroup, which may not exist yet and may be made again at each start of its unit. Raises
    ProfgenError."""
    outputs = _outputs(group, request)
    duration, wait = request.options.duration, request.wait
    until = None if duration is None else time.monotonic() + duration
    best: Watch | None = None
    hold_signals()
    with serving(request.metrics) as server:
        while True:
            found = group.where(wait)
            left = None if until is None else max(0.01, until - time.monotonic())
            plan = Plan(
                Selection(cgroups=((group.subject, found),)),
                replace(request.options, duration=left),
                outputs,
                group.watched,
                snapshot=request.snapshot,
                process=cgroups.first_process(found),
            )
            with watcher() as opened:
                watch = _watched(opened, plan, installed(), console, server)
            if best is None or watch.last is not None:  # the last wait may end without a start
                best = watch
            if not request.follow or watch.told or (until is not None and time.monotonic() >= until):
                return _ended(best)
            wait = True


def _outputs(subject: Subject | Group, request: Request) -> Outputs:
    """Return where the subject's traces go, after trying that they can be written."""
    if not request.keep:
        return Nowhere()
    if isinstance(subject, Subject) and subject.many:
        if request.output == STANDARD_OUTPUT:
            raise InputError("standard output takes one trace, and these are several: name a directory with -o")
        default = Path(f"{plain_name(subject.name) or 'project'}.traces")
        return Outputs(None, make_directory(request.output or default), request.merge)
    if request.chosen is not None:
        assert request.output is not None
        check_writable(request.output / default_output(subject.name))
        return Outputs(None, request.output, False, request.chosen)
    path = output_for(subject.name, request.output)
    check_writable(path)
    return Outputs(path, None, request.merge)


def _watched(
    opened: Watcher,
    plan: Plan,
    engines: tuple[Engine, ...],
    console: Console,
    server: Server | None,
    attach: Callable[[Watch], None] | None = None,
) -> Watch:
    """Start the watcher, then the subject (``attach``), and loop to the end."""
    looks = _METRICS_SECONDS if console.looks is None and server is not None else console.looks
    plan = replace(plan, options=replace(plan.options, looks=looks, stop=console.stop))
    watch = Watch(opened, plan, Identifier(engines), console)
    if server is not None:
        watch.publish = lambda figures: setattr(server, "figures", figures)
    # Where figures will be shown, nothing else is printed on their terminal.
    with nullcontext() if console.looks is not None else busy("loading the eBPF programs"):
        opened.start(plan.selection, plan.options)
    notify.ready()
    if attach is not None:
        attach(watch)
    else:
        console.watching(waits=not opened.sessions())

    def occupied() -> bool:
        client = watch.client is not None and watch.client.returncode is None
        return client or any(uses_terminal(pid, 2) for pid in (*plan.selection.pids, plan.process) if pid)

    with console.shown(lambda: watch.figures, occupied):
        watch.run()
    return watch


def _ended(watch: Watch) -> Ended:
    code = watch.client.returncode if watch.client is not None else 0
    return Ended(watch.last, tuple(watch.traces), watch.figures, shell_status(code or 0), watch.replaced)
