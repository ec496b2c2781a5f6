"""Standard error and standard output: lines for people, and what a terminal can show."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from profiler.cli.live import set_aside
from profiler.quoting.text import printable

if TYPE_CHECKING:
    from profiler.policy.model import Policy


def say(text: str) -> None:
    """Print one line on standard error, above the live line."""
    with set_aside():
        print(f"profgen: {printable(text)}", file=sys.stderr)


def say_outdated(path: str, data: bytes, policy: Policy) -> None:
    """Say that the head of a policy's file does not tell what its entries say, when that is so."""
    from profiler.policy.document import head_is_outdated
    from profiler.quoting.shell import profgen

    if head_is_outdated(data, policy):
        say(f"note: the head of {path} is out of date; renew it: {profgen('merge', Path(path), '-o', Path(path))}")


def emit(data: bytes | str) -> None:
    """Write a result to standard output; text as UTF-8, with lone surrogates as escapes."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data if isinstance(data, bytes) else data.encode("utf-8", "backslashreplace"))
    sys.stdout.buffer.flush()


def redraws(stream: TextIO) -> bool:
    """Return whether a stream is a terminal that can redraw a line: TERM=dumb names one that cannot (terminfo(5))."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def colours(stream: TextIO) -> bool:
    """Return whether to write in colour: on such a terminal, unless NO_COLOR is set (https://no-color.org)."""
    return redraws(stream) and not os.environ.get("NO_COLOR")
