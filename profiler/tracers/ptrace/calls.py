"""Which calls of a stopped thread leave evidence of files, sockets, other processes and mounts.

Each call is looked at before it is made, and again when its result is known. A path is resolved before the call when
the call may change where it leads. It is resolved after the call when only a failure is of interest, as a call that
failed has changed nothing.
"""

from __future__ import annotations

from functools import partial

from profiler.kernel.processes import credential_calls
from profiler.tracers.ptrace.execution import Executions
from profiler.tracers.ptrace.files import Files
from profiler.tracers.ptrace.mounts import Mounts
from profiler.tracers.ptrace.processes import Processes
from profiler.tracers.ptrace.rows import Arguments, Enter, Leave, Rows
from profiler.tracers.ptrace.sockets import Sockets
from profiler.tracers.ptrace.threads import Threads
from profiler.tracers.recording import Recording


class Evidence:
    """Fills a recording with files, sockets, signals, inspections and mounts."""

    def __init__(self, recording: Recording, threads: Threads) -> None:
        self._threads = threads
        rows = Rows(recording, threads)
        self._readers = (Executions(rows), Files(rows), Mounts(rows), Sockets(rows), Processes(rows))

    def watches(self, name: str, abi: str, native: bool) -> Enter | None:
        """Return what to do before a call of this name; None when it leaves no evidence."""
        for reader in self._readers:
            enter = reader.watches(name, abi)
            if enter is not None:
                return enter
        if native:
            return None  # the inference of capabilities follows what these change
        if name in credential_calls():
            return partial(self._changes, name)
        return partial(self._clones, name) if name in ("clone", "clone3") else None

    def _changes(self, name: str, tid: int, _args: Arguments) -> Leave:
        return lambda exit: self._threads.changes(exit.tid, name)

    def _clones(self, name: str, tid: int, args: Arguments) -> None:
        self._threads.clones(tid, name, args)
