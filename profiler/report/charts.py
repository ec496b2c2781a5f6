"""The plots of a report as Vega-Lite specifications, made and checked by Altair.

Colours are custom properties of the page's style sheet, so plots follow its dark, light and printed form without being
drawn again. Names from traces are data only: never fields, never parts of expressions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import altair as alt
import vl_convert

from profiler.report.model import Spec

Rows = Sequence[Mapping[str, Any]]

PALETTE = tuple(f"var(--series-{number})" for number in range(1, 6))
LESS = "var(--less)"
RISKS = {level: f"var(--{level})" for level in ("low", "medium", "high", "critical")}

LABEL_PIXELS = 300
CELL_PIXELS = 20
COLUMNS = 44
"""Columns of one block of the matrix, which has as many blocks as it takes."""

_TEXT, _LINE = "currentColor", "var(--line)"
CONFIG: Mapping[str, Any] = {
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": _TEXT,
        "titleColor": _TEXT,
        "titleFontWeight": "normal",
        "gridColor": _LINE,
        "domainColor": _LINE,
        "tickColor": _LINE,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "labelLimit": LABEL_PIXELS,
    },
    "legend": {"labelColor": _TEXT, "titleColor": _TEXT, "labelFontSize": 12, "orient": "top", "title": None},
    "text": {"color": _TEXT},
}
"""What all plots have in common; the page gives it to Vega-Embed."""


@cache
def bundle(snippet: str) -> str:
    """Return JavaScript that draws plots: the snippet with all that it needs of Vega."""
    code: str = vl_convert.javascript_bundle(snippet, vl_version=vl_convert.get_vegalite_versions()[-1])
    return code


def _base(rows: Rows) -> Any:
    return alt.Chart(alt.InlineData(values=[dict(row) for row in rows]))


def _finished(chart: Any, description: str, **properties: Any) -> Spec:
    """Return the specification. Altair checks it against the schema of Vega-Lite."""
    spec: dict[str, Any] = chart.properties(description=description, **properties).to_dict()
    for own in ("$schema", "config"):  # its version, which may be newer than that of the bundle, and Altair's theme
        spec.pop(own, None)
    return spec


def _rows(rows: Rows, field: str, pixels: int) -> int:
    """Return the height of a plot with a row for each value of a field. Vega-Lite cannot fit a width and count rows."""
    return pixels * len({row[field] for row in rows})


def _span(rows: Rows) -> int:
    """Return how many whole numbers the axis of stacked bars covers: more ticks would repeat their labels."""
    ends: Counter[tuple[str, bool]] = Counter()
    for row in rows:
        ends[row["name"], row["number"] > 0] += abs(row["number"])
    return sum(max((number for (_, side), number in ends.items() if side == one), default=0) for one in (True, False))


def _series(names: Sequence[str]) -> Any:
    return alt.Scale(domain=list(names), range=[PALETTE[index % len(PALETTE)] for index in range(len(names))])


def shares(rows: Rows, whose: Sequence[str], description: str) -> Spec:
    """Bars for ``part`` (0 to 1) of each ``kind``, one for each of ``whose``, with ``label`` behind them."""
    base = _base(rows).encode(
        y=alt.Y("kind:N", sort=None, title=None, axis=alt.Axis(domain=False, ticks=False)),
        yOffset=alt.YOffset("whose:N", sort=list(whose)),
        x=alt.X(
            "part:Q",
            title="left open",
            scale=alt.Scale(domain=[0, 1.15]),
            axis=alt.Axis(format=".0%", values=[0, 0.25, 0.5, 0.75, 1]),
        ),
        tooltip=[alt.Tooltip("whose:N", title="profile"), alt.Tooltip("kind:N"), alt.Tooltip("label:N", title="open")],
    )
    bars = base.mark_bar(cornerRadius=2).encode(color=alt.Color("whose:N", scale=_series(whose), sort=list(whose)))
    texts = base.mark_text(align="left", dx=4, fontSize=11).encode(text="label:N")
    return _finished(bars + texts, description, width="container", height=_rows(rows, "kind", 15 * len(whose) + 12))


def counts(rows: Rows, sorts: Mapping[str, str], unit: str, description: str) -> Spec:
    """Stacked bars: ``number`` of each ``sort`` for every ``name``. ``sorts``: their colours. A negative number goes to
    the left."""
    chart = (
        _base(rows)
        .mark_bar(cornerRadius=2)
        .encode(
            y=alt.Y("name:N", sort=None, title=None, axis=alt.Axis(domain=False, ticks=False)),
            x=alt.X(
                "number:Q",
                title=unit,
                axis=alt.Axis(labelExpr="format(abs(datum.value), ',d')", tickCount=min(8, _span(rows))),
            ),
            color=alt.Color("sort:N", scale=alt.Scale(domain=list(sorts), range=list(sorts.values()))),
            order=alt.Order("order:Q"),
            tooltip=[alt.Tooltip("name:N", title=" "), alt.Tooltip("sort:N"), alt.Tooltip("label:N", title=unit)],
        )
    )
    return _finished(chart, description, width="container", height=_rows(rows, "name", 24))


def steps(rows: Rows, names: Sequence[str], description: str) -> Spec:
    """A curve that rises in steps for each recording: ``part`` of what it saw (0 to 1) after ``seconds``."""
    chart = (
        _base(rows)
        .mark_line(interpolate="step-after", strokeWidth=2)
        .encode(
            x=alt.X("seconds:Q", title="seconds after the start", axis=alt.Axis(tickCount=10)),
            y=alt.Y(
                "part:Q", title="share of what was seen", axis=alt.Axis(format=".0%"), scale=alt.Scale(domain=[0, 1])
            ),
            color=alt.Color("recording:N", scale=_series(names), sort=list(names))
            if len(names) > 1
            else alt.value(PALETTE[0]),
        )
    )
    points = (
        _base(rows)
        .mark_point(opacity=0, size=200)
        .encode(
            x="seconds:Q",
            y="part:Q",
            tooltip=[
                alt.Tooltip("recording:N"),
                alt.Tooltip("seconds:Q", format=".3f"),
                alt.Tooltip("part:Q", format=".1%", title="seen"),
            ],
        )
    )
    return _finished(chart + points, description, width="container", height=220)


def accumulation(rows: Rows, bound: float, description: str) -> Spec:
    """``items`` after so many ``runs``, and a line for the least number that there are."""
    curve = (
        _base(rows)
        .mark_line(point=alt.OverlayMarkDef(size=40, filled=True, color=PALETTE[0]), color=PALETTE[0])
        .encode(
            x=alt.X("runs:Q", title="recordings", axis=alt.Axis(values=[row["runs"] for row in rows], format="d")),
            y=alt.Y("items:Q", title="items seen", axis=alt.Axis(tickCount=6)),
            tooltip=[alt.Tooltip("runs:Q", format="d"), alt.Tooltip("items:Q", format=".1f")],
        )
    )
    rule = _base([{"items": bound, "label": "at least so many exist"}])
    line = rule.mark_rule(strokeDash=[5, 4], color=PALETTE[1]).encode(y="items:Q")
    text = rule.mark_text(align="left", baseline="bottom", dx=4, dy=-3).encode(
        x=alt.value(0), y="items:Q", text="label:N"
    )
    return _finished(curve + line + text, description, width="container", height=220)


def timeline(rows: Rows, kinds: Sequence[str], description: str) -> Spec:
    """Circles for ``number`` things of one ``kind`` that were first used about ``seconds`` after the start."""
    chart = (
        _base(rows)
        .mark_circle(opacity=0.75)
        .encode(
            x=alt.X(
                "seconds:Q",
                title="seconds after the start (the scale is narrower towards the end)",
                scale=alt.Scale(type="symlog", constant=0.1),
                axis=alt.Axis(values=[0, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10000, 30000, 100000]),
            ),
            y=alt.Y("kind:N", sort=list(kinds), title=None, axis=alt.Axis(grid=True, domain=False, ticks=False)),
            size=alt.Size("number:Q", scale=alt.Scale(range=[25, 600]), legend=alt.Legend(title="first uses")),
            color=alt.Color("kind:N", scale=_series(kinds), legend=None),
            tooltip=[
                alt.Tooltip("kind:N"),
                alt.Tooltip("seconds:Q", format=".3f"),
                alt.Tooltip("number:Q", title="first uses"),
                alt.Tooltip("names:N"),
            ],
        )
    )
    return _finished(chart, description, width="container", height=44 * len(kinds))


def matrix(rows: Rows, columns: Sequence[str], most: int, description: str) -> Spec:
    """Cells for the ``calls`` that a ``program`` made of a ``syscall``, in blocks of COLUMNS columns."""
    blocks = []
    for start in range(0, len(columns), COLUMNS):
        names = frozenset(columns[start : start + COLUMNS])
        block = (
            _base([row for row in rows if row["syscall"] in names])
            .mark_rect(cornerRadius=2, color=PALETTE[0])
            .encode(
                x=alt.X(
                    "syscall:N",
                    sort=None,
                    title=None,
                    axis=alt.Axis(labelAngle=-60, ticks=False, domain=False, orient="top"),
                ),
                y=alt.Y("program:N", sort=None, title=None, axis=alt.Axis(labelLimit=160, ticks=False, domain=False)),
                opacity=alt.Opacity(
                    "calls:Q",
                    scale=alt.Scale(type="log", domain=[1, max(most, 10)], range=[0.2, 1]),
                    legend=alt.Legend(title="calls", format="~s"),
                ),
                tooltip=[alt.Tooltip("program:N"), alt.Tooltip("syscall:N"), alt.Tooltip("label:N", title="calls")],
            )
            .properties(width=alt.Step(CELL_PIXELS), height=alt.Step(CELL_PIXELS))
        )
        blocks.append(block)
    return _finished(alt.vconcat(*blocks) if len(blocks) > 1 else blocks[0], description)
