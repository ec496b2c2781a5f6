"""Estimate how much of a workload its recordings have seen, and what is left.

Estimates. Let T recordings of the same kind have Q1 items that only one of them saw:

- one more recording brings about A * Q1/T new ones, A = (T-1)Q1 / ((T-1)Q1 + 2 Q2): the estimate of Good and Turing
  (Good, The population frequencies of species and the estimation of population parameters, Biometrika 40, 1953) as Chao
  and Jost improved it (Coverage-based rarefaction and extrapolation, Ecology 93, 2012), because Q1/T alone is what the
  last recording brought, and the next brings less;
- at least (T-1)/T * Q1(Q1-1) / 2(Q2+1) were not seen at all (Chao, Estimating the population size for capture-recapture
  data with unequal catchability, Biometrics 43, 1987, in the bias-corrected form; Q2 of them were seen twice).

For the uses within one recording: the next use is of something new with the probability f1/N (Good 1953), for N uses
and f1 items that were used once.

The estimates hold if recordings (or uses) are drawn alike and independently. Uses are not: loops repeat, and what
happens only at the end has not happened yet. So the second figure is too optimistic; it is given for a single
recording, for which there is no better one.

The curve over runs is the average over all orders of the recordings (Gotelli and Colwell, Quantifying biodiversity,
Ecology Letters 4, 2001): S(t) = sum over items of 1 - C(T - m, t) / C(T, t), where m recordings have the item.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any

from profiler.kernel.data import load
from profiler.quoting.text import printable
from profiler.trace.merge import merge
from profiler.trace.model import Trace
from profiler.wording import counted, duration, shortened

FRACTIONS = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
"""The fractions of a recording's time at which the curve is read."""

USES_MIN = 30
"""The smallest number of uses of one kind for which a probability is reported."""

CURVE_POINTS = 30
"""The largest number of points of the curve over runs."""

EXACT = 1000
"""The largest number of recordings for which the curve is exact."""

EVIDENCE = 3
"""The number of rows that are named for an item of the checklist."""


def _good_turing(once: int, twice: int, runs: int) -> float:
    """Return A of the module's text; if no item was in two recordings, with Q1 - 1 and 1 for Q1 and Q2."""
    first, second = ((once - 1), 1) if not twice else (once, twice)
    return (runs - 1) * first / ((runs - 1) * first + 2 * second) if first > 0 else 0.0


@dataclass(frozen=True)
class Kind:
    """Items of one kind.

    ``uses`` and ``single``: all uses, and items used once; ``once`` and ``twice``: items in one and in two of the
    recordings (0 for a single recording).
    """

    name: str
    items: int
    uses: int
    single: int
    once: int
    twice: int

    def next_use(self) -> float | None:
        """The probability that the next use is of something new, f1/N. None if there are too few uses."""
        return self.single / self.uses if self.uses >= USES_MIN else None

    def next_run(self, runs: int) -> float:
        """Return the number of items that one more recording brings."""
        return self.once / runs * _good_turing(self.once, self.twice, runs)

    def unseen(self, runs: int) -> float:
        """Return the least number of items that were not seen at all (Chao 1987)."""
        return (runs - 1) / runs * self.once * max(self.once - 1, 0) / (2 * (self.twice + 1))


@dataclass(frozen=True)
class Point:
    """An item of the checklist: ``verdict`` is seen, partly, or not seen; ``evidence`` says why."""

    title: str
    verdict: str
    evidence: tuple[str, ...]
    how: str
    blind: str = ""


@dataclass(frozen=True)
class Coverage:
    """The coverage of a workload by one or more recordings.

    ``over_time``: for each of FRACTIONS, the part of its items that an average recording had seen by then.
    ``over_runs``: a number of recordings, and the items after that many in an average order. ``alone``: for each file,
    how many items only it has; empty for one file. ``saturation``: the part of one more recording's items that these
    recordings have, 1 - A * Q1/U, where U is the sum of the items of each recording (sample coverage, Chao and Jost
    2012); None for one recording.
    """

    runs: int
    seconds: float
    kinds: tuple[Kind, ...]
    over_time: tuple[float, ...]
    over_runs: tuple[tuple[int, float], ...]
    saturation: float | None
    alone: tuple[int, ...]
    last_new: tuple[tuple[float, float], ...]
    """For each file: when the last new item appeared, and the duration; merged files have only the figures that they
    contain."""
    points: tuple[Point, ...]


def _sections(trace: Trace) -> Iterator[tuple[str, list[tuple[Hashable, int, int, float | None]]]]:
    """Yield each kind with its items: key, uses, recordings, and when the item appeared if that is known."""

    def program(index: int) -> str:
        return trace.programs[index].path

    yield "syscalls", [((row.abi, row.number), row.calls, row.runs, row.first) for row in trace.syscalls]
    checks = [row for row in trace.capabilities if row.decisive]
    yield (
        "capabilities",
        [((row.capability, row.namespace, row.verdict), row.count, row.runs, row.first) for row in checks],
    )
    yield (
        "executions",
        [
            ((program(row.program), "" if row.by is None else program(row.by)), row.count, row.runs, None)
            for row in trace.execs
        ],
    )
    yield "files", [(row.key, sum(row.results.values()), row.runs, row.first) for row in trace.files]
    yield "sockets", [(row.key, sum(row.results.values()), row.runs, row.first) for row in trace.sockets]
    for name in ("signals", "inspections", "mounts"):
        yield name, [(row.key, sum(row.results.values()), row.runs, None) for row in getattr(trace, name)]


def _missed(runs: int, seen_in: int, taken: int) -> float:
    """Return C(T - m, t) / C(T, t): the probability that none of ``taken`` recordings has the item."""
    if taken > runs - seen_in:
        return 0.0
    if runs <= EXACT:
        return comb(runs - seen_in, taken) / comb(runs, taken)
    # An approximation, as if a recording could be drawn twice: the difference is not visible, and it avoids factorials
    # of whatever number a file holds.
    return float((1 - taken / runs) ** seen_in)


def average_curve(seen_in: Iterable[int], runs: int) -> tuple[tuple[int, float], ...]:
    """Return pairs of a number of recordings and the items after that many, averaged over all orders.

    There are at most CURVE_POINTS of them and the last one. ``seen_in``: for each item, the number of its recordings.
    """
    by_number = Counter(min(number, runs) for number in seen_in)
    step = max(-(-runs // CURVE_POINTS), 1)
    numbers = [*range(step, runs, step), runs] if runs else []
    return tuple(
        (taken, sum(items * (1 - _missed(runs, number, taken)) for number, items in by_number.items()))
        for taken in numbers
    )


def coverage(traces: Sequence[Trace]) -> Coverage:
    """Return the figures of one or more traces of one workload, without denials. Raises InputError as merging does."""
    traces = [trace for trace in traces if trace.meta.runs] or traces
    merged = merge(traces)
    runs = merged.meta.runs
    kinds = []
    seen_in: list[int] = []
    for name, items in _sections(merged):
        if not items:
            continue
        seen_in += [number for _, _, number, _ in items]
        kinds.append(
            Kind(
                name=name,
                items=len(items),
                uses=sum(uses for _, uses, _, _ in items),
                single=[uses for _, uses, _, _ in items].count(1),
                once=[number for _, _, number, _ in items].count(1) if runs > 1 else 0,
                twice=[number for _, _, number, _ in items].count(2) if runs > 1 else 0,
            )
        )
    keys = [{(name, key) for name, items in _sections(trace) for key, *_ in items} for trace in traces]
    alone = [
        len(own.difference(*(other for at, other in enumerate(keys) if at != index))) for index, own in enumerate(keys)
    ]
    return Coverage(
        runs=runs,
        seconds=merged.meta.duration,
        kinds=tuple(kinds),
        over_time=_over_time(traces),
        over_runs=average_curve(seen_in, runs),
        saturation=_saturation(seen_in, runs),
        alone=tuple(alone) if len(traces) > 1 else (),
        last_new=tuple((trace.meta.last_new, trace.meta.duration) for trace in traces),
        points=tuple(_point(row, merged, traces) for row in checklist()),
    )


def _saturation(seen_in: Sequence[int], runs: int) -> float | None:
    once, twice, total = seen_in.count(1), seen_in.count(2), sum(list(seen_in))
    return 1 - once / total * _good_turing(once, twice, runs) if runs > 1 and total else None


_END_PART, _END_SECONDS = 0.05, 0.2
"""The part of a recording, and the least time, in which a workload that ended did what it does only at its end."""


def still_growing(trace: Trace) -> int:
    """Return how many items were new in the second half of a recording, apart from those of the workload's end; 0 for
    less than a second.

    While new items come as the logarithm of time (Gleason, On the relation between species and area, Ecology 3, 1922),
    twice the time brings as many again.
    """
    whole = trace.meta.duration
    if whole < 1 or trace.meta.runs != 1:
        return 0
    end = whole if trace.meta.exit_status is None else whole - max(whole * _END_PART, _END_SECONDS)
    return sum(first is not None and whole / 2 < first <= end for _, items in _sections(trace) for *_, first in items)


def appearances(trace: Trace) -> tuple[float, ...]:
    """Return when each item appeared, sorted; empty for a merged trace, in which the times of several recordings are
    mixed."""
    if trace.meta.runs != 1 or not trace.meta.duration:
        return ()
    return tuple(sorted(first for _, items in _sections(trace) for *_, first in items if first is not None))


def _over_time(traces: Sequence[Trace]) -> tuple[float, ...]:
    """Return the average over the traces of a single recording."""
    curves = []
    for trace in traces:
        if times := appearances(trace):
            ends = [fraction * trace.meta.duration for fraction in FRACTIONS[:-1]] + [float("inf")]
            curves.append([sum(first <= end for first in times) / len(times) for end in ends])
    return tuple(sum(column) / len(curves) for column in zip(*curves, strict=True))


# The checklist.


def checklist() -> tuple[Mapping[str, Any], ...]:
    """Return the rows of checklist.yaml."""
    return tuple(load("checklist.yaml", __file__))


def _point(row: Mapping[str, Any], merged: Trace, traces: Sequence[Trace]) -> Point:
    for verdict in ("seen", "partly"):
        evidence = [text for test in row.get(verdict, ()) for text in _evidence(test, merged, traces)]
        if evidence:
            return Point(row["title"], verdict, tuple(shortened(evidence, EVIDENCE)), row["how"], row.get("blind", ""))
    return Point(row["title"], "not seen", (), row["how"], row.get("blind", ""))


def _evidence(test: Mapping[str, Any], merged: Trace, traces: Sequence[Trace]) -> list[str]:
    for name, found in _TESTS.items():
        if name in test:
            return list(found(test, merged, traces))
    raise ValueError(f"checklist.yaml: unknown test: {test}")


def _signals(test: Mapping[str, Any], merged: Trace, traces: Sequence[Trace]) -> Iterator[str]:
    for row in merged.signals:
        if row.signal in test["signals"]:
            yield f"SIG{row.signal} sent to {row.whom} {counted(sum(row.results.values()), 'time')}"


def _results(test: Mapping[str, Any], merged: Trace, traces: Sequence[Trace]) -> Iterator[str]:
    names = test.get("syscalls")
    for call in merged.syscalls:
        if names is None or call.label in names:
            yield from (
                f"{printable(call.label)}: {error}" for error in test["results"] if error in call.results.errors
            )
    if names is None:
        for file in merged.files:
            yield from (
                f"{printable(file.path)} ({file.access}): {error}" for error in test["results"] if error in file.results
            )
        for use in merged.sockets:
            yield from (f"{use.family} {use.operation}: {error}" for error in test["results"] if error in use.results)


def _paths(test: Mapping[str, Any], merged: Trace, traces: Sequence[Trace]) -> Iterator[str]:
    """Yield evidence if one of the recordings used such a path that many times, whatever the others did."""
    fits = re.compile(test["paths"], re.DOTALL).fullmatch
    most: dict[tuple[str, str], int] = {}
    for trace in traces:
        for row in trace.files:
            if row.access in test["access"] and row.results.get("ok") and fits(row.path):
                most[row.path, row.access] = max(
                    most.get((row.path, row.access), 0), row.results["ok"] // max(trace.meta.runs, 1) or 1
                )
    for (path, access), times in most.items():
        if times >= test.get("times", 1):
            yield f"{printable(path)}: {access} {counted(times, 'time')}"


def _exits(test: Mapping[str, Any], merged: Trace, traces: Sequence[Trace]) -> Iterator[str]:
    for status in sorted({trace.meta.exit_status for trace in traces if trace.meta.exit_status is not None}):
        if status in test["exits"]:
            yield f"a recording ended with status {status}"


def _ended(test: Mapping[str, Any], merged: Trace, traces: Sequence[Trace]) -> Iterator[str]:
    statuses = [trace.meta.exit_status for trace in traces]
    if None not in statuses and 137 not in statuses:
        yield f"exited by itself with status {', '.join(sorted({str(status) for status in statuses}))}"


def _sockets(test: Mapping[str, Any], merged: Trace, traces: Sequence[Trace]) -> Iterator[str]:
    for row in merged.sockets:
        errors = {
            name: number for name, number in row.results.items() if name not in ("ok", "EINPROGRESS", "EAGAIN", "EINTR")
        }
        if (
            row.family in test["sockets"]
            and ("ports" not in test or row.port in test["ports"])
            and (errors or not test.get("errors"))
        ):
            place = "" if row.port is None else f" port {row.port}"
            yield f"{row.family} {row.type} {row.operation}{place}" + (
                f": {', '.join(sorted(errors))}" if test.get("errors") else ""
            )


def _itself(test: Mapping[str, Any], merged: Trace, traces: Sequence[Trace]) -> Iterator[str]:
    for row in merged.execs:
        if row.by is not None and merged.programs[row.by].path == merged.programs[row.program].path:
            yield f"{printable(merged.programs[row.program].path)} executed itself {counted(row.count, 'time')}"


def _calls(test: Mapping[str, Any], merged: Trace, traces: Sequence[Trace]) -> Iterator[str]:
    for row in merged.syscalls:
        if row.label in test["syscalls"]:
            yield f"{row.label} called {counted(row.calls, 'time')}"


def _seconds(test: Mapping[str, Any], merged: Trace, traces: Sequence[Trace]) -> Iterator[str]:
    if merged.meta.duration >= test["seconds"]:
        yield f"recorded for {duration(merged.meta.duration)}"


_TESTS: Mapping[str, Callable[[Mapping[str, Any], Trace, Sequence[Trace]], Iterator[str]]] = {
    "signals": _signals,
    "results": _results,
    "paths": _paths,
    "exits": _exits,
    "ended": _ended,
    "sockets": _sockets,
    "executes_itself": _itself,
    "syscalls": _calls,
    "seconds": _seconds,
}
"""Member that names a test to its function, in the order in which they are tried."""
