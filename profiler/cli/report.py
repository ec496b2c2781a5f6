"""``profgen report``: a page about a workload that a browser opens."""

from __future__ import annotations

from importlib.util import find_spec

import click

from profiler.cli.options import OutputOptions, output_options, source_file, trace_file
from profiler.cli.terminal import say
from profiler.errors import ExtraMissing
from profiler.files import refuse_to_replace, write_atomic

_NEEDED = {"altair": "altair", "vl_convert": "vl-convert-python"}
"""Modules that draw plots, with their packages: the extra ``report``."""


@click.command("report")
@click.argument("files", nargs=-1, required=True, type=source_file, metavar="TRACE...|POLICY|DIR")
@click.option(
    "--base", type=source_file, metavar="FILE", help="Show first what changed since this one: anything that diff reads."
)
@click.option(
    "--trace",
    "recordings",
    type=trace_file,
    multiple=True,
    metavar="TRACE",
    help="A recording behind a policy. Can be repeated.  [default: the trace.json next to it]",
)
@output_options("The page.  [default: report.html]")
def report(files: tuple[str, ...], base: str | None, recordings: tuple[str, ...], to: OutputOptions) -> None:
    """Write one HTML page about a workload: what it may do at a glance, how much is open, what the recordings saw, and
    each entry of the policy with its evidence.

    Give traces of one workload, or a policy. The page is one file that needs no network. To draw it takes the extra
    report (docs/install.md).

    \b
      profgen report nginx.trace.json
      profgen report nginx.profile -o nginx.html
      profgen report nginx.profile --base main/policy.yaml -o changes.html
    """
    from profiler.report.subject import read, read_base

    path = to.output or "report.html"
    refuse_to_replace(path, [*files, *recordings, *([base] if base else [])])
    subject, old = read(files, recordings), None if base is None else read_base(base)
    missing = [package for module, package in _NEEDED.items() if find_spec(module) is None]
    if missing:
        raise ExtraMissing("a report", missing[0], "report")
    from profiler.report.page import render

    page = render(subject, old)
    write_atomic(path, page)
    if not (to.quiet or to.printed):
        say(f"wrote {path}: open it in a browser")
