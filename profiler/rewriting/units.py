"""Editing a unit file of systemd in place (systemd.syntax(7)): the lines of other keys stay as they are.

Lines are read as systemd does (src/shared/conf-parser.c:config_parse). A line that ends with an odd number of
backslashes goes on in the next one; comments in between are left out; an assignment outside of a section, and a line
without ``=``, say nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

_LINE = re.compile(r"(.*?)(\r\n|\n\r|\n|\r|\0|\Z)", re.DOTALL)
_BLANK = " \t\n\r"
_LINE_MAX = 1 << 20
"""Bytes of a line (LONG_LINE_MAX)."""
MARK = "# profgen: "
"""How a comment begins that belongs to the assignment below it, and is replaced along with it."""


class Unreadable(ValueError):
    """The text is not a unit file that can be edited; ``str()`` says why."""


@dataclass(frozen=True)
class Entry:
    """A key, its values, one assignment each, and a reason for people."""

    key: str
    values: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Assignment:
    """A key and its value as systemd reads them, the section, and the lines in which it stands (from, to)."""

    section: str
    key: str
    value: str
    first: int
    end: int


def lines_of(text: str) -> list[str]:
    """Return the lines with their ends, which may be of different kinds."""
    found = [match[0] for match in _LINE.finditer(text)]
    return [line for line in found if line]


def assignments(lines: Sequence[str]) -> Iterator[Assignment]:
    """Yield the assignments of a file. Raises Unreadable."""
    for section, joined, first, end in _statements(lines):
        key, equals, value = joined.partition("=")
        if equals and section is not None:
            yield Assignment(section, key.strip(_BLANK), value.strip(_BLANK), first, end)


def _statements(lines: Sequence[str]) -> Iterator[tuple[str | None, str, int, int]]:
    """Yield (section, text, first line, end) of whatever is not blank and no comment; of a header, the text is
    empty."""
    section: str | None = None
    held, first = "", 0
    for number, line in enumerate([*lines, ""]):
        text = line.rstrip("\0\r\n")
        if number == 0:
            text = text.removeprefix("\N{BOM}")
        if len(text.encode("utf-8", "surrogateescape")) >= _LINE_MAX:
            raise Unreadable(f"line {number + 1} is longer than systemd reads")
        if text.lstrip(_BLANK).startswith(("#", ";")):
            continue
        first = first if held else number
        held += text
        if (len(held) - len(held.rstrip("\\"))) % 2:
            held = held[:-1] + " "
            continue
        held, statement = "", held.strip(_BLANK)
        if statement.startswith("["):
            if not statement.endswith("]"):
                raise Unreadable(f"line {first + 1}: a section without its closing bracket")
            section = statement[1:-1]
        if statement:
            yield section, "" if statement.startswith("[") else statement, first, number + 1


def put(data: bytes, section: str, entries: Sequence[Entry], keys: Collection[str]) -> bytes:
    """Return the file with these entries in a section. A key that is there already is replaced where it stands first;
    others go to the end of the section's last part. ``keys``: those that are removed when no entry has them and they
    were put there by an earlier edit. Doing it twice is the same as once.

    Raises Unreadable when there is no such section, or a line that systemd does not read.
    """
    lines = lines_of(data.decode("utf-8", "surrogateescape"))
    statements = list(_statements(lines))
    parts = [end for name, text, _, end in statements if name == section]
    if not parts:
        raise Unreadable(f"it has no section [{section}]")
    ending = next((line[len(line.rstrip("\0\r\n")) :] for line in lines if line.rstrip("\0\r\n") != line), "\n")
    wanted = {entry.key: entry for entry in entries}
    removed: set[int] = set()
    at: dict[int, list[str]] = {}
    done: set[str] = set()
    ours = ("", 0)  # a key that an earlier edit put there, and the line after it
    for row in assignments(lines):
        marked = row.first > 0 and lines[row.first - 1].startswith(MARK)
        if marked or ours == (row.key, row.first):
            ours = (row.key, row.end)
        if row.section != section or row.key not in keys or not (row.key in wanted or ours == (row.key, row.end)):
            continue
        removed.update(range(row.first - marked, row.end))
        if row.key in wanted and row.key not in done:
            done.add(row.key)
            at.setdefault(row.first, []).extend(_text(wanted[row.key], ending))
    rest = [line for entry in entries if entry.key not in done for line in _text(entry, ending)]
    if rest and parts[-1] > len(lines):  # the last line goes on in one that is missing
        rest.insert(0, ending)
    at.setdefault(min(parts[-1], len(lines)), []).extend(rest)
    return _joined(lines, removed, at, ending).encode("utf-8", "surrogateescape")


def _text(entry: Entry, ending: str) -> list[str]:
    return [f"{MARK}{entry.reason}{ending}", *(f"{entry.key}={value}{ending}" for value in entry.values)]


def _joined(lines: Sequence[str], removed: Collection[int], at: dict[int, list[str]], ending: str) -> str:
    made: list[str] = []
    for number in range(len(lines) + 1):
        added = at.get(number, [])
        if added and made and made[-1] == made[-1].rstrip("\0\r\n"):
            made[-1] += ending
        made += added
        if number < len(lines) and number not in removed:
            made.append(lines[number])
    return "".join(made)
