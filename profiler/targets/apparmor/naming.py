"""Names of AppArmor profiles."""

from __future__ import annotations

import re

from profiler.errors import InputError
from profiler.policy.model import Policy
from profiler.quoting.text import printable
from profiler.targets.apparmor.rules import RESERVED
from profiler.targets.naming import command_of, digest_of

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}")


def valid_name(text: str) -> str:
    """Return the name. Raises InputError when no profile can have it."""
    if not _NAME.fullmatch(text) or text in RESERVED:
        raise InputError(
            f"{printable(text)!r} is not a name for a profile: use letters, digits and _.+-, 100 at most, and none of "
            + ", ".join(sorted(RESERVED))
        )
    return text


def valid_namespace(text: str) -> str:
    """Return the name of a policy namespace. Raises InputError for what is not one below the root."""
    if not _NAME.fullmatch(text) or text == "root":
        raise InputError(
            f"{printable(text)!r} is not a name for a namespace: use letters, digits and _.+-, 100 at most; not root"
        )
    return text


def profile_name(policy: Policy) -> str:
    """Return ``profgen-COMMAND-DIGEST``."""
    return f"profgen-{command_of(policy, 'A-Za-z0-9_.+-')[:80]}-{digest_of(policy)}"
