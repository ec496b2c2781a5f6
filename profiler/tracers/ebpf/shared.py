"""The Python side of shared.h: its constants, enums and structures, read from the header itself.

The header keeps to what is read here: ``#define`` of an integer expression, ``enum``, and ``struct`` with members of
the types in ``_TYPES`` and of structures before it. tests/unit/tracers/ebpf/test_shared.py compares all of it with what
a C compiler makes of the header.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

HEADER = Path(__file__).with_name("shared.h")

_TYPES: Mapping[str, Any] = {
    "char": ctypes.c_char,
    "u8": ctypes.c_uint8,
    "u16": ctypes.c_uint16,
    "u32": ctypes.c_uint32,
    "u64": ctypes.c_uint64,
}

_PLAIN: Mapping[str, Any] = {
    "int": ctypes.c_int,
    "unsigned char": ctypes.c_uint8,
    "unsigned int": ctypes.c_uint32,
    "unsigned long long": ctypes.c_uint64,
}
"""Types that are keys and values of maps, by their names in C."""

_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_ITEM = re.compile(
    r"^#define (?P<constant>\w+) (?P<value>[^\n]+)$|^(?P<kind>enum|struct) (?P<name>\w+) \{(?P<body>.*?)\};",
    re.DOTALL | re.MULTILINE,
)
_MEMBER = re.compile(r"(?:struct )?(\w+) (\w+)(?:\[(\w+)\])?;")
_NAME = re.compile(r"\b[A-Za-z_]\w*")
_SUFFIX = re.compile(r"\b(0x[0-9a-f]+|\d+)u", re.IGNORECASE)


@dataclass(frozen=True)
class Header:
    """What a header declares. ``enums``: the names of each, in their order."""

    constants: Mapping[str, int]
    enums: Mapping[str, tuple[str, ...]]
    structures: Mapping[str, Any]


def parse(text: str) -> Header:
    """Read a header. Raises KeyError for a name or a type that was not declared before."""
    constants: dict[str, int] = {}
    enums: dict[str, tuple[str, ...]] = {}
    structures: dict[str, Any] = {}

    def value(expression: str) -> int:
        numbers = _NAME.sub(lambda name: str(constants[name[0]]), _SUFFIX.sub(r"\1", expression))
        return int(eval(numbers.replace("/", "//"), {"__builtins__": {}}))  # no name is left in it

    for item in _ITEM.finditer(_COMMENT.sub("", text)):
        if item["constant"]:
            constants[item["constant"]] = value(item["value"])
        elif item["kind"] == "enum":
            names = []
            following = 0
            for entry in filter(str.strip, item["body"].split(",")):
                name, _, given = entry.partition("=")
                names.append(name.strip())
                constants[names[-1]] = value(given) if given else following
                following = constants[names[-1]] + 1
            enums[item["name"]] = tuple(names)
        else:
            fields = []
            for kind, name, length in _MEMBER.findall(item["body"]):
                member = structures[kind] if kind in structures else _TYPES[kind]
                fields.append((name, member * value(length) if length else member))
            structures[item["name"]] = type(item["name"], (ctypes.Structure,), {"_fields_": fields})
    return Header(constants, enums, structures)


@cache
def header() -> Header:
    """Return what shared.h declares."""
    return parse(HEADER.read_text(encoding="utf-8"))


def constant(name: str) -> int:
    """Return the value of a ``#define`` or of an enum's member. Raises KeyError."""
    return header().constants[name]


def names(enum: str, *prefixes: str) -> tuple[str, ...]:
    """Return the members of an enum that have one of the prefixes: without it, in lower case, in their order."""
    return tuple(
        name.removeprefix(prefix).lower()
        for name in header().enums[enum]
        for prefix in prefixes
        if name.startswith(prefix)
    )


def structure(name: str) -> Any:
    """Return the ctypes class of a ``struct``. Raises KeyError."""
    return header().structures[name]


def ctype(name: str, size: int) -> Any:
    """Return the ctypes class of a map's key or value: bytes when only the kernel's side knows the type."""
    found = header().structures.get(name) or _PLAIN.get(name)
    return found if found is not None and ctypes.sizeof(found) == size else ctypes.c_char * size
