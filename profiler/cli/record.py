"""``profgen record``: run a command, watch it, write a trace."""

from __future__ import annotations

import contextlib
import datetime
import math
import os
import re
import shlex
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from profiler import __version__
from profiler.cli.workload import whole, workload_of
from profiler.errors import InputError
from profiler.files import RESERVE_BYTES, PendingFile, as_invoking_user
from profiler.kernel.abi import native_abi
from profiler.quoting import printable
from profiler.trace.model import Meta, Trace
from profiler.trace.store import dumps
from profiler.tracers.base import Options, Tracer, Workload
from profiler.tracers.host import host, with_hashes
from profiler.tracers.launch import quoted
from profiler.tracers.recording import Recording
from profiler.tracers.select import TRACERS, first_that_works
from profiler.tracers.supervisor import signals_held

LOSS_STATUS = 125
_LIVE_SECONDS = 0.2
_IO_URING = ("io_uring_setup", "io_uring_enter")
"""A ring is made, its operations begin; either is enough: a ring may come from another process, or be polled by the kernel."""


@click.command(context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False})
@click.option("-o", "--output", metavar="FILE", help="Where the trace goes.  [default: COMMAND.trace.json]")
@click.option("--tracer", type=click.Choice(["auto", *TRACERS]), default="auto", show_default=True, help="How to watch.")
@click.option("--user", metavar="USER", help="Run the command as this user (name or uid); under sudo the default is who called it.")
@click.option("--duration", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="Ask the command to end after so long.")
@click.option("--allow-loss", is_flag=True, help="Keep the command's exit status even if something seen was lost.")
@click.option("--limit", "limits", multiple=True, metavar="NAME=N", help="Size of a store of the eBPF tracer (docs/tracers.md).")
@click.option("--no-files", is_flag=True, help="Leave out files, sockets, signals and mounts: cheaper, but no AppArmor profile.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def record(
    output: str | None,
    tracer: str,
    user: str | None,
    duration: float | None,
    allow_loss: bool,
    limits: tuple[str, ...],
    no_files: bool,
    quiet: bool,
    command: tuple[str, ...],
) -> int:
    """Watch COMMAND under normal load and write a trace of the rights it used.

    The command keeps its input, output, terminal, signals and exit status. Recording ends with its last descendant.
    """
    if duration is not None and not math.isfinite(duration):
        raise click.UsageError("--duration wants a number of seconds")
    if not command:
        raise click.UsageError("no command to record; try: profgen record -- ls /")
    path = Path(output) if output is not None else default_output(command[0])
    with signals_held() as mask, _pending(path) as pending:
        workload = workload_of(command, user, mask)
        options = Options(duration, _limits(limits), files=not no_files)

        def watch(chosen: Tracer, passed_over: Mapping[str, str]) -> tuple[Trace, list[str]]:
            if limits and chosen.name != "ebpf":
                raise InputError(f"--limit sizes a store of the ebpf tracer; the {chosen.name} tracer has none")
            if not quiet and passed_over:
                _say(f"recording with {chosen.name}; " + "; ".join(f"{name} is not to be had: {why}" for name, why in passed_over.items()))
            recording = Recording(native_abi())
            start = datetime.datetime.now(datetime.UTC)
            with _live_line(recording, shown=not quiet and sys.stderr.isatty()):
                status = chosen.record(workload, options, recording)
            return _finish(recording, chosen.name, workload, start, status), recording.warnings

        trace, warnings = first_that_works(tracer, watch)
        pending.commit(dumps(trace).encode("ascii"))
    if not quiet:
        _summary(trace, path)
        for warning in warnings:
            _say(warning)
    if not trace.meta.complete:
        _say(_incomplete(trace.meta))
        if not allow_loss:
            return LOSS_STATUS
    assert trace.meta.exit_status is not None
    return trace.meta.exit_status


def _incomplete(meta: Meta) -> str:
    """What was lost, and what to do. Only some stores have a size that can be chosen, and all of those are of one tracer."""
    lost = ", ".join(f"{count} {name}" for name, count in meta.losses.items())
    advice = "docs/tracers.md says what to do about each"
    if meta.tracer == "ebpf":
        from profiler.tracers.ebpf.loader import DEFAULT_LIMITS  # it has just run; the other tracer does not need it

        if meta.losses.keys() & DEFAULT_LIMITS.keys():
            advice = "record again with a larger --limit (docs/tracers.md)"
    return f"the trace is incomplete: lost {lost}; {advice}"


def default_output(command: str) -> Path:
    """``<name>.trace.json`` in the working directory, from a name that a stranger may have chosen."""
    name = re.sub(r"[^A-Za-z0-9._+-]", "_", os.path.basename(command))[:100].lstrip(".-")
    return Path(f"{name or 'workload'}.trace.json")


def _limits(pairs: tuple[str, ...]) -> dict[str, int]:
    limits = {}
    for pair in pairs:
        name, _, number = pair.partition("=")
        size = whole(number)
        if size is None or not 0 < size < 1 << 31:
            raise InputError(f"--limit wants NAME=N with a whole N above 0, not {quoted(pair[:80])}")
        limits[name] = size
    return limits


@contextlib.contextmanager
def _pending(path: Path) -> Iterator[PendingFile]:
    pending = PendingFile(path, reserve=RESERVE_BYTES)
    try:
        yield pending
    finally:
        pending.discard()


def _finish(recording: Recording, tracer: str, workload: Workload, start: datetime.datetime, status: int) -> Trace:
    duration = recording.elapsed()
    here = host()
    uid, gid, groups = workload.user or (os.geteuid(), os.getegid(), tuple(sorted(os.getgroups())))
    losses = {name: count for name, count in sorted(recording.losses.items()) if count}
    meta = Meta(
        tool=f"profgen {__version__}",
        tracer=tracer,
        features=tuple(sorted(recording.features)),
        kernel=here.kernel,
        arch=recording.native,
        distribution=here.distribution,
        libc=here.libc,
        argv=workload.argv,
        cwd=workload.cwd,
        uid=uid,
        gid=gid,
        groups=groups,
        no_new_privs=recording.no_new_privs or _no_new_privs(),
        start=start.isoformat(timespec="seconds"),
        duration=round(duration, 3),
        exit_status=status,
        complete=not losses,
        losses=losses,
        last_new=round(min(recording.last_new, duration), 3),
    )
    with as_invoking_user():
        programs = [program if index in recording.foreign else with_hashes(program) for index, program in enumerate(recording.programs)]
    return recording.trace(meta, programs)


def _no_new_privs() -> bool:
    with open("/proc/self/status") as file:
        return any(line.startswith("NoNewPrivs:") and line.split()[1] == "1" for line in file)


def _say(text: str) -> None:
    print(f"profgen: {printable(text)}", file=sys.stderr)


def _count(number: int, noun: str, plural: str | None = None) -> str:
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


@contextlib.contextmanager
def _live_line(recording: Recording, shown: bool) -> Iterator[None]:
    """One line on the terminal, renewed while the command runs and wiped at the end."""
    if not shown:
        yield
        return
    finished = threading.Event()
    terminal = os.dup(2)  # descriptor 2 itself is turned elsewhere while bcc compiles

    def draw() -> None:
        while not finished.wait(_LIVE_SECONDS):
            elapsed = recording.elapsed()
            paths = f"  {_count(recording.paths_seen, 'path')}" if recording.paths_seen else ""
            text = (
                f"profgen: {elapsed:.0f}s  {_count(recording.syscalls_seen, 'syscall')}"
                f"  {_count(recording.capabilities_seen, 'capability', 'capabilities')}"
                f"  {_count(len(recording.programs), 'program')}{paths}  last new {elapsed - recording.last_new:.0f}s ago"
            )
            # A terminal in the background must not be written to: it would stop us (SIGTTOU, if tostop is set).
            if os.tcgetpgrp(terminal) == os.getpgrp():
                os.write(terminal, f"\r\x1b[K{text}\r".encode())

    thread = threading.Thread(target=draw, name="live line", daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()
        os.write(terminal, b"\r\x1b[K")
        os.close(terminal)


def _summary(trace: Trace, path: Path) -> None:
    meta = trace.meta
    quiet_for = meta.duration - meta.last_new
    needed = sorted(
        {row.capability for row in trace.capabilities if row.verdict == "granted" and row.namespace == "initial" and row.decisive}
    )
    capabilities = "no capability" if not needed else ", ".join(needed)
    unknown = [row.label for row in trace.syscalls if row.name is None]
    paths = f" {_count(len({row.path for row in trace.files}), 'path')}," if trace.has_files else ""
    abis = sorted({row.abi for row in trace.syscalls} - {meta.arch})
    print(
        f"profgen: {_count(len(trace.syscalls), 'syscall')} in {_count(sum(row.calls for row in trace.syscalls), 'call')},"
        f" {_count(len(trace.programs), 'program')},{paths} {capabilities}"
        f" ({meta.tracer}, {meta.duration:.1f}s, exit status {meta.exit_status})",
        file=sys.stderr,
    )
    if abis:
        _say(f"calls of another ABI were made: {', '.join(abis)}")
    if unknown:
        _say(f"calls this profgen has no name for: {', '.join(unknown)}")
    if any(row.name in _IO_URING and (row.results.ok or not row.results.errors) for row in trace.syscalls):
        _say("the workload used io_uring: its operations pass by seccomp filters, and files used so are not in the trace")
    if meta.duration >= 1:
        advice = "; a longer load may show more" if quiet_for < meta.duration / 4 else ""
        _say(f"the last new item came {quiet_for:.1f}s before the end{advice}")
    directory = f"{path.name.removesuffix('.json').removesuffix('.trace')}.profile"
    _say(f"wrote {path}")
    _say(f"next: profgen generate {shlex.quote(str(path))} -o {shlex.quote(directory)}")
