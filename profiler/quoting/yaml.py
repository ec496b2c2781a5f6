"""Write YAML scalars and flow lists."""

from __future__ import annotations

import json
import re
from typing import Any

from profiler.quoting.text import escaped

_YAML_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./|:-]*(?<!:)\Z")
_YAML_WORDS = frozenset(["y", "n", "yes", "no", "on", "off", "true", "false", "null", ".inf", ".nan", "."])


def yaml(value: Any) -> str:
    """Return ``value`` as YAML on one line: plain if that is safe, else as JSON, which YAML 1.2 and PyYAML read alike.

    YAML cannot hold lone surrogates; they are written as :func:`profiler.quoting.text.printable` shows them.
    """
    if isinstance(value, str):
        if _YAML_PLAIN.match(value) and value.lower() not in _YAML_WORDS:
            return value
        return _json_text("".join(escaped(char) if 0xD800 <= ord(char) <= 0xDFFF else char for char in value))
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(yaml(item) for item in value) + "]"
    return json.dumps(value)


def compose(value: Any) -> str:
    """Return ``value`` as YAML for a Compose file, in which ``$`` starts a variable and ``$$`` stands for itself."""
    return yaml(value).replace("$", "$$")


def _json_text(text: str) -> str:
    """Return a double-quoted ASCII string that is valid JSON and YAML, except for YAML's ``\\U`` above U+FFFF."""
    return '"' + "".join(_quoted(char) for char in text) + '"'


def _quoted(char: str) -> str:
    number = ord(char)
    if number > 0xFFFF:
        return f"\\U{number:08x}"
    if number == 0x7F:
        return "\\u007f"
    return json.dumps(char)[1:-1]


FILTERS = {"yaml": yaml, "compose": compose}
