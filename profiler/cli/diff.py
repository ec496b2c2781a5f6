"""``profgen diff``: what one trace, policy or profile allows and another does not."""

from __future__ import annotations

import click

from profiler.cli.options import coloured, output_format, source_file
from profiler.cli.results import FORMATS, formatted, json_text, summarise
from profiler.cli.terminal import emit
from profiler.style import Style


@click.command("diff")
@click.argument("old", type=source_file, metavar="OLD")
@click.argument("new", type=source_file, metavar="NEW")
@output_format(*FORMATS)
@click.option(
    "--fail-on",
    type=click.Choice(["any", "widened", "risky"]),
    default="any",
    show_default=True,
    help="Exit with status 1 for: any difference, more rights in NEW, or more rights of high or critical risk.",
)
@click.option("--exact", is_flag=True, help="Treat equivalent syscalls and values as different.")
@coloured()
def diff(old: str, new: str, form: str, fail_on: str, exact: bool, style: Style) -> int:
    """Show which rights NEW has and OLD lacks, and the reverse.

    Each may be a trace, a policy.yaml, a seccomp JSON of Docker or OCI, an OCI config.json or a SeccompProfile. The
    exit status is 0 when they are the same, 1 when they differ (see --fail-on), 2 in trouble.

    \b
      profgen diff v1.trace.json v2.trace.json
      profgen diff policy.yaml /etc/docker/seccomp.json --fail-on widened
      profgen diff main/policy.yaml policy.yaml --format markdown
    """
    from profiler.review import render
    from profiler.review.diff import compare, fails
    from profiler.review.sources import machine
    from profiler.review.yardsticks import named

    sources = (named(old), named(new))
    abi = machine(*sources)
    first, second = (source.rights(source.arch or abi, None) for source in sources)
    found = compare(first, second, exact)
    own = {
        "text": lambda: render.text(found, style),
        "json": lambda: json_text("diff", render.data(found)),
        "markdown": lambda: render.markdown(found),
    }
    report = render.report(found, sources[1].content, fail_on)
    emit(own[form]() if form in own else formatted(report, form))
    summarise(report, form, render.markdown(found))
    return 1 if fails(found, fail_on) else 0
