"""capabilities.json: what to drop, what to add, and the five sets of an OCI runtime (capabilities(7))."""

from __future__ import annotations

from profiler.policy.model import Policy
from profiler.targets.base import RenderOptions
from profiler.targets.template import render_template


def oci_sets(policy: Policy, uid: int) -> dict[str, list[str]]:
    """``process.capabilities`` of the runtime specification.

    A user other than root keeps capabilities across execve only in the ambient set, which needs the inheritable one.
    root gets them from the bounding set; for it the two stay empty.
    """
    needed = list(policy.needed())
    kept = needed if uid != 0 else []
    return {"bounding": needed, "effective": needed, "permitted": needed, "inheritable": kept, "ambient": kept}


def render(policy: Policy, options: RenderOptions) -> dict[str, bytes]:
    """``capabilities.json``."""
    content = {
        "drop": ["ALL"],
        "add": list(policy.needed()),
        "oci": oci_sets(policy, policy.workload.uid),
        "no_new_privileges": policy.no_new_privs,
    }
    return {"capabilities.json": render_template("capabilities.json.j2", capabilities=content)}
