"""Variables: names for the places where volumes and directories of the host are mounted, so that moving one means
changing one line.

A policy's rules name paths as they are, and everything that compares, enforces or explains them does so too. Their text
is written with ``{@name}`` for the place (:func:`folded`), and read back to the paths (:func:`unfolded`). Of a variable
with several paths a rule says the same at each of them: what does not is written as it is, so writing never widens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, TypeVar

from profiler.policy.model import FileRule, MountRule, Policy, SocketRule, Transition, Variable
from profiler.policy.patterns import VARIABLE, literal
from profiler.policy.reasons import joined

Row = TypeVar("Row", FileRule, Transition, SocketRule, MountRule)

SECTIONS = ("files", "transitions", "sockets", "mounts")
"""Those of a policy whose rows name paths."""

_ONE = ("pattern", "program", "by", "source", "target")
"""Members that hold one path."""
_LISTS = ("programs", "existing")
"""Lists of paths that are not the row's own."""

At = Mapping[str, int]
"""Variable to which of its paths a row is about."""


@dataclass(frozen=True)
class _Where:
    """A place, as patterns write it."""

    name: str
    index: int
    prefix: str


class Places:
    """The variables of one policy."""

    def __init__(self, variables: Iterable[Variable]) -> None:
        self.paths = {row.name: tuple(map(literal, row.paths)) for row in variables}
        every = [
            _Where(name, index, prefix) for name, paths in self.paths.items() for index, prefix in enumerate(paths)
        ]
        # Of places within places the innermost.
        self._every = sorted(every, key=lambda where: (-len(where.prefix), where.prefix))
        self._starts = tuple(where.prefix for where in every)

    def find(self, pattern: str) -> _Where | None:
        """The place that the pattern is at or below."""
        if not pattern.startswith(self._starts):
            return None
        return next(
            (where for where in self._every if pattern == where.prefix or pattern.startswith(where.prefix + "/")), None
        )

    def fold(self, pattern: str, where: _Where | None = None) -> str:
        """With the variable in place of its path."""
        where = where or self.find(pattern)
        return pattern if where is None else f"{{@{where.name}}}{pattern[len(where.prefix) :]}"

    def unfold(self, text: str, at: At) -> tuple[str, ...]:
        """The patterns that a text with a variable stands for: one where ``at`` says which."""
        found = VARIABLE.match(text)
        if not found or found[1] not in self.paths:
            return (text,)
        name, paths = found[1], self.paths[found[1]]
        return tuple(path + text[found.end() :] for path in ((paths[at[name]],) if name in at else paths))


def _is_detached(row: object) -> bool:
    """Whether it is about files that no mount leads to."""
    return isinstance(row, FileRule) and row.states == ("detached",)


def _one(row: Row) -> dict[str, str]:
    """The members of a row that are one path."""
    return {name: value for name in _ONE if isinstance(value := getattr(row, name, None), str)}


def _with_lists(row: Row, change: Callable[[Sequence[str]], tuple[str, ...]]) -> dict[str, Any]:
    """Return the members that are lists of paths, changed."""
    made: dict[str, Any] = {name: change(getattr(row, name)) for name in _LISTS if hasattr(row, name)}
    if isinstance(row, SocketRule):
        made["addresses"] = tuple((word, change(texts)) for word, texts in row.addresses)
    return made


def _fold(row: Row, places: Places, whole: bool) -> tuple[Row, At] | None:
    """The row with variables, and the paths that it was about; None when it cannot be written so."""
    at: dict[str, int] = {}
    members: dict[str, Any] = {}
    for name, text in _one(row).items():
        where = places.find(text)
        if where is not None and at.setdefault(where.name, where.index) != where.index:
            return None
        members[name] = places.fold(text, where)

    def change(texts: Sequence[str]) -> tuple[str, ...]:
        known = set(texts)
        made = []
        for text in texts:
            where = places.find(text)
            if where is not None and not whole:
                if where.name in at:
                    where = where if where.index == at[where.name] else None
                elif any(path + text[len(where.prefix) :] not in known for path in places.paths[where.name]):
                    where = None
            made.append(text if where is None else places.fold(text, where))
        return tuple(sorted(set(made)))

    return _changed(row, members | _with_lists(row, change)), at


def folded(rows: Iterable[Row], variables: Sequence[Variable], whole: bool = False) -> tuple[Row, ...]:
    """The rows as they are written. ``whole``: also those that say something of one path of a variable only, as if of
    all of them; rows may then be equal but for their evidence."""
    places = Places(variables)
    made: dict[Row, list[tuple[Row, At]]] = {}
    result: list[Row] = []
    for row in rows:
        found = None if _is_detached(row) else _fold(row, places, whole)
        if found is None or found[0] is row:
            result.append(row)
        else:
            made.setdefault(found[0], []).append((row, found[1]))
    for new, every in made.items():
        names = every[0][1]
        needed = 1
        for name in names:
            needed *= len(places.paths[name])
        complete = whole or len({tuple(sorted(at.items())) for _, at in every}) == needed
        result += [new] if complete else [row for row, _ in every]
    return tuple(result)


def unfolded(rows: Iterable[Row], variables: Sequence[Variable]) -> tuple[Row, ...]:
    """The rows with the paths: the reverse of :func:`folded`."""
    places = Places(variables)
    result: list[Row] = []
    for row in rows:
        one = _one(row)
        names = sorted(
            {found[1] for text in one.values() if (found := VARIABLE.match(text)) and found[1] in places.paths}
        )
        for indexes in product(*(range(len(places.paths[name])) for name in names)):
            at = dict(zip(names, indexes, strict=True))
            result.append(_unfold(row, one, places, at))
    return tuple(result)


def _unfold(row: Row, one: Mapping[str, str], places: Places, at: At) -> Row:
    def change(texts: Sequence[str]) -> tuple[str, ...]:
        made = [path for text in texts for path in places.unfold(text, at)]
        return tuple(sorted(set(made)))

    members: dict[str, Any] = {name: places.unfold(text, at)[0] for name, text in one.items()}
    return _changed(row, members | _with_lists(row, change))


def _changed(row: Row, members: Mapping[str, Any]) -> Row:
    """The row with these members; itself when it has them: most rows are about no mount."""
    new = {name: value for name, value in members.items() if value != getattr(row, name)}
    return replace(row, **new) if new else row


def written(policy: Policy, whole: bool = False) -> Policy:
    """The policy with its rows :func:`folded`."""
    if not policy.variables:
        return policy
    rows: dict[str, Any] = {name: folded(getattr(policy, name), policy.variables, whole) for name in SECTIONS}
    return replace(policy, **rows)


def read(policy: Policy) -> Policy:
    """The policy with its rows :func:`unfolded`."""
    if not policy.variables:
        return policy
    rows: dict[str, Any] = {name: unfolded(getattr(policy, name), policy.variables) for name in SECTIONS}
    return replace(policy, **rows)


def names_of(policy: Policy) -> Mapping[str, str]:
    """Pattern to its text with a variable, for those patterns of file rules and executions that are written with one
    everywhere."""
    if not policy.variables:
        return {}
    places = Places(policy.variables)
    texts = written(policy)
    plain = {text for section in SECTIONS for row in getattr(texts, section) for text in _texts(row)}
    every = {text for section in SECTIONS for row in getattr(policy, section) for text in _texts(row)}
    return {text: places.fold(text) for text in every - plain if places.find(text) is not None}


def _texts(row: Any) -> Iterable[str]:
    yield from _one(row).values()
    for name in _LISTS:
        yield from getattr(row, name, ())


def together(several: Iterable[Sequence[Variable]]) -> tuple[Variable, ...]:
    """Return the variables of all, with the paths of all."""
    found: dict[str, list[Variable]] = {}
    for variables in several:
        for row in variables:
            found.setdefault(row.name, []).append(row)
    return tuple(
        Variable(name, tuple(sorted({path for row in rows for path in row.paths})), joined(row.because for row in rows))
        for name, rows in sorted(found.items())
    )
