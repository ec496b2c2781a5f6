"""``profgen lint``: known holes and traps of a profile or a policy."""

from __future__ import annotations

import click

from profiler.cli.options import coloured, output_format, source_file
from profiler.cli.results import FORMATS, IgnoreOptions, fail_on_level, ignore_options, show, with_ignored
from profiler.cli.terminal import say
from profiler.style import Style


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
@fail_on_level("warning")
@ignore_options()
@output_format(*FORMATS)
@coloured()
def lint(file: str, fail_on: str, ignore: IgnoreOptions, form: str, style: Style) -> int:
    """Find known holes and traps in FILE, each with a fix.

    FILE may be a policy.yaml, a seccomp JSON of Docker or OCI, an OCI config.json or a SeccompProfile. An error is a
    hole or breaks programs, a warning is most likely a mistake, a note is information.

    Findings that .profgen.yaml next to FILE lists with a reason are left out.

    The exit status is 0 without errors and warnings (see --fail-on), 1 with some, 2 in trouble.

    \b
      profgen lint policy.yaml
      profgen lint /etc/docker/seccomp.json --json
      profgen lint policy.yaml --ignore wide-capability --reason "it is a router"
    """
    from profiler.kernel.libseccomp import installed
    from profiler.review.lint import report
    from profiler.review.yardsticks import named

    found = with_ignored(report(named(file), fail_on), ignore)
    show(found, form, style)
    if form == "text" and installed() is None:
        say("note: libseccomp is not installed: names are checked only against profgen's tables")
    return 1 if found.failures else 0


def _rules(ctx: click.Context, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    from profiler.review.lint import RULES

    width = max(map(len, RULES))
    print("\n".join(f"{name:<{width}}  {rule.level:<7}  {rule.title}" for name, rule in RULES.items()))
    ctx.exit(0)
