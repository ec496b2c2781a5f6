"""``profgen lint``: known holes and traps of a profile or a policy."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from profiler.cli.options import coloured, output_format, source_file
from profiler.cli.terminal import say
from profiler.quoting.text import printable
from profiler.style import Style
from profiler.wording import counted

_INDENT = " " * 9


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
@output_format()
@coloured()
def lint(file: str, form: str, style: Style) -> int:
    """Find known holes and traps in FILE, each with a fix.

    FILE may be a policy.yaml, a seccomp JSON of Docker or OCI, an OCI config.json or a SeccompProfile. An error is a
    hole or breaks programs, a warning is most likely a mistake, a note is information.

    The exit status is 0 without errors and warnings, 1 with some, 2 in trouble.

    \b
      profgen lint policy.yaml
      profgen lint /etc/docker/seccomp.json --json
    """
    from profiler.kernel.libseccomp import installed
    from profiler.review.lint import counts
    from profiler.review.lint import lint as findings_of
    from profiler.review.sources import machine
    from profiler.review.yardsticks import named

    source = named(file)
    found = findings_of(source, machine(source))
    numbers = counts(found)
    library = installed()
    if form == "json":
        version = library.version if library else None
        print(
            json.dumps(
                {"source": file, "libseccomp": version, **numbers, "findings": [asdict(finding) for finding in found]},
                indent=1,
            )
        )
    else:
        for finding in found:
            where = f"{finding.where}: " if finding.where else ""
            print(f"{style(finding.level, f'{finding.level:<7}')}  {finding.rule}")
            for text in (f"{where}{finding.what}", f"fix: {finding.fix}"):
                print(style.wrapped(text, _INDENT))
        words = ", ".join(counted(number, level) for level, number in numbers.items() if number)
        print(f"{printable(file)}: {words or 'nothing found'}")
        if library is None:
            say("note: libseccomp is not installed: names are checked only against profgen's tables")
    return 1 if numbers["error"] or numbers["warning"] else 0


def _rules(ctx: click.Context, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    from profiler.review.lint import RULES

    width = max(map(len, RULES))
    print("\n".join(f"{name:<{width}}  {text}" for name, (_, text) in RULES.items()))
    ctx.exit(0)
