"""``profgen record`` of what engines and systemd start: containers, units, cgroups, processes."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from profiler.cli.record_command import Settings, pending, status_with_losses
from profiler.cli.record_terminal import incomplete, live_line, say, summary
from profiler.cli.terminal import redraws
from profiler.engines import cgroups, commands, hook
from profiler.engines.engine import Details, Engine, find, help_of, installed
from profiler.engines.hook import State
from profiler.errors import FAILED, InputError, OutputError, ProgramError, TracerError
from profiler.files import as_invoking_user
from profiler.run import ask, foreground, shell_status
from profiler.trace.model import Trace
from profiler.tracers.launch import quoted
from profiler.tracers.select import watcher, why_no_watcher
from profiler.tracers.supervisor import signals_held
from profiler.tracers.watcher import Selection, Session, Watcher
from profiler.watch import notify
from profiler.watch.identify import Identifier, first_known
from profiler.watch.loop import TRACER, Plan, Watch
from profiler.watch.metrics import Figures, Server, address
from profiler.watch.outputs import Outputs, default_output, plain_name
from profiler.wording import cause, counted

_OURS = frozenset(
    {
        "-o",
        "--output",
        "--tracer",
        "--duration",
        "--allow-loss",
        "--limit",
        "--no-files",
        "--snapshot",
        "--metrics",
        "--wait",
    }
)
"""Options that a user may look for behind --image; those that the engine has too are the engine's."""


@dataclass(frozen=True)
class Watching:
    """What is asked beyond a tracer's settings. ``output``: a file, or a directory where there are many traces."""

    settings: Settings
    output: Path | None = None
    snapshot: float | None = None
    merge: bool = False
    wait: bool = False
    metrics: str | None = None

    @property
    def follow(self) -> bool:
        """Whether recording goes on across restarts."""
        return self.snapshot is not None


class Said:
    """Tells the user what the loop does. Of one workload, the end is told by a summary; of many, each by a line."""

    def __init__(self, quiet: bool, many: bool) -> None:
        self.quiet = quiet
        self.many = many
        self.last: tuple[Trace, Path] | None = None

    def began(self, name: str, joined: bool) -> None:
        """See watch.loop.Observer."""
        if self.many and not self.quiet:
            say(f"recording {name}" + (", which ran already" if joined else ""))

    def wrote(self, path: Path, trace: Trace, final: bool) -> None:
        """See watch.loop.Observer."""
        self.last = (trace, path)
        if final and self.many and not self.quiet:
            lost = "" if trace.meta.complete else f"; incomplete: lost {', '.join(trace.meta.losses)}"
            seen = f"{counted(len(trace.syscalls), 'syscall')}, {counted(len(trace.programs), 'program')}"
            say(f"wrote {path}: {seen}{lost}")

    def failed(self, reason: str) -> None:
        """See watch.loop.Observer."""
        say(reason)


def _need_tracer(settings: Settings) -> None:
    """Raises TracerError where the one tracer that can watch what runs cannot be had."""
    if settings.tracer not in ("auto", TRACER):
        raise InputError(
            f"the {settings.tracer} tracer watches only what it starts; containers and what runs already need {TRACER}"
        )
    if reason := why_no_watcher():
        raise TracerError(f"containers and what runs already need the {TRACER} tracer: {reason}")


@contextmanager
def _metrics(text: str | None) -> Iterator[Server | None]:
    if text is None:
        yield None
        return
    server = Server(address(text))
    try:
        yield server
    finally:
        server.close()


def _run(
    open_watcher: Watcher,
    plan: Plan,
    watching: Watching,
    engines: tuple[Engine, ...],
    server: Server | None,
    many: bool,
    attach: Callable[[Watch], None] | None = None,
    terminal: bool = True,
) -> tuple[Watch, Said]:
    """Start the watcher, then what it shall see (``attach``), and loop to the end. ``terminal``: ours to write on
    meanwhile."""
    quiet = watching.settings.quiet
    shown = terminal and not quiet and redraws(sys.stderr)
    said = Said(quiet, many)
    watch = Watch(open_watcher, replace(plan, looks=shown or server is not None), Identifier(engines), said)
    if server is not None:
        watch.publish = lambda figures: setattr(server, "figures", figures)
    open_watcher.start(plan.selection, plan.options)
    notify.ready()
    if attach is not None:
        attach(watch)
    elif many and not quiet:
        say("watching; SIGUSR1 writes what there is, Ctrl-C or SIGTERM ends it")
    elif watching.wait and not (quiet or shown or open_watcher.sessions()):
        say("waiting for its start, of which nothing can be missed any more")
    with live_line(lambda: _line(watch.figures), shown):
        watch.run()
    return watch, said


def _line(figures: Figures) -> str:
    """The live line: of one workload what was seen, of several how many; memory in both."""
    fullest = max((used * 100 // room for used, room in figures.stores.values() if room), default=0)
    tail = f"memory {figures.memory >> 20} MiB, kernel stores up to {fullest}% full"
    if len(figures.sessions) == 1:
        row = figures.sessions[0]
        return (
            f"{row.seconds:.0f}s  {counted(row.syscalls, 'syscall')}  "
            f"{counted(row.capabilities, 'capability', 'capabilities')}"
            f"  {counted(row.programs, 'program')}  {counted(row.paths, 'path')}"
            f"  last new {max(0.0, row.seconds - row.last_new):.0f}s ago  {tail}"
        )
    if not figures.begun:
        return f"waiting  {tail}"
    return f"{counted(figures.begun - figures.ended, 'recording')} under way, {figures.ended} ended  {tail}"


def _status(watch: Watch, said: Said, settings: Settings, status: int) -> int:
    """Tell of the end of one workload, and weigh losses."""
    if said.last is None:
        return status
    trace, path = said.last
    if not settings.quiet:
        if said.many:
            say(f"{counted(watch.figures.ended, 'trace')} written")
        else:
            summary(trace, path)
    if lost := watch.figures.losses.get("sessions"):
        say(f"there was no room for {counted(lost, 'container')}: make some with --limit sessions=N (docs/tracers.md)")
        if not settings.allow_loss:
            return FAILED
    for other in watch.traces:
        if not other.meta.complete:
            return status_with_losses(other, settings, status)
    return status


# -- containers that profgen has made
# -----------------------------------------------------------------------------------


def _help_of(words: Sequence[str]) -> str:
    return help_of(tuple(words))


def record_image(image: str, words: tuple[str, ...], command: tuple[str, ...], watching: Watching) -> int:
    """``--image``: a new container, recorded from its entry point to its end, and removed."""
    _need_tracer(watching.settings)
    engine = find()
    known = commands.grammar(_help_of([*engine.words, "run", "--help"]))
    given, rest = commands.options(words, known)
    for option in given:
        if option.name in _OURS and option.name not in known.valued | known.flags:
            raise InputError(f"{option.name} is an option of profgen's: put it before --image")
    made = commands.run(engine.name, engine.words, given, (image, *rest, *command))
    name = plain_name(re.sub(r"[@:].*", "", image.rsplit("/", 1)[-1]))
    return _record_run(engine, made, watching, watching.output or default_output(name), remove=True)


def record_engine_command(command: tuple[str, ...], watching: Watching) -> int | None:
    """``-- docker run ...`` and its like: the container is the workload. None when the command is none of an engine's
    that starts one."""
    settings = watching.settings
    meant = commands.recognise(command, _help_of)
    if meant is None:
        return None
    if isinstance(meant, commands.Other):
        if not settings.quiet and meant.verb:
            say(
                f"{meant.engine} {meant.verb} works through the engine: this records the client alone; see "
                "--container and --image"
            )
        return None
    if settings.tracer not in ("auto", TRACER):
        if not settings.quiet:
            say(f"the {settings.tracer} tracer sees the {meant.engine} client alone, not the container")
        return None
    if settings.user is not None:
        raise InputError(f"--user is for a command that profgen starts itself; {meant.engine} has a --user of its own")
    try:
        _need_tracer(settings)
    except TracerError as error:
        raise TracerError(f"{error}; to record the {meant.engine} client itself: --tracer ptrace") from None
    if shutil.which(command[0]) is None:
        return None  # the wrapper says what is wrong with it
    if isinstance(meant, commands.Compose):
        return _record_compose(meant, watching)
    engine = Engine(meant.engine, meant.client)
    if not settings.quiet:
        say(f"recording the container, not the {meant.engine} client")
    words = [word for word in meant.image_and_command[:1] if word]
    name = plain_name(re.sub(r"[@:].*", "", words[0].rsplit("/", 1)[-1])) if words else ""
    return _record_run(engine, meant, watching, watching.output or default_output(name), remove=False)


def _record_run(engine: Engine, run: commands.Run, watching: Watching, path: Path, remove: bool) -> int:
    settings = watching.settings
    with pending(path) as file:
        file.discard()  # it can be written
    # An image may take minutes to come: a signal ends that at once, so none is held yet.
    identity = engine.create(run.options, run.image_and_command)
    with signals_held() as mask, _metrics(watching.metrics) as server:
        started = False
        try:
            known = engine.details([identity])
            if not known:
                raise ProgramError(f"{engine.name} made a container and does not know it: {identity[:80]}")
            identity = known[0].container.id or identity
            user = engine.user_ids(identity, known[0].container.user or "")
            # What it is, is known now: with --rm there may be nobody to ask in a moment.
            known_now = known[0].container
            plan = Plan(
                Selection(containers=(identity,)),
                settings.options(),
                Outputs(path, None, False),
                user=user,
                container=known_now,
            )
            with watcher() as opened:

                def attach(watch: Watch) -> None:
                    nonlocal started
                    watch.attached = not run.detached
                    watch.client = foreground(engine.start(identity, not run.detached, run.interactive), mask)
                    watch.stop_client = lambda: engine.stop_later(identity)
                    started = True

                watch, said = _run(opened, plan, watching, (engine,), server, False, attach, terminal=not run.terminal)
            assert watch.client is not None
            status = shell_status(watch.client.returncode)
            if said.last is None:
                told = next((row.status for row in engine.details([identity]) if row.status), None)
                status = told or status or FAILED
                say(f"nothing was recorded: the container did not start (status {status})")
                return status
            if run.detached:
                status = said.last[0].meta.exit_status or 0
        finally:
            if remove or not started:
                engine.remove(identity)
    return _status(watch, said, settings, status)


def _record_compose(compose: commands.Compose, watching: Watching) -> int:
    settings = watching.settings
    project = _project(compose)
    directory = _directory(watching.output or Path(f"{plain_name(project) or 'project'}.traces"))
    if not settings.quiet:
        say(f"recording the containers of the project {project}, not the {compose.engine} client")
    engine = Engine(compose.engine, (compose.engine,))

    def ours(session: Session, details: Details | None) -> bool:
        return details is not None and details.labels.get("com.docker.compose.project") == project

    with signals_held() as mask, _metrics(watching.metrics) as server, watcher() as opened:
        plan = Plan(
            Selection(all_containers=True), settings.options(), Outputs(None, directory, watching.merge), accept=ours
        )

        def attach(watch: Watch) -> None:
            watch.attached = not any(word in ("-d", "--detach") for word in compose.words)
            watch.client = foreground(compose.words, mask)

        watch, said = _run(opened, plan, watching, (engine,), server, True, attach)
    assert watch.client is not None
    return _status(watch, said, settings, shell_status(watch.client.returncode))


def _project(compose: commands.Compose) -> str:
    """The project's name: what compose itself says, else as it makes one of the directory."""
    import json

    try:
        asked = ask([*compose.project, "config", "--format", "json"])
        name = None if asked.status else json.loads(asked.text).get("name")
    except (ProgramError, ValueError, AttributeError):
        name = None
    if isinstance(name, str) and name:
        return name
    given, _ = commands.options(compose.project[1:], commands.Grammar(flags=frozenset({"compose"})))
    named = [option.value for option in given if option.name in ("-p", "--project-name") and option.value]
    files = [option.value for option in given if option.name in ("-f", "--file") and option.value]
    text = named[-1] if named else os.environ.get("COMPOSE_PROJECT_NAME")
    if not text:
        text = os.path.basename(os.path.dirname(os.path.abspath(files[0])) if files else os.getcwd())
    return re.sub(r"[^-_a-z0-9]", "", text.lower())


# -- what runs already
# --------------------------------------------------------------------------------------------------


def record_container(name: str, watching: Watching) -> int:
    """``--container``."""
    _need_tracer(watching.settings)
    engines = installed()
    known = first_known(engines, name)
    identity = known[1].container.id if known is not None else None
    runs = known[1].pid > 0 if known is not None else name in _names_of_groups()
    if not runs and not watching.wait:
        if known is not None:
            raise InputError(f"the container {quoted(name)} does not run: start it, or wait for that with --wait")
        asked = (
            "; ".join(f"{engine.name}: {engine.why_not() or 'knows it not'}" for engine in engines)
            or "no engine is installed"
        )
        raise InputError(
            f"no container {quoted(name)} here ({asked}), and no cgroup of that name: wait for it with --wait"
        )
    broad = watching.wait or watching.follow

    def wanted(session: Session, details: Details | None) -> bool:
        if session.subject in (name, identity) or (len(name) >= 12 and session.subject.startswith(name)):
            return True
        return details is not None and details.container.name == name

    # By the name that its group has, too: runc and crun call it as their user does. A container made anew has the name
    # and another id.
    subjects = (identity,) if identity is not None else (name,)
    return _watch(Selection(containers=subjects, all_containers=broad), watching, engines, name, accept=wanted)


def record_starting(state: State, watching: Watching, ready: Callable[[], None], log: Callable[[str], object]) -> int:
    """A container that its runtime is about to start (an OCI hook). ``ready`` is called when nothing of it can be
    missed any more."""
    _need_tracer(watching.settings)
    assert watching.output is not None
    plan = Plan(
        Selection(starting=(state.identity,)),
        watching.settings.options(),
        Outputs(watching.output, None, False),
        container=hook.container(state),
        first=state.pid,
    )
    with signals_held(), pending(watching.output) as file, watcher() as opened:
        file.discard()
        watch, _ = _run(opened, plan, watching, installed(), None, False, lambda _: ready())
    for trace in watch.traces:
        if not trace.meta.complete:
            log(f"{watching.output}: {incomplete(trace.meta)}")
            return FAILED
    return 0


def record_pid(pid: int, watching: Watching) -> int:
    """``--pid``."""
    _need_tracer(watching.settings)
    if watching.wait:
        raise InputError("--wait has no meaning with --pid: nobody knows whose a process id will be")
    if not os.path.exists(f"/proc/{pid}"):
        raise InputError(f"there is no process {pid}")
    try:
        with open(f"/proc/{pid}/comm") as file:
            name = file.read().strip()
    except (OSError, ValueError):
        name = ""
    return _watch(Selection(pids=(pid,)), watching, installed(), name or f"pid-{pid}", watched=f"pid {pid}")


def record_cgroup(path: str, watching: Watching) -> int:
    """``--cgroup``."""
    _need_tracer(watching.settings)

    def where(wait: bool) -> tuple[str, ...]:
        return (cgroups.places if wait else cgroups.directories)(path, cgroups.mounted())

    return _watch_groups(path, f"cgroup {path}", path.rstrip("/").rsplit("/", 1)[-1], where, watching)


def record_unit(unit: str, watching: Watching) -> int:
    """``--unit``."""
    _need_tracer(watching.settings)

    def where(wait: bool) -> tuple[str, ...]:
        group = cgroups.unit_group(unit)
        if wait:
            return cgroups.places(cgroups.unit_place(unit), cgroups.mounted())
        if group:
            with contextlib.suppress(InputError):
                return cgroups.directories(group, cgroups.mounted())
        raise InputError(f"the unit {quoted(unit)} does not run: start it, or wait for that with --wait")

    return _watch_groups(unit, f"unit {unit}", unit, where, watching)


def record_all(watching: Watching) -> int:
    """``--all-containers``."""
    _need_tracer(watching.settings)
    if watching.output is None:
        raise InputError("--all-containers writes a trace for each: say where with -o DIRECTORY")
    if watching.wait:
        raise InputError("--all-containers waits for containers anyhow: leave --wait out")
    directory = _directory(watching.output)
    own = cgroups.container_of(cgroups.path_of(os.getpid()) or "")
    running = tuple(
        sorted(_containers_in_groups() - ({own[1]} if own else set()))
    )  # not the one that profgen itself may run in
    outputs = Outputs(None, directory, watching.merge)
    plan = Plan(
        Selection(containers=running, all_containers=True),
        watching.settings.options(),
        outputs,
        snapshot=watching.snapshot,
        follow=True,
    )
    with signals_held(), _metrics(watching.metrics) as server, watcher() as opened:
        watch, said = _run(opened, plan, watching, installed(), server, True)
    if said.last is None and not watching.settings.quiet:
        say("no container ran")
    return _status(watch, said, watching.settings, 0)


def _watch(
    selection: Selection,
    watching: Watching,
    engines: tuple[Engine, ...],
    name: str,
    watched: str | None = None,
    accept: Callable[[Session, Details | None], bool] | None = None,
) -> int:
    """One target, into one file (or one a run)."""
    path = watching.output or default_output(name)
    outputs = Outputs(path, None, watching.merge)
    # A process does not come again.
    follow = watching.follow and not selection.pids
    plan = Plan(selection, watching.settings.options(), outputs, watched, accept, watching.snapshot, follow)
    with signals_held(), pending(path) as file, _metrics(watching.metrics) as server, watcher() as opened:
        file.discard()
        watch, said = _run(opened, plan, watching, engines, server, False)
    if said.last is None and not watching.settings.quiet:
        say(f"nothing was recorded: {quoted(name)} did not run")
    return _status(watch, said, watching.settings, 0)


def _watch_groups(
    subject: str, watched: str, name: str, where: Callable[[bool], tuple[str, ...]], watching: Watching
) -> int:
    """A cgroup, which may not be there yet, and may come anew with each start of its unit."""
    path = watching.output or default_output(name)
    outputs = Outputs(path, None, watching.merge)
    settings = watching.settings
    said: Said | None = None
    watch: Watch | None = None
    with signals_held(), pending(path) as file, _metrics(watching.metrics) as server:
        file.discard()
        until = None if settings.duration is None else time.monotonic() + settings.duration
        while True:
            found = where(watching.wait)
            left = None if until is None else max(0.01, until - time.monotonic())
            options = replace(settings.options(), duration=left)
            plan = Plan(
                Selection(cgroups=((subject, found),)),
                options,
                outputs,
                watched,
                snapshot=watching.snapshot,
                process=cgroups.first_process(found),
            )
            with watcher() as opened:
                now = _run(opened, plan, watching, installed(), server, False)
            if said is None or now[1].last is not None:  # the last wait may have been in vain
                watch, said = now
            if not watching.follow or now[0].told or _passed(until):
                break
            watching = replace(watching, wait=True)
    if watch is None or said is None or said.last is None:
        if not settings.quiet:
            say(f"nothing was recorded: {quoted(name)} did not run")
        return 0
    return _status(watch, said, settings, 0)


def _passed(until: float | None) -> bool:
    return until is not None and time.monotonic() >= until


def _names_of_groups() -> set[str]:
    """The last components of the paths of all groups."""
    return {os.path.basename(path) for hierarchy in cgroups.mounted() for path, _, _ in os.walk(hierarchy.mount)}


def _containers_in_groups() -> set[str]:
    """Ids of the containers that have a process, whatever started them."""
    found = set()
    for hierarchy in cgroups.mounted():
        for path, _, _ in os.walk(hierarchy.mount):
            told = cgroups.container_of(path[len(hierarchy.mount) :])
            if told is not None and told[1] not in found and _occupied(path):
                found.add(told[1])
    return found


def _occupied(directory: str) -> bool:
    try:
        with open(f"{directory}/cgroup.procs") as file:
            return bool(file.read(1))
    except OSError:
        return False


def _directory(path: Path) -> Path:
    """A directory for traces, made if it is not there. Raises OutputError."""
    try:
        with as_invoking_user():
            path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make directory {path}: {cause(error)}; choose another place with -o") from error
    return path
