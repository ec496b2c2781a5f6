"""Write text into GitHub Flavored Markdown."""

from __future__ import annotations

import re

from profiler.quoting.text import printable


def code(words: str) -> str:
    """Return a code span that its content cannot end, also in a table cell (GitHub Flavored Markdown, 4.10 and 6.1)."""
    words = printable(words).replace("|", "\\|")
    fence = "`" * (max((len(run) for run in re.findall("`+", words)), default=0) + 1)
    # Markdown strips one space at each end; without it a backtick there would join the fence.
    pad = " " if words[:1] in ("`", " ") or words[-1:] in ("`", " ") else ""
    return f"{fence}{pad}{words}{pad}{fence}" if words else ""
