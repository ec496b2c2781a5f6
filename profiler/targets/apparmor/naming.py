"""Names of AppArmor profiles. A machine has one profile of a name, so two policies must not share one."""

from __future__ import annotations

import dataclasses
import hashlib
import re

from profiler.errors import InputError
from profiler.policy import patterns
from profiler.policy.model import Policy
from profiler.quoting.text import printable
from profiler.targets.apparmor.rules import RESERVED
from profiler.wording import UNKNOWN

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}")

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
"""Members of a policy that decide what a profile says."""


def valid_name(text: str) -> str:
    """Return the name. Raises InputError when no profile can have it."""
    if not _NAME.fullmatch(text) or text in RESERVED:
        raise InputError(
            f"{printable(text)!r} is not a name for a profile: use letters, digits and _.+-, 100 at most, and none of "
            + ", ".join(sorted(RESERVED))
        )
    return text


def profile_name(policy: Policy) -> str:
    """Return ``profgen-COMMAND-DIGEST``.

    The command is what people call the workload: redis-server, though that is a link to another program. The digest is
    of the rights that the policy gives: two policies of one command have different names, and the same policy always
    has the same. Reasons do not count.
    """
    firsts = [path for row in policy.transitions if row.by is None and (path := patterns.path_of(row.program))]
    # A program that ran already may have made a title of its command line; and there may be none.
    argv = [word for word in policy.workload.argv[:1] if word != UNKNOWN and not policy.workload.joined]
    words = [
        re.sub(r"[^A-Za-z0-9_.+-]+", "_", path.rsplit("/", 1)[-1]).strip("_")
        for path in (*policy.workload.joined, *argv, *firsts)
    ]
    allowed = (bool(policy.user_namespaces), bool(policy.io_uring))
    rights = repr([*(_rights(getattr(policy, name)) for name in _DECIDES), *allowed])
    digest = hashlib.sha256(rights.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"profgen-{next(filter(None, words), 'workload')[:80]}-{digest}"


def _rights(value: object) -> object:
    """Return the value without reasons, and with its rows in one order."""
    if dataclasses.is_dataclass(value):
        names = (field.name for field in dataclasses.fields(value) if field.name != "because")
        return [(name, _rights(getattr(value, name))) for name in names]
    if isinstance(value, tuple):
        return sorted({repr(_rights(item)) for item in value})
    return value
