"""Decide whether rules allow a use, and whether one path pattern includes another.

A use is written as a rule, with literal patterns and what was done. So "does this rule allow that use" and "does this
rule allow all that the other allows" are one question: :func:`grants` answers it for one rule, :func:`left` for
several.

The answer is sound but not complete: a yes is right, but a no may be wrong for patterns that no pass writes. A
comparison then shows a change where there is none; it never misses one.
"""

from __future__ import annotations

import bisect
import itertools
import re
import string
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TypeVar, cast

from profiler.kernel.mounts import restricting_flags
from profiler.policy.model import FileRule, InspectionRule, MountRule, SignalRule, SocketRule, Transition
from profiler.policy.patterns import (
    ALPHABETS,
    Class,
    Literal,
    Place,
    end_of,
    is_literal,
    lengths,
    matches,
    parse,
    path_of,
    sort_of,
    start_of,
)
from profiler.trace.model import FILE_KINDS

_NUMBERED = frozenset({"pid", "tid"})
"""Numbers of up to seven digits, which never begin with 0."""


@lru_cache(maxsize=1 << 10)
def _inside(outer: str, inner: str) -> bool:
    """Return whether a class includes all texts of another, by their definitions in patterns.py."""
    if outer == inner or {outer, inner} <= _NUMBERED:
        return True
    one, other = lengths(outer), lengths("digits:1-7" if inner in _NUMBERED else inner)
    if one is None or other is None:
        return False
    return _characters(one[0]) >= _characters(other[0]) and one[1] >= other[1]


@lru_cache(maxsize=len(ALPHABETS))
def _characters(alphabet: str) -> frozenset[str]:
    return frozenset(re.findall(f"[{ALPHABETS[alphabet][0]}]", string.printable))


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
    sort = sort_of(name)
    return re.compile("(?!)" if sort is None else sort.regex)


def _ends(name: str, inner: Sequence[Symbol], at: int) -> Iterable[int]:
    """Return where a class of the outer pattern may end in the inner one if it starts at ``at``."""
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
        if _inside(name, first.name):
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
    """Return whether ``outer`` matches every path that ``inner`` matches. Raises InputError for an invalid pattern."""
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
    """Return whether one of the patterns covers ``inner``."""
    return any(covers(outer, inner) for outer in outers)


# --- rules and uses

Resource = FileRule | Transition | SocketRule | SignalRule | InspectionRule | MountRule
"""A rule, or a use written as one."""
_Resource = TypeVar("_Resource", bound=Resource)
_Value = TypeVar("_Value", int, str)

IMPLIED: Mapping[str, str] = {
    # fcntl(2) with F_SETFL sets O_APPEND on every writable descriptor, without a check (setfl in fs/fcntl.c).
    "append": "write",
    # The lock is given back, or shared from then on. SELinux does not look at which lock it is (selinux_file_lock);
    # AppArmor checks the same and, for an exclusive one, also write (apparmor_file_lock).
    "lock": "lock_exclusive",
    # iterate_dir (fs/readdir.c) checks MAY_READ, which the open of the directory was granted.
    "list": "read",
}
"""Access to the one that includes it, because the kernel cannot tell them apart. No other access implies another."""

EPHEMERAL = range(32768, 61000)
"""The ports that the kernel gives to clients, by default of net.ipv4.ip_local_port_range (ip(7)).

A rule does not list them as ports of peers: whoever may connect may connect to them.
"""


def grants(rule: Resource, use: Resource) -> bool:
    """Return whether one rule allows all of a use."""
    return left([rule], use) is None


def left(rules: Iterable[Resource], use: _Resource, exact: bool = False) -> _Resource | None:
    """Return the part of a use that none of the rules allows, or None when together they allow all of it.

    ``exact``: no access implies another, and ports of clients count as well.
    """
    found: Resource | None
    if isinstance(use, FileRule):
        found = _file_left([rule for rule in rules if isinstance(rule, FileRule) and _fits(rule, use)], use, exact)
    elif isinstance(use, SocketRule):
        found = _socket_left([rule for rule in rules if isinstance(rule, SocketRule) and _same(rule, use)], use, exact)
    else:
        found = None if any(_whole(rule, use) for rule in rules) else use
    return cast(_Resource | None, found)


def _fits(rule: FileRule, use: FileRule) -> bool:
    """Return whether the rule's paths and conditions hold for every file of the use."""
    return (
        (use.owner or not rule.owner)
        and set(use.states) <= set(rule.states)
        and (not rule.whose or (bool(use.whose) and set(use.whose) <= set(rule.whose)))
        and covers(rule.pattern, use.pattern)
    )


def _file_left(fitting: Sequence[FileRule], use: FileRule, exact: bool) -> FileRule | None:
    granted = {word for rule in fitting for word in rule.access}
    if not exact:
        granted |= {word for word, by in IMPLIED.items() if by in granted}
    missing = {word for word in use.access if word not in granted}
    if "make" in granted and not _kinds(use) <= set().union(
        *(_kinds(rule) for rule in fitting if "make" in rule.access)
    ):
        missing.add("make")
    existing = use.existing
    links = [rule.existing for rule in fitting if "link" in rule.access]
    if links and all(links):
        known = [pattern for patterns in links for pattern in patterns]
        existing = tuple(pattern for pattern in use.existing if not covered_by_any(known, pattern))
        if existing or not use.existing:
            missing.add("link")
    access = tuple(word for word in use.access if word in missing)
    return replace(use, access=access, existing=existing) if access else None


def _kinds(rule: FileRule) -> set[str]:
    """Return the kinds of files that the rule allows to create; for ``unknown``, all."""
    return set(FILE_KINDS) if not rule.kinds or "unknown" in rule.kinds else set(rule.kinds)


def _same(rule: SocketRule, use: SocketRule) -> bool:
    return (rule.family, rule.type, rule.protocol) == (use.family, use.type, use.protocol)


def _socket_left(rules: Sequence[SocketRule], use: SocketRule, exact: bool) -> SocketRule | None:
    operations = {word for rule in rules for word in rule.operations}
    known_ports = {(word, port) for rule in rules for word, several in rule.ports for port in several}
    known_places = [(word, place) for rule in rules for word, several in rule.addresses for place in several]

    def lacks_port(word: str, port: int) -> bool:
        return (word, port) not in known_ports and (exact or word == "bind" or port not in EPHEMERAL)

    def lacks_place(word: str, place: str) -> bool:
        return not any(word == name and covers(known, place) for name, known in known_places)

    ports = _parts(use.ports, lacks_port)
    addresses = _parts(use.addresses, lacks_place)
    named = {word for word, _ in (*ports, *addresses)}
    missing = tuple(word for word in use.operations if word not in operations or word in named)
    return replace(use, operations=missing, ports=ports, addresses=addresses) if missing or named else None


def _parts(
    table: Iterable[tuple[str, tuple[_Value, ...]]], wanted: Callable[[str, _Value], bool]
) -> tuple[tuple[str, tuple[_Value, ...]], ...]:
    """Return the wanted values of a rule's table, without operations that have no value left."""
    found = ((word, tuple(value for value in values if wanted(word, value))) for word, values in table)
    return tuple(item for item in found if item[1])


def _within(rule: str | None, use: str | None) -> bool:
    """Return whether a pattern that may be missing covers the other; a missing one covers only a missing one."""
    return rule is use if rule is None or use is None else covers(rule, use)


def flags_fit(rule: MountRule, flags: set[str]) -> bool:
    """Return whether the flags are the rule's. A remount may have more flags that only restrict it further: it carries
    over those of the mount, which depend on the machine."""
    more = restricting_flags() if rule.operation == "remount" else frozenset()
    return set(rule.flags) <= flags <= {*rule.flags, *more}


def _whole(rule: Resource, use: Resource) -> bool:
    """Return whether a rule allows a use that has no parts."""
    match rule, use:
        case Transition(), Transition():
            return covers(rule.program, use.program) and _within(rule.by, use.by)
        case SignalRule(), SignalRule():
            return (rule.signal, rule.whom) == (use.signal, use.whom)
        case InspectionRule(), InspectionRule():
            return (rule.operation, rule.whom) == (use.operation, use.whom)
        case MountRule(), MountRule():
            return (
                rule.operation == use.operation
                and flags_fit(rule, set(use.flags))
                and all(_within(getattr(rule, name), getattr(use, name)) for name in ("source", "target", "filesystem"))
            )
        case _:
            return False


class FileRules:
    """File rules with an index, for many questions about which of them are for a path."""

    def __init__(self, rules: Iterable[FileRule]) -> None:
        self.all = tuple(dict.fromkeys(rules))
        self._literal: dict[str, list[FileRule]] = {}
        patterns: dict[str, list[int]] = {}
        starts: list[tuple[str, int]] = []
        self._ends = tuple(end_of(rule.pattern) for rule in self.all)
        for index, rule in enumerate(self.all):
            start = start_of(rule.pattern)
            starts.append((start, index))
            if is_literal(rule.pattern):
                self._literal.setdefault(rule.pattern, []).append(rule)
            else:
                patterns.setdefault(start, []).append(index)
        self._patterns = patterns
        self._lengths = sorted({len(start) for start in patterns})
        self._starts = sorted(starts)

    def of(self, pattern: str) -> Sequence[FileRule]:
        """Return the rules with this very pattern, if it is literal."""
        return self._literal.get(pattern, ())

    def around(self, pattern: str) -> Iterator[FileRule]:
        """Return the rules whose paths include all of the pattern's."""
        yield from self.of(pattern)
        start, end = start_of(pattern), end_of(pattern)
        near = (self._patterns.get(start[:length], ()) for length in self._lengths if length <= len(start))
        # A pattern covers only patterns that end with its end.
        for index in sorted(index for several in near for index in several if end.endswith(self._ends[index])):
            if covers(self.all[index].pattern, pattern):
                yield self.all[index]

    def inside(self, pattern: str) -> Iterator[FileRule]:
        """Return the rules with paths that the pattern includes."""
        if is_literal(pattern):
            return
        start, end = start_of(pattern), end_of(pattern)
        near = itertools.takewhile(
            lambda item: item[0].startswith(start),
            itertools.islice(self._starts, bisect.bisect_left(self._starts, (start, 0)), None),
        )
        for index in sorted(index for _, index in near if self._ends[index].endswith(end)):
            if covers(pattern, self.all[index].pattern):
                yield self.all[index]

    def left(self, use: FileRule, exact: bool = False) -> FileRule | None:
        """Return what :func:`left` returns for these rules."""
        # Most paths are written literally, in the rules and in the use.
        return left(self.of(use.pattern), use, exact) and left(self.around(use.pattern), use, exact)
