"""Write the manual pages, profgen(1), profgen-record(1) and so on, from what the commands say about themselves.

``python -m profiler.cli.manual DIR`` writes them to a directory. They use the macros of man(7) that groff and mandoc
share.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import re
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from profiler import __version__
from profiler.cli.main import COMMANDS, cli
from profiler.quoting.roff import roff

WIDTH = 78
"""Columns of a line of running text in the source."""

Rows = Iterable[tuple[str, str]]
"""Terms, each with its explanation."""

STATUSES = {
    "0": "success; for commands that give a verdict: nothing to report",
    "1": "a verdict: denials, differences, findings, conflicts, or something that is not allowed",
    "2": "unusable input: a bad trace or policy, an unknown target or option",
    "125": "profgen failed, or the recording lost something (--allow-loss accepts that)",
    "126": "the command cannot be executed",
    "127": "the command was not found",
    "130": "interrupted",
    "141": "the reader of the output closed it, as head(1) does",
}
_STARTING = ("126", "127")
"""Statuses of commands that start a program."""
_OWN = ("of the command", "the workload's own; 128+N if signal N ended it")
"""The status of profgen-record(1)."""

FILES = {
    "record": {"NAME.trace.json": "the trace, where -o does not name another file"},
    "generate": {
        "DIR/policy.yaml": "the policy: what is reviewed and committed",
        "DIR/trace.json": "the recording that it was made from: the evidence",
    },
    "hook": {"/var/lib/profgen": "traces, where -o does not name another directory"},
    "": {"~/.cache/profgen, /var/cache/profgen": "what a run keeps for the next one; deleting it costs only time"},
}
"""Command to its files; those of no command alone are under ""."""

ENVIRONMENT = {
    "PROFGEN_ENGINE": "the container engine to use: docker, podman, nerdctl, or the path of one; default: the first "
    "that answers",
    "PROFGEN_SLOT": "set for each run of a test by profgen-minimise(1), when several run at the same time",
    "NO_COLOR": "if it is set, reports have no colours",
}
OTHERS = "strace(1), bpf(2), ptrace(2), seccomp(2), apparmor(7), capabilities(7), cgroups(7), namespaces(7)"


def pages(date: str = "") -> dict[str, str]:
    """Return each page by the name of its file. ``date``: what they say about their age, such as 2026-11-30."""
    context = click.Context(cli, info_name="profgen", **cli.context_settings)
    made = {"profgen.1": _page(context, "record what a program does, and write the least confinement for it", date)}
    for name, summary in COMMANDS.items():
        command = cli.get_command(context, name)
        assert command is not None
        child = click.Context(command, info_name=name, parent=context)
        made[f"profgen-{name}.1"] = _page(child, summary[:1].lower() + summary[1:].removesuffix("."), date)
    return made


def _page(context: click.Context, summary: str, date: str) -> str:
    return "".join(f"{line}\n" for line in _lines(context, summary, date))


def _lines(context: click.Context, summary: str, date: str) -> Iterator[str]:
    command, name = context.command, context.command_path.replace(" ", "-")
    top = context.parent is None
    text, examples = _description(command)
    verdict = [each for each in text if each.startswith("The exit status")]
    yield f'.TH "{roff(name.upper())}" 1 "{date}" "profgen {__version__}" "profgen manual"'
    yield ".nh"  # no hyphenation, and no wide spaces
    yield ".ad l"
    yield ".SH NAME"
    yield from _wrapped(f"{roff(name)} \\- {roff(summary)}")
    yield ".SH SYNOPSIS"
    pieces = " ".join(f"\\fI{roff(piece)}\\fR" for piece in command.collect_usage_pieces(context))
    yield from _wrapped(f"\\fB{roff(context.command_path)}\\fR {pieces}")
    yield ".SH DESCRIPTION"
    yield from _paragraphs(each for each in text if each not in verdict)
    for heading, rows in _sections(context):
        yield f'.SH "{roff(heading.upper())}"'
        yield from _list(rows)
    yield '.SH "EXIT STATUS"'
    yield from _paragraphs(verdict)
    yield from _list(_statuses(command, bool(verdict)))
    if top:
        yield ".SH ENVIRONMENT"
        yield from _list(ENVIRONMENT.items())
    if files := [row for each, rows in FILES.items() if top or each == command.name for row in rows.items()]:
        yield ".SH FILES"
        yield from _list(files)
    if examples:
        yield ".SH EXAMPLES"
        yield ".EX"
        yield from map(roff, examples)
        yield ".EE"
    yield '.SH "SEE ALSO"'
    others = ", ".join(f"profgen-{each}(1)" for each in COMMANDS if each != command.name)
    yield from _wrapped(_references(f"{others}, {OTHERS}" if top else f"profgen(1), {others}"))


def _description(command: click.Command) -> tuple[list[str], list[str]]:
    """Return the paragraphs of a command's help, and the example lines in it (which follow a ``\\b``)."""
    paragraphs: list[str] = []
    examples: list[str] = []
    for part in inspect.cleandoc(command.help or "").split("\n\n"):
        if part.startswith("\b"):
            examples += [line.strip() for line in part.splitlines()[1:]]
        else:
            paragraphs.append(" ".join(part.split()))
    return paragraphs, examples


class _Collector(click.HelpFormatter):
    """Keeps the sections of a help text, with their lists."""

    def __init__(self) -> None:
        super().__init__()
        self.sections: list[tuple[str, list[tuple[str, str]]]] = []

    @contextlib.contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Begin a section."""
        self.sections.append((name, []))
        yield

    def write_dl(self, rows: Iterable[tuple[str, str]], *_: object, **__: object) -> None:
        """Add to the section."""
        self.sections[-1][1].extend(rows)


def _sections(context: click.Context) -> list[tuple[str, list[tuple[str, str]]]]:
    collector = _Collector()
    context.command.format_options(context, collector)
    return collector.sections


def _statuses(command: click.Command, verdict: bool) -> Iterator[tuple[str, str]]:
    """Return the statuses that a command can end with. ``verdict``: its text says what 0, 1 and 2 mean."""
    starts = any(parameter.name == "command" for parameter in command.params)
    if command.name == "record":
        yield _OWN
    for status, meaning in STATUSES.items():
        own = status in ("0", "1") and (verdict or command.name == "record")
        if isinstance(command, click.Group) or not (own or (status in _STARTING and not starts)):
            yield status, meaning


def _paragraphs(paragraphs: Iterable[str]) -> Iterator[str]:
    for index, each in enumerate(paragraphs):
        if index:
            yield ".PP"
        yield from _wrapped(_references(each))


def _list(rows: Rows) -> Iterator[str]:
    for term, text in rows:
        yield ".TP"
        yield _term(term)
        yield from _wrapped(_references(" ".join(text.split())))


def _term(text: str) -> str:
    """Return a term in bold, with what the user replaces in italics: ``-o, --output FILE``."""
    words = re.split(r"([,/]? )", text)
    return "".join(_styled(word) for word in words)


def _styled(word: str) -> str:
    if not word.strip(",/ "):
        return roff(word)
    plain = word.startswith("-") or (word.islower() and word[0] not in "[") or "." in word or word.isdigit()
    return f"\\f{'B' if plain else 'I'}{roff(word)}\\fR"


def _references(text: str) -> str:
    """Return running text with references to manual pages in bold."""
    return re.sub(r"\b([a-z][\w.]*(?:\\-\w+)*)(?=\(\d\))", r"\\fB\1\\fR", roff(text))


def _wrapped(text: str) -> Iterator[str]:
    """Yield text that is quoted for roff in lines of the source."""
    yield from textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def write(directory: Path) -> list[Path]:
    """Write the pages to a directory and return their paths. SOURCE_DATE_EPOCH gives their date
    (reproducible-builds.org)."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    date = time.strftime("%Y-%m-%d", time.gmtime(int(epoch))) if epoch else ""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in pages(date).items():
        written.append(directory / name)
        written[-1].write_text(text, encoding="ascii")
    return written


if __name__ == "__main__":
    write(Path(sys.argv[1]))
