"""The recorder's end: a thread that looks at the recording four times a second, and tells the view what is new."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from profiler.live.items import Item, identity, item, kind_of
from profiler.live.news import News, chances, dumps
from profiler.tracers.pace import Pace
from profiler.watch.metrics import Figures, SessionFigures

SECONDS = 0.25
"""The time between two looks."""

_CHANCES_SECONDS = 1.0
_CHANCES_SHARE = 100
"""The time between two estimates of what is left, and how much longer than the estimate it is: that goes through all
uses."""

END = b"q"
"""What the view sends to end the recording."""


class Feed:
    """Sends news through a connection to the view.

    ``stop`` is set when the user wants the recording to end. Nothing that happens to the view disturbs the recording:
    its thread alone waits for a view that is slow, and ends when the view is gone.
    """

    seconds = SECONDS

    def __init__(self, connection: socket.socket) -> None:
        self.stop = threading.Event()
        self._connection = connection
        self._known: defaultdict[str, set[tuple[Any, ...]]] = defaultdict(set)
        """Of each subject, the items that were told."""
        self._extents: dict[str, tuple[int, ...]] = {}
        """Of each subject, Recording.extent at the last look."""
        self._began: float | None = None
        self._chances: dict[str, float] = {}
        self._chances_at = 0.0

    @contextlib.contextmanager
    def showing(self, figures: Callable[[], Figures]) -> Iterator[None]:
        """Tell what is new while the block runs, and once more after it."""
        over = threading.Event()
        thread = threading.Thread(target=self._run, args=(figures, over), name="live view", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(SECONDS * 4)  # it waits for ever for a terminal that was stopped

    def _run(self, figures: Callable[[], Figures], over: threading.Event) -> None:
        with contextlib.suppress(OSError):  # the view is gone
            last, pace = False, Pace(SECONDS)
            while not last:
                last = over.wait(0)
                with pace.turn():
                    message = dumps(self.news(figures()))
                self._connection.sendall(message)
                pause = max(0.0, pace.next - time.monotonic())
                if not last and select.select([self._connection], [], [], pause)[0]:
                    told = self._connection.recv(16)
                    if END in told:
                        self.stop.set()
                    if not told:
                        return

    def news(self, figures: Figures) -> News:
        """Return what is new since the last call."""
        items: list[Item] = []
        for row in figures.sessions:
            with contextlib.suppress(RuntimeError):  # a table changed while it was copied: the next look sees it
                items += self._items(row)
        now = time.monotonic()
        if now >= self._chances_at:
            with contextlib.suppress(RuntimeError):
                self._chances = chances(
                    (kind_of(seen), identity(seen), seen.uses)
                    for row in figures.sessions
                    for seen in row.recording.seen()
                    if seen.kind != "program"
                )
            self._chances_at = now + max(_CHANCES_SECONDS, _CHANCES_SHARE * (time.monotonic() - now))
        room = [100 * used // size for used, size in figures.stores.values() if size]
        began = now if self._began is None else self._began
        return News(
            items=tuple(items),
            seconds=round(now - began, 1),
            last_new=max((round(row.recording.began + row.last_new - began, 1) for row in figures.sessions), default=0),
            running=len(figures.sessions),
            ended=figures.ended,
            losses={name: count for name, count in figures.losses.items() if count},
            memory=figures.memory,
            fullest=max(room, default=None),
            chances=self._chances,
        )

    def _items(self, row: SessionFigures) -> Iterator[Item]:
        known, recording = self._known[row.identity], row.recording
        if self._extents.get(row.identity) == (extent := recording.extent):
            return
        for seen in recording.seen():
            key = identity(seen)
            if key in known:
                continue
            known.add(key)
            if self._began is None:
                self._began = recording.began
            yield item(recording, seen, max(0.0, recording.began - self._began + seen.first), row.name)
        self._extents[row.identity] = extent
