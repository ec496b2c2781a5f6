"""The options that say how a recording becomes a policy."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import click

from profiler.cli.options import grouped
from profiler.errors import InputError
from profiler.policy.model import GENERALISE_THRESHOLD, Options
from profiler.wording import suggestion

RUNTIMES = ("any", "none", "runc", "crun", "docker", "podman", "containerd")


@dataclass(frozen=True)
class DeriveOptions:
    """The options as they were given. ``allow_loss``: an incomplete recording is accepted; it does not change the
    policy."""

    runtime: str | None
    runtime_version: str | None
    new_privs: bool | None
    no_equivalents: bool
    no_companions: bool
    no_arguments: bool
    start_up: bool
    drop_failing: bool
    no_generalise: bool
    generalise_threshold: int | None
    allow_loss: bool

    @property
    def given(self) -> tuple[str, ...]:
        """Return those that change the policy, as people write them."""
        others = ("allow_loss", "new_privs")
        names = [
            field.name for field in dataclasses.fields(self) if field.name not in others and getattr(self, field.name)
        ]
        if self.new_privs is not None:
            names.append("allow_new_privs" if self.new_privs else "no_new_privs")
        return tuple(f"--{name.replace('_', '-')}" for name in names)

    def parsed(self) -> Options:
        """Return what passes take. Raises InputError for options that do not go together."""
        if self.runtime is not None and self.runtime not in RUNTIMES:
            close = suggestion(self.runtime, RUNTIMES)
            raise InputError(f"unknown runtime {self.runtime!r}{close}: one of {', '.join(RUNTIMES)}")
        if self.runtime_version is not None and self.runtime in (None, "any", "none"):
            raise InputError("--runtime-version needs --runtime: which runtime has that version?")
        if self.no_generalise and self.generalise_threshold is not None:
            raise InputError("--generalise-threshold has no meaning with --no-generalise: leave one of them out")
        return Options(
            runtime=self.runtime or "any",
            runtime_version=self.runtime_version,
            no_new_privs=None if self.new_privs is None else not self.new_privs,
            equivalents=not self.no_equivalents,
            companions=not self.no_companions,
            arguments=not self.no_arguments,
            drop_failing=self.drop_failing,
            start_up=self.start_up,
            generalise=not self.no_generalise,
            generalise_threshold=self.generalise_threshold or GENERALISE_THRESHOLD,
        )


derive_options = grouped(
    DeriveOptions,
    "deriving",
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
        "--allow-new-privs/--no-new-privs",
        "new_privs",
        default=None,
        help="For containers without or with no_new_privs. Default: with it, unless a program gained privileges by its "
        "file (setuid, setgid or capabilities).",
    ),
    click.option(
        "--no-equivalents", is_flag=True, help="Leave out syscalls that stand in for those seen, and companions."
    ),
    click.option("--no-companions", is_flag=True, help="Leave out harmless syscalls that come by timing."),
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
"""Add the options; the command gets them as ``deriving``, a DeriveOptions."""
