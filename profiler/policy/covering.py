"""Which path patterns hold all paths of another (profiler/policy/patterns.py says how they are written).

The answer is sound and not complete: a yes is right; a no may be wrong for patterns that no pass writes. A comparison
then shows a change where there is none, never the other way round.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from profiler.policy.patterns import CLASSES, Class, Literal, Place, is_literal, matches, parse, path_of

_INSIDE = {
    "pid": frozenset({"pid", "tid"}),
    "tid": frozenset({"pid", "tid"}),
    "digits": frozenset({"digits", "pid", "tid"}),
    "version": frozenset({"version"}),
    "uuid": frozenset({"uuid"}),
    "hex": frozenset({"hex"}),
    "random": frozenset({"random"}),
    "date": frozenset({"date"}),
    "home": frozenset({"home"}),
}
"""Classes whose texts are all texts of another: by the definitions in CLASSES."""

_HOLDS_SLASH = frozenset({"tree", "home"})

Symbol = str | Class | Place
"""One character, one class or one variable."""


@lru_cache(maxsize=1 << 12)
def _symbols(pattern: str) -> tuple[Symbol, ...]:
    found: list[Symbol] = []
    for token in parse(pattern):
        if isinstance(token, Literal):
            found.extend(token.text)
        else:
            found.append(token)
    return tuple(found)


@lru_cache(maxsize=64)
def _regex(name: str) -> re.Pattern[str]:
    return re.compile(CLASSES[name].regex)


def _ends(name: str, inner: Sequence[Symbol], at: int) -> Iterable[int]:
    """Where a class of the outer pattern may end in the inner one when it starts at ``at``."""
    if name == "tree":
        yield from range(at + 1, len(inner) + 1)
        return
    if name == "name":
        end = at
        while (
            end < len(inner)
            and inner[end] != "/"
            and not (isinstance(one := inner[end], Class) and one.name in _HOLDS_SLASH)
        ):
            end += 1
            yield end
        return
    if at < len(inner) and isinstance(first := inner[at], Class):
        if first.name in _INSIDE.get(name, frozenset()):
            yield at + 1
        return
    end = at
    while end < len(inner) and isinstance(inner[end], str):
        end += 1
    text = "".join(str(symbol) for symbol in inner[at:end])
    if name == "home" and end < len(inner) and text == "/home/" and inner[end] == Class("name"):
        yield end + 1
    for stop in range(at + 1, end + 1):
        if _regex(name).fullmatch(text[: stop - at]):
            yield stop


@lru_cache(maxsize=1 << 15)
def covers(outer: str, inner: str) -> bool:
    """Whether every path that fits ``inner`` fits ``outer``. Raises InputError for text that is no pattern."""
    if outer == inner:
        return True
    if is_literal(outer):
        return False
    path = path_of(inner)
    if path is not None:
        return matches(outer, path)
    left, right = _symbols(outer), _symbols(inner)
    # Positions of the inner pattern that can be reached, symbol by symbol of the outer one.
    reached = {0}
    for symbol in left:
        if not isinstance(symbol, Class):
            reached = {at + 1 for at in reached if at < len(right) and right[at] == symbol}
        else:
            reached = {end for at in reached for end in _ends(symbol.name, right, at)}
        if not reached:
            return False
    return len(right) in reached


def covered_by_any(outers: Iterable[str], inner: str) -> bool:
    """Whether one of the patterns covers it."""
    return any(covers(outer, inner) for outer in outers)
