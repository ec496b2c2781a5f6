"""Editing a JSON document in place: the text outside the changed values stays as it is."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from profiler.quoting.json import as_json
from profiler.quoting.text import printable


class Unreadable(ValueError):
    """The text is not one JSON object as every reader takes it; ``str()`` says why."""


@dataclass(frozen=True)
class _Member:
    key_start: int
    start: int
    end: int


_BLANK = re.compile(r"[ \t\r\n]*")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise Unreadable(f"key {printable(twice)!r} is given twice")
    return found


def _no_constant(word: str) -> Any:
    raise Unreadable(f"{word} is not a JSON number")


_DECODER = json.JSONDecoder(object_pairs_hook=_no_duplicates, parse_constant=_no_constant)


def _blank(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    return match.end() if match else at


def _members(text: str, start: int) -> dict[str, _Member]:
    """Return the positions of the members of the object at ``start``. The text is known to be valid JSON."""
    found: dict[str, _Member] = {}
    at = _blank(text, start + 1)
    while text[at] != "}":
        key, after = _DECODER.raw_decode(text, at)
        value_start = _blank(text, _blank(text, after) + 1)
        _, end = _DECODER.raw_decode(text, value_start)
        found[key] = _Member(at, value_start, end)
        at = _blank(text, end)
        if text[at] == ",":
            at = _blank(text, at + 1)
    return found


def _items(text: str, start: int) -> list[tuple[int, int]]:
    """Return where each item of the array at ``start`` begins and ends. The text is known to be valid JSON."""
    found: list[tuple[int, int]] = []
    at = _blank(text, start + 1)
    while text[at] != "]":
        _, end = _DECODER.raw_decode(text, at)
        found.append((at, end))
        at = _blank(text, end)
        if text[at] == ",":
            at = _blank(text, at + 1)
    return found


def _indent(text: str, at: int) -> str | None:
    """Return the white space before ``at`` on its line, or None when the line holds something else there."""
    line = text[text.rfind("\n", 0, at) + 1 : at]
    return line if not line.strip() and "\n" in text[:at] else None


def _value_text(value: Any, indent: str | None, step: str, newline: str) -> str:
    if indent is None:
        return as_json(value, indent=None)
    return as_json(value, indent=step).replace("\n", newline + indent)


@dataclass(frozen=True)
class _Layout:
    """How an object or an array is laid out. ``indent``: the white space before each member, None when they stand on
    one line; ``outer``: before the closing bracket."""

    newline: str
    outer: str
    indent: str | None

    @property
    def step(self) -> str:
        """The white space that one level adds."""
        inside = self.indent is not None and self.indent.startswith(self.outer) and len(self.indent) > len(self.outer)
        return self.indent[len(self.outer) :] if self.indent is not None and inside else "\t"

    @property
    def gap(self) -> str:
        """What separates two members."""
        return ", " if self.indent is None else f",{self.newline}{self.indent}"

    def value(self, value: Any) -> str:
        """Return the text of a member's value."""
        return _value_text(value, self.indent, self.step, self.newline)

    def alone(self, entry: str) -> str:
        """Return the text between the brackets when the entry is the only one."""
        return entry if self.indent is None else f"{self.newline}{self.indent}{entry}{self.newline}{self.outer}"


def _layout(text: str, start: int, first: int | None) -> _Layout:
    """Return the layout of what begins at ``start``. ``first``: where its first member is, None when it is empty."""
    outer = text[text.rfind("\n", 0, start) + 1 :]
    outer = outer[: len(outer) - len(outer.lstrip(" \t"))]
    indent = _indent(text, first) if first is not None else (outer + "\t" if "\n" in text else None)
    return _Layout("\r\n" if "\r\n" in text else "\n", outer, indent)


def _put(text: str, start: int, key: str, value: Any) -> str:
    """Return ``text`` with member ``key`` of the object at ``start`` replaced, or added as the last member."""
    members = _members(text, start)
    layout = _layout(text, start, next((member.key_start for member in members.values()), None))
    if key in members:
        member = members[key]
        return text[: member.start] + layout.value(value) + text[member.end :]
    entry = f"{as_json(key)}: {layout.value(value)}"
    if members:
        last = list(members.values())[-1].end
        return text[:last] + layout.gap + entry + text[last:]
    return text[: start + 1] + layout.alone(entry) + text[text.index("}", start) :]


def loads(data: bytes) -> tuple[str, dict[str, Any]]:
    """Return the text of a document and its value, an object. Raises Unreadable."""
    if data.startswith(codecs.BOM_UTF8):
        raise Unreadable(
            "it begins with a byte-order mark, which runtimes do not read; save it as UTF-8 without the mark"
        )
    try:
        text = data.decode("utf-8")
        document, end = _DECODER.raw_decode(text, _blank(text, 0))
    except UnicodeDecodeError as error:
        raise Unreadable(f"it is not UTF-8 (byte {error.start})") from error
    except RecursionError as error:
        raise Unreadable("it is nested too deeply") from error
    except ValueError as error:
        raise Unreadable(str(error)) from error
    if _blank(text, end) != len(text):
        raise Unreadable("something follows the JSON value")
    if not isinstance(document, dict):
        raise Unreadable("it is not a JSON object")
    return text, document


def _is_missing(text: str, member: _Member | None) -> bool:
    return member is None or text[member.start : member.end] == "null"


def put(text: str, path: Sequence[str], value: Any) -> str:
    """Return ``text`` with the member that ``path`` leads to replaced or added. Every value on the way is an object, or
    missing or null. ``text`` comes from :func:`loads`, or from here."""
    start = _blank(text, 0)
    for depth, key in enumerate(path[:-1]):
        members = _members(text, start)
        if _is_missing(text, members.get(key)):
            for inner in reversed(path[depth + 1 :]):
                value = {inner: value}
            return _put(text, start, key, value)
        start = members[key].start
    return _put(text, start, path[-1], value)


def insert(text: str, path: Sequence[str], index: int, value: Any) -> str:
    """Return ``text`` with an item put before the ``index``-th one of the array that ``path`` leads to, or at its end.
    An array that is missing or null is made. Otherwise as :func:`put`."""
    start = _blank(text, 0)
    for key in path:
        members = _members(text, start)
        if _is_missing(text, members.get(key)):
            return put(text, path, [value])
        start = members[key].start
    items = _items(text, start)
    layout = _layout(text, start, items[0][0] if items else None)
    entry = layout.value(value)
    if not items:
        return text[: start + 1] + layout.alone(entry) + text[text.index("]", start) :]
    if index < len(items):
        at = items[index][0]
        return text[:at] + entry + layout.gap + text[at:]
    end = items[-1][1]
    return text[:end] + layout.gap + entry + text[end:]
