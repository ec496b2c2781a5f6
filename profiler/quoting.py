"""Text from outside (file names, arguments) made safe for each kind of file that profgen writes. Nothing else quotes.

Text may hold anything a Linux file name or argument may: newlines, quotes, control characters, and bytes that are no
UTF-8, which stand as lone surrogates (PEP 383).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
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


class Inexpressible(ValueError):
    """Text that a format has no way to write; ``str()`` says why. What holds it is left out, by name."""


@dataclass(frozen=True)
class Glob:
    """A piece of AppArmor pattern that profgen itself wrote (``*``, ``[0-9]``, ``@{pid}``): not quoted."""

    text: str


APPARMOR_MAX = 16_382
"""Bytes of one quoted string: the parser's buffer has 16,384 and cannot grow (it uses REJECT, flex(1)). Enough for a path of
PATH_MAX bytes that are all octal."""
_APPARMOR_GLOB = frozenset(b"*?[]{}^")
_APPARMOR_OCTAL = frozenset([*range(0x20), 0x7F, *b'"\\'])


def apparmor(parts: str | Sequence[str | Glob]) -> str:
    r"""A path, or a pattern of literal text and :class:`Glob`, as one double-quoted AppArmor string that means just that.

    The parser reads such text three times (parser_lex.l, processunquoted in parser_misc.c, convert_aaregex_to_pcre in
    parser_regex.c): for the closing quote, for escapes, for globs. ``\134`` rather than ``\\`` stands for a backslash, because at
    the end of a string the first reading takes ``\"`` for a quote that does not close. An escaped brace also breaks ``@{``. Control
    characters and bytes that are no UTF-8 are octal, so a profile is always lines of valid text.

    Raises Inexpressible for NUL, for ``//`` in literal text, which the parser would make one slash (filter_slashes), and for text
    longer than the parser's buffer.
    """
    pieces = [parts] if isinstance(parts, str) else parts
    if "//" in "".join(piece if isinstance(piece, str) else "\0" for piece in pieces):
        raise Inexpressible("AppArmor has no way to write two slashes in a row")
    return _fitting('"' + "".join(piece.text if isinstance(piece, Glob) else _apparmor_literal(piece) for piece in pieces) + '"')


def _fitting(text: str) -> str:
    if len(text.encode("utf-8")) > APPARMOR_MAX:
        raise Inexpressible(f"longer than AppArmor's parser can read ({APPARMOR_MAX} bytes)")
    return text


def apparmor_values(paths: Sequence[str]) -> str:
    r"""The values of an AppArmor variable that stands for these paths and no others. Raises as :func:`apparmor`.

    Of several the parser makes an alternation, ``{a,b}`` (expand_entry_variables in parser_variable.c), so a comma is octal, for which it
    puts ``\,``.
    """
    return " ".join(_fitting(apparmor(path).replace(",", "\\054")) for path in paths)


def _apparmor_literal(text: str) -> str:
    if "\0" in text:
        raise Inexpressible("a NUL character")
    return "".join(_apparmor_character(char) for char in text)


def _apparmor_character(char: str) -> str:
    number = ord(char)
    if number < 0x80:
        if number in _APPARMOR_OCTAL:
            return f"\\{number:03o}"
        return "\\" + char if number in _APPARMOR_GLOB else char
    if char.isprintable():
        return char
    return "".join(f"\\{byte:03o}" for byte in os.fsencode(char))
