"""What the view knows, and what it shows of that: text only, which any terminal library can draw."""

from __future__ import annotations

import bisect
from collections.abc import Callable
from dataclasses import dataclass, field

from profiler.live.items import KINDS, Item
from profiler.live.news import News
from profiler.quoting.text import cut, elided, padded, width
from profiler.wording import counted, duration, grouped, size

ALL, OUTPUT = "all", "output"
PAGES = (ALL, *KINDS, OUTPUT)
"""What the main part of the screen can show."""

SORTS: dict[str, Callable[[Item], tuple[float | str, ...]]] = {
    "newest first": lambda item: (-item.first,),
    "oldest first": lambda item: (item.first,),
    "by name": lambda item: (item.text, item.kind),
    "by program": lambda item: (item.by, item.text),
}

_BLOCKS = " ▁▂▃▄▅▆▇█"
_TIME_COLUMNS, _KIND_COLUMNS, _BY_COLUMNS = 8, 11, 16
_WIDE = 60
"""The width of a row from which it has the program too."""


@dataclass
class State:
    """Everything that the view shows, but the output of the workload. ``title``: what is recorded."""

    title: str
    news: News = field(default_factory=News)
    page: str = ALL
    sort: str = "newest first"
    paused: bool = False
    asked: bool = False
    """Whether the end was asked for."""
    over: bool = False
    """Whether the recording has ended."""
    message: str = ""
    """The last line that the recorder printed."""
    items: dict[str, list[Item]] = field(default_factory=lambda: {kind: [] for kind in (ALL, *KINDS)})
    _times: list[float] = field(default_factory=list)
    _shown: int = 0
    """How many items there were when the view was paused."""

    def take(self, news: News) -> None:
        """Add a message of the recorder."""
        self.news = news
        for item in news.items:
            self.items[item.kind].append(item)
            self.items[ALL].append(item)
            bisect.insort(self._times, item.first)

    def pause(self) -> None:
        """Hold what is shown, or go on."""
        self.paused = not self.paused
        self._shown = len(self.items[ALL])

    def next_sort(self) -> None:
        """Choose the next order."""
        names = list(SORTS)
        self.sort = names[(names.index(self.sort) + 1) % len(names)]

    def rows(self) -> list[Item]:
        """Return the items of the page in the chosen order."""
        return sorted(self.items.get(self.page, ()), key=SORTS[self.sort])

    # -- text --------------------------------------------------------------------------------------------------------

    def head(self, columns: int) -> str:
        """Return the first line: what is recorded, and how it stands."""
        news = self.news
        held = len(self.items[ALL]) - self._shown
        status = (
            "ended, q leaves"
            if self.over
            else "ending"
            if self.asked
            else f"paused, {held} new"
            if self.paused
            else "recording"
            if self.items[ALL] or news.seconds
            else "starting"
        )
        tail = f"{status} {clock(news.seconds)}"
        return f"{padded(self.title, max(0, columns - len(tail) - 1))} {tail}"

    def curve(self, columns: int, rows: int) -> list[str]:
        """Return the number of items over time, as a graph of so many rows."""
        seconds, total = max(self.news.seconds, 0.001), len(self._times)
        heights = [
            8 * rows * bisect.bisect_right(self._times, seconds * (column + 1) / columns) / max(total, 1)
            for column in range(columns)
        ]
        return ["".join(_block(height - 8 * (rows - 1 - row)) for height in heights) for row in range(rows)]

    def saturation(self, columns: int) -> str:
        """Return the line that says how much is still to be expected."""
        news = self.news
        quiet = max(0.0, news.seconds - news.last_new)
        text = f"{counted(len(self.items[ALL]), 'item')}, the last new {duration(round(quiet))} ago"
        found = [f"{KINDS[kind]} {chance:.2%}" for kind, chance in news.chances.items()]
        more = f"; the next use is new: {', '.join(found)}" if found else ""
        return cut(text + more if len(text + more) <= columns else text, columns)

    def side(self, columns: int, output: int | None) -> list[tuple[str, str]]:
        """Return the lines at the side, each with the page that it stands for, or "". ``output``: bytes of
        it, None if the view does not get it."""
        news = self.news
        figures = {page: grouped(len(items)) for page, items in self.items.items()} | {
            OUTPUT: "-" if output is None else size(output)
        }
        rows = [(f"{number} {KINDS.get(page, page)}", figures[page], page) for number, page in enumerate(PAGES, 1)]
        rows += [("", "", ""), *((f"lost {name}", grouped(count), "") for name, count in sorted(news.losses.items()))]
        if not news.losses:
            rows.append(("losses", "none", ""))
        rows.append(("memory", size(news.memory), ""))
        if news.fullest is not None:
            rows.append(("kernel stores", f"{news.fullest}%", ""))
        if news.running + news.ended > 1:
            rows += [("running", grouped(news.running), ""), ("ended", grouped(news.ended), "")]
        return [(f"{padded(name, columns - len(figure) - 1)} {figure}", page) for name, figure, page in rows]

    def row(self, item: Item, columns: int) -> str:
        """Return an item as a line."""
        many, wide = self.news.running + self.news.ended > 1, columns >= _WIDE
        kind = padded(item.kind, _KIND_COLUMNS) if self.page == ALL else ""
        text = f"{item.subject}: {item.text}" if many and not wide else item.text
        by = f"{item.subject}: {item.by}".removesuffix(": ") if many else item.by
        by = f" {padded(by, _BY_COLUMNS)}" if wide else ""
        when = f"{clock(item.first):>{_TIME_COLUMNS - 1}} "
        room = max(0, columns - len(when) - _columns(kind + by))
        return f"{when}{kind}{padded(elided(text, room), room)}{by}"


def clock(seconds: float) -> str:
    """Return a time as ``0:12.3``, ``12:34`` or ``1:02:03``."""
    minutes, rest = divmod(max(0.0, seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60:.0f}:{minutes % 60:02.0f}:{int(rest):02}"
    return f"{minutes:.0f}:{int(rest):02}" if minutes >= 10 else f"{minutes:.0f}:{int(rest * 10) / 10:04.1f}"


def _columns(text: str) -> int:
    return sum(map(width, text))


def _block(height: float) -> str:
    return _BLOCKS[max(0, min(8, round(height)))]
