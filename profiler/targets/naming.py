"""Names for what a launcher defines: a unit, a container."""

from __future__ import annotations

import posixpath
import re

from profiler.errors import InputError
from profiler.policy.model import Workload
from profiler.quoting.text import printable

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def valid_name(text: str) -> str:
    """Return the name. Raises InputError when a system would not take it."""
    if not _NAME.fullmatch(text):
        raise InputError(f"{printable(text)!r} is not a name: up to 64 letters, digits, '_', '.' and '-'")
    return text


def name_of(work: Workload) -> str:
    """Return a name for the workload that :func:`valid_name` takes: that of its image, without tag and digest, or of
    its program."""
    image = posixpath.basename((work.image or "").partition("@")[0]).partition(":")[0]
    for text in (image, posixpath.basename(work.argv[0]) if work.argv else ""):
        if name := re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-._")[:64]:
            return name
    return "workload"
