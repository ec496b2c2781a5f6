"""Quote words for a POSIX shell."""

from __future__ import annotations

import re

_SHELL_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./-]+\Z")


def shell(text: str) -> str:
    """Return ``text`` as one word of a POSIX shell. NUL, which an argument cannot hold, is removed.

    Bytes that are not UTF-8 stay lone surrogates; write the file with ``surrogateescape``.
    """
    text = text.replace("\0", "")
    if _SHELL_PLAIN.match(text):
        return text
    return "'" + text.replace("'", "'\"'\"'") + "'"


FILTERS = {"shell": shell}
