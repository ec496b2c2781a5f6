"""Turn a policy into what confines a process (here.py)."""

from __future__ import annotations

from profiler.enforce.base import wrong_machine
from profiler.enforce.here import Confinement
from profiler.errors import ProfgenError
from profiler.kernel.capabilities import number_of
from profiler.policy.landlock import plan
from profiler.policy.model import Policy
from profiler.policy.patterns import CLASSES
from profiler.targets.bpf import enforcing


def confinement(policy: Policy) -> Confinement:
    """Return what enforces a policy. Raises ProfgenError."""
    reason = wrong_machine(policy)
    if reason is not None:
        raise ProfgenError(reason)
    found = plan(policy)
    unlimited = found.unlimited()
    return Confinement(
        [(name, number_of(name) or 0) for name in policy.needed()],
        policy.no_new_privs,
        found.rules,
        CLASSES["version"].regex,
        enforcing(policy),
        # A policy without rules for files is enforced as it is.
        unlimited if policy.has_files else [],
        [] if policy.has_files else unlimited,
    )
