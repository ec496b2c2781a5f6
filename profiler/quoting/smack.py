"""Write labels and rules for Smack.

Sources: Documentation/admin-guide/LSM/Smack.rst; security/smack/smack_access.c (smk_parse_smack) and
security/smack/smackfs.c (smk_perm_from_str), Linux 6.1.
"""

from __future__ import annotations

import re

LABEL_MAX = 255
"""Bytes of a label (SMK_LONGLABEL - 1)."""
LETTERS = "rwxatlb"
"""Read, write, execute, append, transmute, lock, bring-up: in the order in which rules are written."""

_LABEL = re.compile(r"(?!-)[!-~]+")
_FORBIDDEN = frozenset("/\\'\"")


class Inexpressible(ValueError):
    """Text that is not a label or an access; ``str()`` says why."""


def label(text: str) -> str:
    """Return the label. Raises Inexpressible for what the kernel does not take."""
    if not _LABEL.fullmatch(text) or _FORBIDDEN & set(text):
        raise Inexpressible("a label has printable ASCII without blanks, quotes, / and \\, and does not begin with -")
    if len(text) > LABEL_MAX:
        raise Inexpressible(f"a label has at most {LABEL_MAX} characters")
    return text


def access(letters: str) -> str:
    """Return an access in the order of the kernel, ``-`` for none. Raises Inexpressible for an unknown letter."""
    if unknown := set(letters) - set(LETTERS):
        raise Inexpressible(f"not a letter of an access: {', '.join(sorted(unknown))}")
    return "".join(letter for letter in LETTERS if letter in letters) or "-"


FILTERS = {"smack_label": label, "smack_access": access}
