"""Read YAML into nodes that know their places in the text, for editing it in place.

They are made from the parser's events, not by PyYAML's composer: that one forgets where an alias stands, and calls
itself for each level of nesting. The parser is libyaml where PyYAML has it. The readers of manifests and Compose files
(go-yaml) are ports of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import yaml

from profiler.quoting.text import printable

DEPTH = 64
"""Levels of nesting."""
EVENTS = 1_000_000
"""What a text may hold, and what it may be with each alias replaced by its value."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_BREAKS = "\n\r\x85\u2028\u2029"
_PROPERTIES = re.compile(r"(?:[&!][^\s,\[\]{}]*\s*(?:#[^\n\r]*\s*)*)*")
_LAST_BREAK = re.compile(r"(\r\n|[\n\r])\Z")
_MERGE = "<<"


class Unreadable(ValueError):
    """The text cannot be edited in place; ``str()`` says why, with the line where it is known."""


@dataclass(frozen=True, eq=False)
class Node:
    """A value in the text. ``start`` to ``end`` are its characters, with its anchor and tag; ``inner`` is behind these.
    Comments and blank lines that follow are outside. ``flow``: written in brackets or braces. ``size``: the number of
    nodes in it, with aliases replaced."""

    kind: Literal["scalar", "mapping", "sequence", "alias"]
    start: int
    inner: int
    end: int
    line: int
    flow: bool
    size: int
    scalar: Any = None
    """The value of a scalar."""
    key: str = ""
    """The text of a scalar without its quotation marks."""
    merge: bool = False
    """Whether a scalar is the key ``<<``, of which the mapping takes over the value's members."""
    members: tuple[tuple[Node, Node], ...] = ()
    items: tuple[Node, ...] = ()
    target: Node | None = None
    """What an alias stands for."""

    @property
    def block(self) -> bool:
        """Whether it is a collection laid out by indentation."""
        return self.kind in ("mapping", "sequence") and not self.flow

    @property
    def empty(self) -> bool:
        """Whether it has no characters but its anchor and tag."""
        return self.kind == "scalar" and self.inner >= self.end

    def own(self) -> dict[str, tuple[Node, Node]]:
        """Return key and value of each member that is written in the mapping itself."""
        return {key.key: (key, value) for key, value in self.members if not key.merge}

    def inside(self) -> Iterator[Node]:
        """Yield it, and every node in it."""
        yield self
        for child in (*self.items, *(node for pair in self.members for node in pair)):
            yield from child.inside()


@dataclass(frozen=True, eq=False)
class Stream:
    """The documents of a text. ``aliases``: all of them, in their order."""

    documents: tuple[Node, ...]
    aliases: tuple[Node, ...]


def line_start(text: str, at: int) -> int:
    """Return where the line begins that holds a position."""
    return max(text.rfind(char, 0, at) for char in _BREAKS) + 1


def line_end(text: str, at: int) -> int:
    """Return where the line ends that holds a position, before its line break."""
    return min((found for char in _BREAKS if (found := text.find(char, at)) >= 0), default=len(text))


def column(text: str, at: int) -> int:
    """Return how many characters stand before a position on its line."""
    return at - line_start(text, at)


@dataclass
class _Open:
    """A collection that has not ended yet."""

    event: Any
    children: list[Node]


@lru_cache(maxsize=4)
def parsed(text: str) -> Stream:
    """Return the documents of a text without a byte-order mark. Raises Unreadable."""
    documents: list[Node] = []
    aliases: list[Node] = []
    anchors: dict[str, Node | None] = {}
    stack = [_Open(None, documents)]
    try:
        for number, event in enumerate(yaml.parse(text, Loader=_Loader)):
            if len(stack) > DEPTH or number > EVENTS:
                raise _at(event, "it is nested too deeply" if len(stack) > DEPTH else "the text is too long")
            if isinstance(event, yaml.DocumentStartEvent):
                anchors = {}
            elif isinstance(event, yaml.CollectionStartEvent):
                if event.anchor:
                    anchors[event.anchor] = None
                stack.append(_Open(event, []))
            elif isinstance(event, (yaml.CollectionEndEvent, yaml.NodeEvent)):
                node = _node(text, event, stack, anchors)
                if node.kind == "alias":
                    aliases.append(node)
                stack[-1].children.append(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        raise Unreadable(f"{where}{printable(str(error.problem or error.context or 'not YAML'))}") from error
    except yaml.YAMLError as error:
        raise Unreadable(f"it holds characters that YAML does not allow: {printable(str(error))[:120]}") from error
    if sum(document.size for document in documents) > EVENTS:
        raise Unreadable("its aliases stand for too much")
    return Stream(tuple(documents), tuple(aliases))


def _node(text: str, event: Any, stack: list[_Open], anchors: dict[str, Node | None]) -> Node:
    """Return the node that ends with this event."""
    first, last = event.start_mark, event.end_mark
    if isinstance(event, yaml.AliasEvent):
        name = event.anchor or ""
        target = anchors.get(name)
        if target is None:
            raise _at(event, f"the alias *{printable(name)} has no value before it")
        return Node("alias", first.index, first.index, last.index, first.line + 1, False, target.size, target=target)
    if isinstance(event, yaml.ScalarEvent):
        node = _scalar(text, event)
    else:
        frame = stack.pop()
        node = _collection(text, frame.event, event, frame.children)
        event = frame.event
    if event.anchor:
        anchors[event.anchor] = node
    return node


def _collection(text: str, event: Any, ending: Any, children: list[Node]) -> Node:
    start, flow = event.start_mark.index, bool(event.flow_style)
    inner = _behind_properties(text, start)
    end = ending.end_mark.index if flow else max((child.end for child in children), default=inner)
    size = 1 + sum(child.size for child in children)
    line = event.start_mark.line + 1
    if isinstance(event, yaml.SequenceStartEvent):
        # The parser's mark is in front of the dash.
        return Node("sequence", start, inner, end, line, flow, size, items=tuple(children))
    members = tuple(zip(children[::2], children[1::2], strict=True))
    known: set[str] = set()
    for key, _ in members:
        if key.kind != "scalar":
            raise Unreadable(f"line {key.line}: a key that is not a word")
        if key.key in known:
            raise Unreadable(f"line {key.line}: the key {printable(key.key)[:80]!r} is given twice")
        known.add(key.key)
    return Node("mapping", start, inner, end, line, flow, size, members=members)


def _scalar(text: str, event: Any) -> Node:
    start, end = event.start_mark.index, event.end_mark.index
    inner = min(_behind_properties(text, start), end) if event.anchor or event.tag else start
    if event.style in ("|", ">"):
        # The parser counts the empty lines behind it too. With + they belong to the value, without it they do not.
        keep = "+" in text[inner : line_end(text, inner)][:3]
        raw = text[inner:end]
        raw = _LAST_BREAK.sub("", raw) if keep else raw.rstrip("\r\n")
        end = max(inner + len(raw), line_end(text, inner))
    plain = event.style in (None, "")
    merge = plain and event.value == _MERGE
    line = event.start_mark.line + 1
    return Node("scalar", start, inner, end, line, False, 1, scalar=_value(event), key=event.value, merge=merge)


def _behind_properties(text: str, start: int) -> int:
    match = _PROPERTIES.match(text, start) if text[start : start + 1] in ("&", "!") else None
    return match.end() if match else start


_RESOLVER: Any = yaml.SafeLoader("")


def _value(event: Any) -> Any:
    """Return the value of a scalar: text, a number, a truth value or None. What JSON has no form for stays text."""
    own = (
        event.tag if event.tag and not event.tag.startswith("!") else None
    )  # !reset and !override of Compose say nothing
    tag = own or _RESOLVER.resolve(yaml.ScalarNode, event.value, (not event.style, True))
    node = yaml.ScalarNode(tag, event.value)
    try:
        if tag == "tag:yaml.org,2002:null":
            return None
        if tag == "tag:yaml.org,2002:bool":
            return _RESOLVER.construct_yaml_bool(node)
        if tag == "tag:yaml.org,2002:int":
            return _RESOLVER.construct_yaml_int(node)
        if tag == "tag:yaml.org,2002:float" and "n" not in event.value.lower():
            return _RESOLVER.construct_yaml_float(node)
    except (ValueError, KeyError):
        pass
    return event.value


def data(node: Node, known: dict[int, Any] | None = None) -> Any:
    """Return the value as plain data, with text as keys, aliases replaced and merge keys (``<<``) resolved."""
    known = {} if known is None else known
    if node.kind == "scalar":
        return node.scalar
    if node.target is not None:
        if id(node.target) not in known:
            known[id(node.target)] = data(node.target, known)
        return known[id(node.target)]
    if node.kind == "sequence":
        return [data(item, known) for item in node.items]
    found: dict[str, Any] = {}
    for key, value in node.members:
        if key.merge:
            found = {**_merged(data(value, known), key.line), **found}
    return found | {key.key: data(value, known) for key, value in node.members if not key.merge}


def _merged(value: Any, line: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in reversed(value if isinstance(value, list) else [value]):
        if not isinstance(one, dict):
            raise Unreadable(f"line {line}: << takes over the members of a mapping, and this is not one")
        found |= one
    return found


def values(stream: Stream) -> list[Any]:
    """Return the values of all documents."""
    known: dict[int, Any] = {}
    return [data(document, known) for document in stream.documents]


def resolved(node: Node) -> Node:
    """Return what an alias stands for, any other node as it is."""
    return resolved(node.target) if node.target is not None else node


def last_inside(node: Node) -> Node:
    """Return the last node in the text of a node that holds nothing."""
    while node.members or node.items:
        node = node.members[-1][1] if node.members else node.items[-1]
    return node


def nested(documents: Sequence[Node]) -> Iterator[tuple[Node, Node]]:
    """Yield each block mapping with each block collection that is the value of a member, in the text's order."""
    for document in documents:
        for node in document.inside():
            for _, value in node.members:
                if node.block and value.block:
                    yield node, value


def _at(event: Any, problem: str) -> Unreadable:
    return Unreadable(f"line {event.start_mark.line + 1}: {problem}")
