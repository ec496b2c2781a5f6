"""``profgen record -- COMMAND``: profgen starts the command itself, as a wrapper that changes nothing about it."""

from __future__ import annotations

import contextlib
import datetime
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from profiler.cli.record_terminal import figures, incomplete, live_line, say, summary
from profiler.cli.terminal import redraws
from profiler.cli.workload import workload_of
from profiler.errors import FAILED, InputError
from profiler.files import RESERVE_BYTES, PendingFile
from profiler.kernel.abi import native_abi
from profiler.trace.model import Trace
from profiler.trace.store import dumps
from profiler.tracers.base import Options, Tracer, Workload
from profiler.tracers.recording import Recording
from profiler.tracers.select import first_that_works
from profiler.tracers.supervisor import signals_held
from profiler.watch.finish import Origin, finish


@dataclass(frozen=True)
class Settings:
    """What is asked of any recording. ``limits``: as in Options. ``user``: who runs a command."""

    tracer: str
    limits: Mapping[str, int]
    files: bool
    duration: float | None = None
    allow_loss: bool = False
    quiet: bool = False
    user: str | None = None

    def options(self) -> Options:
        """For the tracer."""
        return Options(self.duration, self.limits, files=self.files)


def record_command(command: tuple[str, ...], path: Path, settings: Settings) -> int:
    """Record a command to its end, write the trace, and return the command's status, or FAILED."""
    with signals_held() as mask, pending(path) as file:
        workload = workload_of(command, settings.user, mask)

        def watch(chosen: Tracer, passed_over: Mapping[str, str]) -> tuple[Trace, list[str]]:
            if settings.limits and chosen.name != "ebpf":
                raise InputError(f"--limit sizes a store of the ebpf tracer; the {chosen.name} tracer has none")
            if not settings.quiet and passed_over:
                say(
                    f"recording with {chosen.name}; "
                    + "; ".join(f"{name} is not to be had: {why}" for name, why in passed_over.items())
                )
            recording = Recording(native_abi())
            start = datetime.datetime.now(datetime.UTC)
            with live_line(lambda: figures(recording), shown=not settings.quiet and redraws(sys.stderr)):
                status = chosen.record(workload, settings.options(), recording)
            return finish(recording, chosen.name, _origin(workload), start, status), recording.warnings

        trace, warnings = first_that_works(settings.tracer, watch)
        replaced = path.exists()
        file.commit(dumps(trace).encode("ascii"))
    if not settings.quiet:
        summary(trace, path, replaced)
        for warning in warnings:
            say(warning)
    assert trace.meta.exit_status is not None
    return status_with_losses(trace, settings, trace.meta.exit_status)


def status_with_losses(trace: Trace, settings: Settings, status: int) -> int:
    """``status``, unless something was lost: that is said, and is a failure of its own if it was not allowed."""
    if trace.meta.complete:
        return status
    say(incomplete(trace.meta))
    return status if settings.allow_loss else FAILED


def _origin(workload: Workload) -> Origin:
    uid, gid, groups = workload.user or (os.geteuid(), os.getegid(), tuple(sorted(os.getgroups())))
    return Origin(workload.argv, workload.cwd, uid, gid, groups, no_new_privs=_no_new_privs())


def _no_new_privs() -> bool:
    with open("/proc/self/status") as file:
        return any(line.startswith("NoNewPrivs:") and line.split()[1] == "1" for line in file)


@contextlib.contextmanager
def pending(path: Path) -> Iterator[PendingFile]:
    """The trace's file, opened before anything is started, and dropped if nothing is written to it."""
    file = PendingFile(path, reserve=RESERVE_BYTES)
    try:
        yield file
    finally:
        file.discard()
