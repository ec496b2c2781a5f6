"""Names for what a policy becomes on a machine: units, containers, profiles, modules."""

from __future__ import annotations

import dataclasses
import hashlib
import posixpath
import re

from profiler.errors import InputError
from profiler.policy import patterns
from profiler.policy.model import Policy, Workload
from profiler.quoting.text import printable
from profiler.wording import UNKNOWN

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

_DECIDES = (
    "no_new_privs",
    "runtime",
    "capabilities",
    "variables",
    "files",
    "transitions",
    "sockets",
    "signals",
    "inspections",
    "mounts",
)
"""Members of a policy that decide what a profile of a security module says."""


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


def command_of(policy: Policy, characters: str) -> str:
    """Return what people call the workload: redis-server, though that is a link to another program. Other characters
    than ``characters`` (as in a bracket expression) become ``_``."""
    firsts = [path for row in policy.transitions if row.by is None and (path := patterns.path_of(row.program))]
    # A program that ran already may have made a title of its command line; and there may be none.
    argv = [word for word in policy.workload.argv[:1] if word != UNKNOWN and not policy.workload.joined]
    words = [
        re.sub(rf"[^{characters}]+", "_", path.rsplit("/", 1)[-1]).strip("_")
        for path in (*policy.workload.joined, *argv, *firsts)
    ]
    return next(filter(None, words), "workload")


def digest_of(policy: Policy) -> str:
    """Return eight digits for the rights that the policy gives: two policies of one command have different ones, and
    the same policy always has the same. Reasons do not count."""
    allowed = (bool(policy.user_namespaces), bool(policy.io_uring))
    rights = repr([*(_rights(getattr(policy, name)) for name in _DECIDES), *allowed])
    return hashlib.sha256(rights.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def _rights(value: object) -> object:
    """Return the value without reasons, and with its rows in one order."""
    if dataclasses.is_dataclass(value):
        names = (field.name for field in dataclasses.fields(value) if field.name != "because")
        return [(name, _rights(getattr(value, name))) for name in names]
    if isinstance(value, tuple):
        return sorted({repr(_rights(item)) for item in value})
    return value
