"""Write values into the configuration of an LXC container (lxc.container.conf(5), src/lxc/confile.c)."""

from __future__ import annotations

import re

_ESCAPED = re.compile(r"[ \t\n\\]")
_BREAKS = re.compile(r"[\r\n\0]")


class Inexpressible(ValueError):
    """The configuration has no form for the text; ``str()`` says why."""


def value(text: str) -> str:
    """Return ``text`` as the value of a key. LXC has no escapes, and takes blanks and quotation marks around a value
    away. Raises Inexpressible."""
    if _BREAKS.search(text):
        raise Inexpressible("a value is on one line")
    if text != text.strip(" \t") or text[:1] in ("'", '"'):
        raise Inexpressible("a value does not begin or end with a blank, nor begin with a quotation mark")
    return text


def field(text: str) -> str:
    """Return ``text`` as a field of ``lxc.mount.entry``, which has the form of fstab(5). Raises Inexpressible."""
    if "\r" in text or "\0" in text:
        raise Inexpressible("fstab(5) has no escape for a carriage return")
    return _ESCAPED.sub(lambda found: f"\\{ord(found[0]):03o}", text)


def unescaped(text: str) -> str:
    """Return what a field of fstab(5) says."""
    return re.sub(r"\\(040|011|012|134)", lambda found: chr(int(found[1], 8)), text)


FILTERS = {"lxc_value": value}
