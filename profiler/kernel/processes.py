"""What calls do to other processes and to credentials (processes.yaml), and the names of signals."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from profiler.kernel.arguments import parse
from profiler.kernel.data import load


@dataclass(frozen=True)
class ProcessCall:
    """What one call does to another process; processes.yaml explains each member."""

    operation: str
    process: tuple[int, ...] = ()
    pidfd: int | None = None
    signal: int | None = None
    request: int | None = None


@cache
def process_calls() -> Mapping[str, ProcessCall]:
    """Return what is known of calls on other processes, by syscall name."""
    return {
        name: ProcessCall(**{**row, "process": tuple(row.get("process", ()))})
        for name, row in load("processes.yaml")["calls"].items()
    }


@cache
def trace_requests() -> Mapping[int, str]:
    """Return the ptrace(2) requests that begin to trace a process, each with its word of Inspection.operation."""
    requests: dict[str, str] = load("processes.yaml")["requests"]
    return {parse("ptrace", "request", name): word for name, word in requests.items()}


@cache
def credential_calls() -> frozenset[str]:
    """Return the calls after which their caller may have other credentials."""
    return frozenset(load("processes.yaml")["credentials"])


_FIRST_REAL_TIME = 32
"""SIGRTMIN of include/uapi/asm-generic/signal.h; C libraries keep the first two or three for themselves."""
_LAST = 64

_NAMES = {number.value: number.name.removeprefix("SIG") for number in signal.Signals if number.value < _FIRST_REAL_TIME}


def signal_name(number: int) -> str:
    """Name a signal as a trace writes it.

    ``TERM`` for 15, ``0`` for the check whether a process exists, ``RTMIN+3`` for 35: real-time signals count from the
    kernel's first, 32.
    """
    if _FIRST_REAL_TIME <= number <= _LAST:
        return f"RTMIN+{number - _FIRST_REAL_TIME}" if number > _FIRST_REAL_TIME else "RTMIN"
    return _NAMES.get(number, str(number))
