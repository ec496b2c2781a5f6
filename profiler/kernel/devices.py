"""The numbers of device nodes that never change."""

from __future__ import annotations

import re
from typing import NamedTuple

from profiler.kernel.data import load

_NUMBERED = re.compile(r"(?P<start>.*?)(?P<number>0|[1-9][0-9]{0,5})")


class Node(NamedTuple):
    """A device node: ``kind`` is c or b, as in mknod(1)."""

    kind: str
    major: int
    minor: int


def node_of(path: str) -> Node | None:
    """Return the numbers of the device at this path, or None when they depend on the machine."""
    data = load("devices.yaml")
    if path in data["fixed"]:
        return Node(*data["fixed"][path])
    found = _NUMBERED.fullmatch(path)
    if found is None or found["start"] not in data["numbered"]:
        return None
    kind, major, first = data["numbered"][found["start"]]
    return Node(kind, major, first + int(found["number"]))
