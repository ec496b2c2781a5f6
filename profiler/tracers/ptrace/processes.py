"""What a stopped thread's calls do to other processes: signals and inspections."""

from __future__ import annotations

from functools import partial

from profiler.kernel.processes import ProcessCall, process_calls, signal_name, trace_requests
from profiler.tracers.ptrace.rows import Enter, Exit, Leave, Rows
from profiler.tracers.ptrace.threads import U32, Arguments, signed


class Processes:
    """Adds signals and inspections to a recording."""

    def __init__(self, rows: Rows) -> None:
        self._recording = rows.recording
        self._threads = rows.threads

    def watches(self, name: str, _abi: str) -> Enter | None:
        """See Evidence.watches."""
        call = process_calls().get(name)
        return None if call is None else partial(self._enter, call)

    def _enter(self, call: ProcessCall, tid: int, args: Arguments) -> Leave | None:
        word = call.operation
        if call.request is not None:
            request = trace_requests().get(args[call.request] & U32)
            if request is None:
                return None
            word = request
        whom = self._whom(call, word, tid, args)
        if whom is None:
            return None
        name = None if call.signal is None else signal_name(signed(args[call.signal]))

        def leave(exit: Exit) -> None:
            if not exit.reached:
                return
            if name is not None:
                self._recording.signal(name, whom, exit.outcome, exit.program)
            else:
                self._recording.inspection(word, whom, exit.outcome, exit.program)

        return leave

    def _whom(self, call: ProcessCall, word: str, tid: int, args: Arguments) -> str | None:
        """Return one of SIGNAL_WHOM (trace/model.py), None when the descriptor is not a pidfd."""
        threads = self._threads
        if call.pidfd is not None:
            return threads.whom_of_pidfd(tid, args[call.pidfd])
        if word == "traceme":
            return threads.whom_outer(tid, threads.parent(tid))
        pids = [signed(args[position]) for position in call.process]
        if call.signal is not None and pids[0] <= 0:
            return "group"
        whom = {threads.whom(tid, pid) for pid in pids}
        return next(each for each in ("outside", "workload", "self") if each in whom)  # the one that is further away
