"""The summary of a job of GitHub Actions: Markdown that its steps append to a file (GITHUB_STEP_SUMMARY)."""

from __future__ import annotations

import os
import stat

from profiler.cli.terminal import say
from profiler.files import as_invoking_user
from profiler.wording import cause

VARIABLE = "GITHUB_STEP_SUMMARY"
LIMIT_BYTES = 1 << 20
"""A larger summary is refused whole, and fails the job's upload of it."""
_CUT = "\n\nThe rest is left out: a summary holds 1 MiB.\n"


def append(markdown: str) -> None:
    """Append Markdown to the summary if there is one, cut to what fits. Say why it cannot be written, if so."""
    path = os.environ.get(VARIABLE, "")
    if not path:
        return
    try:
        with as_invoking_user():
            # The file is in a directory that other steps write to: no link, pipe or device in its place is opened.
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            fd = os.open(path, flags, 0o666)
        with open(fd, "ab", buffering=0) as file:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                say(f"warning: no job summary: {VARIABLE} is not a regular file")
                return
            file.write(_fitting(f"\n{markdown}" if found.st_size else markdown, LIMIT_BYTES - found.st_size))
    except OSError as error:
        say(f"warning: no job summary: {VARIABLE}: {cause(error)}")


def _fitting(markdown: str, room: int) -> bytes:
    """Return the text in UTF-8, cut after a line when it has more than ``room`` bytes; nothing if no line fits."""
    data = markdown.encode("utf-8", "backslashreplace")
    if len(data) <= room:
        return data
    kept = data[: max(0, room - len(_CUT))]
    end = kept.rfind(b"\n")
    return kept[:end] + _CUT.encode() if end > 0 else b""
