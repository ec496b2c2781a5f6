"""Enforce a policy as ``direct`` does, and let Landlock refuse what it has a form for, as ``profgen run`` does."""

from __future__ import annotations

import os
from dataclasses import replace

from profiler.confinement import landlock_abi, shortfalls
from profiler.enforce import here, traced
from profiler.enforce.base import Options, Outcome, without_files, wrong_machine
from profiler.errors import InputError
from profiler.policy.landlock import plan
from profiler.policy.model import Policy
from profiler.policy.patterns import CLASSES
from profiler.tracers.base import Workload


class Landlock:
    """The module describes it."""

    name = "landlock"

    def unavailable(self, policy: Policy, options: Options) -> str | None:
        """It needs a kernel with Landlock, and a policy with rules for files that Landlock can enforce."""
        reason = wrong_machine(policy)
        if reason is not None:
            return reason
        if options.mode == "log":
            return "Landlock refuses, and cannot only log: use --under direct for --mode log"
        reason = without_files(policy, options)
        if reason is not None:
            return reason
        if not landlock_abi():
            return "this kernel has no Landlock, or it is not in lsm= of its command line; use --under direct"
        unused = plan(policy).unused
        return f"{unused[0][1]}; use --under direct" if unused else traced.unavailable()

    def run(self, policy: Policy, workload: Workload, options: Options) -> Outcome:
        """See Enforcer.run."""
        reason = self.unavailable(policy, options)
        if reason is not None:
            raise InputError(reason)
        rules = here.enforceable(plan(policy).rules, CLASSES["version"].regex)
        assert rules.descriptor is not None
        try:
            outcome, _ = traced.run_under(policy, workload, options, None, rules.descriptor)
        finally:
            os.close(rules.descriptor)
        return replace(outcome, means=(*outcome.means, *shortfalls(rules, policy.no_new_privs)))
