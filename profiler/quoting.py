"""Text from outside (file names, arguments) made safe for each kind of file that profgen writes. Nothing else quotes.

Text may hold anything a Linux file name or argument may: newlines, quotes, control characters, and bytes that are no
UTF-8, which stand as lone surrogates (PEP 383).
"""

from __future__ import annotations

import json
import re
from typing import Any

_SHELL_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./-]+\Z")
_YAML_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./|:-]*(?<!:)\Z")
_YAML_WORDS = frozenset(["y", "n", "yes", "no", "on", "off", "true", "false", "null", ".inf", ".nan", "."])


def printable(text: str) -> str:
    r"""``text`` on one line: what cannot be printed, and lone surrogates, as ``\n``, ``\x1b``, ``\u2028``. For people."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    number = ord(char)
    if 0xDC80 <= number <= 0xDCFF:
        return f"\\x{number - 0xDC00:02x}"
    return char.encode("unicode_escape", "backslashreplace").decode("ascii")


def comment(text: str) -> str:
    """``text`` for the rest of a ``#`` comment line in YAML or a shell script: no character in it ends the line."""
    return printable(text)


def shell(text: str) -> str:
    """``text`` as one word of a POSIX shell. NUL, which no argument can hold, is left out.

    Bytes that are no UTF-8 stay lone surrogates; write the file with ``surrogateescape``.
    """
    text = text.replace("\0", "")
    if _SHELL_PLAIN.match(text):
        return text
    return "'" + text.replace("'", "'\"'\"'") + "'"


def yaml(value: Any) -> str:
    """``value`` as YAML on one line: plain where that is safe, else as JSON, which YAML 1.2 and PyYAML read alike.

    Lone surrogates have no place in YAML; they are written as :func:`printable` shows them.
    """
    if isinstance(value, str):
        if _YAML_PLAIN.match(value) and value.lower() not in _YAML_WORDS:
            return value
        return _json_text("".join(_escaped(char) if 0xD800 <= ord(char) <= 0xDFFF else char for char in value))
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(yaml(item) for item in value) + "]"
    return json.dumps(value)


def _json_text(text: str) -> str:
    """A double-quoted string that JSON's and YAML's rules both allow, in printable ASCII, with YAML's ``\\U`` above U+FFFF."""
    return '"' + "".join(_quoted(char) for char in text) + '"'


def _quoted(char: str) -> str:
    number = ord(char)
    if number > 0xFFFF:
        return f"\\U{number:08x}"
    if number == 0x7F:
        return "\\u007f"
    return json.dumps(char)[1:-1]


def as_json(value: Any, indent: int | str | None = 2) -> str:
    """``value`` as JSON, in ASCII. Lone surrogates become what :func:`printable` shows: JSON readers differ on them."""
    return json.dumps(_clean(value), ensure_ascii=True, indent=indent)


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return "".join(_escaped(char) if 0xD800 <= ord(char) <= 0xDFFF else char for char in value)
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    return value
