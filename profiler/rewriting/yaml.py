"""Edit a YAML text in place: the text outside the changed values stays as it is.

Changes are spliced into the text at the places of the parsed nodes. A round trip through a library that keeps comments
(ruamel.yaml) was the other way. It writes the whole text anew: indentation, line width, quotation marks, blank lines
and CRLF come out in its own style, so a review of a small change shows many lines.

Every change is checked: the new text is parsed, and must have the values of the old one with the change made on them.
What cannot be edited so, or would change another place too (a value with an anchor that an alias uses), is an error
with its line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from profiler.quoting.json import as_json
from profiler.quoting.text import printable
from profiler.quoting.yaml import yaml as quoted
from profiler.rewriting.yaml_nodes import (
    Node,
    Stream,
    Unreadable,
    column,
    data,
    last_inside,
    line_end,
    line_start,
    nested,
    parsed,
    values,
)

__all__ = ["Item", "Path", "Unreadable", "append", "loads", "members", "put", "remove"]

_BOM = "\ufeff"
_COLON = re.compile(r"[ \t]*:")
_HEADER = re.compile(r"([|>])[+-]?([1-9]?)[+-]?")
"""The first line of a block text."""
_COMMENT = re.compile(r"[ \t]*(#.*)?\Z")


@dataclass(frozen=True)
class Item:
    """The item of a list whose member ``key`` is ``value``."""

    key: str
    value: str

    def of(self, items: Sequence[Any]) -> int | None:
        """Return its index. Raises Unreadable when there are several."""
        found = [index for index, one in enumerate(items) if isinstance(one, dict) and one.get(self.key) == self.value]
        if len(found) > 1:
            raise Unreadable(f"two items of a list have the {self.key} {printable(self.value)!r}")
        return found[0] if found else None


Step = str | int | Item
"""A member of a mapping, or an item of a list by its index or by one of its members."""
Path = Sequence[Step]

_END = Item("", "")
"""The end of a list: a new item comes there."""
_GONE = object()
"""The value of what is removed."""


def loads(given: bytes) -> tuple[str, list[Any]]:
    """Return a text and the values of its documents. Keys are text, as written. Raises Unreadable."""
    try:
        text = given.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable(f"it is not UTF-8 (byte {error.start})") from error
    try:
        return text, values(parsed(text.removeprefix(_BOM)))
    except Unreadable as error:
        if "{{" in text:
            raise Unreadable(f"{error}; it may be a template ({{{{ ... }}}}): render it first") from error
        raise


def put(text: str, path: Path, value: Any, document: int = 0) -> str:
    """Return ``text`` with the value at ``path`` replaced or added, and what is missing on the way to it.

    ``text`` comes from :func:`loads`, or from here. Raises Unreadable.
    """
    return _edited(text, path, value, document)


def append(text: str, path: Path, value: Any, document: int = 0) -> str:
    """Return ``text`` with an item at the end of the list at ``path``, unless the list has it. Raises Unreadable."""
    mark = _BOM if text.startswith(_BOM) else ""
    there = _get(values(parsed(text.removeprefix(mark)))[document], path)
    if isinstance(there, list) and any(_same(one, value) for one in there):
        return text
    return _edited(text, (*path, _END), value, document)


def members(text: str, path: Path, wanted: Sequence[Any], document: int = 0) -> str:
    """Return ``text`` with a list of these values alone at ``path``; without values there is none.

    Items that stay keep their places and their comments, and new ones come to the end. Raises Unreadable.
    """
    mark = _BOM if text.startswith(_BOM) else ""
    there = _get(values(parsed(text.removeprefix(mark)))[document], path)
    if not wanted:
        return remove(text, path, document)
    if not isinstance(there, list) or not any(_same(one, value) for one in there for value in wanted):
        return put(text, path, list(wanted), document)
    for index in reversed(range(len(there))):
        one = there[index]
        if any(_same(one, other) for other in there[:index]) or not any(_same(one, value) for value in wanted):
            text = remove(text, (*path, index), document)
    for value in wanted:
        text = append(text, path, value, document)
    return text


def remove(text: str, path: Path, document: int = 0) -> str:
    """Return ``text`` without the value at ``path``, where it has one. Raises Unreadable."""
    return _edited(text, path, _GONE, document)


def _edited(text: str, path: Path, value: Any, document: int) -> str:
    mark = _BOM if text.startswith(_BOM) else ""
    text = text.removeprefix(mark)
    stream = parsed(text)
    wanted = values(stream)
    wanted[document] = _changed(wanted[document], path, value)
    if _same(wanted, values(stream)):
        return mark + text
    made = _Editor(text, stream).set(stream.documents[document], path, value)
    try:
        done = _same(values(parsed(made)), wanted)
    except Unreadable:
        done = False
    if not done:
        raise Unreadable(f"line {_near(stream.documents[document], path).line}: the form of the text here is not known")
    return mark + made


def _same(one: Any, other: Any) -> bool:
    """Return whether two values are equal, and of the same types: in Python True is 1."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


# --- the change on plain data


def _get(value: Any, path: Path) -> Any:
    """Return what is at a path, None when nothing is."""
    for step in path:
        key = _index(value, step)
        if key is None:
            return None
        value = value[key]
    return value


def _index(value: Any, step: Step) -> Any:
    """Return the key or index of a step in a mapping or list, None when it is not there."""
    if isinstance(value, dict):
        return step if step in value else None
    if isinstance(value, list):
        index = step.of(value) if isinstance(step, Item) and step is not _END else step
        return index if isinstance(index, int) and index < len(value) else None
    return None


def _changed(value: Any, path: Path, new: Any) -> Any:
    """Return plain data with the change made on a copy. What is missing on the way is made, unless ``new`` is _GONE."""
    if not path:
        return new
    step, rest = path[0], path[1:]
    index = _index(value, step)
    if index is None and new is _GONE:
        return value
    if value is None:
        value = {} if isinstance(step, str) else []
    if isinstance(step, str) and isinstance(value, dict):
        inner = _changed(value.get(step), rest, new)
        if inner is _GONE:
            return {key: one for key, one in value.items() if key != step}
        return {**value, step: inner}
    if isinstance(step, str) or not isinstance(value, list):
        raise Unreadable(f"there is not a {'mapping' if isinstance(step, str) else 'list'} where {_name(step)} must go")
    if index is None:
        if isinstance(step, int):
            raise Unreadable(f"a list has only {len(value)} items")
        start = {step.key: step.value} if rest and step is not _END else None
        return [*value, _changed(start, rest, new)]
    inner = _changed(value[index], rest, new)
    return [*value[:index], *([] if inner is _GONE else [inner]), *value[index + 1 :]]


def _name(step: Step) -> str:
    return printable(step) if isinstance(step, str) else "an item"


# --- the change on the text


def _child(node: Node, step: Step) -> Node | None:
    """Return the node of a step as it is written in a mapping or list, None when it is not there."""
    if node.kind == "mapping" and isinstance(step, str):
        return node.own().get(step, (None, None))[1]
    if node.kind == "sequence":
        index = _index([data(item) for item in node.items], step)
        return None if index is None else node.items[index]
    return None


def _near(node: Node, path: Path) -> Node:
    """Return the last node on the way to a path."""
    for step in path:
        child = _child(node, step)
        if child is None:
            break
        node = child
    return node


@dataclass(frozen=True)
class _Editor:
    """One change on one text."""

    text: str
    stream: Stream

    @property
    def newline(self) -> str:
        return "\r\n" if "\r\n" in self.text else "\n"

    def set(self, node: Node, path: Path, value: Any) -> str:
        """Return the text with the change. ``node``: where the path begins."""
        above: list[tuple[Node, Step]] = []
        for index, step in enumerate(path):
            self._alone(node)
            rest = path[index + 1 :]
            child = _child(node, step)
            if value is _GONE and not rest:
                return self._without(above, node, step)
            if child is None:
                return self._added(node, step, _changed(self._inherited(node, step), rest, value))
            if not rest or not (child.members or child.items):
                # An alias, or nothing that could take a member: the value as it will be comes in its place.
                return self._replaced(node, step, child, _changed(data(child), rest, value))
            above.append((node, step))
            node = child
        raise Unreadable("a document cannot be replaced as a whole")

    def _alone(self, node: Node, deep: bool = False) -> None:
        """Raise Unreadable when a change of this node (``deep``: its removal) would change the value of an alias too.
        An alias that goes with it does not count."""
        inside = set(map(id, node.inside())) if deep else {id(node)}
        for alias in self.stream.aliases:
            if id(alias.target) in inside and not (deep and id(alias) in inside):
                raise Unreadable(
                    f"line {node.line}: a change here would also change line {alias.line}, where an alias stands for "
                    "it: write the value out in one of the two places"
                )

    def _inherited(self, node: Node, step: Step) -> Any:
        """Return what a missing member has by a merge key; of a missing item, what identifies it."""
        if isinstance(step, Item) and step is not _END:
            return {step.key: step.value}
        return data(node).get(step) if node.kind == "mapping" else None

    # --- additions

    def _added(self, node: Node, step: Step, value: Any) -> str:
        if node.kind not in ("mapping", "sequence"):
            raise Unreadable(f"line {node.line}: there is nothing that {_name(step)} could be added to")
        key = step if isinstance(step, str) else None
        if node.flow:
            return self._added_flow(node, key, value)
        last = node.members[-1][1] if key is not None else node.items[-1]
        at = column(self.text, node.inner)
        end = line_end(self.text, last.end)
        lines = self._lines({key: value} if key is not None else [value], node)
        before = self._ended(last) if end == len(self.text) else self.text[:end]
        return before + "".join(self.newline + " " * at + line for line in lines) + self.text[end:]

    def _ended(self, node: Node) -> str:
        """Return the whole text, to which lines can be added. A block text that ends with it, without a line break,
        would have one then: it gets the indicator that takes the break away."""
        scalar = last_inside(node)
        header = _HEADER.match(self.text, scalar.inner)
        if header is None or scalar.end < len(self.text):
            return self.text
        return f"{self.text[: header.start()]}{header[1]}{header[2]}-{self.text[header.end() :]}"

    def _added_flow(self, node: Node, key: str | None, value: Any) -> str:
        text = self.text
        children = [pair[0] for pair in node.members] or list(node.items)
        if not children:
            entry = self._entry(node, key, value, None)
            return text[: node.inner + 1] + entry + text[node.inner + 1 :]
        last = (node.members[-1][1] if node.members else node.items[-1]).end
        comma = re.match(r"\s*,", text[last:])
        first = line_start(text, children[0].start)
        indent = text[first : children[0].start]
        if indent.strip() or first <= node.inner:
            return f"{text[:last]}, {self._entry(node, key, value, None)}{text[last:]}"
        # One entry a line: a comment behind the last one stays with it.
        behind = last + comma.end() if comma else last
        end = line_end(text, behind)
        if not _COMMENT.match(text[behind:end]):
            end = behind
        entry = self.newline + indent + self._entry(node, key, value, indent) + ("," if comma else "")
        return text[:last] + ("" if comma else ",") + text[last:end] + entry + text[end:]

    def _entry(self, node: Node, key: str | None, value: Any, indent: str | None) -> str:
        text = self._inline(value, indent)
        if key is None:
            return text
        return f"{as_json(key) if self._as_json() else quoted(key)}: {text}"

    # --- replacements

    def _replaced(self, node: Node, step: Step, child: Node, value: Any) -> str:
        self._alone(child, deep=True)
        text = self.text
        if node.flow or (node.kind == "sequence" and not child.empty):
            return text[: child.start] + self._in_place(node, child, value) + text[child.end :]
        if node.kind == "mapping":
            key = node.own()[step][0] if isinstance(step, str) else child
            colon = _COLON.match(text, key.end)
            if colon is None:
                raise Unreadable(f"line {key.line}: a key without its colon behind it")
            head = colon.end()
        else:
            head = child.end  # an item without a value: behind its dash
        if not value or not isinstance(value, (dict, list)) or (child.flow and (child.members or child.items)):
            inline = self._inline(value, None)
            if child.block and line_start(text, child.start) > head:
                return f"{text[:head]} {inline}{text[head : line_end(text, head)]}{self._behind(child)}"
            if child.empty:
                return f"{text[:head]} {inline}{text[head:]}"
            return text[: child.start] + inline + (self._behind(child) if child.block else text[child.end :])
        lines = self._lines(value, node, child)
        if child.block and child.kind == ("mapping" if isinstance(value, dict) else "sequence"):
            at = column(text, child.inner)
            begin = line_start(text, child.inner)
            if child.inner == child.start:  # what is between the key and the first line stays: comments
                return text[:begin] + self._joined(lines, at) + self._behind(child)
        else:
            at = column(text, node.inner) + (2 if node.kind == "sequence" else self._offset(node, value))
        if child.block:
            return text[:head] + self.newline + self._joined(lines, at) + self._behind(child)
        end = line_end(text, child.end)
        return text[:head] + text[child.end : end].rstrip(" \t") + self.newline + self._joined(lines, at) + text[end:]

    def _in_place(self, node: Node, child: Node, value: Any) -> str:
        """Return the text of a value that begins where the old one does."""
        text = self.text
        if node.flow:
            start = line_start(text, child.start)
            first = text[start : child.start]
            return self._inline(value, first[: len(first) - len(first.lstrip())] if self._pretty(node) else None)
        if not value or not isinstance(value, (dict, list)) or (child.flow and (child.members or child.items)):
            return self._inline(value, None)
        at = column(text, child.inner if child.block else child.start)
        return self._joined(self._lines(value, node, child), at).lstrip(" ")

    def _behind(self, child: Node) -> str:
        """Return the text behind a value that is replaced, without a comment on its last line."""
        end = line_end(self.text, child.end)
        return self.text[end:] if _COMMENT.match(self.text[child.end : end]) else self.text[child.end :]

    # --- removals

    def _without(self, above: Sequence[tuple[Node, Step]], node: Node, step: Step) -> str:
        text = self.text
        child = _child(node, step)
        if child is None:
            raise Unreadable(f"line {node.line}: {_name(step)} comes from another place, by a merge key")
        self._alone(child, deep=True)
        pairs = list(node.members) or [(item, item) for item in node.items]
        index = next(index for index, pair in enumerate(pairs) if pair[1] is child)
        if len(pairs) == 1:
            if not above:
                return text[: node.start] + ("{}" if node.members else "[]") + self._behind(node)
            return self._replaced(*above[-1], node, {} if node.members else [])
        if node.flow:
            if index + 1 < len(pairs):
                return text[: pairs[index][0].start] + text[pairs[index + 1][0].start :]
            return text[: pairs[index - 1][1].end] + text[child.end :]
        begin = self._begin(node, index, pairs)
        end = line_end(text, child.end)
        if index + 1 < len(pairs) and text[line_start(text, begin) : begin].strip(" "):
            # On one line with a dash or a key's parent: what follows moves up.
            return text[:begin] + text[self._begin(node, index + 1, pairs) :]
        begin = line_start(text, begin)
        if end == len(text):
            if index and _HEADER.match(text, last_inside(pairs[index - 1][1]).inner):
                return text[:begin]  # the line break belongs to the block text before it
            return re.sub(r"(\r\n|[\n\r])\Z", "", text[:begin])
        return text[:begin] + re.sub(r"\A(\r\n|[\n\r])", "", text[end:])

    def _begin(self, node: Node, index: int, pairs: Sequence[tuple[Node, Node]]) -> int:
        """Return where an entry of a block collection begins: at its key, or at its dash."""
        start = pairs[index][0].start
        if node.kind == "mapping":
            return start
        after = pairs[index - 1][1].end if index else node.inner
        at = column(self.text, node.inner)
        dash = start
        while (dash := self.text.rfind("-", after, dash)) >= 0:
            if column(self.text, dash) == at:
                return dash
        raise Unreadable(f"line {pairs[index][0].line}: an item without its dash")

    # --- style

    def _as_json(self) -> bool:
        """Return whether the text is written as JSON."""
        return any(
            root.flow and root.members and self.text[root.members[0][0].start] == '"' for root in self.stream.documents
        )

    def _pretty(self, node: Node) -> bool:
        return self._as_json() and self.newline in self.text[node.start : node.end]

    def _inline(self, value: Any, indent: str | None) -> str:
        """Return a value as it stands in a flow collection, or behind a key. ``indent``: of the lines of JSON."""
        if self._as_json():
            if indent is None:
                return as_json(value, indent=None)
            return as_json(value, indent=self._json_step()).replace("\n", self.newline + indent)
        return _flow(value)

    def _json_step(self) -> str:
        root = next(root for root in self.stream.documents if root.members)
        first = root.members[0][0].start
        step = self.text[line_start(self.text, first) : first]
        return step if step and not step.strip() else "  "

    def _joined(self, lines: Sequence[str], at: int) -> str:
        return self.newline.join(" " * at + line for line in lines)

    def _offset(self, node: Node, value: Any) -> int:
        """Return how far the lines of a mapping or list are indented below the key that they belong to."""
        return self._dash(node) if isinstance(value, list) else self._step(node)

    def _step(self, node: Node) -> int:
        """Return the indentation of a mapping in a mapping: as next to it, or else as first in the text."""
        pairs = [(node, value) for _, value in node.members if value.block] if node.block else []
        for outer, inner in (*pairs, *nested(self.stream.documents)):
            if inner.kind == "mapping":
                return column(self.text, inner.inner) - column(self.text, outer.inner)
        return 2

    def _dash(self, node: Node) -> int:
        """Return the indentation of a list in a mapping."""
        pairs = [(node, value) for _, value in node.members if value.block] if node.block else []
        for outer, inner in (*pairs, *nested(self.stream.documents)):
            if inner.kind == "sequence":
                return column(self.text, inner.inner) - column(self.text, outer.inner)
        return self._step(node)

    def _lines(self, value: Any, *near: Node) -> list[str]:
        """Return the lines of a mapping or list as a block. ``near``: nodes that show the style."""
        step, dash = self._step(near[0]), self._dash(near[0])
        return _block(value, step, dash)


def _flow(value: Any) -> str:
    """Return a value on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{quoted(key)}: {_flow(one)}" for key, one in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return quoted(value)


def _block(value: Any, step: int, dash: int) -> list[str]:
    """Return the lines of a mapping or list that is not empty, from column 0."""
    lines: list[str] = []
    if isinstance(value, Mapping):
        for key, one in value.items():
            if one and isinstance(one, (Mapping, list, tuple)):
                shift = " " * (step if isinstance(one, Mapping) else dash)
                lines += [f"{quoted(key)}:", *(shift + line for line in _block(one, step, dash))]
            else:
                lines.append(f"{quoted(key)}: {_flow(one)}")
        return lines
    for one in value:
        inner = _block(one, step, dash) if one and isinstance(one, (Mapping, list, tuple)) else [_flow(one)]
        lines += [f"- {inner[0]}", *(f"  {line}" for line in inner[1:])]
    return lines
