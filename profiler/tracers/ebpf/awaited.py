"""Cgroups that are watched and are not there yet: the kernel is told which directory to look for next."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

from profiler.errors import InputError
from profiler.tracers.ebpf.cgroups import components, deepest, key_of
from profiler.tracers.ebpf.loader import Programs


class Awaited:
    """Names the steps to each cgroup from the top of its hierarchy (``struct step``, ``struct awaited_key``)."""

    def __init__(self, programs: Programs) -> None:
        self._programs = programs
        self._sessions: list[tuple[int, tuple[str, ...]]] = []
        self._first_step: dict[str, int] = {}
        self._steps = 0

    def __bool__(self) -> bool:
        """Whether a cgroup is awaited."""
        return bool(self._sessions)

    def clear(self) -> None:
        """Wait for no cgroup any more."""
        self._sessions.clear()

    def add(self, number: int, directories: Sequence[str]) -> None:
        """Wait for a session's directories. Raises InputError when there are too many."""
        self._sessions.append((number, tuple(directories)))
        steps = self._programs.table("steps")
        for directory in directories:
            names = components(directory)
            if self._steps + len(names) > len(steps):
                raise InputError("too many cgroups to wait for")
            self._first_step[directory] = self._steps
            for index, name in enumerate(names):
                last = index == len(names) - 1
                steps[self._steps + index] = steps.Leaf(session=number, last=last, name=os.fsencode(name))
            self._steps += len(names)

    def arrivals(self) -> Iterator[tuple[int, str]]:
        """Tell the kernel the next step to each cgroup, and yield (session, directory) of those that have come without
        the kernel's notice: before it was told, or in a place that went and came again."""
        awaited, cgroups = self._programs.table("awaited"), self._programs.table("cgroups")
        for number, directories in self._sessions:
            for directory in directories:
                above, depth = deepest(directory)
                with contextlib.suppress(InputError, OSError):  # it goes while profgen looks: next time
                    identity, hierarchy = key_of(above)
                    if above != directory:
                        name = os.fsencode(components(directory)[depth])
                        key = awaited.Key(above=identity, hierarchy=hierarchy, name=name)
                        awaited[key] = self._first_step[directory] + depth
                        continue
                    place = cgroups.Key(id=identity, hierarchy=hierarchy)
                    try:
                        known = cgroups[place]
                    except KeyError:
                        known = 0
                    if not known:
                        cgroups[place] = number
                        yield number, directory
