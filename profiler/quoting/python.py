"""Write literals of Python, in ASCII."""

from __future__ import annotations

import base64


def python(value: object) -> str:
    """Return text, a number, a bool, None, or a tuple of these as a literal. A byte that is not UTF-8 stays the lone
    surrogate that stands for it (PEP 383)."""
    return ascii(value)


def base64_lines(data: bytes) -> list[str]:
    """Return bytes in Base64, as lines of up to 96 characters."""
    text = base64.b64encode(data).decode("ascii")
    return [text[at : at + 96] for at in range(0, len(text), 96)]


FILTERS = {"python": python, "base64_lines": base64_lines}
