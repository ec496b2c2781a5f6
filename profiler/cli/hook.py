"""``profgen hook``: an OCI hook that records containers with an annotation."""

from __future__ import annotations

import os
import select
import signal
import sys
from pathlib import Path

import click

from profiler.cli.results import JSON, print_json
from profiler.engines.hook import State
from profiler.errors import FAILED, InputError, ProfgenError
from profiler.quoting.text import printable, quoted

READY_SECONDS = 30.0
"""A container's start waits until the tracer is ready, at most this long."""


@click.command("hook")
@click.option(
    "-o",
    "--output",
    metavar="DIRECTORY",
    default="/var/lib/profgen",
    show_default=True,
    help="Directory for traces.",
)
@click.option("--no-files", is_flag=True, help="Ignore files, sockets, signals and mounts.")
@JSON
def hook(output: str, no_files: bool, form: str | None) -> int:
    """Record a container that carries the annotation io.profgen.record=NAME, from its entry point on.

    Engines call it as a createRuntime hook: it reads the container's state on standard input, starts a recording in
    the background, which ends with the container, and returns. The trace is NAME-ID.trace.json in DIRECTORY, with the
    container's id; no file is replaced. Containers without the annotation are ignored. A container whose recording
    cannot be started fails to start.
    """
    import syslog

    try:
        state, name = _start(output, no_files)
    except ProfgenError as error:
        # runc shows the output of a failing hook, crun only its status.
        syslog.openlog("profgen", syslog.LOG_PID, syslog.LOG_DAEMON)
        syslog.syslog(syslog.LOG_ERR, f"hook: {error}")
        raise
    if form == "json":
        print_json("hook", {"container": state.identity, "recorded": name is not None, "name": name, "output": output})
    return 0


def _start(output: str, no_files: bool) -> tuple[State, str | None]:
    """Start the recording; return the container, and the name for its trace, None when it has no annotation."""
    from profiler.engines import hook as hooks

    state = hooks.state(sys.stdin.buffer.read(hooks.STATE_LIMIT_BYTES))
    if state.record is None:
        return state, None
    directory = Path(output)
    if not directory.is_absolute():
        raise InputError("-o needs an absolute path: the runtime determines a hook's working directory")
    name = hooks.chosen_name(state.record, directory)
    if not os.path.exists(f"/proc/{state.pid or 'none'}"):
        raise InputError(
            f"the state of the container {quoted(state.identity[:64])} does not name a process that runs (pid), so "
            "nothing can be recorded: call profgen as a createRuntime hook"
        )
    _in_background(state, directory, name, no_files)
    return state, name


def _in_background(state: State, directory: Path, name: str, no_files: bool) -> None:
    """Record in a new process; return once it is ready. Raises ProgramError when it is not."""
    read, write = os.pipe()
    if os.fork() == 0:
        _detach(read, write)
        os._exit(_record(state, directory, name, no_files, write))
    os.close(write)
    ready, _, _ = select.select([read], [], [], READY_SECONDS)
    told = os.read(read, 4096) if ready else b"the recording was not ready in time"
    if told == b"ready":
        return
    raise ProfgenError(f"the container cannot be recorded: {told.decode('utf-8', 'replace') or 'the recording ended'}")


def _detach(read: int, write: int) -> None:
    """Start a new session, and close the files that the runtime waits for."""
    os.setsid()
    if os.fork():
        os._exit(0)
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    for low, high in (
        (3, min(read, write)),
        (min(read, write) + 1, max(read, write)),
        (max(read, write) + 1, os.sysconf("SC_OPEN_MAX")),
    ):
        os.closerange(low, high)
    os.close(read)
    os.set_inheritable(write, False)
    # The runtime may have blocked any of them.
    signal.pthread_sigmask(signal.SIG_SETMASK, set())


def _record(state: State, directory: Path, name: str, no_files: bool, ready: int) -> int:
    """Record the container. A failure goes to the hook before it is ready, and to the system's log later."""
    import syslog

    from profiler.cli.record_terminal import Console, incomplete, summary
    from profiler.tracers.base import Options
    from profiler.watch import subjects
    from profiler.watch.recordings import Request, need_watcher, record

    told = False

    def tell(*_: object) -> None:
        nonlocal told
        told = True
        os.write(ready, b"ready")
        os.close(ready)

    syslog.openlog("profgen", syslog.LOG_PID, syslog.LOG_DAEMON)
    try:
        need_watcher("auto")
        request = Request(Options(files=not no_files), directory, chosen=name)
        ended = record(subjects.starting(state), request, Console(quiet=True), tell)
    except BaseException as error:
        if not told:
            os.write(ready, str(error).encode("utf-8", "replace")[:4000])
        else:
            syslog.syslog(syslog.LOG_ERR, f"recording {state.identity[:64]}: {error}")
        return FAILED
    if ended.last is None:
        return 0
    trace, path = ended.last
    for line in summary(trace, path):
        syslog.syslog(syslog.LOG_INFO, f"{name}: {printable(line)}")
    if trace.meta.complete:
        return 0
    syslog.syslog(f"{path}: {incomplete(trace.meta)}")
    return FAILED
