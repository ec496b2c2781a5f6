"""New versions of a policy's text: written canonically, with the comments that people wrote into the old one.

YAML's readers drop comments. They are found by the key or the list member that they stand at, and put at the same place
of the new text.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from profiler.errors import InputError
from profiler.policy.document import COMMENTS, dumps, loads
from profiler.policy.head import is_own
from profiler.policy.model import Policy

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Place = tuple[str, ...]
"""Keys from the top, and of a list's members what they say."""

_SAID_ANEW = frozenset({"because", "programs"})
"""Members that may change with every recording: they do not tell one entry of a list from another."""
_SECTIONS = frozenset(f"# {text}" for text in COMMENTS.values())


@dataclass(frozen=True)
class Comment:
    """``text`` with its ``#``. ``same_line``: it follows the line of ``place``, else it stands above. ``place`` is None
    at the end of the file; ``then``: the places that follow, for a text in which this one is gone."""

    text: str
    place: Place | None
    same_line: bool
    then: tuple[Place, ...] = ()

    @property
    def key(self) -> tuple[str, Place | None]:
        """What makes it the same comment in another version of the file."""
        return (self.text, self.place)


def _ident(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return ",".join(f"{_ident(key)}={_ident(value)}" for key, value in node.value if _ident(key) not in _SAID_ANEW)
    if isinstance(node, yaml.SequenceNode):
        return ",".join(map(_ident, node.value))
    return str(node.value)


def _composed(text: str) -> yaml.Node:
    return yaml.compose(text, Loader=_Loader) or yaml.MappingNode("tag:yaml.org,2002:map", [])


def _places(node: yaml.Node, above: Place) -> Iterator[tuple[int, Place]]:
    """Yield line and place of every key and member, the outer ones first."""
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


def _marks(lines: Sequence[str], node: yaml.Node) -> Iterator[tuple[int, int]]:
    """Yield line and column where each comment begins: a ``#`` after a blank that is not in a scalar."""
    inside: dict[int, list[tuple[int, int]]] = {}
    for scalar in _scalars(node):
        begin, end = scalar.start_mark, scalar.end_mark
        for line in range(begin.line, min(end.line + 1, len(lines))):
            first = begin.column if line == begin.line else 0
            last = end.column if line == end.line else len(lines[line])
            inside.setdefault(line, []).append((first, last))
    for number, text in enumerate(lines):
        at = text.find("#")
        while at >= 0:
            after_blank = at == 0 or text[at - 1] in " \t"
            if after_blank and not any(first <= at < last for first, last in inside.get(number, ())):
                yield number, at
                break
            at = text.find("#", at + 1)


def _written_by_profgen(lines: Sequence[str]) -> frozenset[int]:
    """Return the numbers of the lines that are comments of profgen's own: the head, and one for each section."""
    first = next((number for number, line in enumerate(lines) if line.strip() and line[0] != "#"), len(lines))
    return frozenset(
        number for number, line in enumerate(lines) if line in _SECTIONS or (number < first and is_own(line))
    )


def comments(text: str) -> tuple[Comment, ...]:
    """Return the comments in a policy's text that people wrote."""
    lines = text.splitlines()
    own = _written_by_profgen(lines)
    if all("#" not in line or number in own for number, line in enumerate(lines)):
        return ()
    node = _composed(text)
    places: dict[int, Place] = {}
    for line, place in _places(node, ()):
        places.setdefault(line, place)
    order = sorted(places)
    made = []
    for number, column in _marks(lines, node):
        if number in own:
            continue
        same_line = bool(lines[number][:column].strip())
        following = tuple(places[line] for line in order if line >= number)
        at = following[0] if following else None
        made.append(Comment(lines[number][column:].rstrip(), at, same_line and number in places, following[1:]))
    return tuple(made)


def with_comments(policy: Policy, found: Iterable[Comment]) -> str:
    """Return the text of ``policy`` with the comments at their places; where a place is gone, before what came next."""
    text = dumps(policy)
    where: dict[Place, int] = {}
    for line, place in _places(_composed(text), ()):
        where.setdefault(place, line)
    lines = text.splitlines()
    above: dict[int, list[str]] = {}
    for comment in found:
        if comment.same_line and comment.place in where:
            lines[where[comment.place]] += f"  {comment.text}"
            continue
        following = comment.then if comment.place is None else (comment.place, *comment.then)
        line = next((where[place] for place in following if place in where), len(lines))
        indent = lines[line][: len(lines[line]) - len(lines[line].lstrip())] if line < len(lines) else ""
        above.setdefault(line, []).append(indent + comment.text)
    result = "".join(
        f"{row}\n" for line in range(len(lines) + 1) for row in (*above.get(line, ()), *lines[line : line + 1])
    )
    if dumps(loads(result.encode("utf-8"), "the new policy")) != text:
        raise InputError("the comments of the policy cannot be kept: remove those that stand within a value")
    return result


def merged(base: Sequence[Comment], ours: Sequence[Comment], theirs: Sequence[Comment]) -> tuple[Comment, ...]:
    """Return the comments of both, without those that one of them removed since ``base``."""
    old, mine, other = ({comment.key for comment in found} for found in (base, ours, theirs))
    kept = [comment for comment in ours if comment.key in other or comment.key not in old]
    return (*kept, *(comment for comment in theirs if comment.key not in mine and comment.key not in old))


def decoded(data: bytes, name: str) -> str:
    """Return the text of a policy's bytes. Raises InputError."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: is not in UTF-8") from error


def unified(name: str, before: str, after: str) -> str:
    """Return the change as patch(1) and ``git apply`` take it. ``name``: printable, the policy's path."""
    old, new = (name, name) if name.startswith("/") else (f"a/{name}", f"b/{name}")
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), old, new, lineterm="")
    return "".join(f"{line}\n" for line in lines)
