"""Choosing a tracer. Order is preference: what sees more comes first."""

from __future__ import annotations

import importlib

from profiler.errors import TracerError
from profiler.tracers.base import Tracer

TRACERS = {
    "ebpf": "profiler.tracers.ebpf:EbpfTracer",
    "ptrace": "profiler.tracers.ptrace:PtraceTracer",
}


def load(name: str) -> Tracer:
    """The tracer of this name, imported now."""
    module, _, cls = TRACERS[name].partition(":")
    tracer: Tracer = getattr(importlib.import_module(module), cls)()
    return tracer


def choose(name: str) -> tuple[Tracer, dict[str, str]]:
    """The tracer asked for, or with ``auto`` the first that works here, and why earlier ones were passed over.

    Raises TracerError when none works.
    """
    reasons: dict[str, str] = {}
    for candidate in TRACERS if name == "auto" else (name,):
        tracer = load(candidate)
        reason = tracer.unavailable()
        if reason is None:
            return tracer, reasons
        reasons[candidate] = reason
    told = "; ".join(f"{candidate}: {reason}" for candidate, reason in reasons.items())
    raise TracerError(f"no tracer works here ({told}); see: profgen doctor")
