"""``--live``: what the view is told about a recording, and where the output of the workload goes."""

from __future__ import annotations

from pathlib import Path

from profiler.cli.options import OutputOptions, WorkloadOptions
from profiler.cli.record_options import SubjectOptions
from profiler.live.feed import Feed
from profiler.live.process import split as split_processes
from profiler.quoting.shell import shell
from profiler.watch.outputs import SUFFIX, image_output, output_for


def split(subject: SubjectOptions, workload: WorkloadOptions, to: OutputOptions) -> Feed | int:
    """Return the feed in the process that records, and the exit status in the view's (live/process.py).

    Raises ProfgenError when there cannot be a view.
    """
    return split_processes(_title(subject, workload), _output(subject, workload, to))


def _title(subject: SubjectOptions, workload: WorkloadOptions) -> str:
    if subject.all_containers:
        return "all containers"
    for kind, value in vars(subject).items():
        if value:
            return f"{kind} {', '.join(value) if isinstance(value, tuple) else value}"
    return " ".join(map(shell, workload.command))


def _output(subject: SubjectOptions, workload: WorkloadOptions, to: OutputOptions) -> Path | None:
    """Return the file for what the workload prints, which is named after the trace; None if profgen does not start
    it."""
    output = None if to.printed else to.path
    if subject.image is not None:
        trace = image_output(subject.image, output)
    elif subject.given:
        return None
    else:
        trace = output_for(workload.command[0], output)
    return trace.with_name(f"{trace.name.removesuffix(SUFFIX).removesuffix('.json')}.output.txt")
