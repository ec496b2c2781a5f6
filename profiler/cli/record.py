"""``profgen record``: watch a command, a container, a unit or processes, and write a trace."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from profiler.cli.options import (
    DURATION,
    NO_FILES,
    USER,
    Duration,
    OutputOptions,
    WorkloadOptions,
    grouped,
    output_options,
    whole,
    workload_options,
)
from profiler.cli.record_data import print_at_end
from profiler.cli.record_options import RecordOptions, SubjectOptions
from profiler.cli.results import JSON
from profiler.cli.terminal import say, say_what_takes_long
from profiler.engines.commands import is_client
from profiler.errors import InputError
from profiler.files import keep_standard_output
from profiler.tracers.launch import quoted
from profiler.tracers.select import TRACERS

if TYPE_CHECKING:
    from profiler.engines.pods import Selector

_ENGINE_WORDS = "profiler.cli.record.engine_words"
_DASHES = "profiler.cli.record.dashes"
"""Keys of click's context: options of an engine; whether -- ends profgen's own options."""


class _Record(click.Command):
    """Behind ``--image IMAGE`` come options of the engine, which click must not parse."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        at = next(
            (index for index, word in enumerate(args[:end]) if word == "--image" or word.startswith("--image=")), None
        )
        if at is None:
            ctx.meta[_DASHES] = "--" in args
            return super().parse_args(ctx, args)
        word, rest = args[at], args[at + 1 : end]
        if word == "--image":
            if not rest:
                raise click.UsageError("--image needs the name of an image")
            word, rest = f"--image={rest[0]}", rest[1:]
        ctx.meta[_ENGINE_WORDS] = rest
        return super().parse_args(ctx, [*args[:at], word, *(["--", *args[end + 1 :]] if end < len(args) else [])])


def limits_from(ctx: click.Context | None, param: click.Parameter | None, pairs: tuple[str, ...]) -> dict[str, int]:
    """Convert ``NAME=N`` words to a table; a callback of click. Raises InputError."""
    limits = {}
    for pair in pairs:
        name, _, number = pair.partition("=")
        size = whole(number)
        if size is None or not 0 < size < 1 << 31:
            raise InputError(f"--limit needs NAME=N with a whole N above 0, not {quoted(pair[:80])}")
        limits[name] = size
    return limits


def selectors_from(
    ctx: click.Context | None, param: click.Parameter | None, texts: tuple[str, ...]
) -> tuple[Selector, ...]:
    """Parse the values of ``--pod-selector``; a callback of click. Raises InputError."""
    if not texts:
        return ()
    from profiler.engines.pods import selector

    return tuple(selector(text) for text in texts)


PID = click.option(
    "-p", "--pid", type=click.IntRange(1), metavar="PID", help="Watch a process with its threads and descendants."
)
CGROUP = click.option("--cgroup", metavar="PATH", help="Watch all processes of a cgroup.")
UNIT = click.option("--unit", metavar="UNIT", help="Watch a systemd unit.")
ALL_CONTAINERS = click.option(
    "-a",
    "--all-containers",
    is_flag=True,
    help="Watch every container of this machine and write a trace for each.  [default directory: containers.traces]",
)
POD_SELECTOR = click.option(
    "--pod-selector",
    "pods",
    multiple=True,
    metavar="KEY=PATTERN,...",
    callback=selectors_from,
    help="Of all containers, watch those of Kubernetes pods that match: namespace, pod, workload, container or image.",
)
WAIT = click.option("--wait", is_flag=True, help="Wait until it starts, if it does not run yet.")
ALLOW_LOSS = click.option(
    "--allow-loss", is_flag=True, help="Keep the command's exit status when the trace is incomplete."
)
LIMIT = click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="NAME=N",
    callback=limits_from,
    help="Size of one of the eBPF tracer's stores (docs/tracers.md).",
)


@click.command(cls=_Record, context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False})
@output_options(
    "Trace file, or directory for NAME.trace.json; - for standard output.  [default: NAME.trace.json]",
    progress="Draw no line with figures on the terminal.",
)
@grouped(
    SubjectOptions,
    "subject",
    click.option(
        "--image",
        metavar="IMAGE [OPTION...]",
        help="Run an image in a new container. What follows, up to --, are options of docker run.",
    ),
    click.option(
        "--container",
        metavar="CONTAINER",
        multiple=True,
        help="Watch a container, by name or id; repeat it for several.",
    ),
    PID,
    CGROUP,
    UNIT,
    ALL_CONTAINERS,
    POD_SELECTOR,
)
@grouped(
    RecordOptions,
    "how",
    click.option("--live", is_flag=True, help="Show a full-screen view of what is seen (docs/live.md)."),
    WAIT,
    click.option(
        "--snapshot",
        type=Duration(),
        help="Write the trace at this interval (60s, 5m), and keep recording across restarts.",
    ),
    click.option(
        "--merge-restarts",
        is_flag=True,
        help="Write one trace for all runs of a container, and all replicas of a pod.",
    ),
    click.option(
        "--metrics",
        metavar="[ADDRESS:]PORT",
        help="Serve metrics for Prometheus.  [default address: 127.0.0.1]",
    ),
    click.option(
        "--tracer", type=click.Choice(["auto", *TRACERS]), default="auto", show_default=True, help="Tracer to use."
    ),
    ALLOW_LOSS,
    LIMIT,
)
@JSON
@workload_options(USER, DURATION, NO_FILES)
@click.pass_context
def record(
    ctx: click.Context,
    to: OutputOptions,
    subject: SubjectOptions,
    how: RecordOptions,
    workload: WorkloadOptions,
    form: str | None,
) -> int:
    """Watch COMMAND under normal load and write a trace of the rights that it used.

    The command keeps its input, output, terminal, signals and exit status; with -o - or --json its output goes to
    standard error. Recording ends with its last descendant.

    With --image the command runs in a new container. With --container, --pid, --cgroup, --unit and --all-containers
    nothing is started, stopped or changed: recording ends when the watched processes end, or with Ctrl-C.

    \b
      profgen record -- ./app
      profgen record --image nginx:1.27 -p 8080:80 -- nginx -g 'daemon off;'
      profgen record --container web
      profgen record --all-containers -o traces/ --snapshot 60s
    """
    _check(subject, how, workload, to)
    if form == "json" and to.printed:
        raise click.UsageError("--json and -o - both print on standard output; give a file with -o")
    if how.live and (form == "json" or to.printed) and sys.stdout.isatty():
        raise click.UsageError("the live view has the terminal, and the result needs it too; redirect standard output")
    feed = None
    if how.live:
        from profiler.cli.record_live import split

        split_off = split(subject, workload, to)
        if isinstance(split_off, int):
            return split_off
        feed = split_off
    if form == "json":
        print_at_end(ctx)
    if to.printed or form == "json":
        keep_standard_output()
    if not to.quiet:
        say_what_takes_long()
        _note_misplaced(ctx, workload.command)

    if subject.given or is_client(workload.command):
        from profiler.cli import record_containers as containers  # slow to load, and of no use to other commands

        if subject.image is not None:
            return containers.record_image(subject.image, tuple(ctx.meta[_ENGINE_WORDS]), workload, how, to, feed)
        if subject.given:
            return containers.record_running(subject, workload, how, to, feed)
        if (status := containers.record_engine_command(workload, how, to, feed)) is not None:
            return status
    if how.metrics is not None:
        raise click.UsageError("--metrics needs a container, a unit, a cgroup or a process to watch")

    from profiler.cli.record_command import record_command

    return record_command(workload, how, to, feed)


def _note_misplaced(ctx: click.Context, command: tuple[str, ...]) -> None:
    """Say that an option of profgen stands behind the command, and so belongs to the command."""
    own = {option for each in ctx.command.params for option in each.opts if option.startswith("--")}
    found = next((word for word in command[1:] if word.partition("=")[0] in own), None)
    if found is not None and not ctx.meta.get(_DASHES, True) and not is_client(command):
        say(
            f"note: {quoted(found)} is given to {quoted(command[0])}: options of profgen come before the command "
            "(write -- before the command if that is meant)"
        )


def need_all_containers(subject: SubjectOptions) -> None:
    """Raise UsageError when pods are selected, but not among all containers."""
    if subject.pods and not subject.all_containers:
        raise click.UsageError("--pod-selector chooses among all containers: it needs --all-containers")


def _check(subject: SubjectOptions, how: RecordOptions, workload: WorkloadOptions, to: OutputOptions) -> None:
    """Raise UsageError for options that do not fit together."""
    given = subject.given
    if len(given) > 1:
        raise click.UsageError(f"{' and '.join(given)}: only one of them can be watched at a time")
    need_all_containers(subject)
    if not given and not workload.command:
        raise click.UsageError("no command to record; try: profgen record -- ls /")
    if given and given != ["--image"] and workload.command:
        raise click.UsageError(f"{given[0]} watches running processes: it takes no command")
    if given and workload.user is not None:
        raise click.UsageError("--user is for a command that profgen starts; behind --image it is the engine's option")
    if to.printed and (how.snapshot is not None or how.merge_restarts or subject.all_containers):
        raise click.UsageError("-o -: standard output takes one trace, and these are several; give a file with -o")
    running: dict[str, Any] = {
        "--wait": how.wait,
        "--snapshot": how.snapshot is not None,
        "--merge-restarts": how.merge_restarts,
    }
    for name, used in running.items():
        if used and given in ([], ["--image"]):
            raise click.UsageError(
                f"{name} needs something that profgen does not start: --container, --pid, --cgroup, --unit or "
                "--all-containers"
            )
