"""What a stopped thread's calls do to the mount tree."""

from __future__ import annotations

from functools import partial

from profiler.kernel.mounts import MountCall, mount_calls, mount_use
from profiler.tracers.ptrace.rows import Enter, Exit, Leave, Rows
from profiler.tracers.ptrace.threads import U32, Arguments


class Mounts:
    """Adds mounts to a recording."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._threads = rows.threads

    def watches(self, name: str, _abi: str) -> Enter | None:
        """See Evidence.watches."""
        call = mount_calls().get(name)
        return None if call is None else partial(self._enter, name, call)

    def _enter(self, name: str, call: MountCall, tid: int, args: Arguments) -> Leave | None:
        use = mount_use(name, 0 if call.flags is None else args[call.flags] & U32)
        if use is None:
            return None
        threads = self._threads
        source = filesystem = target = None
        if call.source is not None and use.source_is_path:
            source = self._place(tid, call.source_at, args[call.source], args, use.follows_source)
        elif call.source is not None and use.has_source:
            source = threads.text(tid, args[call.source])
        if call.target is not None:
            target = self._place(tid, call.target_at, args[call.target], args, use.follows_target)
        if call.filesystem is not None and use.has_filesystem:
            filesystem = threads.text(tid, args[call.filesystem])

        def leave(exit: Exit) -> None:
            if exit.reached:
                self._rows.recording.mount(
                    use.operation, source, target, filesystem, use.flags, exit.outcome, exit.program
                )

        return leave

    def _place(self, tid: int, at: int | None, address: int, args: Arguments, follow: bool) -> str | None:
        text = self._threads.text(tid, address)
        if text:
            found = self._threads.find(tid, None if at is None else args[at], text, follow=follow)
        else:
            found = None if text is None or at is None else self._threads.descriptor(tid, args[at])
        if found is None:
            return None
        if not found.sure:
            self._rows.lost()
        return found.path
