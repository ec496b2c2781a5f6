"""What path patterns expose."""

from __future__ import annotations

import re
from collections.abc import Iterable

from profiler.kernel.risks import PathRisk, Risk, path_risks
from profiler.policy.patterns import is_literal, matches, start_of

_HOME = re.compile(r"(?:/root|/home/(?!\{tree\})[^/]+)(?=/|\Z)")


def _may_meet(row: PathRisk, start: str) -> bool:
    """Return whether a path that begins with ``start`` may be one that the row is about. Most rows are out at once."""
    path = row.path.rstrip("/")
    return path.startswith(("{home}", start)) or start.startswith(path)


def _meets(row: PathRisk, pattern: str) -> bool:
    """Return whether some path of the pattern may be one that the row is about."""
    path = row.path
    if path == "/" and not row.exactly:
        return True  # also files without a path, such as a memfd
    if path.startswith("{home}"):
        home = _HOME.match(pattern)
        if home or pattern.startswith("{home}"):
            return _meets_below(row, path.removeprefix("{home}"), pattern[home.end() if home else len("{home}") :])
        # A class starts before the home directory's name ends: only a pattern that continues below can lead there.
        start = start_of(pattern)
        return "{tree}" in pattern and ("/root".startswith(start) or "/home/".startswith(start))
    if pattern.startswith("{home}"):
        return any(_meets_below(row, path, home + pattern.removeprefix("{home}")) for home in ("/root", "/home/{name}"))
    return _meets_below(row, path, pattern)


def _meets_below(row: PathRisk, path: str, pattern: str) -> bool:
    """Do the same name by name: the pattern must match the row's path, or a name below it."""
    names, parts = path.rstrip("/").split("/"), pattern.rstrip("/").split("/")
    for index, name in enumerate(names):
        if index >= len(parts):
            return False
        part = parts[index]
        last = row.prefix and index == len(names) - 1
        if "{tree}" in part:
            return name.startswith(start_of(part)) or (last and start_of(part).startswith(name))
        if not (
            matches(part, name)
            or (
                last and (start_of(part).startswith(name) or (not is_literal(part) and name.startswith(start_of(part))))
            )
        ):
            return False
    return not row.exactly or len(names) == len(parts)


def risks_of(pattern: str, accesses: Iterable[str], states: Iterable[str]) -> list[Risk]:
    """Return the risks of using the paths of a pattern in these ways."""
    words, found = frozenset(accesses), []
    start = start_of(pattern)
    for row in path_risks():
        if (
            _may_meet(row, start)
            and (row.accesses is None or words & row.accesses)
            and (not row.states or row.states & frozenset(states))
            and _meets(row, pattern)
        ):
            found.append(row.risk)
    return found
