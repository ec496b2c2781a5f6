"""Write words of command lines and paths in unit files (systemd.service(5), systemd.unit(5), Quadlet)."""

from __future__ import annotations

import re
from collections.abc import Iterable

_PLAIN = re.compile(r"[A-Za-z0-9_@+=:,./-]+", re.ASCII)
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_@+=:,./%-]+", re.ASCII)


def systemd(text: str) -> str:
    """Return ``text`` as one word of a command line that systemd starts: specifiers (``%``) and variables (``$``) are
    doubled. NUL, which an argument cannot hold, is removed.

    What is not printable ASCII is written as bytes in hexadecimal, so the word is always on one line.
    """
    text = text.replace("\0", "")
    if _PLAIN.fullmatch(text):
        return text
    return '"' + "".join(map(_escaped, text.encode("utf-8", "surrogateescape"))) + '"'


def _escaped(byte: int) -> str:
    char = chr(byte)
    if char in '\\"':
        return "\\" + char
    if char in "%$":
        return char * 2
    return char if 0x20 <= byte < 0x7F else f"\\x{byte:02x}"


def words(texts: Iterable[str]) -> str:
    """Return a command line."""
    return " ".join(map(systemd, texts))


def quadlet(value: str, key: str, option: str) -> str:
    """Return the line of a Quadlet unit that gives ``podman run`` an option with this value.

    Most keys take the rest of the line as it is, so a value that needs quotes goes to PodmanArgs, which has quotes.
    """
    if _PLAIN.fullmatch(value):
        return f"{key}={value}"
    return f"PodmanArgs={systemd(f'{option}={value}')}"


def has_unit_path(path: str) -> bool:
    """Return whether a unit can name the path: systemd splits lines before it looks at quotes, and takes UTF-8 without
    surrogates and noncharacters (src/basic/utf8.c:unichar_is_valid)."""
    return not any(
        char in "\0\n\r" or "\ud800" <= char <= "\udfff" or "\ufdd0" <= char <= "\ufdef" or ord(char) & 0xFFFE == 0xFFFE
        for char in path
    )


def unit_path(path: str) -> str:
    """Return the path as one word of a list of paths, such as that of ReadWritePaths=. Raises ValueError for one that
    a unit cannot name.

    These lists have quotes and backslashes, but neither escapes of characters nor variables; ``%`` is a specifier.
    """
    if not has_unit_path(path):
        raise ValueError(f"a unit cannot name {path!a}")
    text = path.replace("%", "%%")
    return text if _PLAIN_PATH.fullmatch(text) else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def nspawn_words(texts: Iterable[str]) -> str:
    """Return a list of words for Parameters= of a .nspawn file, which has quotes of both kinds and no escapes."""
    return " ".join(
        "".join(f"'{part}'" if part[0] == '"' else f'"{part}"' for part in re.findall(r'"+|[^"]+', text)) or '""'
        for text in texts
    )


FILTERS = {"nspawn_words": nspawn_words, "systemd": systemd, "words": words, "quadlet": quadlet, "unit_path": unit_path}
