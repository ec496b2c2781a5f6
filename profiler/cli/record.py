"""``profgen record``: watch a command, a container, a unit or processes, and write a trace."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

import click

from profiler.cli.record_command import Settings, record_command
from profiler.cli.workload import whole
from profiler.errors import InputError
from profiler.tracers.launch import quoted
from profiler.tracers.select import TRACERS
from profiler.watch.outputs import default_output

__all__ = ["default_output", "limits_from", "record", "seconds_from"]

_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class _Record(click.Command):
    """Behind ``--image IMAGE`` come the engine's own options, which are not ours to read."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        at = next(
            (index for index, word in enumerate(args[:end]) if word == "--image" or word.startswith("--image=")), None
        )
        if at is None:
            return super().parse_args(ctx, args)
        word, rest = args[at], args[at + 1 : end]
        if word == "--image":
            if not rest:
                raise click.UsageError("--image wants the name of an image")
            word, rest = f"--image={rest[0]}", rest[1:]
        ctx.meta[_ENGINE_WORDS] = rest
        return super().parse_args(ctx, [*args[:at], word, *(["--", *args[end + 1 :]] if end < len(args) else [])])


_ENGINE_WORDS = "profiler.cli.record.engine_words"


@click.command(cls=_Record, context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False})
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Where the trace goes.  [default: NAME.trace.json]  With --all-containers a directory.",
)
@click.option(
    "--image", metavar="IMAGE [OPTION...]", help="Run an image; what follows, up to --, are options of docker run."
)
@click.option("--container", metavar="NAME", help="Watch a container, by its name or id.")
@click.option(
    "--pid", type=click.IntRange(1), metavar="PID", help="Watch a running process, with its threads and descendants."
)
@click.option("--cgroup", metavar="PATH", help="Watch all processes of a cgroup.")
@click.option("--unit", metavar="UNIT", help="Watch a unit of systemd.")
@click.option(
    "--all-containers",
    is_flag=True,
    help="Watch every container of this machine, a trace for each, in the directory -o.",
)
@click.option("--wait", is_flag=True, help="Wait for what is to be watched, if it does not run yet.")
@click.option(
    "--snapshot", metavar="TIME", help="Write every so often (60s, 5m), and go on across restarts until stopped."
)
@click.option("--merge-restarts", is_flag=True, help="One trace for all runs of a container, not one for each.")
@click.option(
    "--metrics",
    metavar="[ADDRESS:]PORT",
    help="Figures for Prometheus, on the loopback address unless another is given.",
)
@click.option(
    "--tracer", type=click.Choice(["auto", *TRACERS]), default="auto", show_default=True, help="How to watch."
)
@click.option(
    "--user",
    metavar="USER",
    help="Run the command as this user (name or uid); under sudo the default is who called it.",
)
@click.option(
    "--duration",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Ask the command to end after so long.",
)
@click.option("--allow-loss", is_flag=True, help="Keep the command's exit status even if something seen was lost.")
@click.option(
    "--limit", "limits", multiple=True, metavar="NAME=N", help="Size of a store of the eBPF tracer (docs/tracers.md)."
)
@click.option(
    "--no-files", is_flag=True, help="Leave out files, sockets, signals and mounts: cheaper, but no AppArmor profile."
)
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def record(
    ctx: click.Context,
    output: str | None,
    image: str | None,
    container: str | None,
    pid: int | None,
    cgroup: str | None,
    unit: str | None,
    all_containers: bool,
    wait: bool,
    snapshot: str | None,
    merge_restarts: bool,
    metrics: str | None,
    tracer: str,
    user: str | None,
    duration: float | None,
    allow_loss: bool,
    limits: tuple[str, ...],
    no_files: bool,
    quiet: bool,
    command: tuple[str, ...],
) -> int:
    """Watch COMMAND under normal load and write a trace of the rights it used.

    The command keeps its input, output, terminal, signals and exit status. Recording ends with its last descendant.

    With --image the command runs in a new container. With --container, --pid, --cgroup, --unit and --all-containers
    nothing is started: what runs is watched and never disturbed, until it ends or profgen is told to (Ctrl-C).

    \b
      profgen record -- ./app
      profgen record --image nginx:1.27 -p 8080:80 -- nginx -g 'daemon off;'
      profgen record --container web
      profgen record --all-containers -o traces/ --snapshot 60s
    """
    if duration is not None and not math.isfinite(duration):
        raise click.UsageError("--duration wants a number of seconds")
    settings = Settings(tracer, limits_from(limits), not no_files, duration, allow_loss, quiet, user)
    targets = {
        "--container": container,
        "--pid": pid,
        "--cgroup": cgroup,
        "--unit": unit,
        "--all-containers": all_containers or None,
    }
    given = [name for name, value in targets.items() if value is not None]
    if image is not None:
        given.append("--image")
    if len(given) > 1:
        raise click.UsageError(f"{' and '.join(given)}: watch one thing at a time")
    if not given and not command:
        raise click.UsageError("no command to record; try: profgen record -- ls /")
    if given and given != ["--image"] and command:
        raise click.UsageError(f"{given[0]} watches what runs: it takes no command")
    running = {"--wait": wait, "--snapshot": snapshot is not None, "--merge-restarts": merge_restarts}
    _only_for_running(given, running)
    if given and user is not None:
        raise click.UsageError("--user is for a command that profgen starts; behind --image it is the engine's option")

    from profiler.cli import record_containers as containers

    every = None if snapshot is None else seconds_from(snapshot)
    watching = containers.Watching(
        settings, Path(output) if output is not None else None, every, merge_restarts, wait, metrics
    )
    if image is not None:
        return containers.record_image(image, tuple(ctx.meta[_ENGINE_WORDS]), command, watching)
    if container is not None:
        return containers.record_container(container, watching)
    if pid is not None:
        return containers.record_pid(pid, watching)
    if cgroup is not None:
        return containers.record_cgroup(cgroup, watching)
    if unit is not None:
        return containers.record_unit(unit, watching)
    if all_containers:
        return containers.record_all(watching)
    if (status := containers.record_engine_command(command, watching)) is not None:
        return status
    if metrics is not None:
        raise click.UsageError("--metrics is for what runs long: containers, units, cgroups, processes")
    return record_command(command, Path(output) if output is not None else default_output(command[0]), settings)


def _only_for_running(given: list[str], options: Mapping[str, bool]) -> None:
    if given and given != ["--image"]:
        return
    for name, used in options.items():
        if used:
            raise click.UsageError(
                f"{name} is for what profgen does not start: --container, --pid, --cgroup, --unit, --all-containers"
            )


def limits_from(pairs: tuple[str, ...]) -> dict[str, int]:
    """``NAME=N`` words as a table. Raises InputError."""
    limits = {}
    for pair in pairs:
        name, _, number = pair.partition("=")
        size = whole(number)
        if size is None or not 0 < size < 1 << 31:
            raise InputError(f"--limit wants NAME=N with a whole N above 0, not {quoted(pair[:80])}")
        limits[name] = size
    return limits


def seconds_from(text: str) -> float:
    """``60``, ``60s``, ``5m``, ``1h``, ``0.5s`` in seconds. Raises InputError."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|[smhd]?)", text, re.ASCII)
    value = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if value <= 0:
        raise InputError(f"a time is a number above 0 with s, m, h or d behind it (60s), not {quoted(text[:80])}")
    return value
