"""The directories that must be writable where the rest of the file system is not, each as a mount of its own.

A rename or a link from one mount to another fails with EXDEV (rename(2), link(2)), so two directories between which a
workload moves files are replaced by the directory that holds both. A policy has the files that a link was made of. Of a
rename it has the two names without saying which belongs to which: see :func:`_renames`.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from profiler.policy import patterns
from profiler.policy.model import FileRule

CHANGES = frozenset(
    {
        "write", "append", "create", "truncate", "make", "remove", "rename_from", "rename_to", "link", "mode", "owner",
        "times", "xattr", "bind",
    }
)  # fmt: skip
"""Accesses that a read-only file system refuses with EROFS."""
_ATTRIBUTES = frozenset({"mode", "owner", "times", "xattr"})
_OPENS = frozenset({"read", "write", "append", "lock", "lock_exclusive"})
SYSTEM = frozenset({"bin", "boot", "efi", "etc", "lib", "lib32", "lib64", "libx32", "sbin", "usr"})
"""Top directories that hold the system itself, or an image."""
_OTHERS = frozenset(
    {
        "/", "/dev", "/home", "/media", "/mnt", "/opt", "/proc", "/run", "/run/user", "/sys", "/var", "/var/cache",
        "/var/lib", "/var/log", "/var/opt", "/var/run", "/var/spool",
    }
)  # fmt: skip
"""Directories that a workload shares with others, so that they are not made writable for a move between two in them."""


def within(path: str, directories: Collection[str]) -> bool:
    """Return whether the path is one of the directories, or below one."""
    return any(path == top or path.startswith(top.rstrip("/") + "/") for top in directories)


def changes(rule: FileRule) -> bool:
    """Return whether a read-only file system refuses a use of the rule. Devices, pipes and sockets may be opened. A
    file without a name is in the directory that it was opened in (O_TMPFILE)."""
    files = set(rule.kinds) & {"file", "directory", "symlink", "unknown"}
    refused = CHANGES & set(rule.access)
    return rule.states != ("detached",) and bool(refused) and (bool(files) or not refused <= _OPENS)


def place_of(rule: FileRule) -> str | None:
    """Return the directory that must be writable, None when it is not known."""
    start = patterns.start_of(rule.pattern)
    if not start.startswith("/"):
        return None
    if rule.kinds == ("directory",) and set(rule.access) & CHANGES <= _ATTRIBUTES and start == rule.pattern:
        return posixpath.normpath(start)
    return posixpath.dirname(start)


@dataclass(frozen=True)
class Places:
    """``writable``: directories, none of them in another, sorted. ``apart``: pairs of directories between which files
    are moved and that no directory of the workload's own holds, so a move between them fails."""

    writable: tuple[str, ...]
    apart: tuple[tuple[str, str], ...] = ()


def gathered(rules: Sequence[FileRule], places: Collection[str], mounted: Collection[str] = ()) -> Places:
    """Return the places with those joined between which files are moved. ``mounted``: what is mounted in any case;
    nothing was moved across its border."""
    held = _outermost(places)
    while True:
        found = [pair for pair in _moves(rules, held) if not any(within(one, mounted) for one in pair)]
        parents = (posixpath.commonpath(pair) for pair in found)
        parent = next((one for one in parents if one not in _OTHERS and one.split("/")[1] not in SYSTEM), None)
        if parent is None:
            return Places(held, tuple(sorted(set(found))))
        held = _outermost({*held, parent})


def _outermost(places: Collection[str]) -> tuple[str, ...]:
    return tuple(place for place in sorted(places) if not within(posixpath.dirname(place), places))


def _moves(rules: Sequence[FileRule], held: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield (from, to) of each move between two mounts, as the directories of ``held`` that hold the names, or the
    directory of a name that none of them holds."""

    def holder(pattern: str) -> str | None:
        directory = posixpath.dirname(patterns.start_of(pattern))
        if not directory.startswith("/"):
            return None
        return next((place for place in held if within(directory, (place,))), directory)

    links = ((old, rule.pattern) for rule in rules if "link" in rule.access for old in rule.existing)
    for old, new in (*links, *_renames(rules, holder)):
        pair = holder(old), holder(new)
        if pair[0] is not None and pair[1] is not None and pair[0] != pair[1]:
            yield pair[0], pair[1]


def _renames(rules: Iterable[FileRule], holder: Callable[[str], str | None]) -> Iterator[tuple[str, str]]:
    """Yield the patterns of (old, new) names of which a rename between two mounts follows.

    A name that went away, where the same program gave no name in the same mount, went to another one; and the other way
    around. Where the program does both in both mounts, it is taken to write files and rename them in place, unless a
    file kept its name.
    """
    rows = [rule for rule in rules if {"rename_from", "rename_to"} & set(rule.access)]
    olds = [rule for rule in rows if "rename_from" in rule.access]
    news = [rule for rule in rows if "rename_to" in rule.access]

    def alone(rule: FileRule, others: Iterable[FileRule]) -> bool:
        return not any(holder(rule.pattern) == holder(each.pattern) for each in others if _may_share(rule, each))

    left = {id(old) for old in olds if alone(old, news)}
    came = {id(new) for new in news if alone(new, olds)}
    for old in olds:
        partners = [new for new in news if _may_share(old, new)]
        for new in partners:
            if id(old) in left:
                sure = id(new) in came or not any(id(each) in came for each in partners)
            elif id(new) in came:
                sure = not any(id(each) in left for each in olds if _may_share(each, new))
            else:
                sure = _name(old) == _name(new)
            if sure:
                yield old.pattern, new.pattern


def _may_share(a: FileRule, b: FileRule) -> bool:
    """Return whether one program may use both."""
    return not a.programs or not b.programs or not set(a.programs).isdisjoint(b.programs)


def _name(rule: FileRule) -> str:
    return rule.pattern.rpartition("/")[2]
