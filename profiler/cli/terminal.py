"""Standard error and standard output: lines for people, and what a terminal can show."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from pathlib import Path
from typing import TextIO

import click

from profiler.cli.live import set_aside
from profiler.files import print_result
from profiler.progress import tell_with
from profiler.quoting.shell import profgen
from profiler.quoting.text import printable
from profiler.style import Style

WIDEST = 110
"""Longer lines are hard to read."""
NARROWEST = 40
UNKNOWN_WIDTH = 80


_LABELS = {"warning": "warning", "note": "note", "danger": "error", "conflict": "error"}
"""How a line may begin, to what that means."""
_LABEL = re.compile(rf"( *)({'|'.join(_LABELS)})(?=:)")


def say(text: str, style: Style | None = None) -> None:
    """Print one line on standard error, above the live line. ``style``: of its label, by default as for a report."""
    style = style or style_for(sys.stderr)
    shown = printable(text)
    if found := _LABEL.match(shown):
        shown = found[1] + style(_LABELS[found[2]], found[2]) + shown[found.end() :]
    with set_aside():
        print(f"profgen: {shown}", file=sys.stderr)


def say_what_takes_long() -> None:
    """Have waits of more than two seconds explained on a terminal. bcc redirects standard error while it compiles."""
    if not sys.stderr.isatty():
        return
    fd = os.dup(2)

    def tell(what: str) -> None:
        with set_aside(), contextlib.suppress(OSError):
            os.write(fd, f"profgen: {printable(what)} ...\n".encode())

    tell_with(tell)


def say_outdated(path: str) -> None:
    """Say that the head of a policy's file does not tell what its entries say."""
    say(f"note: the head of {path} is out of date; renew it: {profgen('merge', Path(path), '-o', Path(path))}")


def emit(data: bytes | str) -> None:
    """Write a result to standard output; text as UTF-8, with lone surrogates as escapes."""
    print_result(data if isinstance(data, bytes) else data.encode("utf-8", "backslashreplace"))


_OF_DIFF = {"---": "title", "+++": "title", "@@": "note", "-": "error", "+": "good"}
"""How a line of a unified diff begins, to what that means."""


def in_colours(diff: str, style: Style) -> str:
    """Return a unified diff with colours, as git(1) has them."""

    def drawn(line: str) -> str:
        meaning = next((meaning for start, meaning in _OF_DIFF.items() if line.startswith(start)), None)
        return line if meaning is None else style(meaning, line)

    return "\n".join(map(drawn, diff.split("\n")))


def redraws(stream: TextIO) -> bool:
    """Return whether a stream is a terminal that can redraw a line: TERM=dumb names one that cannot (terminfo(5))."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


COLOUR = "profgen.color"
"""The key of --color in click's context."""


def style_for(stream: TextIO) -> Style:
    """Return the style of a report. Without --color it has colours on a terminal that can show them, unless NO_COLOR is
    set (https://no-color.org)."""
    context = click.get_current_context(silent=True)
    wanted = "auto" if context is None else context.meta.get(COLOUR, "auto")
    colours = wanted == "always" or (wanted == "auto" and redraws(stream) and not os.environ.get("NO_COLOR"))
    return Style(colours, columns(stream))


def columns(stream: TextIO) -> int:
    """Return the width of a report: that of the terminal, 80 without one, and at most WIDEST."""
    try:
        width = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        width = 0
    return max(NARROWEST, min(width or UNKNOWN_WIDTH, WIDEST))
