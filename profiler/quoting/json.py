"""Write JSON documents."""

from __future__ import annotations

import json
from typing import Any

from profiler.quoting.text import escaped


def as_json(value: Any, indent: int | str | None = 2) -> str:
    """Return ``value`` as JSON in ASCII.

    Lone surrogates are written as :func:`profiler.quoting.text.printable` shows them, because JSON readers treat them
    differently.
    """
    return json.dumps(_clean(value), ensure_ascii=True, indent=indent)


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return "".join(escaped(char) if 0xD800 <= ord(char) <= 0xDFFF else char for char in value)
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    return value


FILTERS = {"json": as_json}
