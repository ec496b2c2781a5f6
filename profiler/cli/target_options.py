"""The options that choose targets and set them up."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from profiler.cli.options import grouped, input_file
from profiler.errors import InputError
from profiler.quoting.text import printable
from profiler.targets import catalogue
from profiler.targets.base import Existing, Target
from profiler.targets.template import BUILT_IN, Templates
from profiler.trace.store import read_limited
from profiler.wording import suggestion


@dataclass(frozen=True)
class GivenTargets:
    """The options as they were given."""

    targets: tuple[str, ...]
    settings: tuple[str, ...]
    into: str | None
    templates: Path | None

    def parsed(self) -> TargetOptions:
        """Return them with targets and values found, and the file to rewrite read. Raises InputError."""
        existing = None if self.into is None else Existing(self.into, read_limited(self.into, own_links=True))
        return TargetOptions(_targets(self.targets), _settings(self.settings), existing, _templates(self.templates))


@dataclass(frozen=True)
class TargetOptions:
    """``targets``: None when none was given. ``settings``: by target, then by setting."""

    targets: tuple[Target, ...] | None
    settings: Mapping[str, Mapping[str, object]]
    existing: Existing | None
    templates: Templates

    def chosen(self, engine: str | None) -> tuple[Target, ...]:
        """Return the targets, by default those for the engine that a recording came from.

        Raises InputError when a setting, or the file to rewrite, is for none of them.
        """
        targets = catalogue.default(engine) if self.targets is None else self.targets
        names = {target.name for target in targets}.union(
            *(target.launches.requires for target in targets if target.launches)
        )
        if other := next((name for name in self.settings if name not in names), None):
            raise InputError(f"-O {other}.{next(iter(self.settings[other]))} is for the target {other}: add -t {other}")
        rewriting = [target for target in catalogue.TARGETS if target.rewrites]
        chosen = [target for target in targets if self.targets is not None and target in rewriting]
        if self.existing and len(chosen) > 1:
            both = " and ".join(target.name for target in chosen)
            raise InputError(
                f"--into {printable(self.existing.name)} is one file, and {both} would each rewrite it: run generate "
                "once for each"
            )
        if self.existing and not chosen:
            able = ", ".join(f"{target.name} ({target.rewrites})" for target in rewriting)
            raise InputError(f"--into needs a target that rewrites a file: choose with -t one of {able}")
        return targets


target_options = grouped(
    GivenTargets,
    "given",
    click.option(
        "-t",
        "--target",
        "targets",
        multiple=True,
        metavar="TARGET",
        help="Write the files of this target. Repeat it, or separate names with commas. Default: the artifacts, and "
        "the launcher that the recording came from.",
    ),
    click.option(
        "-O", "--option", "settings", multiple=True, metavar="TARGET.NAME=VALUE", help="Set an option of a target."
    ),
    click.option(
        "--into",
        type=input_file,
        metavar="FILE",
        help="Put the profile into the content of this file and keep the rest of it. The result goes to -o.",
    ),
    click.option(
        "--templates",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        metavar="DIR",
        help="Use the templates in this directory instead of the built-in ones of the same names.",
    ),
)
"""Add the options; the command gets them as ``given``, a GivenTargets."""


def setting_options() -> dict[str, tuple[str, bool]]:
    """Return the options that stand for settings: for ``--apparmor-name``, ``apparmor.name`` and whether it is on or
    off."""
    return {
        f"--{target.name}-{setting.name}": (f"{target.name}.{setting.name}", isinstance(setting.default, bool))
        for target in catalogue.TARGETS
        for setting in target.settings
    }


class TargetCommand(click.Command):
    """A command that lists the targets and their settings in its help, and takes each setting as an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read ``--apparmor-name web`` as ``-O apparmor.name=web``, and so on for each setting; then parse as usual."""
        known = setting_options()
        read: list[str] = []
        rest = iter(args)
        for word in rest:
            option, equals, value = word.partition("=")
            if option in known:
                key, on_or_off = known[option]
                if not equals and not on_or_off and (following := next(rest, None)) is not None:
                    equals, value = "=", following
                read += ["-O", key + equals + value]
            else:
                read.append(word)
            if word == "--":
                break
        try:
            return super().parse_args(ctx, [*read, *rest])
        except click.NoSuchOption as error:
            near = error.possibilities or difflib.get_close_matches(error.option_name, known, n=1)
            raise click.NoSuchOption(error.option_name, possibilities=near, ctx=error.ctx) from None

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, then the targets."""
        super().format_options(ctx, formatter)
        with formatter.section("Targets (-t)"):
            formatter.write_dl([(target.name, target.summary) for target in catalogue.TARGETS])
        with formatter.section("Options of targets (-O apparmor.name=web, or --apparmor-name web)"):
            formatter.write_dl(
                [
                    (f"{target.name}.{setting.name}={setting.metavar}", setting.help)
                    for target in catalogue.TARGETS
                    for setting in target.settings
                ]
            )


def _targets(words: Sequence[str]) -> tuple[Target, ...] | None:
    names = [name.strip() for word in words for name in word.split(",")]
    return tuple(catalogue.find(name) for name in dict.fromkeys(names)) if words else None


def _settings(words: Sequence[str]) -> dict[str, dict[str, object]]:
    """Parse every ``TARGET.NAME=VALUE``. Raises InputError."""
    found: dict[str, dict[str, object]] = {}
    for word in words:
        key, equals, value = word.partition("=")
        target_name, dot, name = key.partition(".")
        if not dot:
            raise InputError(f"-O {printable(word)}: write it as TARGET.NAME=VALUE, such as seccomp.action=log")
        target = catalogue.find(target_name)
        known = {setting.name: setting for setting in target.settings}
        if name not in known:
            one_of = f"one of {', '.join(known)}" if known else "it has none"
            close = suggestion(name, known)
            raise InputError(f"-O {printable(key)}: {target.name} has no such option{close}: {one_of}")
        setting = known[name]
        if not equals and not isinstance(setting.default, bool):
            raise InputError(f"-O {key} needs a value: {key}={setting.metavar}")
        if name in found.get(target_name, {}):
            raise InputError(f"-O {key} is given twice: leave one out")
        try:
            found.setdefault(target_name, {})[name] = setting.parse(value) if equals else True
        except InputError as error:
            raise InputError(f"-O {key}: {error}") from error
    return found


def _templates(directory: Path | None) -> Templates:
    if directory is None:
        return BUILT_IN
    templates = Templates(directory)
    if not templates.own():
        raise InputError(f"--templates {directory}: it holds no template of profgen, such as seccomp.json.j2")
    return templates
