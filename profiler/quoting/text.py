"""Text from outside (file names, arguments) made safe for one line that a person reads."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""``text`` on one line: what cannot be printed, and lone surrogates, as ``\n``, ``\x1b``, ``\u2028``. For
    people."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else escaped(char) for char in text)


def escaped(char: str) -> str:
    """Return one character as an escape that is printable ASCII; a lone surrogate shows the byte it stands for."""
    number = ord(char)
    if 0xDC80 <= number <= 0xDCFF:
        return f"\\x{number - 0xDC00:02x}"
    return char.encode("unicode_escape", "backslashreplace").decode("ascii")


def comment(text: str) -> str:
    """``text`` for the rest of a ``#`` comment line in YAML or a shell script: no character in it ends the line."""
    return printable(text)


FILTERS = {"comment": comment}
