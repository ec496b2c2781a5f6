"""How much the policy leaves open, next to Docker's default and to no confinement: figures and published CVEs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from profiler.kernel.cves import date
from profiler.report import charts
from profiler.report.model import Figure, Table
from profiler.review.score import WEIGHTS, Score, Share
from profiler.review.yardsticks import docker_version
from profiler.wording import counted

GROUPS_SHOWN = 12
"""Reasons, and ways that stay open, in the plot of CVEs; the table has all."""

_KINDS = {
    "syscalls": "syscalls",
    "other_abis": "syscalls of other ABIs",
    "arguments": "calls with unfiltered arguments",
    "capabilities": "capabilities",
    "cves": "published CVEs",
}
assert _KINDS.keys() == WEIGHTS.keys()

Named = tuple[str, Score]
"""A set of rights: its name in the page, and its figures."""


def surface(scores: Sequence[Named]) -> Figure:
    """Compare the first of ``scores``, the workload's, with the others."""
    names = [name for name, _ in scores]
    kinds = {key: words for key, words in _KINDS.items() if scores[0][1].shares[key].total}
    rows = [
        {"kind": words, "whose": name, "part": 1 - found.shares[key].part, "label": _open(found.shares[key])}
        for key, words in kinds.items()
        for name, found in scores
    ]
    table = Table(
        ("", *names),
        (
            ("score, of 100", *(str(found.points) for _, found in scores)),
            *((f"{words}, open", *(_open(found.shares[key]) for _, found in scores)) for key, words in kinds.items()),
        ),
    )
    ours, others = scores[0][1], scores[1:]
    says = f"The score is {ours.points} of 100; " + ", ".join(f"{name}: {found.points}" for name, found in others)
    says += f". It allows {counted(ours.shares['syscalls'].open, 'syscall')}; " + ", ".join(
        f"{name}: {found.shares['syscalls'].open}" for name, found in others
    )
    note = f"Docker's default is {docker_version()}, with the capabilities that docker run grants."
    return Figure(
        "surface",
        "How much is open?",
        f"{says}. {note}",
        charts.shares(rows, names, f"What is left open. {says}"),
        table,
    )


def _open(share: Share) -> str:
    return f"{share.open} of {share.total}"


def cves(scores: Sequence[Named]) -> Figure:
    """Show which published vulnerabilities the first of ``scores`` blocks, and why the others are open."""
    ours = scores[0][1]
    share = ours.shares["cves"]
    says = f"{share.closed} of {share.total} published vulnerabilities of the kernel are out of reach; "
    says += ", ".join(f"{name}: {found.shares['cves'].closed}" for name, found in scores[1:])
    blocked, reachable = ours.blocked, ours.reachable
    groups = [("blocked", reason, found) for reason, found in blocked.items()]
    groups += [("open", reason, found) for reason, found in reachable.items()]
    chosen = [*_first(groups, "blocked"), *_first(groups, "open")]
    rows = [
        {"name": name, "sort": sort, "number": number, "order": 0, "label": str(number)}
        for sort, name, number in chosen
    ]
    table = Table(
        ("what is missing, or allowed", "verdict", "number", "CVEs"),
        tuple(
            (reason, sort, str(len(found)), ", ".join(row.cve.identifier for row in found))
            for sort, reason, found in groups
        ),
        words=frozenset({1, 3}),
    )
    return Figure(
        "cves",
        "Which published vulnerabilities of the kernel can it reach?",
        f"{says}. A vulnerability is out of reach if a call or capability that it needs is refused (list of {date()}; "
        "whether the kernel has it is not considered).",
        charts.counts(rows, {"blocked": charts.PALETTE[2], "open": charts.PALETTE[1]}, "CVEs", f"CVEs. {says}"),
        table,
    )


def _first(groups: Sequence[tuple[str, str, Sequence[object]]], wanted: str) -> Iterator[tuple[str, str, int]]:
    """Yield the largest groups of one verdict, and the rest as one."""
    found = [(reason, len(rows)) for sort, reason, rows in groups if sort == wanted]
    for reason, number in found[:GROUPS_SHOWN]:
        yield wanted, reason, number
    if rest := found[GROUPS_SHOWN:]:
        yield wanted, f"{counted(len(rest), 'other reason')} ({wanted})", sum(number for _, number in rest)
