"""Choosing a tracer. Order is preference: what sees more comes first."""

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
    "ebpf": "profiler.tracers.ebpf:EbpfTracer",
    "ptrace": "profiler.tracers.ptrace.tracer:PtraceTracer",
}


def load(name: str) -> Tracer:
    """The tracer of this name, imported now."""
    module, _, cls = TRACERS[name].partition(":")
    tracer: Tracer = getattr(importlib.import_module(module), cls)()
    return tracer


def first_that_works(name: str, use: Callable[[Tracer, Mapping[str, str]], T]) -> T:
    """The result of ``use`` with the tracer asked for, or with ``auto`` the first that works here.

    ``use`` also gets the reasons why earlier ones were passed over. A tracer that looked usable may still be refused by
    the kernel when it starts (a rootless container, say): it raises TracerError before the workload ran, and the next
    is tried. Raises TracerError when none works.
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
    """Why nothing can be watched here that profgen does not start, None when it can."""
    return load("ebpf").unavailable()


def watcher() -> contextlib.AbstractContextManager[Watcher]:
    """A watcher of what others start; to be entered. Raises TracerError where it cannot work."""
    module, _, cls = _WATCHER.partition(":")
    made: contextlib.AbstractContextManager[Watcher] = getattr(importlib.import_module(module), cls)()
    return made
