"""Births of threads: the maker's event and the child's first stop come in any order, and either may never come.

A maker stops with PTRACE_EVENT_FORK, VFORK or CLONE, which announces the child. The child stops before its first
instruction. A maker that is killed in the call announces nothing (ptrace(2)), and a child that is killed at once ends
without a stop.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection

from profiler.files import process_status
from profiler.tracers.ptrace.threads import Threads


class Births:
    """Children of which one of the two is still missing."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self.early: dict[int, int] = {}
        """Children that have stopped and were not announced, to their wait status. They stay stopped."""
        self._expected: dict[int, int] = {}
        """Children that were announced and have not stopped, to their program."""
        self._ended: set[int] = set()
        """Children that ended before they were announced."""

    def held(self) -> list[int]:
        """Return all these children, for signals."""
        return [*self.early, *self._expected]

    def announced(self, child: int, program: int) -> int | None:
        """Note that a child was announced. Returns its wait status if it has stopped already."""
        status = self.early.pop(child, None)
        if status is None:
            if child in self._ended:
                self._ended.discard(child)
            else:
                self._expected[child] = program
        return status

    def stopped(self, child: int, status: int) -> int | None:
        """Note the first stop of a child. Returns its program if it was announced."""
        program = self._expected.pop(child, None)
        if program is None:
            self.early[child] = status
        return program

    def ended(self, child: int) -> None:
        """Note the end of a thread that is not known otherwise."""
        if self._expected.pop(child, None) is None:
            self.early.pop(child, None)
            self._ended.add(child)

    def orphans(self, makers: Collection[int]) -> dict[int, int]:
        """Remove the stopped children that nobody will announce, and return their wait statuses.

        ``makers``: the threads that are in a call that makes a thread. A child is a thread of its maker's process, or
        has that process or its parent (CLONE_PARENT) as its own parent. One that was killed stays: its end comes.
        """
        return {child: self.early.pop(child) for child in list(self.early) if self._is_orphan(child, makers)}

    def _is_orphan(self, child: int, makers: Collection[int]) -> bool:
        kin = self._threads.kin(child)
        if kin is None:
            return False
        return not any(self._threads.group(maker) in kin or self._threads.parent(maker) in kin for maker in makers)


def made_by(maker: int, number: int) -> tuple[int, bool]:
    """Return profgen's number for the thread that ``maker`` knows by ``number``, and whether profgen traces it.

    The number is -1 when there is none.
    """
    try:
        parent = process_status(str(maker))
        depth = len(parent["NSpid"])
        among = [str(number)]
        if depth > 1:
            among = [*filter(str.isdigit, os.listdir("/proc")), *os.listdir(f"/proc/{parent['Tgid'][0]}/task")]
    except OSError:
        return -1, False
    for entry in among:
        with contextlib.suppress(OSError):
            status = process_status(entry)
            traced = status["TracerPid"] == [str(os.getpid())]
            kin = {*status["Tgid"], *status["PPid"]} & {*parent["Tgid"], *parent["PPid"]}
            if status["NSpid"][depth - 1 : depth] == [str(number)] and (traced or kin):
                return int(entry), traced
    return -1, False
