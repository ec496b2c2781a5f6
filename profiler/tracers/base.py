"""What a tracer is. A new one is a module with such a class and one line in ``select.py``."""

from __future__ import annotations

import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from profiler.tracers.recording import Recording

GRACE_SECONDS = 10.0
"""The time between asking a workload to end (SIGTERM) and killing it (SIGKILL)."""


@dataclass(frozen=True)
class Workload:
    """The command to run.

    ``path`` is the file to execute, already found; ``user`` is (uid, gid, groups) to become, or None for no change.
    ``mask`` is the signal mask that it starts with: by then profgen itself has blocked signals (supervisor.py).
    """

    argv: tuple[str, ...]
    path: str
    env: Mapping[str, str]
    cwd: str
    user: tuple[int, int, tuple[int, ...]] | None = None
    mask: frozenset[signal.Signals] = frozenset()


@dataclass(frozen=True)
class Options:
    """What to record.

    ``duration``: seconds after which the workload is asked to end. ``limits``: sizes of bounded stores, by name.
    ``files``: whether files, sockets, signals, inspections and mounts are watched too. ``denials``: whether a Watcher
    notes calls that a seccomp filter refuses. ``looks``: seconds between two looks at what was seen so far, None if
    nobody looks before the end. ``stop``: set by another thread when the workload has to end before its time.
    """

    duration: float | None = None
    limits: Mapping[str, int] = field(default_factory=dict)
    files: bool = True
    denials: bool = False
    looks: float | None = None
    stop: threading.Event | None = None


class Tracer(Protocol):
    """One way to observe a workload."""

    name: str

    def unavailable(self) -> str | None:
        """Return why it cannot work here and what to do about it, None if it can. Fast, and changes nothing."""

    def record(self, workload: Workload, options: Options, recording: Recording) -> int:
        """Run the workload until its last descendant has ended, and fill ``recording``.

        Returns the exit status as a shell shows it. Raises CommandNotFound, CommandNotExecutable or TracerError before
        the workload runs; whatever fails later is a loss in ``recording``.
        """
