"""Find the line of a policy or profile that a finding is about."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

LIMIT_BYTES = 4 << 20
EVENTS = 400_000
"""What is beyond them is not located: a trace may be as large as that, a policy or profile is not."""
DEPTH = 64

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Path = tuple[str, ...]


class Lines:
    """The lines of a YAML or JSON file, by where keys and scalars are in it. A file that is neither has one line."""

    def __init__(self, content: bytes) -> None:
        self._lines: dict[Path, int] = {}
        """Where each member begins, by the keys and indices that lead to it."""
        self._keys: dict[str, list[tuple[Path, int]]] = {}
        self._values: dict[str, list[tuple[Path, int]]] = {}
        """Each text that is a key, or another scalar, to the members and lines that have it."""
        if len(content) > LIMIT_BYTES:
            return
        try:
            for path, text, line, is_key in _walked(content):
                self._lines.setdefault(path, line)
                (self._keys if is_key else self._values).setdefault(text, []).append((path, line))
        except (yaml.YAMLError, ValueError):
            pass  # what came before it is known

    def find(self, where: str, about: Sequence[str]) -> int:
        """Return the line of the first entry of ``about`` in the part ``where``, or in the file if it has no such part;
        else that of the part; else 1."""
        path = tuple(word for word in re.split(r"[.\[\]]+", where.lower()) if word)
        while path and path not in self._lines:
            path = path[:-1]
        for entry in about:
            # A policy names a call of another ABI i386:open, a profile open.
            names = dict.fromkeys((entry, entry.rpartition(":")[2]))
            tables = (self._keys, self._values)
            found = [row for table in tables for name in names for row in table.get(name, ())]
            for place, line in found:
                if place[: len(path)] == path:
                    return line
        return self._lines.get(path, 1)


def _walked(content: bytes) -> Iterator[tuple[Path, str, int, bool]]:
    """Yield each key and scalar with its path in lower case, its line, and whether it is a key. A key's path ends with
    itself.

    The events are read one by one: composing nodes would recurse, which crashes the C loader for a deep nesting.
    """
    stack: list[_Level] = []
    for number, event in enumerate(yaml.parse(content, Loader=_Loader)):
        if number > EVENTS or len(stack) > DEPTH:
            return
        line = event.start_mark.line + 1 if event.start_mark is not None else 1
        if isinstance(event, yaml.CollectionEndEvent):
            stack.pop()
            continue
        if isinstance(event, (yaml.ScalarEvent, yaml.AliasEvent)):
            text = getattr(event, "value", "")
            is_key = bool(stack) and stack[-1].takes_key(text)
            yield (stack[-1].member if is_key else stack[-1].next() if stack else ()), text, line, is_key
        elif isinstance(event, yaml.CollectionStartEvent):
            path = stack[-1].next() if stack else ()
            if path:
                yield path, "", line, False
            stack.append(_Level(path, isinstance(event, yaml.MappingStartEvent)))


class _Level:
    """A mapping or a list that is being read."""

    def __init__(self, path: Path, is_mapping: bool) -> None:
        self._path, self._is_mapping = path, is_mapping
        self._key: str | None = None
        self._index = -1

    def takes_key(self, text: str) -> bool:
        """Take a scalar as the next key; return whether it is one."""
        if not self._is_mapping or self._key is not None:
            return False
        self._key = text.lower()
        return True

    @property
    def member(self) -> Path:
        return (*self._path, str(self._index) if self._key is None else self._key)

    def next(self) -> Path:
        """Return the path of the value that comes now."""
        if not self._is_mapping:
            self._index += 1
            return self.member
        path = self.member if self._key is not None else self._path
        self._key = None
        return path
