"""Choose a tracer. The order is the preference: the tracer that sees more comes first."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Mapping
from typing import TypeVar

from profiler.errors import TracerError
from profiler.tracers.base import Tracer
from profiler.tracers.watcher import Watcher

T = TypeVar("T")

TRACERS = {
    "ebpf": "profiler.tracers.ebpf.tracer:EbpfTracer",
    "ptrace": "profiler.tracers.ptrace.tracer:PtraceTracer",
}


def load(name: str) -> Tracer:
    """Import and return the tracer with this name."""
    module, _, cls = TRACERS[name].partition(":")
    tracer: Tracer = getattr(importlib.import_module(module), cls)()
    return tracer


def first_that_works(name: str, use: Callable[[Tracer, Mapping[str, str]], T]) -> T:
    """Return the result of ``use`` with the requested tracer, or for ``auto`` with the first that works here.

    ``use`` also receives the reasons why earlier tracers were skipped. The kernel may still refuse a tracer that looked
    usable when it starts (in a rootless container, for example): it raises TracerError before the workload runs, and
    the next one is tried. Raises TracerError if none works.
    """
    reasons: dict[str, str] = {}
    for candidate in TRACERS if name == "auto" else (name,):
        tracer = load(candidate)
        reason = tracer.unavailable()
        if reason is None:
            try:
                return use(tracer, reasons)
            except TracerError as error:
                reason = str(error)
        reasons[candidate] = reason
    told = "; ".join(f"{candidate}: {reason}" for candidate, reason in reasons.items())
    raise TracerError(f"no tracer works here ({told}); see: profgen doctor")


_WATCHER = "profiler.tracers.ebpf.watcher:EbpfWatcher"


def why_no_watcher() -> str | None:
    """Return why profgen cannot watch what it does not start, None if it can."""
    return load("ebpf").unavailable()


def watcher() -> contextlib.AbstractContextManager[Watcher]:
    """Return a watcher of what others start, as a context manager. Raises TracerError if it cannot work here."""
    module, _, cls = _WATCHER.partition(":")
    made: contextlib.AbstractContextManager[Watcher] = getattr(importlib.import_module(module), cls)()
    return made
