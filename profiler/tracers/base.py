"""What a tracer is: one screen. A new one is a module with such a class and one line in ``select.py``."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from profiler.tracers.recording import Recording

GRACE_SECONDS = 10.0
"""Between asking a workload to end (SIGTERM) and ending it (SIGKILL)."""


@dataclass(frozen=True)
class Workload:
    """The command to run. ``path`` is the file to execute, already found; ``user`` is (uid, gid, groups) to become, or
    None to stay.

    ``mask`` is the signal mask it starts with: profgen itself has signals blocked by then (supervisor.py).
    """

    argv: tuple[str, ...]
    path: str
    env: Mapping[str, str]
    cwd: str
    user: tuple[int, int, tuple[int, ...]] | None = None
    mask: frozenset[signal.Signals] = frozenset()


@dataclass(frozen=True)
class Options:
    """``duration``: seconds after which the workload is asked to end. ``limits``: sizes of bounded stores, by name.

    ``files``: whether files, sockets, signals, inspections and mounts are watched too. ``denials``: whether a Watcher
    notes calls that a seccomp filter refuses.
    """

    duration: float | None = None
    limits: Mapping[str, int] = field(default_factory=dict)
    files: bool = True
    denials: bool = False


class Tracer(Protocol):
    """One way to observe."""

    name: str

    def unavailable(self) -> str | None:
        """Why it cannot work here, with what to do about it, or None when it can. Quick, changes nothing."""

    def record(self, workload: Workload, options: Options, recording: Recording) -> int:
        """Run the workload to the end of its last descendant and fill ``recording``.

        Returns the exit status as a shell shows it. Raises CommandNotFound, CommandNotExecutable or TracerError
        before the workload ran; whatever goes wrong later is a loss in ``recording``.
        """
