"""What a terminal can show."""

from __future__ import annotations

import os
from typing import TextIO


def redraws(stream: TextIO) -> bool:
    """Whether it is a terminal that can move back in a line and wipe it: TERM=dumb names one that cannot
    (terminfo(5))."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def colours(stream: TextIO) -> bool:
    """Whether to write in colour: on such a terminal, unless NO_COLOR is set and not empty (https://no-color.org)."""
    return redraws(stream) and not os.environ.get("NO_COLOR")
