"""``profgen record`` of what profgen does not start itself: containers, units, cgroups, processes."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.cli.options import OutputOptions, WorkloadOptions
from profiler.cli.record_command import tracer_options
from profiler.cli.record_options import RecordOptions, SubjectOptions
from profiler.cli.record_terminal import Console, status_with_losses, tell
from profiler.cli.terminal import say
from profiler.engines import commands, compose
from profiler.engines.engine import Engine, find, help_of
from profiler.errors import FAILED, InputError, TracerError
from profiler.tracers.launch import quoted
from profiler.watch import subjects
from profiler.watch.loop import TRACER
from profiler.watch.metrics import address
from profiler.watch.outputs import image_output
from profiler.watch.recordings import Ended, Request, need_watcher, record, record_group, record_made, record_project
from profiler.watch.subjects import Group, Subject
from profiler.wording import counted

if TYPE_CHECKING:
    from profiler.live.feed import Feed

_PROFGEN_OPTIONS = frozenset(
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
"""Options of profgen that a user may put behind --image by mistake. Those that the engine has too are the engine's."""


def _request(workload: WorkloadOptions, how: RecordOptions, to: OutputOptions) -> Request:
    return Request(
        tracer_options(workload, how),
        to.path,
        how.snapshot,
        how.merge_restarts,
        how.wait,
        None if how.metrics is None else address(how.metrics),
    )


def record_image(
    image: str,
    words: tuple[str, ...],
    workload: WorkloadOptions,
    how: RecordOptions,
    to: OutputOptions,
    feed: Feed | None,
) -> int:
    """Record a new container of an image (``--image``), and remove it. ``words``: the engine's options."""
    need_watcher(how.tracer)
    engine = find()
    known = commands.grammar(help_of((*engine.words, "run", "--help")))
    given, rest = commands.options(words, known)
    for option in given:
        if option.name in _PROFGEN_OPTIONS and option.name not in known.valued | known.flags:
            raise InputError(f"{option.name} is an option of profgen: put it before --image")
    run = commands.run(engine.name, engine.words, given, (image, *rest, *workload.command))
    return _made(engine, run, image_output(image, to.path), _request(workload, how, to), how, to, feed, remove=True)


def record_engine_command(
    workload: WorkloadOptions, how: RecordOptions, to: OutputOptions, feed: Feed | None
) -> int | None:
    """Record the container that ``-- docker run ...`` starts, or the containers of ``docker compose up``.

    Returns None when the command does not start containers, or is to be recorded as any other.
    """
    meant = commands.recognise(workload.command, lambda words: help_of(tuple(words)))
    if meant is None:
        return None
    if isinstance(meant, commands.Other):
        if not to.quiet and meant.verb:
            say(
                f"{meant.engine} {meant.verb} works through the engine: this records only the client; see --container "
                "and --image"
            )
        return None
    if how.tracer not in ("auto", TRACER):
        if not to.quiet:
            say(f"the {how.tracer} tracer sees only the {meant.engine} client, not the container")
        return None
    if workload.user is not None:
        raise InputError(f"--user is for a command that profgen starts; {meant.engine} has its own --user")
    try:
        need_watcher(how.tracer)
    except TracerError as error:
        raise TracerError(f"{error}; to record the {meant.engine} client itself: --tracer ptrace") from None
    if shutil.which(workload.command[0]) is None:
        return None  # recording it as a command reports what is wrong with it
    request = _request(workload, how, to)
    if isinstance(meant, commands.Compose):
        project = subjects.project(meant)
        if not to.quiet:
            say(f"recording the containers of the project {project.name}, not the {meant.engine} client")
        line = to.progress and compose.detached(meant)
        ended = record_project(meant, project, request, Console(to.quiet, many=True, line=line, feed=feed))
        return _status(ended, how, to, many=True)
    if not to.quiet:
        say(f"recording the container, not the {meant.engine} client")
    image = next(iter(meant.image_and_command), "")
    engine = Engine(meant.engine, meant.client)
    return _made(engine, meant, image_output(image, to.path), request, how, to, feed, remove=False)


def _made(
    engine: Engine,
    run: commands.Run,
    path: Path,
    request: Request,
    how: RecordOptions,
    to: OutputOptions,
    feed: Feed | None,
    *,
    remove: bool,
) -> int:
    # What an attached client shows is the container's.
    console = Console(to.quiet, line=to.progress and run.detached, feed=feed)
    ended = record_made(engine, run, path, request, console, remove=remove)
    if ended.last is None:
        say(f"nothing was recorded: the container did not start (status {ended.status})")
        return ended.status
    return _status(ended, how, to)


def record_running(
    subject: SubjectOptions,
    workload: WorkloadOptions,
    how: RecordOptions,
    to: OutputOptions,
    feed: Feed | None,
    *,
    keep: bool = True,
) -> int:
    """Record what is started by others: ``--container``, ``--pid``, ``--cgroup``, ``--unit``, ``--all-containers``.

    ``keep``: whether a trace is written.
    """
    need_watcher(how.tracer)
    request = replace(_request(workload, how, to), keep=keep)
    found = _subject(subject, how, request)
    many = isinstance(found, Subject) and found.many
    console = Console(to.quiet, many=many, wait=how.wait, line=to.progress, keep=keep, feed=feed)
    ended = record_group(found, request, console) if isinstance(found, Group) else record(found, request, console)
    if ended.last is None and not to.quiet:
        say("no container ran" if many else f"nothing was recorded: {quoted(found.name)} did not run")
    return _status(ended, how, to, many=many, keep=keep)


def _subject(subject: SubjectOptions, how: RecordOptions, request: Request) -> Subject | Group:
    """Return what the options name. Raises InputError."""
    if subject.all_containers:
        if how.wait:
            raise InputError("--all-containers always waits for containers: remove --wait")
        return subjects.all_containers(subject.pods)
    if subject.cgroup is not None:
        return subjects.cgroup(subject.cgroup)
    if subject.unit is not None:
        return subjects.unit(subject.unit)
    if subject.pid is not None:
        if how.wait:
            raise InputError("--wait cannot be used with --pid: the id of a future process is not known")
        return subjects.process(subject.pid)
    return subjects.containers(subject.container, wait=how.wait, follow=request.follow)


def _status(ended: Ended, how: RecordOptions, to: OutputOptions, many: bool = False, keep: bool = True) -> int:
    """Print how the recording ended, and return its exit status: FAILED for a loss that is not allowed."""
    if ended.last is not None and not to.quiet:
        if not many:
            tell(*ended.last, ended.replaced)
        elif keep:
            say(f"{counted(ended.figures.ended, 'trace')} written")
        if not keep:
            say("no trace was written: to write one, give a file or a directory with -o")
    lost = ended.figures.losses
    if number := lost.get("sessions"):
        say(f"there was no room for {counted(number, 'container')}: raise --limit sessions=N (docs/tracers.md)")
    if number := lost.get("unknown"):
        say(f"{counted(number, 'container')} ended before profgen could look whether --pod-selector means it")
    if (lost.get("sessions") or lost.get("unknown")) and not how.allow_loss:
        return FAILED
    for trace in ended.traces:
        if not trace.meta.complete:
            return status_with_losses(trace, ended.status, how.allow_loss)
    return ended.status
