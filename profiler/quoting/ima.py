"""Write conditions for rules of IMA, and lines of sha256sum(1).

Sources: Documentation/ABI/testing/ima_policy; security/integrity/ima/ima_policy.c (ima_parse_rule), Linux 6.1;
coreutils 9.1, src/digest.c.
"""

from __future__ import annotations

import re

LINE_MAX = 4095
"""Bytes of a rule. The kernel takes less than a page at a time."""

_NUMBER = "[0-9]{1,10}"
_ID = f"[=<>]{_NUMBER}"
_TEXT = r"=[^\s,]{1,255}"
_VALUES = {
    "uid": _ID, "euid": _ID, "gid": _ID, "egid": _ID, "fowner": _ID, "fgroup": _ID,
    "fsmagic": "=0x[0-9A-Fa-f]{1,16}", "fsname": _TEXT,
    "fsuuid": "=[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}",
    "subj_user": _TEXT, "subj_role": _TEXT, "subj_type": _TEXT, "obj_user": _TEXT, "obj_role": _TEXT, "obj_type": _TEXT,
}  # fmt: skip
"""Conditions that a rule for executed and mapped files can have, each with what may follow its name."""

CONDITIONS = tuple(_VALUES)
_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r"}


class Inexpressible(ValueError):
    """A condition that IMA does not take; ``str()`` says why."""


def condition(text: str) -> str:
    """Return a condition, such as ``uid=33``. Raises Inexpressible."""
    found = re.match(r"[a-z_]+", text)
    name = found[0] if found else ""
    if name not in _VALUES:
        raise Inexpressible(f"a condition is one of {', '.join(CONDITIONS)}, with its value")
    if not text.isprintable() or not re.fullmatch(_VALUES[name], text[len(name) :]):
        raise Inexpressible(f"{name} does not take this value")
    return text


def checked_line(digest: str, path: str) -> str:
    """Return the line of ``sha256sum --check`` for a file below the current directory."""
    name = "".join(_ESCAPES.get(char, char) for char in path)
    return f"{'' if name == path else chr(92)}{digest}  {name}"


FILTERS = {"ima_condition": condition}
