"""``profgen score``: how much a profile leaves open, in figures and one number."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from profiler.cli.options import output_format, source_file
from profiler.cli.terminal import say
from profiler.errors import InputError
from profiler.quoting.text import printable
from profiler.wording import shortened, suggestion

if TYPE_CHECKING:
    from profiler.review.rights import Rights
    from profiler.review.score import Excess, Score, Share

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
    from profiler.kernel.abi import SUB_ABIS
    from profiler.kernel.cves import sources
    from profiler.review.score import WEIGHTS

    native = scores[0].native
    others = ", ".join(SUB_ABIS.get(native, ()))
    labels = {
        "syscalls": f"syscalls open, {native}",
        "other_abis": f"syscalls open, {others}",
        "arguments": "calls with unfiltered arguments",
        "capabilities": "capabilities held",
    }
    yield "score", [str(one.points) for one in scores]
    for key, label in labels.items():
        if scores[0].shares[key].total:
            yield label, [f"{one.shares[key].open} of {one.shares[key].total}" for one in scores]

    def blocked(shares: list[Share]) -> list[str]:
        return [f"{share.closed} of {share.total}" for share in shares]

    yield "CVEs blocked", blocked([one.shares["cves"] for one in scores])
    for source in sources():
        yield f"  {source}", blocked([one.of_source(source) for one in scores])
    assert set(labels) | {"cves"} == set(WEIGHTS)


def _wrapped(first: str, words: Sequence[str]) -> Iterator[str]:
    """Return ``first`` and the words after it, wrapped at WIDTH."""
    line, indent = first, " " * (len(first) + 1)
    for index, word in enumerate(words):
        piece = word + ("," if index < len(words) - 1 else "")
        if len(line) + 1 + len(piece) > WIDTH and line != first:
            yield line
            line = indent + piece
        else:
            line += " " + piece
    yield line


def _few(names: Sequence[str], verbose: bool) -> list[str]:
    return list(names) if verbose else shortened(names, NAMED)


def _text(scores: Sequence[Score], compared: Sequence[tuple[str, Excess]], verbose: bool) -> Iterator[str]:
    from profiler.kernel.cves import date
    from profiler.review.yardsticks import docker_version

    found = scores[0]
    names = [one.source for one in scores]
    table = [("", [_short(one.source, names) for one in scores]), *_rows(scores)]
    first = max(len(label) for label, _ in table)
    widths = [max(len(cells[column]) for _, cells in table) for column in range(len(scores))]
    if len(scores) == 1:
        yield f"{printable(found.source)}: {found.points} of 100"
        table = table[2:]
    for label, cells in table:
        yield f"{label:<{first}}  " + "   ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
    if found.capabilities or found.unfiltered or verbose:
        yield ""
    if found.capabilities:
        yield from _wrapped("capabilities held" + (" (assumed):" if found.assumed else ":"), found.capabilities)
    if found.unfiltered:
        yield from _wrapped("unfiltered arguments:", _few(found.unfiltered, verbose))
    if verbose:
        yield from _wrapped("filtered arguments:", found.filtered or ["none"])
        yield from _wrapped("syscalls open:", found.open or ["none"])
    for name, extra in compared:
        yield ""
        more = [(label, items) for label, items in asdict(extra).items() if items]
        yield f"open here and not in {printable(name)}:" + ("" if more else " nothing")
        for label, items in more:
            yield from _wrapped(f"  {label + ':':<13}", _few(items, verbose))
    yield ""
    yield f"CVEs that are blocked, by what is missing (table of {date()}):"
    for reason, rows in found.blocked.items():
        yield f"  {len(rows):>3}  {reason}"
        if verbose:
            yield from _wrapped("      ", [row.cve.identifier for row in rows])
    if not found.blocked:
        yield "    none"
    yield ""
    yield "CVEs that are not blocked, by what is allowed:"
    for reason, rows in found.reachable.items() if verbose else list(found.reachable.items())[:10]:
        yield f"  {len(rows):>3}  {reason}"
        if verbose:
            yield from _wrapped("      ", [row.cve.identifier for row in rows])
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
@click.option("--min-score", type=click.IntRange(0, 100), metavar="N", help="Exit with status 1 below score N.")
@click.option(
    "--capabilities",
    default="docker",
    metavar="LIST",
    show_default=True,
    help="Capabilities of a file that does not list them: docker, all, none, or names joined by commas.",
)
@click.option("--verbose", "-v", is_flag=True, help="List every CVE, open syscall and filter.")
@output_format(help="Output format; json has every CVE with the reason.")
def score(
    file: str, compare: tuple[str, ...], min_score: int | None, capabilities: str, verbose: bool, form: str
) -> int:
    """Measure how much FILE leaves open.

    FILE may be a policy.yaml, a seccomp JSON of Docker or OCI, an OCI config.json, a SeccompProfile, or a trace.

    The score is from 0 (nothing is refused) to 100: 35 x the share of the native ABI's syscalls that are refused + 5 x
    the same of the other ABIs that the machine has + 15 x the share of the syscalls with arguments worth filtering that
    are filtered or refused + 20 x the share of the capabilities that are not held + 25 x the share of the listed CVEs
    that cannot be reached; rounded down. Taking a right away never lowers it.

    The exit status is 0, or 1 when the score is below --min-score, or 2 in trouble.

    \b
      profgen score policy.yaml
      profgen score seccomp.json --compare docker-default
      profgen score policy.yaml --min-score 80 --json
    """
    from profiler.review.score import as_data, excess_of
    from profiler.review.score import score as score_of
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
    if form == "json":
        data = as_data(found)
        if compared:
            data["compared"] = [
                {**as_data(one), "name": name, "open_here_only": asdict(extra)}
                for (name, extra), one in zip(compared, scores, strict=True)
            ]
        print(json.dumps(data, indent=1))
    else:
        print("\n".join(_text([found, *scores], compared, verbose)))
    if min_score is not None and found.points < min_score:
        say(f"the score is {found.points}, below {min_score}")
        return 1
    return 0
