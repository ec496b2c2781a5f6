"""What the kernel opened when a watched process executed a program."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from profiler.tracers.ebpf.executed import Executed
from profiler.tracers.ebpf.reader import BY_ENTERED, Maps, Reader
from profiler.tracers.host import absolute
from profiler.tracers.paths import Found, Resolver, owner_of
from profiler.tracers.programs import SCRIPTS_MAX, interpreter_of, loader_of
from profiler.tracers.recording import Recording


@dataclass
class _Opened:
    executed: Executed
    scripts: list[Found] = field(default_factory=list)
    loader: Found | None = None


class Executions:
    """The scripts and the loader of each program of a recording, looked at when its execution is read."""

    def __init__(self, reader: Reader, resolver: Resolver) -> None:
        self._reader = reader
        self._resolver = resolver
        self._opened: dict[int, _Opened] = {}
        self._generation = 0
        """Of the newest program (Reader.generation)."""
        reader.on_executed = self._executed

    def _executed(self, program: int, executed: Executed) -> None:
        """Look at a program's scripts and loader at once.

        A program is reported again when a link was made or moved since: a script's text may mean another file.
        """
        if executed.generation != self._generation:
            # The event of the call that moved the link is in the other ring and may come later.
            self._generation = executed.generation
            self._resolver.forget()
        before = self._opened.get(program)
        opened = self._opened[program] = _Opened(executed, before.scripts if before is not None else [])
        if executed.name is not None:
            known = {found.path for found in opened.scripts if found.sure}
            opened.scripts += [found for found in self._scripts(executed) if found.path not in known]
        view = executed.view
        assert view is not None
        if executed.loader is not None:
            path, own = executed.loader
            opened.loader = Found(path, "file", executed.fsuid + (not own), True) if path else None
            return
        # Linux before 6.1
        image = f"/proc/{view.tgid}/exe" if executed.state != "linked" else view.reach(executed.binary)
        name = self._read(executed, Found(executed.binary, look=image, state=executed.state), "loader", loader_of)
        if name is None:
            self._reader.recording.losses["paths"] += 1
        elif name:
            opened.loader = self._resolver.resolve(view, "/", name, passed=True)

    def _scripts(self, executed: Executed) -> list[Found]:
        """Return the script, and each of its interpreters that is one."""
        scripts: list[Found] = []
        name, base = executed.name, executed.cwd
        assert executed.view is not None
        while name and len(scripts) < SCRIPTS_MAX:
            found = self._resolver.resolve(executed.view, base, name, passed=True)
            if found.path != absolute(base, name) and self._reader.generation() != executed.generation:
                found = replace(found, sure=False)  # a link may have led elsewhere
            if found.path == executed.binary:
                break
            scripts.append(found)
            name = self._read(executed, found, "interpreter", partial(_interpreter, found))
        return scripts

    def _read(self, executed: Executed, found: Found, what: str, work: Callable[[str], str | None]) -> str | None:
        """Return what a function makes of a file's content; None if it cannot be read."""
        assert executed.view is not None
        with contextlib.suppress(OSError):
            return self._resolver.read(executed.view, found, what, work)
        return None

    def collect(self, recording: Recording, maps: Maps) -> None:
        """Write what is known so far into a recording."""
        calls = _spans(recording)
        for row in self._reader.execs(maps):
            by, program, count = row.by, row.program, row.count
            opened = self._opened.get(program)
            if opened is None:
                continue
            executed = opened.executed
            index = self._reader.index(program, recording)
            # The runtime that brings a program into a container is not part of the workload: the program stands for it.
            caller = index if by == BY_ENTERED else self._reader.index(by, recording)
            binary = (executed.binary, "file", executed.state, ("self" if executed.own else "other",))
            files = [*(_row(found, executed) for found in opened.scripts), binary]
            mapped = [binary] if opened.loader is None else [binary, _row(opened.loader, executed)]
            uses = [("execute", caller, files), ("map", index, mapped), ("read", index, mapped)]
            # The time of an execution is not kept. The first was about when the program made its first call, and the
            # last was not after its last call.
            first, last = calls.get(index, (None, None))
            last = first if count == 1 else last
            for access, user, rows in uses:
                for path, kind, state, owner in rows:
                    recording.file(
                        path, access, kind, "ok", user, state=state, owner=owner, count=count, first=first, last=last
                    )


def _interpreter(found: Found, _look: str) -> str | None:
    return interpreter_of(found)


def _row(found: Found, executed: Executed) -> tuple[str, str, str, tuple[str, ...]]:
    """Return path, kind, state and owner of a file that the kernel opened."""
    return found.path if found.sure else "", found.kind, "linked", owner_of(found.uid, executed.fsuid)


def _spans(recording: Recording) -> dict[int, tuple[float, float]]:
    """Return the first and last call of each program, in seconds from the start."""
    spans: dict[int, tuple[float, float]] = {}
    for (program, _, _), row in recording.rows.items():
        first, last = spans.get(program, (row.first, row.last))
        spans[program] = (min(first, row.first), max(last, row.last))
    return spans
