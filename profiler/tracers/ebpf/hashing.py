"""Hashes of programs that run under another root or mount namespace than profgen's, taken when they are first executed.

The file is opened at once, through its process or its container's root, and read by a separate thread, so that
recording does not wait for a disk. Nothing here makes a recording fail: a file that cannot be opened, is too large or
comes when too many wait has no hash.
"""

from __future__ import annotations

import os
import queue
import stat
import threading
import time
from collections import OrderedDict

from profiler.tracers.ebpf.executed import Executed
from profiler.tracers.host import HASH_LIMIT_BYTES, hashes_of
from profiler.tracers.paths import open_inside

PENDING_MAX = 128
"""Files that wait to be read, each with an open descriptor."""
_KNOWN_MAX = 4096

Hash = tuple[str | None, str | None]
"""sha256 and build-id, as in trace.model.Program."""
_NONE: Hash = (None, None)
_Program = tuple[str, str | None]
"""Path and interpreter."""


class Hashes:
    """Hashes the programs of all sessions."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[int, int, _Program] | None] = queue.SimpleQueue()
        self._found: dict[int, dict[_Program, Hash]] = {}
        self._known: OrderedDict[tuple[int, int, int, int], Hash] = OrderedDict()
        """By device, inode, size and time of change."""
        self._changed = threading.Condition()
        self._pending = 0
        self._thread: threading.Thread | None = None

    def want(self, session: int, executed: Executed) -> None:
        """Hash this program; its event has just been read."""
        with self._changed:
            if self._pending >= PENDING_MAX:
                return
        descriptor = _opened(executed)
        if descriptor is None:
            return
        with self._changed:
            self._pending += 1
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="hashes", daemon=True)
            self._thread.start()
        self._queue.put((descriptor, session, (executed.path, executed.interpreter)))

    def of(self, session: int) -> dict[_Program, Hash]:
        """Return what is known of a session's programs."""
        with self._changed:
            return dict(self._found.get(session, {}))

    def settle(self, seconds: float) -> None:
        """Wait until nothing is pending, but no longer than this."""
        until = time.monotonic() + seconds
        with self._changed:
            while self._pending and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)

    def forget(self, session: int) -> None:
        """Drop what is known of a session."""
        with self._changed:
            self._found.pop(session, None)

    def close(self) -> None:
        """Let the thread end, without waiting for it: a file system may never answer."""
        if self._thread is not None:
            self._queue.put(None)

    def _work(self) -> None:
        while (one := self._queue.get()) is not None:
            descriptor, session, program = one
            try:
                found = self._read(descriptor)
            except (OSError, ValueError):
                found = _NONE
            with self._changed:
                row = self._found.setdefault(session, {})
                # Two files had this path: neither hash is true of both.
                row[program] = found if row.get(program, found) == found else _NONE
                self._pending -= 1
                self._changed.notify_all()

    def _read(self, descriptor: int) -> Hash:
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            found = self._known.get(identity)
            if found is None:
                found = self._known[identity] = hashes_of(file)
                if len(self._known) > _KNOWN_MAX:
                    self._known.popitem(last=False)
        return found


def _opened(executed: Executed) -> int | None:
    """Open the program's file for reading. None when it cannot be opened, is not a regular file or is too large.

    A binary is opened through its process, as long as that runs it. Scripts, and binaries of other processes, are
    opened by their path in the root of the process, or of the container when the process has ended; links do not lead
    out of that root.
    """
    view = executed.view
    if view is None or executed.state != "linked" or not executed.path.startswith("/"):
        return None
    place = -1
    try:
        if executed.interpreter is None:
            link = f"/proc/{view.tgid}/exe"
            place = _held(link, executed.binary)
        if place < 0:
            place = open_inside(view.root, executed.path)
        if place < 0:
            return None
        status = os.fstat(place)
        if not stat.S_ISREG(status.st_mode) or status.st_size > HASH_LIMIT_BYTES:
            return None
        return os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    finally:
        if place >= 0:
            os.close(place)


def _held(link: str, path: str) -> int:
    """Open what a link of procfs leads to (O_PATH), if it still has this path. Returns a descriptor, or -1."""
    try:
        place = os.open(link, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return -1
    try:
        if os.readlink(f"/proc/self/fd/{place}") == path:
            return place
    except OSError:
        pass
    os.close(place)
    return -1
