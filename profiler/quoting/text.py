"""Make text from outside (file names, arguments) safe for one line that a person reads."""

from __future__ import annotations

import re

_PLAIN = re.compile(r"[A-Za-z0-9_./@%+=~{}\\-]+", re.ASCII)


def printable(text: str) -> str:
    r"""Return ``text`` on one line: unprintable characters and lone surrogates become ``\n``, ``\x1b``, ``\u2028``."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else escaped(char) for char in text)


def escaped(char: str) -> str:
    """Return one character as an escape in printable ASCII; a lone surrogate becomes the byte that it represents."""
    number = ord(char)
    if 0xDC80 <= number <= 0xDCFF:
        return f"\\x{number - 0xDC00:02x}"
    return char.encode("unicode_escape", "backslashreplace").decode("ascii")


def quoted(text: str) -> str:
    """Return ``text`` in quotation marks, on one line, so that nobody can take its words for those of a message."""
    return '"' + printable(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def word(text: str) -> str:
    """Return a name that a stranger chose (a program, a path) for a message: quoted unless it is a plain word."""
    return text if _PLAIN.fullmatch(text) else quoted(text)


def comment(text: str) -> str:
    """Return ``text`` for the rest of a ``#`` comment in YAML or shell, where no character in it ends the line."""
    return printable(text)


FILTERS = {"comment": comment}
