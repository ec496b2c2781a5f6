"""Arguments and options that several subcommands have, alike in each."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

POLICY_FILE = "policy.yaml"
_JSON = "profgen.json"


def input_file(path: str) -> str:
    """The type of an argument: a file to read, or ``-`` for standard input."""
    return "/dev/stdin" if path == "-" else path


def source_file(path: str) -> str:
    """The type of an argument: the same, or the directory that ``generate`` wrote, which stands for its policy.yaml."""
    return os.path.join(path, POLICY_FILE) if os.path.isdir(path) else input_file(path)


def output_format(*forms: str, help: str = "Default: text.") -> Callable[[Command], Command]:
    """``--format``, which the command gets as ``form``, one of ``forms``, text by default; and ``--json``, short for
    ``--format json``."""

    def note(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
        ctx.meta[_JSON] = wanted

    def chosen(ctx: click.Context, _: click.Parameter, form: str) -> str:
        return "json" if ctx.meta.get(_JSON) else form

    def add(command: Command) -> Command:
        # Eager: known when --format is looked at, wherever it stands.
        command = click.option(
            "--json", is_flag=True, is_eager=True, expose_value=False, callback=note, help="The same as --format json."
        )(command)
        choice = click.Choice(forms or ("text", "json"))
        return click.option("--format", "form", type=choice, default="text", callback=chosen, help=help)(command)

    return add
