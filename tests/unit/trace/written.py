"""Write traces to files."""

from __future__ import annotations

from pathlib import Path

from profiler.files import write_atomic
from profiler.trace.model import Trace
from profiler.trace.store import dumps


def write_trace(trace: Trace, path: str | Path) -> None:
    write_atomic(path, dumps(trace).encode("ascii"))
