"""A strict reader of small YAML files: no key twice, no anchors, bounded size and depth; errors name file and key."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NoReturn, TypeVar

import yaml

from profiler.errors import InputError
from profiler.quoting.text import printable
from profiler.wording import suggestion

T = TypeVar("T")

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

LIMIT_BYTES = 16 << 20
EVENTS = 2_000_000
"""Scalars, starts and ends; a policy with every syscall has some 20 000, and 20 for each file."""
DEPTH = 16
"""Collections within collections; a policy has nine at most."""


class _Refusal(yaml.YAMLError):
    """YAML that a policy does not use."""

    def __init__(self, problem: str, mark: Any) -> None:
        super().__init__(problem)
        self.problem, self.problem_mark = problem, mark


class _Strict(_Loader):  # type: ignore[misc]
    """Refuses a key that is given twice; other YAML readers take one of the two silently."""


def _mapping(loader: Any, node: Any, deep: bool = False) -> dict[Any, Any]:
    seen: set[str] = set()
    for key_node, _ in node.value:
        if key_node.value.__class__ is str:
            if key_node.value in seen:
                raise _Refusal(f"key {key_node.value!r} is given twice", key_node.start_mark)
            seen.add(key_node.value)
    result: dict[Any, Any] = _Loader.construct_mapping(loader, node, deep=True)
    return result


_Strict.add_constructor("tag:yaml.org,2002:map", _mapping)


def _check_nesting(data: bytes) -> None:
    """Refuse what no policy holds, and what would crash the C loader, which recurses for each level."""
    depth = 0
    for number, event in enumerate(yaml.parse(data, Loader=_Loader)):
        if number > EVENTS:
            raise _Refusal("too long for a policy", event.start_mark)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _Refusal("anchors and aliases are not used in a policy", event.start_mark)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEPTH:
            raise _Refusal("nested too deeply", event.start_mark)


def load(data: bytes, name: str) -> Any:
    """Return the plain data of a YAML document. Raises InputError with one line that names ``name`` and the line."""
    if len(data) > LIMIT_BYTES:
        raise InputError(f"{name}: larger than {LIMIT_BYTES >> 20} MiB, which a policy never is")
    try:
        _check_nesting(data)
        return yaml.load(data, Loader=_Strict)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "not YAML"
        where = f" (line {mark.line + 1})" if mark else ""
        raise InputError(f"{name}: cannot be read as YAML: {problem}{where}") from error
    except (ValueError, RecursionError, TypeError) as error:
        raise InputError(f"{name}: cannot be read as YAML: {error.__class__.__name__}") from error


class Reader:
    """Checks the shape of plain data. Every error is an InputError that names the file and the key."""

    def __init__(self, name: str) -> None:
        self.name = name

    def fail(self, where: str, what: str) -> NoReturn:
        """Raise InputError."""
        raise InputError(f"{self.name}: {printable(where)}: {what}")

    def mapping(self, value: Any, where: str) -> dict[str, Any]:
        """Return a mapping with keys that are text; numbers become text."""
        if not isinstance(value, dict):
            self.fail(where, "must be a mapping")
        for key in value:
            if not isinstance(key, (str, int)) or isinstance(key, bool):
                self.fail(where, f"{key!r} cannot be a key here")
        return {str(key): item for key, item in value.items()}

    def keys(self, value: Any, where: str, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Any]:
        """Return a mapping that has all required keys and none but these."""
        data = self.mapping(value, where)
        for key in required:
            if key not in data:
                self.fail(where, f"{key!r} is missing")
        for key in data:
            if key not in required and key not in optional:
                self.fail(where, f"unknown key {key!r}{suggestion(key, (*required, *optional))}")
        return data

    def typed(self, value: Any, kind: type[T], where: str) -> T:
        """Return a value of this type; true and false are not numbers."""
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            words = {str: "text", int: "a number", bool: "true or false", list: "a list"}
            self.fail(where, f"must be {words.get(kind, kind.__name__)}")
        return value

    def texts(self, value: Any, where: str) -> tuple[str, ...]:
        """Return a list of texts."""
        return tuple(self.typed(item, str, where) for item in self.typed(value, list, where))

    def number(self, value: Any, where: str) -> int:
        """Return an unsigned 64-bit number."""
        number = self.typed(value, int, where)
        if not 0 <= number < 1 << 64:
            self.fail(where, f"{number} is out of range")
        return number

    def word(self, value: Any, where: str, known: Collection[str]) -> str:
        """Return one of these words."""
        text = self.typed(value, str, where)
        if text not in known:
            self.fail(where, f"unknown word {text[:40]!r}{suggestion(text, known)}: one of {', '.join(known)}")
        return text

    def words(self, value: Any, where: str, known: Sequence[str]) -> tuple[str, ...]:
        """Return some of these words, each once, in the order of ``known``."""
        found = [self.word(item, where, known) for item in self.typed(value, list, where)]
        if len(set(found)) != len(found):
            self.fail(where, "names a word twice")
        return tuple(word for word in known if word in found)
