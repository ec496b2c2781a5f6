"""What the recordings saw, and when: saturation, first uses, programs and their syscalls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from math import log1p

from profiler.quoting.text import printable, word
from profiler.report import charts
from profiler.report.model import Figure, Table
from profiler.report.tree import group_of
from profiler.review.coverage import Coverage, appearances
from profiler.trace.model import Syscall, Trace
from profiler.wording import counted, duration, grouped, listed, shortened

POINTS_MAX = 120
"""Points of one curve over time."""
CURVES_MAX = 5
"""Recordings with a curve of their own: as many as there are colours."""
MOMENTS = 48
"""Parts of the time scale of first uses; all that falls into one is one circle."""
NAMED = 4
"""Names that a circle tells."""
PROGRAMS_MAX = 20
"""Programs with a row of their own in the matrix; the others share one."""
CELL_NAME_MAX = 28
OTHERS = "(other programs)"


# Saturation.


def over_time(traces: Sequence[Trace], names: Sequence[str]) -> Figure:
    """Show how soon each recording had seen what it saw."""
    curves = [(name, trace, times) for name, trace in zip(names, traces, strict=True) if (times := appearances(trace))]
    title = "When did new things stop coming?"
    if not curves:
        return Figure(
            "over-time", title, "Only recordings that are not merged tell in which moment of a run something was new."
        )
    rows = []
    for name, trace, times in curves[:CURVES_MAX]:
        step = max(len(times) // POINTS_MAX, 1)
        kept = [*range(step - 1, len(times) - 1, step), len(times) - 1]
        points = [(times[index], (index + 1) / len(times)) for index in kept]
        points = [(0.0, 0.0), *points, (max(trace.meta.duration, times[-1]), 1.0)]
        rows += [{"seconds": round(at, 3), "part": round(part, 4), "recording": name} for at, part in points]
    halves = tuple(
        (
            name,
            *(duration(_after(times, part)) for part in (0.5, 0.9, 0.99)),
            duration(trace.meta.last_new),
            duration(trace.meta.duration),
        )
        for name, trace, times in curves
    )
    name, trace, times = curves[0]
    says = f"Half of what {printable(name)} saw came within {duration(_after(times, 0.5))}, nine tenths within "
    says += (
        f"{duration(_after(times, 0.9))}, and the last new thing {duration(trace.meta.last_new)} after the start, of "
    )
    says += f"{duration(trace.meta.duration)}"
    return Figure(
        "over-time",
        title,
        f"{says}. A curve that stays flat says that a longer run of the same load shows little more; what comes at the "
        "end comes with stopping.",
        charts.steps(rows, [name for name, *_ in curves[:CURVES_MAX]], f"Share of what was seen, over time. {says}."),
        Table(("recording", "half after", "90% after", "99% after", "last new after", "length"), halves),
    )


def _after(times: Sequence[float], part: float) -> float:
    return times[max(round(len(times) * part) - 1, 0)]


def over_runs(found: Coverage) -> Figure:
    """Show what each further recording brings, with the estimate of what none has seen."""
    title = "Would one more recording show more?"
    total = sum(kind.items for kind in found.kinds)
    if found.runs < 2:
        says = "One recording cannot tell. Record the workload again, with another load, and give all traces: then the "
        says += "share of what is still unseen can be estimated."
        return Figure("over-runs", title, says, None, _kinds(found))
    unseen = sum(kind.unseen(found.runs) for kind in found.kinds)
    coming = sum(kind.next_run(found.runs) for kind in found.kinds)
    says = f"{counted(total, 'item')} in {counted(found.runs, 'recording')}; one more of the same kind is expected to "
    says += f"bring {coming:.1f}, and at least {unseen:.1f} have not been seen at all"
    if found.saturation is not None:
        says += f". Saturation {found.saturation:.1%}: the share of the next recording's items that are known"
    rows = [{"runs": runs, "items": round(items, 2)} for runs, items in found.over_runs]
    return Figure(
        "over-runs",
        title,
        f"{says}. An item is a syscall, a capability check, an execution, or one kind of use of a file, a socket or a "
        "process.",
        charts.accumulation(rows, round(total + unseen, 2), f"Items over recordings. {says}."),
        _kinds(found),
    )


def _kinds(found: Coverage) -> Table:
    """Return the figures of coverage for each kind."""
    if found.runs > 1:
        columns = ("kind", "seen", "in one recording", "next recording", "unseen, at least")
        rows = tuple(
            (
                kind.name,
                grouped(kind.items),
                grouped(kind.once),
                f"+{kind.next_run(found.runs):.1f}",
                f"{kind.unseen(found.runs):.1f}",
            )
            for kind in found.kinds
        )
        return Table(columns, rows)
    chances = [(kind, kind.next_use()) for kind in found.kinds]
    return Table(
        ("kind", "seen", "used once", "chance that the next use is new"),
        tuple(
            (
                kind.name,
                grouped(kind.items),
                grouped(kind.single),
                "too few uses" if chance is None else f"{chance:.2%}",
            )
            for kind, chance in chances
        ),
    )


# First uses.


def _call(trace: Trace, row: Syscall) -> str:
    return row.label if row.abi == trace.meta.arch else f"{row.abi}:{row.label}"


def _first_uses(trace: Trace) -> Iterator[tuple[str, float, str]]:
    """Yield a kind, the moment of the first use, and a name."""
    for call in trace.syscalls:
        yield "syscalls", call.first, _call(trace, call)
    for check in trace.capabilities:
        if check.decisive:
            yield "capabilities", check.first, check.capability
    for file in trace.files:
        if file.access != "look":
            yield f"files {group_of(file.access)}", file.first, file.path
    for use in trace.sockets:
        place = "" if use.port is None else f" {use.port}"
        yield "sockets", use.first, f"{use.operation} {use.family} {use.type}{place}"


_KINDS = ("syscalls", "capabilities", "files executed", "files read", "files written", "files connected", "sockets")


def timeline(trace: Trace) -> Figure:
    """Show when things were first used, by kind."""
    found: dict[tuple[str, int], list[tuple[float, str]]] = {}
    longest = max((first for _, first, _ in _first_uses(trace)), default=0.0)
    scale = MOMENTS / (log1p(longest / 0.1) or 1.0)
    for kind, first, name in _first_uses(trace):
        found.setdefault((kind, int(log1p(first / 0.1) * scale)), []).append((first, name))
    rows = []
    for (kind, _), uses in sorted(found.items()):
        names = list(dict.fromkeys(name for _, name in sorted(uses)))
        named = ", ".join(shortened([printable(name)[:60] for name in names], NAMED))
        mean = sum(first for first, _ in uses) / len(uses)
        rows.append({"kind": kind, "seconds": round(mean, 3), "number": len(uses), "names": named})
    kinds = [kind for kind in _KINDS if any(row["kind"] == kind for row in rows)]
    ends = {kind: [first for each, first, _ in _first_uses(trace) if each == kind] for kind in kinds}
    latest = sorted(kinds, key=lambda kind: -max(ends[kind]))[:2]
    says = "Start-up comes first, and what comes late needs a load that lasts; "
    says += ", ".join(f"last new of {kind}: after {duration(max(ends[kind]))}" for kind in latest)
    merged = " Of several recordings, the earliest moment counts." if trace.meta.runs > 1 else ""
    table = Table(
        ("kind", "first uses", "first after", "last after"),
        tuple(
            (kind, grouped(len(firsts)), duration(min(firsts)), duration(max(firsts))) for kind, firsts in ends.items()
        ),
    )
    chart = charts.timeline(rows, kinds, f"First uses by kind, over time. {says}.") if rows else None
    return Figure(
        "timeline", "What was first used when?", f"{says}.{merged}" if rows else "Nothing was used.", chart, table
    )


# Programs and syscalls.


def programs(trace: Trace) -> Figure:
    """Show which program makes which syscalls, and how often."""
    labels = _labels(trace)
    cells: Counter[tuple[str, str]] = Counter()
    for row in trace.syscalls:
        for index, calls in row.programs.items():
            cells[labels.get(index, OTHERS), _call(trace, row)] += calls
    by_program: Counter[str] = Counter()
    by_call: Counter[str] = Counter()
    for (program, call), calls in cells.items():
        by_program[program] += 1
        by_call[call] += calls
    order = sorted(by_program, key=lambda name: (name == OTHERS, -by_program[name], name))
    columns = sorted(by_call, key=lambda name: (-by_call[name], name))
    rows = [
        {"program": program, "syscall": call, "calls": max(calls, 1), "label": grouped(calls)}
        for call in columns
        for program in order
        if (calls := cells[program, call])
    ]
    says = f"{counted(len(labels), 'program')} made {counted(len(columns), 'different syscall')}"
    if order:
        says += f"; {printable(order[0])} made the most: {by_program[order[0]]}"
    makers: dict[str, set[str]] = {}
    for program, call in cells:
        makers.setdefault(call, set()).add(program)
    table = Table(
        ("program", "syscalls", "calls", "only by this one"),
        tuple(
            (
                program,
                str(by_program[program]),
                grouped(sum(calls for (name, _), calls in cells.items() if name == program)),
                listed([call for call in columns if makers[call] == {program}], 12) or "none",
            )
            for program in order
        ),
        words=frozenset({3}),
    )
    chart = charts.matrix(rows, columns, max(by_call.values()), f"Calls of each program. {says}.") if rows else None
    return Figure("programs", "Which program makes which syscalls?", f"{says}.", chart, table)


def _labels(trace: Trace) -> dict[int, str]:
    """Return a name for each program with a row of its own: short if that is unique, else its path."""
    made: Counter[int] = Counter()
    for row in trace.syscalls:
        made.update(row.programs.keys())
    chosen = sorted(made, key=lambda index: (-made[index], index))
    if len(chosen) > PROGRAMS_MAX + 1:
        chosen = chosen[:PROGRAMS_MAX]
    rows = {index: trace.programs[index] for index in chosen if 0 <= index < len(trace.programs)}
    same = Counter(program.name for program in rows.values())
    names: dict[int, str] = {}
    for index, program in rows.items():
        name = word(program.name if same[program.name] == 1 else program.path)
        name = name if len(name) <= CELL_NAME_MAX else f"...{name[-CELL_NAME_MAX:]}"
        names[index] = f"{name} #{index}" if name in names.values() else name
    return names
