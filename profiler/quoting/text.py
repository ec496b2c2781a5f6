"""Make text from outside (file names, arguments) safe for one line that a person reads."""

from __future__ import annotations

import re
import unicodedata

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


def fitted(text: str, columns: int) -> str:
    """Return as much of a text as a terminal of this width shows in one row, with the last column free."""
    used = 0
    for index, letter in enumerate(text):
        used += width(letter)
        if used >= columns:
            return text[:index]
    return text


def cut(text: str, columns: int) -> str:
    """Return a printable text that takes at most so many columns: what is too long ends with ``…``."""
    shown = fitted(text, columns + 1)
    return text if len(shown) == len(text) else fitted(text, columns) + "…"[:columns]


def elided(text: str, columns: int) -> str:
    """Return a printable text that takes at most so many columns: of what is too long, the middle becomes ``…``."""
    if cut(text, columns) == text:
        return text
    end = fitted(text[::-1], columns - columns // 3)[::-1]
    return fitted(text, columns // 3 + 1) + "…"[:columns] + end


def padded(text: str, columns: int) -> str:
    """Return a printable text that takes exactly so many columns."""
    shown = cut(text, columns)
    return shown + " " * (columns - sum(map(width, shown)))


def width(letter: str) -> int:
    """Return how many columns a printable character takes (Unicode Standard Annex 11)."""
    if unicodedata.category(letter) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


FILTERS = {"comment": comment}
