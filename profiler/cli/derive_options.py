"""The options that say how a recording becomes a policy."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from profiler.errors import InputError
from profiler.policy.model import GENERALISE_THRESHOLD, Options

RUNTIMES = ("any", "none", "runc", "crun", "docker", "podman", "containerd")


@dataclass(frozen=True)
class DeriveOptions:
    """``given``: the options that were given, as people write them. ``allow_loss``: an incomplete recording is
    accepted."""

    options: Options
    given: tuple[str, ...]
    allow_loss: bool


_OPTIONS = (
    click.option(
        "--runtime",
        metavar="NAME",
        help=f"Add what this runtime itself needs: {', '.join(RUNTIMES)}. Default: any.",
    ),
    click.option(
        "--runtime-version",
        metavar="V",
        help="Version of that runtime's runc or crun. Default: every known one.",
    ),
    click.option(
        "--allow-new-privs",
        is_flag=True,
        help="For containers without no_new_privs; they need more of the runtime's syscalls.",
    ),
    click.option("--no-equivalents", is_flag=True, help="Leave out syscalls that stand in for those seen."),
    click.option("--no-arguments", is_flag=True, help="Write no argument filters."),
    click.option(
        "--start-up",
        is_flag=True,
        help="Add what programs call to start: for recordings that joined them while they ran.",
    ),
    click.option("--drop-failing", is_flag=True, help="Leave out syscalls that never succeeded."),
    click.option(
        "--no-generalise",
        is_flag=True,
        help="Keep paths as they were seen; only process ids and the like become classes.",
    ),
    click.option(
        "--generalise-threshold",
        type=click.IntRange(2, 1_000_000),
        metavar="N",
        help=f"Names used alike in one directory before one rule replaces theirs. Default: {GENERALISE_THRESHOLD}.",
    ),
    click.option("--allow-loss", is_flag=True, help="Accept an incomplete recording."),
)


def derive_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command gets them as ``deriving``, a DeriveOptions."""

    @functools.wraps(command)
    def collected(*arguments: Any, **values: Any) -> Any:
        own = {name: values.pop(name) for name in _NAMES}
        return command(*arguments, deriving=_chosen(own), **values)

    for option in reversed(_OPTIONS):
        collected = option(collected)
    return collected


_NAMES = (
    "runtime",
    "runtime_version",
    "allow_new_privs",
    "no_equivalents",
    "no_arguments",
    "start_up",
    "drop_failing",
    "no_generalise",
    "generalise_threshold",
    "allow_loss",
)


def _chosen(values: dict[str, Any]) -> DeriveOptions:
    runtime, version, threshold = values["runtime"], values["runtime_version"], values["generalise_threshold"]
    if runtime is not None and runtime not in RUNTIMES:
        raise InputError(f"unknown runtime {runtime!r}: one of {', '.join(RUNTIMES)}")
    if version is not None and runtime in (None, "any", "none"):
        raise InputError("--runtime-version needs --runtime: which runtime has that version?")
    if values["no_generalise"] and threshold is not None:
        raise InputError("--generalise-threshold has no meaning with --no-generalise: leave one of them out")
    options = Options(
        runtime=runtime or "any",
        runtime_version=version,
        no_new_privs=not values["allow_new_privs"],
        equivalents=not values["no_equivalents"],
        arguments=not values["no_arguments"],
        drop_failing=values["drop_failing"],
        start_up=values["start_up"],
        generalise=not values["no_generalise"],
        generalise_threshold=threshold or GENERALISE_THRESHOLD,
    )
    given = (f"--{name.replace('_', '-')}" for name in _NAMES if name != "allow_loss" and values[name])
    return DeriveOptions(options, tuple(given), values["allow_loss"])
