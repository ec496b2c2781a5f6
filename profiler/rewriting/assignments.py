"""Edit a text of ``key = value`` lines in place, as LXC's configuration: the other lines stay as they are.

A line is what stands between line breaks (CR or LF). Blanks around key and value do not count, a line that begins with
``#`` is a comment, and a key may come several times (src/lxc/confile.c and parse.c of LXC).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\n|\r|\Z)")
_BLANK = " \t"

Assignment = tuple[str, str]
"""Key and value."""


class Unreadable(ValueError):
    """The text is not a configuration; ``str()`` says why."""


def loads(data: bytes) -> str:
    """Return the text, with bytes that are not UTF-8 as surrogates. Raises Unreadable."""
    if b"\0" in data:
        raise Unreadable("it has a NUL byte")
    return data.decode("utf-8", "surrogateescape")


def dumps(text: str) -> bytes:
    """Return the bytes of a text from :func:`loads`."""
    return text.encode("utf-8", "surrogateescape")


def assignments(text: str) -> tuple[Assignment, ...]:
    """Return every assignment, in order."""
    return tuple(found for line in _lines(text) if (found := _assignment(line)))


def put(text: str, lines: Sequence[Assignment], keys: Collection[str], barriers: Collection[str] = ()) -> str:
    """Return the text with these lines as its only assignments to ``keys``.

    They take the place of the first such line, unless a line with a key of ``barriers`` (which may bring in other
    assignments) comes later: then they go to the end, as when there was none. A text that has them already, in this
    order and behind every barrier, is returned as it is.
    """
    old = _lines(text)
    found = [(index, row) for index, line in enumerate(old) if (row := _assignment(line))]
    ours = [index for index, (key, _) in found if key in keys]
    last = max((index for index, (key, _) in found if key in barriers), default=-1)
    held = [row for _, row in found if row[0] in keys]
    if held == list(lines) and all(index > last for index in ours):
        return text
    place = ours[0] if ours and ours[0] > last else len(old)
    before = "".join(line for index, line in enumerate(old[:place]) if index not in ours)
    after = "".join(line for index, line in enumerate(old[place:], place) if index not in ours)
    return append(before, lines, _end(text)) + after


def append(text: str, lines: Sequence[Assignment], end: str | None = None) -> str:
    """Return the text with lines at its end. ``end``: what ends a line, by default as in the text."""
    end = end or _end(text)
    if lines and text and not text.endswith(("\r", "\n")):
        text += end
    return text + "".join(f"{key} = {value}".rstrip(_BLANK) + end for key, value in lines)


def insert(text: str, line: Assignment, before: Assignment) -> str:
    """Return the text with a line in front of the first one that assigns ``before``; at the end when there is none."""
    old = _lines(text)
    index = next((index for index, each in enumerate(old) if _assignment(each) == before), len(old))
    return append("".join(old[:index]), [line], _end(text)) + "".join(old[index:])


def _end(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _lines(text: str) -> list[str]:
    """Return the lines with their ends."""
    return [line for line in _LINE.findall(text) if line]


def _assignment(line: str) -> Assignment | None:
    """Return the key and value of a line, None for a comment and for what is not an assignment."""
    text = line.rstrip("\r\n").strip(_BLANK)
    key, equals, value = text.partition("=")
    if not equals or text.startswith("#"):
        return None
    return key.strip(_BLANK), _unquoted(value.strip(_BLANK))


def _unquoted(value: str) -> str:
    """Return a value without the quotation marks around it."""
    return value[1:-1] if len(value) > 1 and value[0] in "'\"" and value[-1] == value[0] else value
