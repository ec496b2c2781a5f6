"""How a report looks: colours, by what a text means, and the width of lines."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

_CODES = {
    "error": "31",
    "warning": "33",
    "note": "36",
    "good": "32",
    "critical": "1;31",
    "high": "31",
    "medium": "33",
    "low": "32",
    "removed": "36",
    "title": "1",
    "faint": "2",
}
"""What a text means to the code of SGR (ECMA-48, 8.3.117)."""


@dataclass(frozen=True)
class Style:
    """Draws the texts of a report. ``on``: with colours; ``width``: columns of a line."""

    on: bool = False
    width: int = 80

    def __call__(self, meaning: str, text: str) -> str:
        """Return a printable text in the colour of its meaning, one of those above. Raises KeyError for another."""
        code = _CODES[meaning]
        return f"\x1b[{code}m{text}\x1b[0m" if self.on and text else text

    def wrapped(self, text: str, indent: str = "", first: str | None = None) -> str:
        """Return a text without colours in lines that fit. ``indent``: what precedes each line; ``first``: what
        precedes the first one instead."""
        return textwrap.fill(
            text,
            self.width,
            initial_indent=indent if first is None else first,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )


PLAIN = Style()
"""No colours: for files, pipes and terminals without them."""
