"""``profgen score``: how much a profile leaves open, in figures and one number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from profiler.cli.options import coloured, output_format, source_file, whole
from profiler.cli.results import (
    FORMATS,
    IgnoreOptions,
    fail_on_level,
    formatted,
    ignore_options,
    summarise,
    with_ignored,
)
from profiler.cli.terminal import emit, say
from profiler.errors import InputError
from profiler.quoting.text import printable
from profiler.style import Style
from profiler.wording import counted, shortened, suggestion

if TYPE_CHECKING:
    from profiler.review.findings import Report
    from profiler.review.rights import Rights
    from profiler.review.score import Excess, Score

WIDTH = 100
NAMED = 12
"""Calls named on a line without --verbose."""


def _assumed(text: str) -> frozenset[str]:
    from profiler.kernel.capabilities import CAPABILITIES, number_of
    from profiler.review.yardsticks import docker_capabilities

    words = [word.strip().upper() for word in text.split(",") if word.strip()]
    if words == ["DOCKER"]:
        return docker_capabilities()
    if words == ["ALL"]:
        return frozenset(CAPABILITIES)
    if words in ([], ["NONE"]):
        return frozenset()
    names = [word if word.startswith("CAP_") else f"CAP_{word}" for word in words]
    for name in names:
        if number_of(name) is None:
            near = suggestion(name, CAPABILITIES)
            raise InputError(
                f"--capabilities: unknown capability {printable(name)}{near}: give docker, all, none, or names joined "
                "by commas"
            )
    return frozenset(names)


def _bound(text: str) -> int | str:
    """Convert the value of --not-below: a score, or a file to compare with."""
    number = whole(text)
    if number is None:
        return source_file(text)
    if number > 100:
        raise InputError(f"--not-below {text}: a score is at most 100; for a file of this name: ./{text}")
    return number


def _other(name: str, abi: str, assumed: frozenset[str]) -> Rights:
    from profiler.review.yardsticks import named

    return named(name).rights(abi, assumed)


def _short(path: str, names: Sequence[str]) -> str:
    """Return the heading of a column: the file's name, with its directory when another file has the same name."""
    parts = Path(path).parts
    same = sum(Path(name).name == parts[-1] for name in names) > 1
    text = printable("/".join(parts[-2:] if same else parts[-1:]))
    return text if len(text) <= 24 else "..." + text[-21:]


def _rows(scores: Sequence[Score]) -> Iterator[tuple[str, list[str]]]:
    from profiler.review.score_findings import figures

    for rows in zip(*map(figures, scores), strict=True):
        yield rows[0][0], [value.removesuffix(" of 100") for _, value in rows]


def _wrapped(first: str, words: Sequence[str], style: Style) -> str:
    """Return ``first`` and the words after it, wrapped."""
    return replace(style, width=min(style.width, WIDTH)).wrapped(", ".join(words), " " * (len(first) + 1), f"{first} ")


def _few(names: Sequence[str], verbose: bool) -> list[str]:
    return list(names) if verbose else shortened(names, NAMED)


def _text(
    scores: Sequence[Score], compared: Sequence[tuple[str, Excess]], verbose: bool, style: Style
) -> Iterator[str]:
    from profiler.kernel.cves import date
    from profiler.review.yardsticks import docker_version

    found = scores[0]
    names = [one.source for one in scores]
    table = [("", [_short(one.source, names) for one in scores]), *_rows(scores)]
    first = max(len(label) for label, _ in table)
    widths = [max(len(cells[column]) for _, cells in table) for column in range(len(scores))]
    if len(scores) == 1:
        yield style("title", f"{printable(found.source)}: {found.points} of 100")
        table = table[2:]
    for label, cells in table:
        yield f"{label:<{first}}  " + "   ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
    if found.capabilities or found.unfiltered or verbose:
        yield ""
    if found.capabilities:
        yield _wrapped("capabilities held" + (" (assumed):" if found.assumed else ":"), found.capabilities, style)
    if found.unfiltered:
        yield _wrapped("unfiltered arguments:", _few(found.unfiltered, verbose), style)
    if verbose:
        yield _wrapped("filtered arguments:", found.filtered or ["none"], style)
        yield _wrapped("syscalls open:", found.open or ["none"], style)
    for name, extra in compared:
        yield ""
        more = [(label, items) for label, items in asdict(extra).items() if items]
        yield f"open here and not in {printable(name)}:" + ("" if more else " nothing")
        for label, items in more:
            yield _wrapped(f"  {label + ':':<13}", _few(items, verbose), style)
    yield ""
    yield style("title", f"CVEs that are blocked, by what is missing (table of {date()}):")
    for reason, rows in found.blocked.items():
        yield f"  {len(rows):>3}  {reason}"
        if verbose:
            yield _wrapped("      ", [row.cve.identifier for row in rows], style)
    if not found.blocked:
        yield "    none"
    yield ""
    yield style("title", "CVEs that are not blocked, by what is allowed:")
    for reason, rows in found.reachable.items() if verbose else list(found.reachable.items())[:10]:
        yield f"  {len(rows):>3}  {reason}"
        if verbose:
            yield _wrapped("      ", [row.cve.identifier for row in rows], style)
    rest = list(found.reachable.values())[10:]
    if rest and not verbose:
        yield f"  {sum(map(len, rest)):>3}  in {len(rest)} more groups (--verbose lists them)"
    if not found.reachable:
        yield "    none"
    if "docker-default" in [name for name, _ in compared]:
        yield ""
        yield f"docker-default is {docker_version()}, with the capabilities that docker run grants."


@click.command("score")
@click.argument("file", type=source_file, metavar="FILE")
@click.option(
    "--compare",
    multiple=True,
    type=source_file,
    metavar="NAME|FILE",
    help="Compare with docker-default, unconfined, or another file. Can be repeated.",
)
@click.option(
    "--not-below",
    "bound",
    type=_bound,
    metavar="N|FILE",
    help="Exit with status 1 for a score below N, or when FILE leaves less open in any of the figures.",
)
@fail_on_level("error", ": --not-below gives errors, what is open is a note")
@click.option(
    "--capabilities",
    default="docker",
    metavar="LIST",
    show_default=True,
    help="Capabilities of a file that does not list them: docker, all, none, or names joined by commas.",
)
@click.option("--verbose", "-v", is_flag=True, help="List every CVE, open syscall and filter.")
@ignore_options()
@output_format(*FORMATS, "badge", help="Output format; json has every CVE with the reason, badge is for shields.io.")
@coloured()
def score(
    file: str,
    compare: tuple[str, ...],
    bound: int | str | None,
    fail_on: str,
    capabilities: str,
    verbose: bool,
    ignore: IgnoreOptions,
    form: str,
    style: Style,
) -> int:
    """Measure how much FILE leaves open.

    FILE may be a policy.yaml, a seccomp JSON of Docker or OCI, an OCI config.json, a SeccompProfile, or a trace.

    The score is from 0 (nothing is refused) to 100: 35 x the share of the native ABI's syscalls that are refused + 5 x
    the same of the other ABIs that the machine has + 15 x the share of the syscalls with arguments worth filtering that
    are filtered or refused + 20 x the share of the capabilities that are not held + 25 x the share of the listed CVEs
    that cannot be reached; rounded down. Taking a right away never lowers it.

    The exit status is 0, or 1 when the score is below --not-below, or 2 in trouble.

    \b
      profgen score policy.yaml
      profgen score seccomp.json --compare docker-default
      profgen score policy.yaml --not-below 80 --json
      profgen score policy.yaml --not-below main/policy.yaml
    """
    from profiler.review.findings import at_least
    from profiler.review.formats import badge
    from profiler.review.score import as_data, excess_of
    from profiler.review.score import score as score_of
    from profiler.review.score_findings import report
    from profiler.review.sources import machine
    from profiler.review.yardsticks import named

    assumed = _assumed(capabilities)
    source = named(file)
    rights = source.rights(machine(source), assumed)
    others = [_other(name, rights.native, assumed) for name in compare]
    found = score_of(rights, assumed)
    scores = [score_of(other, assumed) for other in others]
    compared = [(name, excess_of(found, one)) for name, one in zip(compare, scores, strict=True)]
    for one in (found, *scores):
        for note in one.notes:
            say(f"note: {note}")
    least = _least(bound, found, assumed)
    result = with_ignored(report(found, source.content, least, at_least(fail_on)), ignore)
    rows = [
        {**as_data(one), "name": name, "open_here_only": asdict(extra)}
        for (name, extra), one in zip(compared, scores, strict=True)
    ]
    result = replace(result, data={**result.data, "compared": rows} if rows else result.data)
    if form == "text":
        emit("".join(f"{line}\n" for line in _text([found, *scores], compared, verbose, style)))
        _tell(result)
    else:
        emit(badge.render(found.points) if form == "badge" else formatted(result, form))
    summarise(result, form)
    return 1 if result.failures else 0


def _least(bound: int | str | None, found: Score, assumed: frozenset[str]) -> int | Score | None:
    """Return what --not-below asks for. Raises InputError for a file of another machine."""
    from profiler.review.score import score as score_of

    if not isinstance(bound, str):
        return bound
    least = score_of(_other(bound, found.native, assumed), assumed)
    if least.native != found.native:
        raise InputError(f"--not-below {bound}: it is for {least.native}, and {found.source} for {found.native}")
    return least


def _tell(result: Report) -> None:
    """Print the findings that the figures do not show."""
    for finding in result.findings:
        if finding.level != "note" or finding.file:
            say(finding.what if not finding.file else f"{finding.file}: {finding.what}; {finding.fix}")
    if result.accepted:
        say(f"{counted(len(result.accepted), 'finding')} accepted by .profgen.yaml")
