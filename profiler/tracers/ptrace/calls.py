"""Which calls of a stopped thread leave evidence of files, sockets, other processes and mounts.

Each call is looked at before it is made, and again when its result is known. A path is resolved before the call when
the call may change where it leads. It is resolved after the call when only a failure is of interest, as a call that
failed has changed nothing.
"""

from __future__ import annotations

from profiler.tracers.ptrace.execution import Executions
from profiler.tracers.ptrace.files import Files
from profiler.tracers.ptrace.mounts import Mounts
from profiler.tracers.ptrace.processes import Processes
from profiler.tracers.ptrace.rows import Enter, Rows
from profiler.tracers.ptrace.sockets import Sockets
from profiler.tracers.ptrace.threads import Threads
from profiler.tracers.recording import Recording


class Evidence:
    """Fills a recording with files, sockets, signals, inspections and mounts."""

    def __init__(self, recording: Recording, threads: Threads) -> None:
        rows = Rows(recording, threads)
        self._readers = (Executions(rows), Files(rows), Mounts(rows), Sockets(rows), Processes(rows))

    def watches(self, name: str, abi: str) -> Enter | None:
        """Return what to do before a call of this name; None when it leaves no evidence."""
        for reader in self._readers:
            enter = reader.watches(name, abi)
            if enter is not None:
                return enter
        return None
