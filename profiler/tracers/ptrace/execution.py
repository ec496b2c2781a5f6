"""What the kernel opens when a stopped thread executes a program."""

from __future__ import annotations

import contextlib
from functools import partial

from profiler.kernel.files import FileUse, file_uses
from profiler.tracers.paths import Found
from profiler.tracers.programs import SCRIPTS_MAX, interpreter_of, loader_of
from profiler.tracers.ptrace.rows import Enter, Exit, Leave, Rows
from profiler.tracers.ptrace.threads import Arguments


class Executions:
    """Adds the files of an execution to a recording: scripts, the binary, and the loader that is mapped with it."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._threads = rows.threads

    def watches(self, name: str, _abi: str) -> Enter | None:
        """See Evidence.watches."""
        use = file_uses().get(name, (None,))[0]
        return None if use is None or use.access != "execute" else partial(self._enter, use)

    def _enter(self, use: FileUse, tid: int, args: Arguments) -> Leave | None:
        found = self._threads.file(tid, use, args)
        if found is None:
            return None
        scripts = self._scripts(tid, found)
        credentials = self._threads.credentials(tid)
        fsuid = -1 if credentials is None else credentials.uids[3]

        def leave(exit: Exit) -> None:
            if exit.code:
                if exit.reached:
                    self._rows.file(exit, "execute", found)
                return
            binary = self._threads.paths.descriptor(self._threads.view(exit.tid), f"/proc/{exit.tid}/exe")
            if binary is None:
                return
            loader = self._loader(exit.tid, binary)
            before = [each for each in scripts if each.path != binary.path]
            if not before and found.path != binary.path:
                before = [found]  # run by another way than #! (binfmt_misc)
            for each in (*before, binary):
                self._rows.file(exit, "execute", each, fsuid=fsuid)
            for mapped in (binary, *(() if loader is None else (loader,))):
                self._rows.file(exit, "map", mapped, program=exit.now)
                self._rows.file(exit, "read", mapped, program=exit.now)

        return leave

    def _scripts(self, tid: int, found: Found) -> list[Found]:
        """Return ``found`` if it is a script, and each of its interpreters that is one."""
        scripts: list[Found] = []
        each: Found | None = found
        while each is not None and len(scripts) < SCRIPTS_MAX and (name := self._interpreter(tid, each)) is not None:
            scripts.append(each)
            each = self._threads.find(tid, None, name) if name else None
        return scripts

    def _interpreter(self, tid: int, found: Found) -> str | None:
        with contextlib.suppress(OSError):
            return self._threads.read(tid, found, "interpreter", lambda _look: interpreter_of(found))
        return None

    def _loader(self, tid: int, binary: Found) -> Found | None:
        """Return the ELF interpreter of the program that the thread runs; None for a static program."""
        name = None
        with contextlib.suppress(OSError):
            name = self._threads.read(tid, binary, "loader", loader_of)
        if name is None:
            self._threads.unread(tid)
        return self._threads.find(tid, None, name) if name else None
