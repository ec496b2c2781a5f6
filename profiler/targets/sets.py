"""Capability sets of a process, as the OCI runtime specification writes them (capabilities(7))."""

from __future__ import annotations

from profiler.kernel.capabilities import number_of
from profiler.policy.model import Policy


def oci_sets(policy: Policy, uid: int) -> dict[str, list[str]]:
    """Return ``process.capabilities`` for a process with this user id.

    A user other than root keeps capabilities across execve only in the ambient set, which needs the inheritable one.
    root gets them from the bounding set; for it the two stay empty.
    """
    needed = list(policy.needed())
    kept = needed if uid != 0 else []
    return {"bounding": needed, "effective": needed, "permitted": needed, "inheritable": kept, "ambient": kept}


def mask_of(policy: Policy) -> int:
    """Return the policy's needed capabilities as a bit mask."""
    return sum(1 << (number_of(name) or 0) for name in policy.needed())
