"""Quote text for roff, the language of manual pages (groff(7), mandoc_char(7))."""

from __future__ import annotations

import re

from profiler.quoting.text import printable

_ESCAPES = {
    "\\": r"\(rs",
    "-": r"\-",  # a plain one may be shown as a hyphen, which a shell does not read as an option
    "'": r"\(aq",
    "`": r"\(ga",
    "^": r"\(ha",
    "~": r"\(ti",
    '"': r"\(dq",
}


def roff(text: str) -> str:
    """Return ``text`` as running text, or as an argument of a macro in quotation marks.

    A dot gets a ``\\&`` in front where a line may begin with it, which would make a request of the line: at the start
    and after each space. Text is made printable as by :func:`profiler.quoting.text.printable`.
    """
    return re.sub(r"(^| )(?=\.)", r"\1\\&", "".join(map(_character, printable(text))))


def _character(char: str) -> str:
    if char.isascii():
        return _ESCAPES.get(char, char)
    return f"\\[u{ord(char):04X}]"
