"""Quote paths and patterns for AppArmor profiles (apparmor.d(5))."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass


class Inexpressible(ValueError):
    """Text that a format cannot express; ``str()`` says why. The item that holds it is left out and reported."""


@dataclass(frozen=True)
class Glob:
    """A piece of an AppArmor pattern that profgen itself wrote (``*``, ``[0-9]``, ``@{pid}``): not quoted."""

    text: str


APPARMOR_MAX = 16_382
"""The largest quoted string, in bytes. The parser's buffer has 16,384 bytes and cannot grow (it uses REJECT, flex(1));
this is enough for a path of PATH_MAX bytes that are all octal escapes."""
_APPARMOR_GLOB = frozenset(b"*?[]{}^")
_APPARMOR_OCTAL = frozenset([*range(0x20), 0x7F, *b'"\\'])


def apparmor(parts: str | Sequence[str | Glob]) -> str:
    r"""Return a path, or a pattern of literal text and :class:`Glob`, as one double-quoted AppArmor string.

    The parser reads such text three times (parser_lex.l, processunquoted in parser_misc.c, convert_aaregex_to_pcre in
    parser_regex.c): for the closing quote, for escapes, for globs. A backslash is written ``\134``, not ``\\``, because
    the first reading takes ``\"`` at the end of a string for a quote that does not close it. An escaped brace also
    breaks ``@{``. Control characters and bytes that are not UTF-8 are octal, so a profile is always lines of valid
    text.

    Raises Inexpressible for NUL, for ``//`` in literal text, which the parser would reduce to one slash
    (filter_slashes), and for text longer than the parser's buffer.
    """
    pieces = [parts] if isinstance(parts, str) else parts
    if "//" in "".join(piece if isinstance(piece, str) else "\0" for piece in pieces):
        raise Inexpressible("AppArmor cannot express two slashes in a row")
    return _fitting(
        '"' + "".join(piece.text if isinstance(piece, Glob) else _apparmor_literal(piece) for piece in pieces) + '"'
    )


def _fitting(text: str) -> str:
    if len(text.encode("utf-8")) > APPARMOR_MAX:
        raise Inexpressible(f"longer than AppArmor's parser can read ({APPARMOR_MAX} bytes)")
    return text


def apparmor_values(paths: Sequence[str]) -> str:
    r"""Return the values of an AppArmor variable for exactly these paths. Raises Inexpressible.

    The parser turns several values into an alternation, ``{a,b}`` (expand_entry_variables in parser_variable.c), so a
    comma is written in octal, which the parser turns into ``\,``.
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


FILTERS = {"apparmor": apparmor}
