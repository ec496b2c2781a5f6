"""Write text into members of SARIF that give characters a meaning of their own."""

from __future__ import annotations

import os
import re
from urllib.parse import quote

from profiler.quoting.text import printable


def message(words: str) -> str:
    """Return the plain text of a message, with its line breaks: brackets would become links (SARIF 2.1.0, 3.11.6)."""
    return re.sub(r"([\\\[\]])", r"\\\1", "\n".join(map(printable, words.split("\n"))))


def uri(path: str) -> str:
    """Return the URI of a file (RFC 3986): relative as given, absolute with its scheme."""
    text = quote(os.fsencode(path))
    return f"file://{text}" if text.startswith("/") else text
