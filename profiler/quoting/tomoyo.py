"""Write names and patterns for TOMOYO's policy, and read the names of its log.

A word is printable ASCII. Every other byte, and the space, is written as an octal number; a backslash is doubled
(tomoyo_encode2 in security/tomoyo/realpath.c). Wildcards begin with a backslash, so no character of a name is one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

WORD_MAX = 3900
"""Bytes of a word: the kernel has buffers of 4 096 for a domain's name (TOMOYO_EXEC_TMPSIZE)."""
NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)

_ENCODED = re.compile(rb"\\([0-3][0-7]{2}|\\)")


class Inexpressible(ValueError):
    """Text that the language cannot express; ``str()`` says why."""


@dataclass(frozen=True)
class Wildcard:
    r"""A piece of a pattern that profgen itself wrote (``\*``, ``\$``): not quoted."""

    text: str


def tomoyo(parts: str | Sequence[str | Wildcard]) -> str:
    r"""Return a name, or a pattern of literal text and :class:`Wildcard`, as one word. Raises Inexpressible."""
    pieces = [parts] if isinstance(parts, str) else parts
    word = "".join(piece.text if isinstance(piece, Wildcard) else _literal(piece) for piece in pieces)
    if not word:
        raise Inexpressible("an empty name")
    if len(word) > WORD_MAX:
        raise Inexpressible(f"longer than the kernel's buffers ({WORD_MAX} bytes)")
    return word


def _literal(text: str) -> str:
    return "".join(
        "\\\\" if byte == 0x5C else chr(byte) if 0x20 < byte < 0x7F else f"\\{byte:03o}" for byte in os.fsencode(text)
    )


def decoded(word: bytes) -> str:
    """Return the name that a word of the log stands for. Bytes that are not UTF-8 become surrogates."""
    plain = _ENCODED.sub(lambda found: b"\\" if found[1] == b"\\" else bytes([int(found[1], 8)]), word)
    return os.fsdecode(plain)


def tomoyo_comment(text: str) -> str:
    """Return the text of a comment, which ``comment`` made one line, in ASCII: the tools warn of other bytes."""
    return "".join(char if char.isascii() else _literal(char) for char in text)


FILTERS = {"tomoyo": tomoyo, "tomoyo_comment": tomoyo_comment}
