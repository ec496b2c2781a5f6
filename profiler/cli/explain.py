"""``profgen explain``: why something is allowed, and on which evidence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from profiler.cli.options import input_file, output_format, source_file
from profiler.cli.terminal import emit, say_outdated
from profiler.errors import InputError
from profiler.quoting.text import printable

if TYPE_CHECKING:
    from profiler.policy.model import Policy
    from profiler.review.explain import Explainer, Explanation, Line
    from profiler.trace.model import Trace

SCHEMA = "profgen.explain/1"
NAME_WIDTH = 44
REASON_WIDTH = 60


@click.command("explain")
@click.argument("file", type=source_file, metavar="TRACE|POLICY|DIR")
@click.argument("items", nargs=-1, metavar="ITEM...")
@click.option(
    "--trace",
    "evidence",
    type=input_file,
    metavar="TRACE",
    help="The trace behind a policy, for its evidence. Default: the trace.json next to it.",
)
@click.option("--all", "everything", is_flag=True, help="A table of all that is allowed, the most dangerous first.")
@output_format()
def explain(file: str, items: tuple[str, ...], evidence: str | None, everything: bool, form: str) -> int:
    """Say why something is allowed: reasons, the pass that added it, evidence, and what it opens.

    ITEM is a syscall (openat, i386:open), a capability (CAP_CHOWN, net_raw), a path, a program (exec:/bin/sh), a socket
    family (AF_INET, unix) or a signal (SIGTERM). Where a word means several, all are explained; KIND:WORD asks for one
    (syscall:chown, capability:chown).

    A trace is explained as the policy that generate makes of it. The exit status is 0 when all items are allowed, 1
    when one is not, 2 in trouble.

    \b
      profgen explain nginx.trace.json chown CAP_CHOWN /etc/passwd
      profgen explain nginx.profile openat
      profgen explain policy.yaml --trace nginx.trace.json --all
    """
    from profiler.review.explain import Explainer

    if bool(items) == everything:
        raise InputError(
            "give an ITEM to explain, or --all" if not items else "--all is for everything: leave the items out"
        )
    policy, trace = _read(file, evidence)
    explainer = Explainer(policy, trace, file)
    found = [(item, explainer.explain(item)) for item in items]
    if form == "json":
        from profiler.quoting.json import as_json

        rows = [_as_data(item, rows, explainer) for item, rows in found]
        print(
            as_json(
                {
                    "schema": SCHEMA,
                    "source": file,
                    **({"all": _all_data(explainer.all())} if everything else {"items": rows}),
                }
            )
        )
    else:
        lines = _table(explainer.all()) if everything else _text(found, explainer)
        emit("".join(f"{line}\n" for line in lines))
    return 0 if all(any(row.allowed for row in rows) for _, rows in found) else 1


def _read(file: str, evidence: str | None) -> tuple[Policy, Trace | None]:
    from profiler.policy import document
    from profiler.policy.derive import derive
    from profiler.policy.directory import evidence as trace_near
    from profiler.policy.model import Options
    from profiler.trace.store import is_trace, loads, read_limited, read_trace

    data = read_limited(file)
    if not is_trace(data):
        policy = document.loads(data, file)
        say_outdated(file, data, policy)
        return policy, trace_near(file) if evidence is None else read_trace(evidence)
    if evidence is not None:
        raise InputError(f"{file} is a trace itself: --trace is for a policy")
    trace = loads(data, file)
    return derive(trace, Options()), trace


def _text(found: Sequence[tuple[str, list[Explanation]]], explainer: Explainer) -> Iterator[str]:
    first = True
    for item, rows in found:
        if not rows:
            near = explainer.suggestions(item)
            hint = f"; near: {', '.join(printable(name) for name in near)}" if near else ""
            yield from ([] if first else [""])
            yield (
                f"{printable(item)}: not allowed: {printable(Path(explainer.source).name)} has nothing of "
                f"that name{hint}"
            )
        for row in rows:
            yield from ([] if first else [""])
            first = False
            yield f"{printable(row.item)}: {row.verdict}" + (f" ({printable(row.where)})" if row.where else "")
            facts = [*row.facts, *([("risk", f"{row.risk.level}: {row.risk.why}")] if row.risk else [])]
            width = max(len(label) for label, _ in facts)
            last = ""
            for label, text in facts:
                yield f"  {'' if label == last else label:<{width}}  {printable(text)}"
                last = label
        first = False


def _table(lines: Sequence[Line]) -> Iterator[str]:
    names = [printable(line.change.name) for line in lines]
    width = min(max(map(len, names), default=0), NAME_WIDTH)
    runs = max((len(line.runs) for line in lines), default=0)
    for line, name in zip(lines, names, strict=True):
        row = line.change
        by = f"by {', '.join(row.reason.programs)}" if row.reason.programs else ""
        reason = printable(row.reason.because[0] if row.reason.because else by)
        reason = reason if len(reason) <= REASON_WIDTH else reason[: REASON_WIDTH - 3] + "..."
        level = row.risk.level if row.risk else ""
        yield f"{level:<8}  {row.subject:<10}  {name:<{width}}  {line.runs:<{runs}}  {reason}".rstrip()


def _as_data(item: str, rows: Sequence[Explanation], explainer: Explainer) -> dict[str, Any]:
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
