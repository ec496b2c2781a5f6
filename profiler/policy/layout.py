"""How the text of policy.yaml is laid out: one line for each entry that fits, a block below its key for others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from profiler.quoting.yaml import yaml as quoted

WIDTH = 118
_KEY_MAX = 900
"""Longer keys stand on a line of their own: YAML takes 1 024 characters before a colon."""


class Section(dict[str, Any]):
    """A mapping that always stands as a block, one line or more for each key."""


class Items(list[Mapping[str, Any]]):
    """A list that always stands as a block."""


def flow(value: Any) -> str:
    """Return a value on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{quoted(key)}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow, value)) + "]"
    return quoted(value)


def lines(key: str, value: Any, indent: str = "") -> Iterator[str]:
    """Yield the lines of one key of a block mapping."""
    name = quoted(key)
    label = f"{indent}{name}:"
    if len(name) > _KEY_MAX:
        yield f"{indent}? {name}"
        label = f"{indent}:"
    one = f"{label} {flow(value)}"
    block = isinstance(value, (Section, Items)) and value
    if not block and (len(one) <= WIDTH or not isinstance(value, (Mapping, list)) or not value):
        yield one
        return
    yield label
    if isinstance(value, Mapping):
        for inner, item in value.items():
            yield from lines(inner, item, indent + "  ")
        return
    for item in value:
        one = f"{indent}  - {flow(item)}"
        if len(one) <= WIDTH or not isinstance(item, Mapping) or not item:
            yield one
            continue
        start = "- "
        for inner, member in item.items():
            for line in lines(inner, member, indent + "    "):
                yield f"{indent}  {start}{line[len(indent) + 4 :]}"
                start = "  "
