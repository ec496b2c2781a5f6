"""Read the lines of aa-log, which prints the fields of AppArmor's records in an order and colours of its own.

``DENIED  PROFILE OPERATION [owner] [NAME] [-> TARGET] comm=... requested_mask=... ...`` (pkg/logs/logs.go of the
project apparmor.d). A value with blanks is in quotation marks. It replaces parts of names by variables, ``@{HOME}`` for
/home/NAME: such a name does not tell which file was refused.
"""

from __future__ import annotations

import re

MARKS = (b"DENIED", b"ALLOWED")

_LINE = re.compile(rb"(?P<verdict>DENIED|ALLOWED) +(?P<rest>(?:\"[^\"]+\"|[^\s\"=]+) [a-z_]+ (?:[^=]* )?[a-z_]+=.*)")
_WORD = re.compile(rb'[a-z_]+="[^"]*"|"[^"]*"|[^\s"]+')
_MEMBER = re.compile(r'([a-z_]+)=(?:"([^"]*)"|(.*))', re.DOTALL)


def is_line(line: bytes) -> bool:
    """Return whether the line, which is without colours, is one of aa-log."""
    return _LINE.fullmatch(line) is not None


def values_of(line: bytes) -> dict[str, str]:
    """Return the fields as AppArmor names them. Raises ValueError for a line that does not tell what was refused."""
    found = _LINE.fullmatch(line)
    if found is None:
        raise ValueError("not a line of aa-log")
    words = [word.decode("utf-8", "surrogateescape") for word in _WORD.findall(found["rest"])]
    members = [at for at, word in enumerate(words) if _MEMBER.fullmatch(word)]
    profile, operation, *named = (word.strip('"') for word in words[: members[0]])
    values = {"apparmor": found["verdict"].decode(), "profile": profile, "operation": operation}
    for word in words[members[0] :]:
        member = _MEMBER.fullmatch(word)
        if member is None or member[1] in values:
            raise ValueError(word)
        values[member[1]] = member[2] if member[2] is not None else member[3]
    owner = named[:1] == ["owner"]
    named = named[owner:]
    if named:
        values |= {"name": named[0], "fsuid": "0", "ouid": "0" if owner else "1"}
    if named[1:2] == ["->"] and len(named) == 3:
        values["target"] = named[2]
    elif len(named) > 1:
        raise ValueError("more than one name")
    if any("@{" in value for value in values.values()):
        raise ValueError("a variable stands for a part of the name")
    return values
