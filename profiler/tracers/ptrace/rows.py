"""What the readers of a stopped thread's calls share: their types, and how the use of a file becomes a row."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from profiler.kernel.errno import result_of
from profiler.kernel.files import NO_USE
from profiler.tracers.paths import Found, owner_of, process_in
from profiler.tracers.ptrace.threads import Arguments, Threads
from profiler.tracers.recording import Recording

_REMEMBERED = 1 << 16


class Exit(NamedTuple):
    """A call that has ended: ``result``, or the errno ``code``, which is 0 for a call that succeeded.

    ``program`` made the call, ``now`` is the program that the thread runs after it.
    """

    tid: int
    result: int
    code: int
    program: int
    now: int

    @property
    def outcome(self) -> str:
        """``ok`` or the name of the errno."""
        return result_of(self.code)

    @property
    def reached(self) -> bool:
        """Whether the call reached what it was made for, so that it leaves a row."""
        return not self.code or self.outcome not in NO_USE


Leave = Callable[[Exit], None]
"""What to do when a call has ended."""
Enter = Callable[[int, Arguments], "Leave | None"]
"""What to do before a call, with its thread and arguments. Gives None when the call's result does not matter."""


class Rows:
    """Adds file rows to a recording, and remembers what needs no second row."""

    def __init__(self, recording: Recording, threads: Threads) -> None:
        self.recording = recording
        self.threads = threads
        self._seen: set[tuple[object, ...]] = set()

    def seen(self, key: tuple[object, ...]) -> bool:
        """Whether a use that programs repeat was noted by :meth:`once`."""
        return key in self._seen

    def once(self, key: tuple[object, ...]) -> None:
        """Note that a use succeeded: once is enough."""
        if len(self._seen) >= _REMEMBERED:
            self._seen.clear()
        self._seen.add(key)

    def lost(self) -> None:
        """Count a path that could not be known."""
        self.recording.losses["paths"] += 1

    def words(self, tid: int, address: int, loss: str = "paths") -> Arguments | None:
        """Read six arguments that a 32-bit call has in memory, None when they cannot be read."""
        data = self.threads.memory(tid, address, 24, loss)
        if data is None:
            return None
        return tuple(int.from_bytes(data[at : at + 4], "little") for at in range(0, 24, 4))

    def file(
        self,
        exit: Exit,
        access: str,
        found: Found,
        *,
        program: int | None = None,
        existing: str | None = None,
        kind: str = "",
        own: bool = False,
        fsuid: int | None = None,
    ) -> None:
        """Add the use of a file by a call that has ended.

        ``program``: by another than the call's own. ``kind``: what the file is now, if ``found`` was another before.
        ``own``: the thread has made it. ``fsuid``: what the thread's was at the call, when it may have changed.
        """
        path = found.path
        if not path.startswith(("/", "memfd:")) and found.sure:
            return  # a pipe, a socket, an anonymous inode
        owner: tuple[str, ...] = ("self",)
        if not own:
            credentials = self.threads.credentials(exit.tid) if found.uid is not None and fsuid is None else None
            owner = owner_of(found.uid, fsuid if credentials is None else credentials.uids[3])
        process = process_in(path)
        self.recording.file(
            path if found.sure else "",
            access,
            kind or found.kind,
            exit.outcome,
            exit.program if program is None else program,
            state=found.state,
            owner=owner,
            existing=existing,
            whose=None if process is None else self.threads.whose(exit.tid, process),
        )
