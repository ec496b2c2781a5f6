"""Read the documents of a profile: JSON as Go's encoding/json reads it, and YAML as Kubernetes does.

- Keys are case-insensitive, by Unicode's simple folding: ``\u017fyscalls`` is ``syscalls``. A key that comes twice, in
  whatever spelling, is an error.
- Bytes that are not UTF-8 are replaced, as Go does.
- A byte-order mark is skipped: Go refuses it in JSON, and ``lint`` says so.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any

import yaml

from profiler.errors import InputError
from profiler.quoting.text import printable

LIMIT_BYTES = 16 << 20
"""A larger file is not a profile: Docker's default has 14 KiB."""
DEPTH = 40
EVENTS = 400_000


class Twice:
    """The value of a key that came in two spellings. Keys that are names (annotations, labels) are not examined."""


def folded(key: str) -> str:
    """Return a key as Go compares it with the names of fields (encoding/json, foldName): of all letters, only the long
    s and the Kelvin sign fold to ASCII."""
    return key.lower().replace("\u017f", "s")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {printable(twice)[:40]!r} is given twice")
    found: dict[str, Any] = {}
    for key, value in pairs:
        name = folded(key)
        found[name] = Twice() if name in found else value
    return found


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def marked(data: bytes) -> bool:
    """Return whether a file begins with the byte-order mark of UTF-8."""
    return data.startswith(codecs.BOM_UTF8)


def json_object(data: bytes, name: str) -> dict[str, Any]:
    """Return a JSON object with all keys folded. Raises InputError."""
    if len(data) > LIMIT_BYTES:
        raise InputError(f"{name}: larger than {LIMIT_BYTES >> 20} MiB, so it is not a profile")
    text = data.removeprefix(codecs.BOM_UTF8).decode("utf-8", "replace")
    try:
        value = json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except RecursionError as error:
        raise InputError(f"{name}: cannot be read as JSON: nested too deeply") from error
    except ValueError as error:
        raise InputError(f"{name}: cannot be read as JSON: {str(error)[:120]}") from error
    if not isinstance(value, dict):
        raise InputError(f"{name}: is not a trace, policy or profile: not a JSON object")
    return value


_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _lowered(value: Any) -> Any:
    """Return YAML data with folded keys. Raises ValueError for a key that is not text, or comes twice."""
    if isinstance(value, list):
        return [_lowered(item) for item in value]
    if not isinstance(value, dict):
        return value
    return _no_duplicates([(_key(key), _lowered(item)) for key, item in value.items()])


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise ValueError(f"{str(key)[:40]!r} cannot be a key here")
    return key


def yaml_documents(data: bytes, name: str) -> list[Any]:
    """Return the documents of a YAML file, with all keys folded. Raises InputError."""
    if len(data) > LIMIT_BYTES:
        raise InputError(f"{name}: larger than {LIMIT_BYTES >> 20} MiB, so it is not a profile")
    try:
        depth = 0
        for number, event in enumerate(yaml.parse(data, Loader=_Loader)):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError("aliases are not used in a profile")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEPTH or number > EVENTS:
                raise ValueError("nested too deeply" if depth > DEPTH else "too long")
        return [_lowered(document) for document in yaml.load_all(data, Loader=_Loader)]
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or "not YAML"
        raise InputError(f"{name}: cannot be read as YAML: {problem}") from error
    except (ValueError, RecursionError, TypeError) as error:
        raise InputError(f"{name}: cannot be read as YAML: {str(error)[:120]}") from error


def objects(documents: list[Any]) -> Iterator[dict[str, Any]]:
    """Yield the Kubernetes objects among documents, with those in lists (``kubectl get -o yaml``)."""
    for document in documents:
        if not isinstance(document, dict):
            continue
        items = document.get("items")
        if isinstance(items, list) and str(document.get("kind", "")).endswith("List"):
            yield from objects(items)
        else:
            yield document
