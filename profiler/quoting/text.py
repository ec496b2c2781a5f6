"""Make text from outside (file names, arguments) safe for one line that a person reads."""

from __future__ import annotations


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


def comment(text: str) -> str:
    """Return ``text`` for the rest of a ``#`` comment in YAML or shell, where no character in it ends the line."""
    return printable(text)


FILTERS = {"comment": comment}
