"""Arguments and options that several commands share: each is described once, and groups of them become one object."""

from __future__ import annotations

import dataclasses
import functools
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from profiler.cli.terminal import COLOUR, style_for
from profiler.files import STANDARD_OUTPUT
from profiler.policy.directory import policy_path, trace_path
from profiler.style import Style

Command = TypeVar("Command", bound=Callable[..., Any])

STANDARD_INPUT = "/dev/stdin"
_JSON = "profgen.json"
_NUMBER = r"([0-9]{1,9}(?:\.[0-9]{1,9})?)"
_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_TIME = re.compile(" ?".join(f"(?:{_NUMBER}{unit})?" for unit in _UNITS), re.ASCII)
_SECONDS = re.compile(_NUMBER, re.ASCII)


def input_file(path: str) -> str:
    """Convert an argument that names a file to read, or ``-`` for standard input."""
    return STANDARD_INPUT if path == "-" else path


def output_file(path: str) -> str:
    """Convert an argument that names a file to write; ``-`` and /dev/stdout are STANDARD_OUTPUT."""
    return str(STANDARD_OUTPUT) if path == "/dev/stdout" else path


def source_file(path: str) -> str:
    """Convert an argument as input_file does; a directory that ``generate`` wrote stands for its policy.yaml."""
    return input_file(policy_path(path))


def trace_file(path: str) -> str:
    """Convert an argument as input_file does; a directory that ``generate`` wrote, or the policy in it, stands for its
    trace.json."""
    found = trace_path(path)
    return input_file(path) if found is None else str(found)


def whole(text: str) -> int | None:
    """Return a whole number of at most ten ASCII digits, None for any other text."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else None


class Duration(click.ParamType[float]):
    """A time above zero, with units or without: ``90``, ``90s``, ``5m``, ``0.5h``, ``2m 5s``. Converted to seconds."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See click.ParamType."""
        text = str(value)
        seconds = 0.0
        if _SECONDS.fullmatch(text):
            seconds = float(text)
        elif text == text.strip(" ") and (found := _TIME.fullmatch(text)):
            seconds = sum(
                float(number) * size for number, size in zip(found.groups(), _UNITS.values(), strict=True) if number
            )
        if seconds <= 0:
            self.fail(f"{text[:80]!a} is not a time above 0, such as 90, 90s or 5m", param, ctx)
        return seconds


def grouped(into: type[Any], name: str, *options: Callable[[Any], Any]) -> Callable[[Command], Command]:
    """Add ``options`` to a command, which gets their values as one ``into`` object, a dataclass, under ``name``."""
    members = [member.name for member in dataclasses.fields(into)]

    def add(command: Any) -> Any:
        @functools.wraps(command)
        def call(*args: Any, **values: Any) -> Any:
            own = {member: values.pop(member) for member in members if member in values}
            return command(*args, **values, **{name: into(**own)})

        for option in reversed(options):
            call = option(call)
        return call

    return add


@dataclass(frozen=True)
class WorkloadOptions:
    """A command that profgen starts. ``user``: who runs it, None for the user who called profgen. ``duration``: seconds
    until it is asked to end. ``no_files``: files, sockets, signals and mounts do not matter."""

    command: tuple[str, ...]
    user: str | None = None
    duration: float | None = None
    no_files: bool = False


@dataclass(frozen=True)
class OutputOptions:
    """Where the result goes, None for a default place; whether only errors are printed; and whether progress is not."""

    output: str | None
    quiet: bool
    no_progress: bool = False

    @property
    def progress(self) -> bool:
        """Whether progress is shown."""
        return not (self.quiet or self.no_progress)

    @property
    def path(self) -> Path | None:
        """The output as a path; STANDARD_OUTPUT for standard output."""
        return None if self.output is None else Path(self.output)

    @property
    def printed(self) -> bool:
        """Whether the result goes to standard output."""
        return self.path == STANDARD_OUTPUT


COMMAND = click.argument("command", nargs=-1, type=click.UNPROCESSED)
USER = click.option(
    "-u",
    "--user",
    metavar="USER",
    help="Run the command as this user (name or uid). Under sudo the default is the caller.",
)
DURATION = click.option(
    "-d", "--duration", type=Duration(), help="Ask the command to end after this time (90, 90s, 5m)."
)
NO_FILES = click.option("--no-files", is_flag=True, help="Ignore files, sockets, signals and mounts.")


def workload_options(*options: Callable[[Any], Any]) -> Callable[[Command], Command]:
    """Add the options of a command that profgen starts, of those above, as ``workload``: WorkloadOptions."""
    return grouped(WorkloadOptions, "workload", *options, COMMAND)


def output_options(
    what: str, quiet: str = "Print only errors.", progress: str | None = None
) -> Callable[[Command], Command]:
    """Add ``-o`` and ``-q`` as ``to``: OutputOptions. ``what``: help for ``-o``; ``quiet``: help for ``-q``;
    ``progress``: help for ``--no-progress``, of a command that shows progress."""
    return grouped(
        OutputOptions,
        "to",
        click.option("-o", "--output", metavar="FILE", type=output_file, help=what),
        click.option("-q", "--quiet", is_flag=True, help=quiet),
        *(() if progress is None else (click.option("--no-progress", is_flag=True, help=progress),)),
    )


def output_format(*forms: str, help: str = "Output format.") -> Callable[[Command], Command]:
    """Add ``-f``/``--format``, which the command gets as ``form``, one of ``forms``, and ``--json`` for ``--format
    json``."""

    def note(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
        ctx.meta[_JSON] = wanted

    def chosen(ctx: click.Context, _: click.Parameter, form: str) -> str:
        return "json" if ctx.meta.get(_JSON) else form

    def add(command: Command) -> Command:
        # Eager: its value is known when --format is converted, wherever it stands.
        command = click.option(
            "--json", is_flag=True, is_eager=True, expose_value=False, callback=note, help="Same as --format json."
        )(command)
        choice = click.Choice(forms or ("text", "json"))
        return click.option(
            "-f", "--format", "form", type=choice, default="text", show_default=True, callback=chosen, help=help
        )(command)

    return add


def coloured(*, passed: bool = True) -> Callable[[Command], Command]:
    """Add ``--color``, which the command gets as ``style``, the Style of standard output. ``passed``: False for a
    command that reports through ``say`` only."""

    def chosen(ctx: click.Context, _: click.Parameter, wanted: str) -> Style:
        ctx.meta[COLOUR] = wanted
        return style_for(sys.stdout)

    return click.option(
        "--color",
        "style",
        type=click.Choice(["auto", "always", "never"]),
        default="auto",
        show_default=True,
        expose_value=passed,
        callback=chosen,
        help="Colour the report.",
    )
