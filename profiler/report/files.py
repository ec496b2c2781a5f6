"""The plot of a policy's files: where they are, and what may be done to them."""

from __future__ import annotations

from collections import Counter

from profiler.policy.model import Policy
from profiler.report import charts
from profiler.report.model import Figure, Table
from profiler.report.tree import GROUPS, group_of, place_of
from profiler.wording import counted, grouped

PLACES_MAX = 14
"""Places with a bar of their own."""


def files(policy: Policy) -> Figure:
    """Show how many rules there are below each directory of the root, and for what."""
    title = "Which files may it use, and how?"
    if not policy.has_files:
        return Figure("files", title, "The recording did not watch files, programs and sockets.")
    if not policy.files:
        return Figure("files", title, "None.")
    found: dict[str, Counter[str]] = {}
    for rule in policy.files:
        found.setdefault(place_of(rule.pattern), Counter()).update(dict.fromkeys(map(group_of, rule.access), 1))
    largest = sorted(found.items(), key=lambda place: (-place[1].total(), place[0]))
    shown, rest = largest[:PLACES_MAX], largest[PLACES_MAX:]
    if rest:
        others: Counter[str] = Counter()
        for _, numbers in rest:
            others.update(numbers)
        shown = [*shown, (f"{counted(len(rest), 'other place')}", others)]
    rows = [
        {"name": name, "sort": group, "number": numbers[group], "order": order, "label": grouped(numbers[group])}
        for name, numbers in shown
        for order, group in enumerate(GROUPS)
        if numbers.get(group)
    ]
    totals = Counter(group for rule in policy.files for group in dict.fromkeys(map(group_of, rule.access)))
    says = f"{counted(len(policy.files), 'rule')}: " + ", ".join(
        f"{grouped(totals[group])} {group}" for group in GROUPS if totals[group]
    )
    table = Table(
        ("place", *GROUPS),
        tuple((name, *(grouped(numbers.get(group, 0)) for group in GROUPS)) for name, numbers in shown),
    )
    colours = dict(
        zip(GROUPS, (charts.PALETTE[1], charts.PALETTE[3], charts.PALETTE[2], charts.PALETTE[0]), strict=True)
    )
    chart = charts.counts(rows, colours, "rules", f"Rules for files by place. {says}.")
    return Figure(
        "files",
        title,
        f"{says}. Executed includes what is mapped executable, as libraries are. A rule may count in several.",
        chart,
        table,
    )
