"""Quote words for a POSIX shell."""

from __future__ import annotations

import re
from pathlib import Path

_SHELL_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./-]+\Z")


def shell(text: str) -> str:
    """Return ``text`` as one word of a POSIX shell. NUL, which an argument cannot hold, is removed.

    Bytes that are not UTF-8 stay lone surrogates; write the file with ``surrogateescape``.
    """
    text = text.replace("\0", "")
    if _SHELL_PLAIN.match(text):
        return text
    return "'" + text.replace("'", "'\"'\"'") + "'"


def path(name: str) -> str:
    """Return a path as one word of a shell, which no command takes for an option: ``-d`` becomes ``./-d``."""
    return shell(f"./{name}" if name.startswith("-") else name)


def profgen(*words: str | Path) -> str:
    """Return a command line of profgen. A path is given as a Path, so that it is not taken for an option."""
    return " ".join(["profgen", *(path(str(each)) if isinstance(each, Path) else shell(each) for each in words)])


FILTERS = {"shell": shell}
