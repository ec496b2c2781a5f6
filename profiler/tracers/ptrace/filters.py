"""Seccomp filters of the workload, which may hide calls from profgen's own.

The kernel asks all filters of a thread and obeys the strictest answer: KILL, TRAP, ERRNO, USER_NOTIF, TRACE, LOG,
ALLOW, in this order; of equal answers that of the newest filter (seccomp(2); kernel/seccomp.c seccomp_run_filters). A
call that another filter refuses is not made, so nothing is missed. A call that another filter gives to a supervisor
(USER_NOTIF) is made, or done by the supervisor, without a stop for the tracer.
"""

from __future__ import annotations

import errno

from profiler.confinement import PR_SET_SECCOMP, SECCOMP_MODE_FILTER
from profiler.kernel.abi import ABIS
from profiler.tracers.ptrace.rows import Enter, Exit, Leave
from profiler.tracers.ptrace.threads import U32, Threads
from profiler.tracers.recording import Recording
from profiler.tracers.seccomp import INSTRUCTION, RET_TRACE, RETURN

# include/uapi/linux/seccomp.h
SECCOMP_MODE_STRICT = 1
SECCOMP_SET_MODE_STRICT = 0
SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_NEW_LISTENER = 8
SECCOMP_RET_ACTION_FULL = 0xFFFF0000

SUPERVISED = (
    "a seccomp filter of the workload gives calls to a supervisor (SECCOMP_RET_USER_NOTIF), which hides them from "
    "ptrace; record with --tracer ebpf, which sees those that the supervisor lets continue"
)
TRACED = (
    "a seccomp filter of the workload answers SECCOMP_RET_TRACE: the calls that it is for were made, as profgen is the "
    "tracer; without profgen they fail with ENOSYS, or are left to a tracer of the workload's own"
)
STRICT = (
    "the workload asked for seccomp's strict mode and got EINVAL, because profgen's filter was in place; it gets the "
    "same in a container with a seccomp profile; record with --tracer ebpf to see what it does in strict mode"
)


def traces(instructions: bytes) -> bool:
    """Whether a filter, as bytes of ``struct sock_filter``, has an instruction that returns SECCOMP_RET_TRACE."""
    whole = instructions[: len(instructions) // INSTRUCTION.size * INSTRUCTION.size]
    return any(
        code == RETURN and value & SECCOMP_RET_ACTION_FULL == RET_TRACE
        for code, _, _, value in INSTRUCTION.iter_unpack(whole)
    )


class Filters:
    """Notes the filters that the workload installs, where they hide calls or make profgen change what it does."""

    marks = False
    """Whether profgen's own filter marks calls (SECCOMP_RET_DATA). A newer filter that answers RET_TRACE replaces the
    mark."""

    def __init__(self, recording: Recording, threads: Threads) -> None:
        self._recording = recording
        self._threads = threads

    def watches(self, name: str, abi: str) -> Enter | None:
        """See Evidence.watches."""
        if name == "prctl":
            return lambda tid, args: (
                self._mode(tid, abi, args[1], 0, args[2]) if args[0] & U32 == PR_SET_SECCOMP else None
            )
        if name == "seccomp":
            modes = {SECCOMP_SET_MODE_STRICT: SECCOMP_MODE_STRICT, SECCOMP_SET_MODE_FILTER: SECCOMP_MODE_FILTER}
            return lambda tid, args: self._mode(tid, abi, modes.get(args[0] & U32, 0), args[1] & U32, args[2])
        return None

    def _mode(self, tid: int, abi: str, mode: int, flags: int, program: int) -> Leave | None:
        """Serve a call that sets a mode of seccomp."""
        if mode == SECCOMP_MODE_STRICT:
            return self._after_strict
        if mode != SECCOMP_MODE_FILTER:
            return None
        supervised = bool(flags & SECCOMP_FILTER_FLAG_NEW_LISTENER)
        traced = traces(self._instructions(tid, abi, program))

        def leave(exit: Exit) -> None:
            if exit.code:
                return
            if supervised:
                self._recording.losses["hidden"] += 1
                self._recording.warn(SUPERVISED)
            if traced:
                self._recording.losses["hidden"] += self.marks
                self._recording.warn(TRACED)

        return leave if supervised or traced else None

    def _after_strict(self, exit: Exit) -> None:
        if exit.code == errno.EINVAL:
            self._recording.warn(STRICT)

    def _instructions(self, tid: int, abi: str, program: int) -> bytes:
        """Read the instructions of a ``struct sock_fprog``; empty when they cannot be read."""
        width = ABIS[abi].bits // 8
        head = self._threads.memory(tid, program, 2 * width, "hidden") if program else None
        if head is None:
            return b""
        length, place = int.from_bytes(head[:2], "little"), int.from_bytes(head[width:], "little")
        return self._threads.memory(tid, place, length * INSTRUCTION.size, "hidden") or b""
