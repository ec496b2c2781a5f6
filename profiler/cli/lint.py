"""``profgen lint``: known holes and traps of a profile or a policy."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from profiler.cli.options import coloured, output_format, source_file
from profiler.cli.results import FORMATS, IgnoreOptions, fail_on_level, ignore_options, show, with_ignored
from profiler.cli.terminal import say
from profiler.errors import InputError, ProgramError
from profiler.style import Style

if TYPE_CHECKING:
    from profiler.images.image import Image

SAVE_SECONDS = 600.0
"""How long an engine may take to save an image."""


@click.command("lint")
@click.argument("file", type=source_file, metavar="FILE")
@click.option(
    "--rules",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda ctx, _, wanted: _rules(ctx, wanted),
    help="List the rules and exit.",
)
@click.option(
    "--image",
    metavar="IMAGE|DIR|TAR",
    help="Compare FILE with the image that it is for: a directory that is its root, an OCI layout, an archive of "
    "docker save, or the name of an image that the engine has.",
)
@click.option(
    "--for",
    "purpose",
    type=click.Choice(["kep-6061"]),
    help="Check instead whether container runtimes take it as an OCI artifact, and what their merge leaves of it.",
)
@click.option(
    "--baseline",
    metavar="NAME|FILE",
    help="With --for: the profile of the runtime that it is merged with: docker-default, podman-default, "
    "containerd-default, or a file.",
)
@fail_on_level("warning")
@ignore_options()
@output_format(*FORMATS)
@coloured()
def lint(
    file: str,
    image: str | None,
    purpose: str | None,
    baseline: str | None,
    fail_on: str,
    ignore: IgnoreOptions,
    form: str,
    style: Style,
) -> int:
    """Find known holes and traps in FILE, each with a fix.

    FILE may be a policy.yaml, a seccomp JSON of Docker or OCI, an OCI config.json or a SeccompProfile. An error is a
    hole or breaks programs, a warning is most likely a mistake, a note is information.

    With --image, programs of the image that gain privileges are named, if FILE makes them useless or lets the workload
    execute them, and what keeps the workload from running as another user than root or in a user namespace. Nothing
    of the image is executed or unpacked.

    Findings that .profgen.yaml next to FILE lists with a reason are left out.

    The exit status is 0 without errors and warnings (see --fail-on), 1 with some, 2 in trouble.

    \b
      profgen lint policy.yaml
      profgen lint /etc/docker/seccomp.json --json
      profgen lint policy.yaml --image nginx:1.25
      profgen lint policy.yaml --for kep-6061 --baseline docker-default
      profgen lint policy.yaml --ignore wide-capability --reason "it is a router"
    """
    if baseline is not None and purpose is None:
        raise click.UsageError("--baseline is for --for kep-6061: what is left after the merge with it")
    if purpose is not None:
        if image is not None:
            raise click.UsageError("--image and --for kep-6061 are two checks: run them one after the other")
        return _as_artifact(file, baseline, fail_on, ignore, form, style)
    from profiler.kernel.libseccomp import installed
    from profiler.review.lint import report
    from profiler.review.yardsticks import named

    source = named(file)
    found = with_ignored(report(source, fail_on, None if image is None else _image(image)), ignore)
    show(found, form, style)
    if form == "text" and installed() is None:
        say("note: libseccomp is not installed: names are checked only against profgen's tables")
    return 1 if found.failures else 0


def _image(name: str) -> Image:
    """Read an image: a file or a directory, else what the engine saves under this name. Raises InputError."""
    from profiler import run
    from profiler.engines.engine import find
    from profiler.images.image import open_image, read_archive, spooled

    if os.path.lexists(name) or name.startswith(("/", ".", "-")):
        return open_image(name)
    try:
        words = [*find().words, "image", "save", name]
        with run.reading(words, SAVE_SECONDS) as stream, spooled(stream) as copy:
            if copy.read(1):
                copy.seek(0)
                return read_archive(copy, name)
    except ProgramError as error:
        raise InputError(f"--image {name}: no such file, and no such image: {error}") from error
    raise InputError(f"--image {name}: the engine saved nothing")


def _as_artifact(file: str, baseline: str | None, fail_on: str, ignore: IgnoreOptions, form: str, style: Style) -> int:
    """Check for KEP-6061."""
    from profiler.review import yardsticks
    from profiler.review.artifact import report

    if baseline is not None and os.path.isdir(baseline):
        raise InputError(
            f"--baseline {baseline} is a directory: name the runtime's profile, such as {baseline}/seccomp.json"
        )
    against = None if baseline is None else yardsticks.baseline(baseline)
    made = report(yardsticks.named(file), against, fail_on)
    found = with_ignored(made, ignore)
    show(found, form, style)
    return 1 if found.failures else 0


def _rules(ctx: click.Context, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    from profiler.review import artifact
    from profiler.review.lint import RULES

    rules = {**RULES, **artifact.RULES}
    width = max(map(len, rules))
    print("\n".join(f"{name:<{width}}  {rule.level:<7}  {rule.title}" for name, rule in rules.items()))
    ctx.exit(0)
