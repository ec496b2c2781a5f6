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


def _indent(text: str, at: int) -> str | None:
    """Return the white space before ``at`` on its line, or None when the line holds something else there."""
    line = text[text.rfind("\n", 0, at) + 1 : at]
    return line if not line.strip() and "\n" in text[:at] else None


def _value_text(value: Any, indent: str | None, step: str, newline: str) -> str:
    if indent is None:
        return as_json(value, indent=None)
    return as_json(value, indent=step).replace("\n", newline + indent)


def _put(text: str, start: int, key: str, value: Any) -> str:
    """Return ``text`` with member ``key`` of the object at ``start`` replaced, or added as the last member."""
    newline = "\r\n" if "\r\n" in text else "\n"
    members = _members(text, start)
    outer = text[text.rfind("\n", 0, start) + 1 :]
    outer = outer[: len(outer) - len(outer.lstrip(" \t"))]
    first = next(iter(members.values()), None)
    indent = _indent(text, first.key_start) if first else (outer + "\t" if "\n" in text else None)
    step = (
        indent[len(outer) :] if indent is not None and indent.startswith(outer) and len(indent) > len(outer) else "\t"
    )
    if key in members:
        member = members[key]
        return text[: member.start] + _value_text(value, indent, step, newline) + text[member.end :]
    entry = f"{as_json(key)}: " + _value_text(value, indent, step, newline)
    if members:
        last = list(members.values())[-1].end
        gap = ", " if indent is None else f",{newline}{indent}"
        return text[:last] + gap + entry + text[last:]
    end = text.index("}", start)
    if indent is None:
        return text[: start + 1] + entry + text[end:]
    return text[: start + 1] + newline + indent + entry + newline + outer + text[end:]


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


def put(text: str, path: Sequence[str], value: Any) -> str:
    """Return ``text`` with the member that ``path`` leads to replaced or added. Every value on the way is an object, or
    missing. ``text`` comes from :func:`loads`, or from here."""
    start = _blank(text, 0)
    for depth, key in enumerate(path[:-1]):
        members = _members(text, start)
        if key not in members:
            for inner in reversed(path[depth + 1 :]):
                value = {inner: value}
            return _put(text, start, key, value)
        start = members[key].start
    return _put(text, start, path[-1], value)
