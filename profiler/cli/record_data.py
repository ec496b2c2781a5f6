"""What ``profgen record --json`` prints: each trace that was written."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from profiler.cli.results import print_json
from profiler.trace.caveats import caveats
from profiler.trace.model import Trace

_KEY = "profgen.cli.recorded"


def print_at_end(ctx: click.Context) -> None:
    """Print the traces when the command ends, unless it fails."""
    rows: list[dict[str, Any]] = []
    ctx.meta[_KEY] = rows
    ctx.call_on_close(lambda: None if sys.exc_info()[0] else print_json("record", {"traces": rows}))


def written(trace: Trace, path: Path) -> None:
    """Note a trace that was written to its end, if it is to be printed."""
    ctx = click.get_current_context(silent=True)
    if ctx is not None and _KEY in ctx.meta:
        ctx.meta[_KEY].append(as_data(trace, path))


def as_data(trace: Trace, path: Path) -> dict[str, Any]:
    """Return the figures of a trace."""
    from profiler.policy.evidence import capabilities_with

    meta = trace.meta
    return {
        "file": str(path),
        "tracer": meta.tracer,
        "seconds": round(meta.duration, 3),
        "last_new": round(meta.last_new, 3),
        "exit_status": meta.exit_status,
        "syscalls": len(trace.syscalls),
        "calls": sum(row.calls for row in trace.syscalls),
        "programs": len(trace.programs),
        "paths": len({row.path for row in trace.files}),
        "capabilities": list(capabilities_with(trace, "needed")),
        "joined": list(trace.joined),
        "complete": meta.complete,
        "losses": dict(meta.losses),
        "notes": list(caveats(trace)),
    }
