"""What ``profgen record`` says: a live line on a terminal, a summary at the end, and lines in between."""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from profiler.quoting.text import printable
from profiler.trace.model import Meta, Trace
from profiler.tracers.recording import Recording
from profiler.wording import counted

LIVE_SECONDS = 0.2
_IO_URING = ("io_uring_setup", "io_uring_enter")
"""A ring is made, its operations begin; either is enough: a ring may come from another process, or be polled by the
kernel."""


def say(text: str) -> None:
    """One line on standard error."""
    print(f"profgen: {printable(text)}", file=sys.stderr)


def figures(recording: Recording) -> str:
    """The live line's figures of one recording."""
    if not recording.programs and not recording.syscalls_seen:
        return "starting"
    elapsed = recording.elapsed()
    paths = f"  {counted(recording.paths_seen, 'path')}" if recording.paths_seen else ""
    return (
        f"{elapsed:.0f}s  {counted(recording.syscalls_seen, 'syscall')}"
        f"  {counted(recording.capabilities_seen, 'capability', 'capabilities')}"
        f"  {counted(len(recording.programs), 'program')}{paths}  last new {elapsed - recording.last_new:.0f}s ago"
    )


@contextlib.contextmanager
def live_line(text: Callable[[], str], shown: bool) -> Iterator[None]:
    """One line on the terminal, renewed while the workload runs and wiped at the end. ``text`` is called from another
    thread."""
    if not shown:
        yield
        return
    finished = threading.Event()
    terminal = os.dup(2)  # descriptor 2 itself is turned elsewhere while bcc compiles

    def draw() -> None:
        while not finished.wait(LIVE_SECONDS):
            # A terminal in the background must not be written to: it would stop us (SIGTTOU, if tostop is set).
            if os.tcgetpgrp(terminal) == os.getpgrp():
                os.write(terminal, f"\r\x1b[Kprofgen: {printable(text())}\r".encode())

    thread = threading.Thread(target=draw, name="live line", daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()
        os.write(terminal, b"\r\x1b[K")
        os.close(terminal)


def incomplete(meta: Meta) -> str:
    """What was lost, and what to do. Only some stores have a size that can be chosen, and all of those are of one
    tracer."""
    lost = ", ".join(f"{number} {name}" for name, number in meta.losses.items())
    advice = "docs/tracers.md says what to do about each"
    if meta.tracer == "ebpf":
        from profiler.tracers.ebpf.loader import DEFAULT_LIMITS  # it has just run; the other tracer does not need it

        if meta.losses.keys() & DEFAULT_LIMITS.keys():
            advice = "record again with a larger --limit (docs/tracers.md)"
    return f"the trace is incomplete: lost {lost}; {advice}"


def summary(trace: Trace, path: Path, replaced: bool = False) -> None:
    """What was seen, what to know of it, where it was written (``replaced``: in place of an older file), and what comes
    next."""
    meta = trace.meta
    quiet_for = meta.duration - meta.last_new
    needed = sorted(
        {
            row.capability
            for row in trace.capabilities
            if row.verdict == "granted" and row.namespace == "initial" and row.decisive
        }
    )
    capabilities = "no capability" if not needed else ", ".join(needed)
    unknown = [row.label for row in trace.syscalls if row.name is None]
    paths = f" {counted(len({row.path for row in trace.files}), 'path')}," if trace.has_files else ""
    abis = sorted({row.abi for row in trace.syscalls} - {meta.arch})
    end = "still running" if meta.exit_status is None else f"exit status {meta.exit_status}"
    say(
        f"{counted(len(trace.syscalls), 'syscall')} in {counted(sum(row.calls for row in trace.syscalls), 'call')},"
        f" {counted(len(trace.programs), 'program')},{paths} {capabilities}"
        f" ({meta.tracer}, {meta.duration:.1f}s, {end})"
    )
    if trace.joined:
        say(
            f"joined while running: how {', '.join(trace.joined)} starts was not seen, and a profile from this "
            "trace alone will lack it"
        )
    if abis:
        say(f"calls of another ABI were made: {', '.join(abis)}")
    if unknown:
        say(f"calls this profgen has no name for: {', '.join(unknown)}")
    if any(row.name in _IO_URING and (row.results.ok or not row.results.errors) for row in trace.syscalls):
        say(
            "the workload used io_uring: its operations pass by seccomp filters, and files used so are not in the trace"
        )
    if started_with := _only_inherited(trace):
        say(
            f"it was given {', '.join(started_with)}, which its profile will allow: record with the descriptors "
            "that it will have"
        )
    if setuid := _without_effect(trace):
        say(
            f"{', '.join(setuid)} gained no rights: setuid does nothing in an unprivileged recording; record "
            "with sudo profgen, and --user"
        )
    if meta.duration >= 1:
        advice = "; a longer load may show more" if quiet_for < meta.duration / 4 else ""
        say(f"the last new item came {quiet_for:.1f}s before the end{advice}")
    wrote(path, replaced)


def _only_inherited(trace: Trace) -> list[str]:
    """Sorts of sockets that a profile allows for the sake of an inherited descriptor alone, as where a program collects
    the output."""
    sorts: dict[tuple[str, str], set[str]] = {}
    for row in trace.sockets:
        sorts.setdefault((row.family, row.type), set()).add(row.operation)
    return [f"a {' '.join(sort)} socket" for sort, operations in sorted(sorts.items()) if operations == {"inherit"}]


def _without_effect(trace: Trace) -> list[str]:
    """Setuid and setgid programs that ran without what they would gain, as profgen itself had set no_new_privs
    (docs/tracers.md)."""
    if trace.meta.tracer != "ptrace" or not trace.meta.no_new_privs:
        return []
    found = []
    for program in trace.programs:
        with contextlib.suppress(OSError, ValueError):
            if os.stat(program.path).st_mode & (stat.S_ISUID | stat.S_ISGID):
                found.append(program.path)
    return found


def wrote(path: Path, replaced: bool = False) -> None:
    """Where the trace is, and what comes next."""
    directory = f"{path.name.removesuffix('.json').removesuffix('.trace')}.profile"
    say(f"wrote {path}" + (" in place of the older one; to keep several, name them with -o" if replaced else ""))
    say(f"next: profgen generate {shlex.quote(str(path))} -o {shlex.quote(directory)}")
