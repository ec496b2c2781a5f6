"""The messages from the recorder to the view: a line of JSON each, with what is new and the figures of now."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import asdict, dataclass, field

from profiler.live.items import Item
from profiler.review.coverage import Kind


@dataclass(frozen=True)
class News:
    """What the recorder tells.

    ``items``: seen since the message before. ``seconds``: since the start. ``last_new``: when the last item was new.
    ``running`` and ``ended``: subjects. ``losses``: by class. ``memory``: profgen's, in bytes. ``fullest``: the share
    of the fullest store in the kernel, in percent; None for a tracer without stores. ``chances``: for some kinds of
    items, the probability that the next use is of something new (review/coverage.py).
    """

    items: tuple[Item, ...] = ()
    seconds: float = 0.0
    last_new: float = 0.0
    running: int = 0
    ended: int = 0
    losses: Mapping[str, int] = field(default_factory=dict)
    memory: int = 0
    fullest: int | None = None
    chances: Mapping[str, float] = field(default_factory=dict)


def dumps(news: News) -> bytes:
    """Return a message as a line."""
    return json.dumps(asdict(news)).encode("ascii") + b"\n"


def loads(line: bytes) -> News:
    """Return the message of a line."""
    read = json.loads(line)
    return News(**{**read, "items": tuple(Item(**row) for row in read["items"])})


def chances(uses: Iterable[tuple[str, Hashable, int]]) -> dict[str, float]:
    """Return News.chances from rows of kind, item and number of uses."""
    found: defaultdict[str, Counter[Hashable]] = defaultdict(Counter)
    for kind, key, number in uses:
        found[kind][key] += number
    kinds = [Kind(kind, len(row), row.total(), list(row.values()).count(1), 0, 0) for kind, row in found.items()]
    return {kind.name: chance for kind in kinds if (chance := kind.next_use()) is not None}
