"""Smack rules and labels of files as data, made from a policy.

Processes have one label, and everything that they make gets it too. Files that the distribution has keep the floor
label ``_``, which all may read and execute; those that the workload does more with get a label for exactly that.

Source: security/smack/smack_lsm.c, Linux 6.1.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from profiler.policy import patterns
from profiler.policy.model import FileRule, Policy
from profiler.policy.writable import within
from profiler.quoting.smack import access
from profiler.targets.base import Loss

UNLABELLED = ("/dev", "/proc", "/sys", "/run", "/tmp", "/var/tmp")
"""Trees in memory, or that everybody uses: they have the label ``*``, which all may read and write, or that of the
process."""

_READ, _EXECUTE, _WRITE, _APPEND, _LOCK = "r", "rx", "rw", "rwa", "rl"
_LETTERS = {
    "read": _READ, "list": _READ, "execute": _EXECUTE, "map": _EXECUTE, "write": _WRITE, "truncate": _WRITE,
    "append": _APPEND, "lock": _LOCK, "lock_exclusive": _LOCK, "mode": _WRITE, "owner": _WRITE, "times": _WRITE,
    "xattr": _WRITE, "connect": _WRITE, "remove": _WRITE, "rename_from": _WRITE, "rename_to": _WRITE, "link": _WRITE,
}  # fmt: skip
"""Accesses to the letters that Smack asks for on the file. Every open wants r (smack_file_open); appending is w and a
(may_open)."""
_NAMES = frozenset({"create", "make", "remove", "rename_from", "rename_to", "link", "bind"})
"""Accesses for which the directory is written."""
_FLOOR = frozenset("rx")
"""What all may do with the floor label."""
_DEPTH = 2
"""Names in the path of a directory before everything below it may get a label."""


Reach = Literal["all", "files", "itself"]
"""What a label is given to: all that is below a directory, the files in it, or the file or directory itself. Sorted so:
a later label replaces an earlier one."""


@dataclass(frozen=True, order=True)
class Labelled:
    """A file or directory, and the letters that its label stands for."""

    path: str
    reach: Reach
    letters: str


@dataclass(frozen=True)
class Domain:
    """What a policy becomes. ``kinds``: the letters of all labels of files."""

    files: tuple[Labelled, ...]
    kinds: tuple[str, ...]
    losses: tuple[Loss, ...]


Places = dict[tuple[str, Reach], set[str]]


def build(policy: Policy) -> Domain:
    """Return the labels of files, and what Smack cannot say."""
    found: Places = {}
    behind: dict[tuple[str, Reach], list[str]] = {}
    for rule in policy.files:
        for path, reach, letters in _places(rule) if "linked" in rule.states else ():
            if letters and not within(path, UNLABELLED):
                found.setdefault((path, reach), set()).update(letters)
                behind.setdefault((path, reach), []).append(rule.pattern)
    _spread(found)
    files, losses = list[Labelled](), list(_losses(policy))
    for (path, reach), held in sorted(found.items()):
        if not held - _FLOOR:
            continue
        if reach == "all" and path.count("/") < _DEPTH:
            why = f"everything below {path} would get the label"
            losses += [Loss("files", pattern, why, "refused") for pattern in behind[path, reach]]
            continue
        files.append(Labelled(path, reach, access("".join(held))))
        if reach != "itself":
            why = f"Smack has no patterns: other files in {path} have it too"
            losses += [Loss("files", pattern, why) for pattern in behind[path, reach]]
    return Domain(tuple(files), tuple(sorted({row.letters for row in files})), tuple(losses))


def _places(rule: FileRule) -> Iterator[tuple[str, Reach, str]]:
    """Yield each place that a rule is about, and the letters that the workload needs there."""
    letters = "".join(_LETTERS.get(word, "") for word in rule.access)
    if "directory" in rule.kinds and letters:
        letters += "x"
    names = "rwx" if _NAMES & set(rule.access) else ""
    for existing in rule.existing if "link" in rule.access else ():
        if (path := patterns.path_of(existing)) is not None:
            yield path, "itself", "rw"
    path = patterns.path_of(rule.pattern)
    if path is not None and path.startswith("/"):
        yield path, "itself", letters
        yield posixpath.dirname(path), "itself", names
    start = posixpath.dirname(patterns.start_of(rule.pattern))
    if path is None and start.startswith("/"):
        rest = rule.pattern.removeprefix(patterns.literal(start)).strip("/")
        deep = "/" in rest or "{tree}" in rest
        yield start, "all" if deep else "files", letters + (names if deep else "")
        yield start, "itself", names


def _spread(found: Places) -> None:
    """Add to the letters of a place those that it has through a directory above it: a file has one label."""
    for (path, reach), letters in found.items():
        for (top, other), wider in found.items():
            below = other == "all" and within(path, (top,)) and (path != top or reach == "files")
            if below or (other == "files" and reach == "itself" and posixpath.dirname(path) == top):
                letters |= wider


def _losses(policy: Policy) -> Iterator[Loss]:
    yield Loss("files", "reading and executing", "all files with the label _ can be read and executed")
    yield Loss("files", ", ".join(UNLABELLED), "what is there has the label *, or its maker's")
    yield Loss("files", "which program uses a file, and owner: true", "Smack knows neither")
    if any("{home}" in rule.pattern and _LETTERS.keys() & set(rule.access) - {"read", "list"} for rule in policy.files):
        yield Loss("files", "{home}", "the home directories are not known: label them by hand", "refused")
    if any(rule.whom == "outside" for rule in policy.signals):
        yield Loss(
            "signals", "processes outside", "a right on their label would be one on all files with it", "refused"
        )
    if any(row.operation != "read" and row.whom == "outside" for row in policy.inspections):
        yield Loss("inspections", "trace processes: outside", "it wants to write to their label", "refused")
    if any(row.family == "unix" and {"connect", "send"} & set(row.operations) for row in policy.sockets):
        why = "whoever listens needs a label that the workload may write to, and this one's"
        yield Loss("sockets", "unix sockets of processes outside", why, "refused")
