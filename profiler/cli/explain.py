"""``profgen explain``: why something is allowed, and on which evidence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from profiler.cli.options import coloured, output_format, source_file, trace_file
from profiler.cli.results import print_json
from profiler.cli.terminal import emit, say_outdated
from profiler.errors import InputError
from profiler.quoting.text import printable
from profiler.style import Style
from profiler.wording import alternatives

if TYPE_CHECKING:
    from profiler.review.explain import Explainer, Explanation, Line
    from profiler.review.explain_profile import ProfileExplainer

NAME_WIDTH, REASON_WIDTH = 44, 26
"""Columns that a name gets at most in the table, and a reason at least; a longer name takes more."""
_LEFT = 22
"""Columns in front of the name."""


@click.command("explain")
@click.argument("file", type=source_file, metavar="FILE|DIR")
@click.argument("items", nargs=-1, metavar="ITEM...")
@click.option(
    "--trace",
    "evidence",
    type=trace_file,
    metavar="TRACE",
    help="The trace behind a policy, for its evidence.  [default: the trace.json next to it]",
)
@click.option("-a", "--all", "everything", is_flag=True, help="List all that is allowed, the most dangerous first.")
@output_format()
@coloured()
def explain(file: str, items: tuple[str, ...], evidence: str | None, everything: bool, form: str, style: Style) -> int:
    """Say why something is allowed: reasons, the pass that added it, evidence, and what it opens.

    ITEM is a syscall (openat, i386:open), a capability (CAP_CHOWN, net_raw), a path, a program (exec:/bin/sh), a socket
    family (AF_INET, unix) or a signal (SIGTERM). Where a word means several, all are explained; KIND:WORD asks for one
    (syscall:chown, capability:chown).

    FILE may be all that diff reads. A trace is explained as the policy that generate makes of it; of a seccomp JSON, an
    OCI config.json or a SeccompProfile, the rules are shown. The exit status is 0 when all items are allowed, 1 when
    one is not, 2 in trouble.

    \b
      profgen explain nginx.trace.json chown CAP_CHOWN /etc/passwd
      profgen explain nginx.profile openat
      profgen explain policy.yaml --trace nginx.trace.json --all
      profgen explain docker-default ptrace
    """
    if bool(items) == everything:
        raise InputError(
            "give an ITEM to explain, or --all" if not items else "--all is for everything: leave the items out"
        )
    explainer = _explainer(file, evidence)
    found = [(item, explainer.explain(item)) for item in items]
    if form == "json":
        rows = [_as_data(item, rows, explainer) for item, rows in found]
        shown = {"all": _all_data(explainer.all())} if everything else {"items": rows}
        print_json("explain", {"source": file, **shown})
    else:
        lines = _table(explainer.all(), style) if everything else _text(found, explainer, style)
        emit("".join(f"{line}\n" for line in lines))
    return 0 if all(any(row.allowed for row in rows) for _, rows in found) else 1


def _explainer(file: str, evidence: str | None) -> Explainer | ProfileExplainer:
    """Read the file, and the trace behind it. Raises InputError."""
    from profiler.policy.derive import derive
    from profiler.policy.directory import evidence as trace_near
    from profiler.policy.model import Options
    from profiler.review.explain import Explainer
    from profiler.review.explain_profile import ProfileExplainer
    from profiler.review.rights import KINDS
    from profiler.review.sources import machine
    from profiler.review.yardsticks import named
    from profiler.trace.store import read_trace

    source = named(file)
    if source.policy is not None:
        if source.outdated:
            say_outdated(file)
        return Explainer(source.policy, trace_near(file) if evidence is None else read_trace(evidence), file)
    if evidence is not None:
        raise InputError(f"{file} is a {KINDS[source.kind]}: --trace is for a policy")
    if source.trace is not None:
        return Explainer(derive(source.trace, Options()), source.trace, file)
    return ProfileExplainer(source.rights(machine(source), None))


def _text(
    found: Sequence[tuple[str, list[Explanation]]], explainer: Explainer | ProfileExplainer, style: Style
) -> Iterator[str]:
    first = True
    for item, rows in found:
        if not rows:
            hint = alternatives([printable(name) for name in explainer.suggestions(item)])
            yield from ([] if first else [""])
            yield (
                f"{printable(item)}: not allowed: {printable(Path(explainer.source).name)} has nothing of "
                f"that name{hint}"
            )
        for row in rows:
            yield from ([] if first else [""])
            first = False
            where = f" ({printable(row.where)})" if row.where else ""
            yield f"{style('title', printable(row.item))}: {row.verdict}{where}"
            yield from _facts(row, style)
        first = False


def _facts(row: Explanation, style: Style) -> Iterator[str]:
    """Return the lines below a right: labels, and texts wrapped next to them."""
    width = max((len(label) for label, _ in row.facts), default=4)
    indent, last = " " * (width + 4), ""
    for label, text in row.facts:
        yield style.wrapped(printable(text), indent, f"  {'' if label == last else label:<{width}}  ")
        last = label
    if row.risk:
        level = row.risk.level
        shown = style.wrapped(f"{level}: {printable(row.risk.why)}", indent, f"  {'risk':<{width}}  ")
        yield shown.replace(level, style(level, level), 1)


def _table(lines: Sequence[Line], style: Style) -> Iterator[str]:
    """Return a row for each right. A reason that does not fit goes on in the next line."""
    names = [printable(line.change.name) for line in lines]
    several = any(line.runs not in ("", "1 of 1") for line in lines)
    runs = max((len(line.runs) for line in lines), default=0) + 2 if several else 0
    room = style.width - _LEFT - runs - REASON_WIDTH
    width = min(max(map(len, names), default=0), NAME_WIDTH, room)
    for line, name in zip(lines, names, strict=True):
        row = line.change
        by = f"by {', '.join(row.reason.programs)}" if row.reason.programs else ""
        reason = printable(row.reason.because[0] if row.reason.because else by)
        level = row.risk.level if row.risk else ""
        head = f"{level:<8}  {row.subject:<10}  {name:<{width}}  {line.runs if several else '':<{runs}}"
        fits = len(name) <= width
        shown = style.wrapped(reason, " " * (len(head) if fits else _LEFT + 2), head) if reason else head.rstrip()
        yield shown.replace(level, style(level, level), 1) if level else shown


def _as_data(item: str, rows: Sequence[Explanation], explainer: Explainer | ProfileExplainer) -> dict[str, Any]:
    return {
        "item": item,
        "allowed": any(row.allowed for row in rows),
        "found": [
            {
                "kind": row.kind,
                "name": row.item,
                "verdict": row.verdict,
                "where": row.where,
                "risk": {"level": row.risk.level, "why": row.risk.why} if row.risk else None,
                "facts": [{"label": label, "text": text} for label, text in row.facts],
            }
            for row in rows
        ],
        "near": [] if rows else explainer.suggestions(item),
    }


def _all_data(lines: Sequence[Line]) -> list[dict[str, Any]]:
    return [
        {
            "subject": line.change.subject,
            "name": line.change.name,
            "details": list(line.change.details),
            "risk": {"level": line.change.risk.level, "why": line.change.risk.why} if line.change.risk else None,
            "runs": line.runs or None,
            "because": list(line.change.reason.because),
        }
        for line in lines
    ]
