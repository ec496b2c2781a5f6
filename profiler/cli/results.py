"""Results for programs and pipelines: the one writer of ``--json``, and the formats of a report."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from profiler.cli.options import Command, grouped
from profiler.cli.terminal import emit, say
from profiler.quoting.json import as_json
from profiler.style import PLAIN, Style

if TYPE_CHECKING:
    from profiler.review.findings import Report

JSON = click.option("--json", "form", flag_value="json", help="Print the result as JSON on standard output.")
"""The option of a command whose result is a file; it gets ``json`` or None as ``form``."""
FORMATS = ("text", "json", "markdown", "sarif", "github", "junit", "gitlab")
"""Of a report."""


def json_text(command: str, data: Mapping[str, Any]) -> str:
    """Return the JSON of a command: an object with its ``schema`` first (docs/json.md)."""
    return as_json({"schema": f"profgen.{command}/1", **data}, indent=1) + "\n"


def print_json(command: str, data: Mapping[str, Any]) -> None:
    """Print the JSON of a command on standard output."""
    emit(json_text(command, data))


def formatted(report: Report, form: str, style: Style = PLAIN) -> str:
    """Return a report in one of FORMATS."""
    from profiler.review.formats import data, github, gitlab, junit, markdown, sarif, text

    renderers: Mapping[str, Callable[[Report], str]] = {
        "text": lambda report: text.render(report, style),
        "json": lambda report: json_text(report.command, data.render(report)),
        "markdown": markdown.render,
        "sarif": sarif.render,
        "github": github.render,
        "junit": junit.render,
        "gitlab": gitlab.render,
    }
    return renderers[form](report)


def summarise(report: Report, form: str, markdown: str | None = None) -> None:
    """Add a report to the summary of a job of GitHub Actions, with the format ``github``. ``markdown``: instead of the
    usual one."""
    if form != "github":
        return
    from profiler.cli import job_summary

    job_summary.append(formatted(report, "markdown") if markdown is None else markdown)


def show(report: Report, form: str, style: Style = PLAIN) -> None:
    """Print a report on standard output."""
    emit(formatted(report, form, style))
    summarise(report, form)


@dataclass(frozen=True)
class IgnoreOptions:
    """Findings to accept from now on, RULE or RULE:ENTRY, the reason, and the last day of it."""

    ignored: tuple[str, ...]
    reason: str | None
    until: datetime.date | None


def fail_on_level(default: str, more: str = "") -> Callable[[Command], Command]:
    """Add ``--fail-on LEVEL``, which the command gets as ``fail_on``. ``more``: what its help adds."""
    return click.option(
        "--fail-on",
        type=click.Choice(["error", "warning", "note", "never"]),
        default=default,
        show_default=True,
        help=f"The least level of a finding that makes the exit status 1{more}.",
    )


def ignore_options() -> Callable[[Command], Command]:
    """Add the options that accept findings, as ``ignore``: IgnoreOptions."""
    return grouped(
        IgnoreOptions,
        "ignore",
        click.option(
            "--ignore",
            "ignored",
            multiple=True,
            metavar="RULE[:ENTRY]",
            help="Accept findings of RULE from now on: add a row to .profgen.yaml next to FILE. Can be repeated.",
        ),
        click.option("--reason", metavar="TEXT", help="Why --ignore accepts them."),
        click.option(
            "--until",
            type=click.DateTime(["%Y-%m-%d"]),
            callback=lambda _, __, value: value and value.date(),
            metavar="DATE",
            help="The last day on which --ignore accepts them (2027-01-31).",
        ),
    )


def with_ignored(report: Report, ignore: IgnoreOptions) -> Report:
    """Return a report without the findings that .profgen.yaml next to its file accepts, after adding what
    ``ignore`` says to that file. Raises InputError and OutputError."""
    from profiler.review import ignores, lint, score_findings

    if bool(ignore.ignored) != (ignore.reason is not None) or (ignore.until and not ignore.ignored):
        raise click.UsageError("--ignore RULE needs --reason TEXT, and --reason and --until are for --ignore")
    known = (*lint.RULES, *score_findings.RULES)
    path = ignores.path_for(report.source)
    for words in ignore.ignored:
        _add(path, words, ignore, known)
    return ignores.applied(report, ignores.read(path, known), path, datetime.date.today())


def _add(path: Path, words: str, ignore: IgnoreOptions, known: tuple[str, ...]) -> None:
    from profiler.files import write_atomic
    from profiler.review import ignores
    from profiler.trace.store import read_limited

    rule, _, entry = words.partition(":")
    row = ignores.Ignore(rule, ignore.reason or "", entry or None, until=ignore.until)
    before = read_limited(path, own_links=True) if path.exists() else b""
    write_atomic(path, ignores.with_row(before, row, str(path), known))
    say(f"added {words} to {path}")
