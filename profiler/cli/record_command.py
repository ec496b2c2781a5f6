"""``profgen record -- COMMAND``: profgen starts the command itself, as a wrapper that changes nothing about it.

It draws no live line. The command has the same terminal: it may read there, prompt, or draw, and profgen cannot know
where the cursor then is.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from profiler.cli.options import OutputOptions, WorkloadOptions
from profiler.cli.record_data import written
from profiler.cli.record_options import RecordOptions
from profiler.cli.record_terminal import Console, status_with_losses, tell
from profiler.cli.terminal import say
from profiler.cli.workload import workload_of
from profiler.errors import InputError
from profiler.files import RESERVE_BYTES, STANDARD_OUTPUT, PendingFile
from profiler.kernel.abi import native_abi
from profiler.trace.model import Trace
from profiler.trace.store import dumps
from profiler.tracers.base import Options, Tracer
from profiler.tracers.recording import Recording
from profiler.tracers.select import first_that_works
from profiler.tracers.supervisor import hold_signals
from profiler.watch.finish import finish, origin_of
from profiler.watch.metrics import Figures, figures_of, resident_bytes
from profiler.watch.outputs import output_for

if TYPE_CHECKING:
    from profiler.live.feed import Feed


def tracer_options(workload: WorkloadOptions, how: RecordOptions) -> Options:
    """Return the options that a tracer gets."""
    return Options(workload.duration, how.limits, files=not workload.no_files)


def record_command(workload: WorkloadOptions, how: RecordOptions, to: OutputOptions, feed: Feed | None) -> int:
    """Record a command to its end, write the trace, and return the command's status, or FAILED for a loss."""
    path = output_for(workload.command[0], to.path)
    mask = hold_signals()
    console = Console(to.quiet, feed=feed)
    options = replace(tracer_options(workload, how), looks=console.looks, stop=console.stop)
    with PendingFile(path, reserve=RESERVE_BYTES) as file:
        started = workload_of(workload.command, workload.user, mask)

        def watch(chosen: Tracer, passed_over: Mapping[str, str]) -> tuple[Trace, list[str]]:
            if how.limits and chosen.name != "ebpf":
                raise InputError(f"--limit sizes a store of the ebpf tracer; the {chosen.name} tracer has none")
            if passed_over and not to.quiet:
                reasons = "; ".join(f"{name} unavailable: {why}" for name, why in passed_over.items())
                say(f"recording with {chosen.name} ({reasons})")
            recording = Recording(native_abi())
            start = datetime.datetime.now(datetime.UTC)
            with console.shown(lambda: _figures(recording), lambda: True):
                status = chosen.record(started, options, recording)
            return finish(recording, chosen.name, origin_of(started), start, status), recording.warnings

        trace, warnings = first_that_works(how.tracer, watch)
        replaced = path != STANDARD_OUTPUT and path.exists()
        file.commit(dumps(trace).encode("ascii"))
    written(trace, path)
    if not to.quiet:
        tell(trace, path, replaced)
        for warning in warnings:
            say(warning)
    assert trace.meta.exit_status is not None
    return status_with_losses(trace, trace.meta.exit_status, how.allow_loss)


def _figures(recording: Recording) -> Figures:
    """Return the figures of a recording while another thread adds to it."""
    seen = recording.so_far or recording
    return Figures((figures_of("", "", seen),), begun=1, losses=dict(seen.losses), memory=resident_bytes())
