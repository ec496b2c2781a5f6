"""Write workflow commands, the lines on standard output by which a step tells GitHub Actions something.

The runner takes a line that starts with ``::`` as a command, splits its properties at commas, and its head from its
message at the second ``::``; then it replaces ``%0A`` and the like (actions/runner, ActionCommand.cs).
"""

from __future__ import annotations

from collections.abc import Mapping

from profiler.quoting.text import printable

_DATA = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})
_PROPERTY = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A", ":": "%3A", ",": "%2C"})


def command(name: str, properties: Mapping[str, str], message: str) -> str:
    """Return the line of a command. ``name`` and the keys are plain words; empty properties are left out.

    The message keeps its line breaks; other unprintable characters are shown as escapes.
    """
    head = ",".join(f"{key}={printable(value).translate(_PROPERTY)}" for key, value in properties.items() if value)
    data = "\n".join(map(printable, message.split("\n"))).translate(_DATA)
    return f"::{name}{' ' if head else ''}{head}::{data}"
