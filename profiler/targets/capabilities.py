"""capabilities.json: what to drop, what to add, and the five sets of an OCI runtime."""

from __future__ import annotations

from profiler.targets.base import File, Output, Request, Target
from profiler.targets.sets import oci_sets


class Capabilities(Target):
    """The capabilities as data, for tools that set them up themselves."""

    name = "capabilities"
    summary = "capabilities.json: what to drop and add, and the five sets of an OCI runtime"
    says = frozenset({"capabilities", "no_new_privs"})

    def render(self, request: Request) -> Output:
        """See Target.render."""
        policy = request.policy
        values = {
            "add": policy.needed(),
            "sets": oci_sets(policy, policy.workload.uid),
            "no_new_privs": policy.no_new_privs,
        }
        return Output((File("capabilities.json", request.template("capabilities.json.j2", **values)),))
