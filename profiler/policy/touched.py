"""What was done with each path of a trace, and the rules that follow.

Even here a process id in a path below /proc becomes ``{pid}``, with its thread and descriptor numbers, and so do the
number of a pseudo-terminal and the inode number in the name of a file that was made without a name: they mean nothing
in another run.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from profiler.errors import InputError
from profiler.policy.model import FileRule, strongest
from profiler.policy.patterns import literal
from profiler.policy.reasons import said
from profiler.quoting.text import printable
from profiler.trace.model import FILE_ACCESSES, FILE_KINDS, FILE_STATES, WHOM, File, Trace

MISSING = frozenset({"ENOENT", "ENOTDIR"})

PAST_CHECK = frozenset(
    {"EAGAIN", "EBUSY", "EDQUOT", "EINTR", "EIO", "ENODEV", "ENOEXEC", "ENOSPC", "ENOTEMPTY", "ENXIO"}
)
"""Errors that come after the kernel asked whether the use is allowed (fs/open.c:do_dentry_open calls the driver after
security_file_open; fs/namei.c:do_rmdir asks before it looks for entries): the use has to be allowed for the same
answer."""

MAKING = frozenset({"create", "make", "link", "rename_to", "bind"})
"""Accesses that make a name."""
LEAVING = frozenset({"remove", "rename_from"})
"""Accesses after which a name is gone."""


@dataclass
class Touched:
    """All uses of one path. ``base``: its pattern with no more than process ids and the like in it.

    ``granted``: accesses that were allowed; ``failed``: access and errno name of the others. ``own``: every allowed use
    was of a file of the user's own. ``made``: by the workload, as far as can be told (an open that may create makes a
    file of one's own). ``runs``: in how many of the merged recordings the path was used. ``kinds``, ``programs``,
    ``states``, ``whose`` and ``existing`` are those of the allowed uses.
    """

    path: str
    base: str
    granted: set[str] = field(default_factory=set)
    failed: set[tuple[str, str]] = field(default_factory=set)
    kinds: set[str] = field(default_factory=set)
    own: bool = True
    made: bool = False
    programs: set[str] = field(default_factory=set)
    runs: int = 0
    states: set[str] = field(default_factory=set)
    whose: set[str | None] = field(default_factory=set)
    existing: set[str] = field(default_factory=set)

    @property
    def outcome(self) -> str:
        """One of OUTCOMES."""
        if self.granted:
            return "needed"
        found = ["missing" if errno in MISSING else "refused" for _, errno in self.failed]
        return strongest(found) if found else "checked"

    @property
    def gone(self) -> bool:
        """Whether it had been taken away when the recording ended, or never had a name."""
        return not LEAVING.isdisjoint(self.granted) or "deleted" in self.states


def _normal(row: File) -> str:
    """The path without what the kernel never puts into one."""
    if row.path.startswith("/"):
        return "/" + posixpath.normpath(row.path).lstrip("/")
    if row.state == "linked":
        raise InputError(f"the trace has a path that is not absolute: {printable(row.path)[:200]!r}")
    return row.path


_PTS = re.compile(r"(?P<before>/dev/pts/)[0-9]+\Z")
_NAMELESS = re.compile(r"(?P<before>.*/#)[0-9]+\Z", re.DOTALL)
_TAKES_NUMBER = {"task": "{tid}", "fd": "{digits}", "fdinfo": "{digits}"}


def _of_process(path: str, whose: str | None) -> str | None:
    """The pattern of a path below /proc/PID, wherever /proc is mounted; None for any other.

    A sandbox has the /proc of the outside, or mounts its own, below another directory.
    """
    if whose is None and "/proc/" not in path:
        return None
    parts = path.split("/")
    start = next((index for index, part in enumerate(parts) if part.isascii() and part.isdigit()), None)
    if start is None or (whose is None and parts[start - 1] != "proc"):
        return None
    made = [literal(part) for part in parts]
    made[start] = "{pid}"
    for index in range(start + 2, len(parts)):
        if parts[index].isascii() and parts[index].isdigit() and index in (start + 2, start + 4):
            made[index] = _TAKES_NUMBER.get(parts[index - 1], made[index])
        elif index == start + 2 and parts[index - 1] == "map_files":
            made[index] = "{name}"
    return "/".join(made)


def base_pattern(path: str, state: str = "linked", whose: str | None = None) -> str:
    """The pattern of a path with no more than numbers of processes, threads, descriptors, terminals and inodes
    generalised."""
    of_process = _of_process(path, whose)
    if of_process is not None:
        return of_process
    found = _PTS.match(path) or (_NAMELESS.match(path) if state == "deleted" else None)
    return literal(found["before"]) + "{digits}" if found else literal(path)


def happened(row: File) -> bool:
    """Return whether the kernel allowed a use: it succeeded, or failed for another reason afterwards."""
    if row.access == "look":
        return False
    past = PAST_CHECK | {"EISDIR"} if row.access == "remove" else PAST_CHECK
    return bool(row.results.get("ok")) or any(number and errno in past for errno, number in row.results.items())


def touched(trace: Trace) -> dict[str, Touched]:
    """Every path of a trace, sorted. Raises InputError for one that no file can have."""
    found: dict[str, Touched] = {}
    for row in trace.files:
        path = _normal(row)
        item = found.get(path)
        if item is None:
            item = found[path] = Touched(path, base_pattern(path, row.state, row.whose))
        allowed = happened(row)
        # A path that only denials have counts as one of every recording: nothing shows that its name changes.
        item.runs = max(item.runs, row.runs or trace.meta.runs)
        if allowed:
            item.granted.add(row.access)
            item.kinds.add(row.kind)
            item.states.add(row.state)
            item.whose.add(row.whose)
            item.programs |= {trace.programs[index].path for index in row.programs if 0 <= index < len(trace.programs)}
            own = row.owner == frozenset({"self"})
            item.own = item.own and own
            item.made = item.made or (row.access in MAKING and (own or row.access != "create"))
        item.failed |= {
            (row.access, errno) for errno, number in row.results.items() if errno != "ok" and number and not allowed
        }
        if row.existing is not None and row.access == "link" and allowed:
            item.existing.add(row.existing)
    return {path: found[path] for path in sorted(found)}


def _ordered(words: Iterable[str], order: Sequence[str]) -> tuple[str, ...]:
    known = {word: index for index, word in enumerate(order)}
    return tuple(sorted(set(words), key=lambda word: (known.get(word, len(order)), word)))


def _whose(words: set[str | None]) -> tuple[str, ...]:
    """Return whose processes a rule is about; empty, for any, where that is not known of one use."""
    return () if None in words else tuple(word for word in WHOM if word in words)


def rules(
    paths: Mapping[str, Touched], patterns: Mapping[str, str], why: Mapping[str, str] | None = None
) -> tuple[FileRule, ...]:
    """Return one rule for each pattern with a path that is needed, sorted. ``patterns``: path to pattern; ``why``:
    pattern to what the pass that generalised it says."""
    groups: dict[str, list[Touched]] = {}
    for path, row in paths.items():
        if row.outcome == "needed":
            groups.setdefault(patterns[path], []).append(row)

    def pattern_of(path: str, state: str = "linked") -> str:
        return patterns.get(path) or base_pattern(path, state)

    reasons = why or {}
    return tuple(
        FileRule(
            pattern=pattern,
            access=_ordered({word for row in rows for word in row.granted}, FILE_ACCESSES),
            kinds=_ordered({kind for row in rows for kind in row.kinds} - {"unknown"} or {"unknown"}, FILE_KINDS),
            because=(said("generalised", reasons[pattern]),) if pattern in reasons else (),
            owner=all(row.own for row in rows),
            programs=tuple(sorted({pattern_of(path) for row in rows for path in row.programs})),
            existing=tuple(sorted({pattern_of(path, "deleted") for row in rows for path in row.existing})),
            states=_ordered({state for row in rows for state in row.states}, FILE_STATES),
            whose=_whose({word for row in rows for word in row.whose}),
        )
        for pattern, rows in sorted(groups.items())
    )
