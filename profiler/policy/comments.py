"""Comments that people wrote into policy.yaml: found by what they stand at, and put at the same place of another text.

YAML's readers drop comments. A text that profgen writes anew gets them back here; profiler/denials/rewrite.py, which
changes as few lines as it can, is for texts where that is possible.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from profiler.errors import InputError
from profiler.policy.document import dumps, loads
from profiler.policy.model import Policy

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Place = tuple[str, ...]
"""Keys from the top, and of a list's members what they say."""

_EVIDENCE = frozenset({"because", "runs", "seen", "paths", "opens", "programs"})
"""Members that change with every recording: they do not tell one entry of a list from another."""


@dataclass(frozen=True)
class Comment:
    """``text`` with its ``#``. ``beside``: behind the line of ``place``, else above it. ``place`` is None at the end of
    the file; ``then``: the places that follow, for when this one is gone."""

    text: str
    place: Place | None
    beside: bool
    then: tuple[Place, ...] = ()

    @property
    def key(self) -> tuple[str, Place | None]:
        """What makes it the same comment in another version of the file."""
        return (self.text, self.place)


def _ident(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return ",".join(f"{_ident(key)}={_ident(value)}" for key, value in node.value if _ident(key) not in _EVIDENCE)
    if isinstance(node, yaml.SequenceNode):
        return ",".join(map(_ident, node.value))
    return str(node.value)


def _places(node: yaml.Node, above: Place) -> Iterator[tuple[int, Place]]:
    """Line and place of every key and member, the outer ones first."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            place = (*above, str(key.value))
            yield key.start_mark.line, place
            yield from _places(value, place)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            place = (*above, _ident(item))
            yield item.start_mark.line, place
            yield from _places(item, place)


def _scalars(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.ScalarNode):
        yield node
    for item in node.value if not isinstance(node, yaml.ScalarNode) else ():
        for part in item if isinstance(item, tuple) else (item,):
            yield from _scalars(part)


def _composed(text: str) -> tuple[yaml.Node | None, dict[int, Place]]:
    node = yaml.compose(text, Loader=_Loader)
    lines: dict[int, Place] = {}
    for line, place in _places(node, ()) if node is not None else ():
        lines.setdefault(line, place)
    return node, lines


def _marks(text: str, node: yaml.Node | None) -> Iterator[tuple[int, int]]:
    """Line and column where each comment begins: a ``#`` after a blank that is in no scalar."""
    lines = text.splitlines()
    inside: dict[int, list[tuple[int, int]]] = {}
    for scalar in _scalars(node) if node is not None else ():
        begin, end = scalar.start_mark, scalar.end_mark
        for line in range(begin.line, min(end.line + 1, len(lines))):
            first = begin.column if line == begin.line else 0
            last = end.column if line == end.line else len(lines[line])
            inside.setdefault(line, []).append((first, last))
    for number, line_text in enumerate(lines):
        at = line_text.find("#")
        while at >= 0:
            after_blank = at == 0 or line_text[at - 1] in " \t"
            if after_blank and not any(first <= at < last for first, last in inside.get(number, ())):
                yield number, at
                break
            at = line_text.find("#", at + 1)


def found(text: str, policy: Policy) -> tuple[Comment, ...]:
    """The comments of ``text``, which says ``policy``, but for those that profgen writes itself."""
    usual = {line.strip() for line in dumps(policy).splitlines() if line.startswith("#")}
    lines = text.splitlines()
    if all("#" not in line or line.strip() in usual for line in lines):
        return ()
    node, places = _composed(text)
    order = sorted(places)
    made = []
    for number, column in _marks(text, node):
        comment = lines[number][column:].rstrip()
        beside = bool(lines[number][:column].strip())
        if not beside and comment in usual:
            continue
        following = tuple(places[line] for line in order if line >= number)
        made.append(Comment(comment, following[0] if following else None, beside and number in places, following[1:]))
    return tuple(made)


def carried(policy: Policy, comments: Iterable[Comment]) -> str:
    """The text of ``policy`` with the comments at their places; where one is gone, before what came next."""
    text = dumps(policy)
    _, places = _composed(text)
    where: dict[Place, int] = {}
    for line, place in sorted(places.items()):
        where.setdefault(place, line)
    lines = text.splitlines()
    above: dict[int, list[str]] = {}
    for comment in comments:
        if comment.beside and comment.place in where:
            lines[where[comment.place]] += f"  {comment.text}"
            continue
        following = comment.then if comment.place is None else (comment.place, *comment.then)
        line = next((where[place] for place in following if place in where), len(lines))
        indent = lines[line][: len(lines[line]) - len(lines[line].lstrip())] if line < len(lines) else ""
        above.setdefault(line, []).append(indent + comment.text)
    result = "".join(
        f"{row}\n" for line in range(len(lines) + 1) for row in (*above.get(line, ()), *lines[line : line + 1])
    )
    if dumps(loads(result.encode("utf-8"), "the merged policy")) != text:
        raise InputError("the comments cannot be put into the merged policy: take out those that stand within a value")
    return result


def merged(base: Sequence[Comment], ours: Sequence[Comment], theirs: Sequence[Comment]) -> tuple[Comment, ...]:
    """Those of both, without what one of them took out since ``base``."""
    old, mine, other = ({comment.key for comment in comments} for comments in (base, ours, theirs))
    kept = [comment for comment in ours if comment.key in other or comment.key not in old]
    return (*kept, *(comment for comment in theirs if comment.key not in mine and comment.key not in old))
