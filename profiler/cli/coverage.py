"""``profgen coverage``: how much of a workload its recordings have seen, and what is usually forgotten."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from profiler.cli.options import coloured, output_format, trace_file
from profiler.cli.results import print_json
from profiler.cli.terminal import emit
from profiler.quoting.text import printable
from profiler.style import Style
from profiler.wording import counted, duration, grouped

if TYPE_CHECKING:
    from profiler.review.coverage import Coverage, Point

BAR, BESIDE_BAR = 50, 26
"""Columns of a full bar, and those of the figures around it."""


@click.command("coverage")
@click.argument("traces", nargs=-1, required=True, type=trace_file, metavar="TRACE|DIR...")
@output_format()
@coloured()
def coverage(traces: tuple[str, ...], form: str, style: Style) -> None:
    """Say how much of a workload its recordings have seen: what came late, what came in one recording only, an estimate
    of what is still to come, and a checklist of what is usually forgotten.

    Give the traces of one workload, each of one run, rather than a merged one: they also tell when things came.

    \b
      profgen coverage nginx.trace.json
      profgen coverage traces/*.trace.json --format json
    """
    from profiler.review.coverage import coverage as coverage_of
    from profiler.trace.store import read_trace

    found = coverage_of([read_trace(path) for path in traces])
    if form == "json":
        print_json("coverage", _as_data(found, traces))
        return
    emit("".join(f"{line}\n" for line in _text(found, traces, style)))


def _bar(part: float, style: Style) -> str:
    width = min(BAR, style.width - BESIDE_BAR)
    return f"{'#' * round(part * width):<{width}}"


def _text(found: Coverage, names: Sequence[str], style: Style) -> Iterator[str]:
    from profiler.review.coverage import FRACTIONS

    total = sum(kind.items for kind in found.kinds)
    yield f"{grouped(total)} different items in {counted(found.runs, 'run')}, {duration(found.seconds)} in all"
    if found.saturation is not None:
        yield style.wrapped(
            f"saturation {found.saturation:.1%}: the share of the items of one more run of this kind that these have "
            "seen"
        )
    if found.over_time:
        yield ""
        yield style("title", "over time (left: part of a recording; right: share of its items seen by then):")
        for fraction, part in zip(FRACTIONS, found.over_time, strict=True):
            yield f"  {fraction:>5.0%}  {_bar(part, style)}  {part:.0%}"
    for name, (last, seconds) in zip(names, found.last_new, strict=True):
        yield f"  {printable(Path(name).name)}: last new item after {duration(last)} of {duration(seconds)}"
    if found.runs > 1:
        yield ""
        yield from _over_runs(found, names, total, style)
    yield ""
    yield from _kinds(found, style)
    yield ""
    yield style("title", "usually forgotten:")
    for point in found.points:
        yield from _point(point, style)


def _over_runs(found: Coverage, names: Sequence[str], total: int, style: Style) -> Iterator[str]:
    yield style("title", "over runs (items after so many runs, averaged over all orders):")
    before = 0.0
    for number, items in found.over_runs:
        new = f"  (+{items - before:.1f})" if before else ""
        yield f"  {number:>5}  {_bar(items / total if total else 0, style)}  {items:.1f}{new}"
        before = items
    for name, alone in zip(names, found.alone, strict=False):
        yield f"  {printable(Path(name).name)}: {grouped(alone)} that only it has"


def _point(point: Point, style: Style) -> Iterator[str]:
    """Yield what the recordings show of one item of the checklist, and how to exercise it when they show too little."""
    mark, meaning = {"seen": ("ok", "good"), "partly": ("~", "warning"), "not seen": ("--", "error")}[point.verdict]
    evidence = f": {'; '.join(point.evidence)}" if point.evidence else ""
    yield style.wrapped(f"{point.title}{evidence}", " " * 6, f"  {mark:<2}  ").replace(mark, style(meaning, mark), 1)
    if point.verdict != "seen":
        yield style.wrapped(f"to exercise it: {point.how}", " " * 8)
        if point.blind:
            yield style.wrapped(f"a trace may not show it: {point.blind}", " " * 8)


def _kinds(found: Coverage, style: Style) -> Iterator[str]:
    """Yield a table of the estimates."""
    several = found.runs > 1
    head = (
        ("kind", "seen", "in one run", "next run", "unseen")
        if several
        else ("kind", "seen", "used once", "next use is new")
    )
    rows = [head]
    for kind in found.kinds:
        seen, chance = (kind.name, grouped(kind.items)), kind.next_use()
        if several:
            more = (f"+{kind.next_run(found.runs):.1f}", f">= {kind.unseen(found.runs):.1f}")
            rows.append((*seen, grouped(kind.once), *more))
        else:
            rows.append((*seen, grouped(kind.single), "-" if chance is None else f"{chance:.2%}"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    for row in rows:
        first, *rest = row
        cells = (f"{cell:>{width}}" for cell, width in zip(rest, widths[1:], strict=True))
        line = f"{first:<{widths[0]}}  {'  '.join(cells)}"
        yield style("title", line) if row is head else line
    yield style.wrapped(
        "next run: estimate of the items that one more run would add (Good-Turing); unseen: a lower bound of the items "
        "not seen yet (Chao)"
        if several
        else "next use is new: estimate of the chance, for uses in random order (Good-Turing); several recordings give "
        "better figures"
    )


def _as_data(found: Coverage, names: Sequence[str]) -> dict[str, Any]:
    from profiler.review.coverage import FRACTIONS

    return {
        "runs": found.runs,
        "seconds": found.seconds,
        "saturation": found.saturation,
        "over_time": [
            {"fraction": fraction, "seen": round(part, 4)}
            for fraction, part in zip(FRACTIONS, found.over_time, strict=False)
        ],
        "over_runs": [{"runs": number, "seen": round(items, 3)} for number, items in found.over_runs],
        "traces": [
            {"name": name, "last_new": last, "seconds": seconds, "alone": alone}
            for name, (last, seconds), alone in zip(
                names, found.last_new, found.alone or (None,) * len(names), strict=True
            )
        ],
        "kinds": [
            {
                **asdict(kind),
                "next_use": kind.next_use(),
                "next_run": round(kind.next_run(found.runs), 3) if found.runs > 1 else None,
                "unseen": round(kind.unseen(found.runs), 3) if found.runs > 1 else None,
            }
            for kind in found.kinds
        ],
        "checklist": [asdict(point) for point in found.points],
    }
