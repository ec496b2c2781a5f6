"""What ``profgen record`` prints: a live line on a terminal that is profgen's alone, lines about events, a summary."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.cli.live import live_line
from profiler.cli.record_data import written
from profiler.cli.terminal import redraws, say
from profiler.errors import FAILED
from profiler.files import STANDARD_OUTPUT
from profiler.policy.directory import default_directory
from profiler.quoting.shell import profgen
from profiler.quoting.text import word
from profiler.trace.caveats import caveats, lost
from profiler.trace.model import Meta, Trace
from profiler.watch.metrics import Figures
from profiler.watch.outputs import SUFFIX, plain_name
from profiler.wording import counted, duration

if TYPE_CHECKING:
    from profiler.live.feed import Feed

_LINE_SECONDS = 1.0
"""The time between two looks at the figures of the live line."""

_IO_URING = ("io_uring_setup", "io_uring_enter")
"""Making a ring, and submitting to it. Either shows its use: a ring may be inherited, or be polled by the kernel."""


def incomplete(meta: Meta) -> str:
    """Return what was lost and what to do about it. Only the eBPF tracer has stores that can be full."""
    advice = "docs/tracers.md says what to do about each"
    if meta.tracer == "ebpf":
        from profiler.tracers.ebpf.limits import limit_for  # imported late: slow, and loaded already

        if full := [limit for name in meta.losses if (limit := limit_for(name))]:
            options = " ".join(f"--limit {limit}=N" for limit in full)
            advice = f"record again with larger stores: {options} ({advice})"
    return f"the trace is incomplete: {lost(meta.losses)}; {advice}"


def status_with_losses(trace: Trace, status: int, allow_loss: bool) -> int:
    """Return ``status``; for an incomplete trace print what was lost, and return FAILED unless that is allowed."""
    if trace.meta.complete:
        return status
    say(incomplete(trace.meta))
    return status if allow_loss else FAILED


class Console:
    """Prints what a recording of others does. ``many``: of several subjects, each gets lines of its own. ``wait``: the
    subject may not run yet. ``line``: with a live line, where the terminal can show one. ``keep``: traces are written.
    ``feed``: tells a live view instead. See watch.recordings.Console."""

    def __init__(
        self,
        quiet: bool,
        *,
        many: bool = False,
        wait: bool = False,
        line: bool = False,
        keep: bool = True,
        feed: Feed | None = None,
    ) -> None:
        self._line = line and redraws(sys.stderr) and feed is None
        self._quiet, self._many, self._wait, self._keep, self._feed = quiet, many, wait, keep, feed
        self.looks = _LINE_SECONDS if self._line else None if feed is None else feed.seconds
        self.stop = None if feed is None else feed.stop

    def began(self, name: str, joined: bool) -> None:
        """See watch.loop.Observer."""
        if self._many and not self._quiet:
            say(f"recording {name}" + (", which was running already" if joined else ""))

    def wrote(self, path: Path, trace: Trace, final: bool) -> None:
        """See watch.loop.Observer."""
        if final and self._keep:
            written(trace, path)
        if final and self._many and self._keep and not self._quiet:
            name = plain_name(path.name.removesuffix(SUFFIX))
            tell(trace, path, name=name)
            if not trace.meta.complete:
                say(f"{name}: {incomplete(trace.meta)}")

    def warned(self, name: str, warning: str) -> None:
        """See watch.loop.Observer."""
        if not self._quiet:
            say(f"{name}: {warning}" if self._many else warning)

    def failed(self, reason: str) -> None:
        """See watch.loop.Observer."""
        say(reason)

    def watching(self, waits: bool) -> None:
        """See watch.recordings.Console."""
        if self._quiet or not self._keep or (self.looks is not None and not self._many):
            return
        if self._wait and waits:
            say("waiting for its start, which will be recorded in full; Ctrl-C ends recording")
        else:
            traces = "traces" if self._many else "trace"
            say(f"recording; SIGUSR1 writes the {traces}, Ctrl-C or SIGTERM ends recording")

    def shown(
        self, figures: Callable[[], Figures], occupied: Callable[[], bool]
    ) -> contextlib.AbstractContextManager[None]:
        """See watch.recordings.Console."""
        if self._feed is not None:
            return self._feed.showing(figures)
        return live_line(lambda: None if occupied() else watched_line(figures()), self._line)


def watched_line(figures: Figures) -> str:
    """Return the live line: what was seen of one subject, or how many subjects there are; and memory."""
    fullest = max((used * 100 // room for used, room in figures.stores.values() if room), default=0)
    tail = f"memory {figures.memory >> 20} MiB, kernel stores up to {fullest}% full"
    if len(figures.sessions) == 1:
        row = figures.sessions[0]
        return (
            f"{duration(round(row.seconds))}  {counted(row.syscalls, 'syscall')}  "
            f"{counted(row.capabilities, 'capability', 'capabilities')}"
            f"  {counted(row.programs, 'program')}  {counted(row.paths, 'path')}"
            f"  last new {duration(round(max(0.0, row.seconds - row.last_new)))} ago  {tail}"
        )
    if not figures.begun:
        return f"waiting  {tail}"
    return f"{counted(figures.begun - figures.ended, 'recording')} running, {figures.ended} ended  {tail}"


def tell(trace: Trace, path: Path, replaced: bool = False, name: str = "") -> None:
    """Print the summary of a recording. ``name``: precedes each line, where several things are recorded."""
    for line in summary(trace, path, replaced):
        say(f"{name}: {line}" if name else line)


def summary(trace: Trace, path: Path, replaced: bool = False) -> Iterator[str]:
    """Yield what was seen, what to know about it, where it was written, and the next command. ``replaced``: an older
    file was replaced."""
    meta = trace.meta
    needed = sorted(
        {
            row.capability
            for row in trace.capabilities
            if row.verdict == "granted" and row.namespace == "initial" and row.decisive
        }
    )
    capabilities = "no capability" if not needed else ", ".join(needed)
    paths = f" {counted(len({row.path for row in trace.files}), 'path')}," if trace.has_files else ""
    end = "still running" if meta.exit_status is None else f"exit status {meta.exit_status}"
    yield (
        f"{counted(len(trace.syscalls), 'syscall')} in {counted(sum(row.calls for row in trace.syscalls), 'call')},"
        f" {counted(len(trace.programs), 'program')},{paths} {capabilities}"
        f" ({meta.tracer}, {duration(meta.duration)}, {end})"
    )
    container = meta.container
    if container is not None and container.pod is not None:
        image = "" if container.image is None else f", image {container.image}"
        yield f"container {word(container.full_name or '')} of Kubernetes{image}"
    if trace.joined:
        yield (
            f"joined while running: the start of {', '.join(trace.joined)} was not seen, and a profile from this trace "
            "alone will lack it"
        )
    yield from caveats(trace)
    yield from _notes(trace)
    yield from _growth(trace, path)
    if path != STANDARD_OUTPUT:
        yield f"wrote {path}" + (", replacing an older trace; to keep several, name them with -o" if replaced else "")
        if meta.complete:  # generate refuses an incomplete trace
            yield f"next: {profgen('generate', path, '-o', default_directory(path))}"


def _notes(trace: Trace) -> Iterator[str]:
    """Yield what a reviewer must know of the calls and sockets."""
    abis = sorted({row.abi for row in trace.syscalls} - {trace.meta.arch})
    unknown = [row.label for row in trace.syscalls if row.name is None]
    if abis:
        yield f"the workload made calls of another ABI: {', '.join(abis)}"
    if unknown:
        yield f"calls that profgen has no name for: {', '.join(unknown)}"
    if any(row.name in _IO_URING and (row.results.ok or not row.results.errors) for row in trace.syscalls):
        yield (
            "the workload used io_uring: seccomp filters do not see its operations, and files used that way are not in "
            "the trace"
        )
    if started_with := _only_inherited(trace):
        yield (
            f"the workload inherited {', '.join(started_with)}, which its profile will allow: record it with the "
            "descriptors that it has in production"
        )
    if setuid := _without_effect(trace):
        yield (
            f"{', '.join(setuid)} gained no rights: setuid has no effect in an unprivileged recording; record "
            "with sudo profgen and --user"
        )


def _growth(trace: Trace, path: Path) -> Iterator[str]:
    """Yield that a longer recording would probably show more, when new things still came late."""
    from profiler.review.coverage import still_growing  # imported late: record starts without it

    if late := still_growing(trace):
        where = "profgen coverage" if path == STANDARD_OUTPUT else profgen("coverage", path)
        yield (
            f"{counted(late, 'item was', 'items were')} new in the second half; a recording twice as long may show "
            f"about as many more (see: {where})"
        )


def _only_inherited(trace: Trace) -> list[str]:
    """Return the sorts of sockets that a profile allows only because a descriptor was inherited, such as a log
    collector's."""
    sorts: dict[tuple[str, str], set[str]] = {}
    for row in trace.sockets:
        sorts.setdefault((row.family, row.type), set()).add(row.operation)
    return [f"a {' '.join(sort)} socket" for sort, operations in sorted(sorts.items()) if operations == {"inherit"}]


def _without_effect(trace: Trace) -> list[str]:
    """Return the setuid and setgid programs that gained nothing because profgen had set no_new_privs
    (docs/tracers.md)."""
    if trace.meta.tracer != "ptrace" or not trace.meta.no_new_privs:
        return []
    found = []
    for program in trace.programs:
        with contextlib.suppress(OSError, ValueError):
            if os.stat(program.path).st_mode & (stat.S_ISUID | stat.S_ISGID):
                found.append(program.path)
    return found
