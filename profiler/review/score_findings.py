"""What a score leaves open as findings: reachable CVEs, unfiltered arguments, capabilities, and what got worse."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict

from profiler.kernel.abi import SUB_ABIS
from profiler.kernel.arguments import spec_for
from profiler.kernel.cves import sources
from profiler.kernel.risks import capability_risk
from profiler.review.findings import Finding, Report, Rule, by_level, located
from profiler.review.score import WEIGHTS, Score, as_data, excess_of
from profiler.wording import counted, listed

RULES: Mapping[str, Rule] = {
    "score-lower": Rule("error", "the profile leaves more open than allowed with --not-below"),
    "cve-reachable": Rule("note", "published vulnerabilities can be reached through what is allowed", severity=5.0),
    "arguments-unfiltered": Rule("note", "a syscall is allowed with any arguments, though they are worth filtering"),
    "capability-held": Rule("note", "a capability is held"),
}
_NAMED = 12


def labels(native: str) -> Mapping[str, str]:
    """Return the name of each figure that counts what is open, for people."""
    return {
        "syscalls": f"syscalls open, {native}",
        "other_abis": f"syscalls open, {', '.join(SUB_ABIS.get(native, ()))}",
        "arguments": "calls with unfiltered arguments",
        "capabilities": "capabilities held",
    }


def figures(found: Score) -> tuple[tuple[str, str], ...]:
    """Return the figures of a score with their labels."""
    rows = [("score", f"{found.points} of 100")]
    for key, label in labels(found.native).items():
        if found.shares[key].total:
            rows.append((label, f"{found.shares[key].open} of {found.shares[key].total}"))
    for label, share in (
        ("CVEs blocked", found.shares["cves"]),
        *((f"  {name}", found.of_source(name)) for name in sources()),
    ):
        rows.append((label, f"{share.closed} of {share.total}"))
    return tuple(rows)


def report(found: Score, content: bytes, bound: int | Score | None, failing: tuple[str, ...]) -> Report:
    """Return the report on a score. ``bound``: the least number, or the score of an older file that it must not fall
    below in any part. ``content``: the file, for lines."""
    findings = (*_worse(found, bound), *_open(found))
    return Report(
        "score",
        found.source,
        RULES,
        located(by_level(findings), content),
        f"{found.points} of 100",
        figures(found)[1:],
        failing,
        data=as_data(found),
    )


def _worse(found: Score, bound: int | Score | None) -> Iterator[Finding]:
    fix = "remove what is new (profgen diff shows it), or lower the bound"
    if bound is None:
        return
    if isinstance(bound, int):
        if found.points < bound:
            yield Finding(
                "score-lower", "error", "", f"the score is {found.points}, below {bound}", fix, key=("score",)
            )
        return
    extra = {"cves": excess_of(found, bound).cves, **asdict(excess_of(found, bound))}
    names = {**labels(found.native), "cves": "CVEs not blocked"}
    for key in WEIGHTS:
        now, before = found.shares[key].open, bound.shares[key].open
        if now > before:
            new = f": {listed(extra[key], _NAMED)}" if extra.get(key) else ""
            what = f"{names[key]}: {now}, {bound.source} has {before}{new}"
            yield Finding("score-lower", "error", "", what, fix, tuple(extra.get(key, ())), (key,))


def _open(found: Score) -> Iterator[Finding]:
    """Yield a finding for each capability and call, and one for all CVEs: each is reached by a right that a change of
    the profile adds, and ``diff`` finds that right."""
    if found.reachable:
        ways = {way: [row.cve.identifier for row in rows] for way, rows in found.reachable.items()}
        cves = tuple(name for names in ways.values() for name in names)
        calls = (call.name for rows in found.reachable.values() for row in rows for call in row.cve.needs[0].calls)
        by = listed([f"{way} ({len(names)})" for way, names in ways.items()], _NAMED)
        what = f"{counted(len(cves), 'CVE')} can be reached: {by}"
        fix = "remove calls that the workload does not need, or filter their arguments"
        yield Finding(
            "cve-reachable", "note", "syscalls", what, fix, cves, ("all",), tuple(dict.fromkeys(calls)), details=ways
        )
    for name in found.unfiltered:
        spec = spec_for(name, found.native)
        fields = listed(spec.fields, _NAMED) if spec is not None else "its arguments"
        fix = "record it again with argument filters, or allow only the values that are needed"
        yield Finding("arguments-unfiltered", "note", "syscalls", f"{name}: any {fields}", fix, (name,))
    for name in () if found.assumed else found.capabilities:
        risk = capability_risk(name)
        what = f"{name}: {risk.why}"
        yield Finding(
            "capability-held", "note", "capabilities", what, "drop it if the workload does not need it", (name,)
        )
