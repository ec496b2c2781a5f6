"""Enforce a policy on the calling process, which then becomes the workload: nothing of profgen stays next to it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import NoReturn

from profiler.confinement import Loader, Ready, confine, permitted, ready, reduce_bounding, shortfalls
from profiler.enforce.base import wrong_machine
from profiler.errors import CommandNotExecutable, ProfgenError
from profiler.kernel.capabilities import number_of
from profiler.policy.landlock import plan
from profiler.policy.model import Policy
from profiler.policy.patterns import CLASSES
from profiler.targets.bpf import enforcing
from profiler.targets.sets import mask_of
from profiler.tracers.base import Workload
from profiler.tracers.launch import Start, failure
from profiler.wording import listed


@dataclass(frozen=True)
class Confinement:
    """What enforces a policy. ``lacks``: what this machine cannot enforce, as sentences; ``notes``: what else a user
    should know."""

    policy: Policy
    loader: Loader
    rules: Ready
    lacks: tuple[str, ...]
    notes: tuple[str, ...]


def landlock(policy: Policy) -> tuple[Ready, tuple[str, ...]]:
    """Make the rules of Landlock. Return them, and why there are none of some sections. Raises ProfgenError."""
    found = plan(policy)
    try:
        rules = ready(found.rules, CLASSES["version"].regex)
    except OSError as error:
        raise ProfgenError(f"the kernel refuses the rules of Landlock: {error.strerror}") from error
    return rules, tuple(f"{section} are not limited: {why}" for section, why in found.unused)


def prepared(policy: Policy) -> Confinement:
    """Make all that is needed before a process is confined. Raises ProfgenError."""
    reason = wrong_machine(policy)
    if reason is not None:
        raise ProfgenError(reason)
    rules, notes = landlock(policy)
    have = permitted()
    absent = [name for name in policy.needed() if not have >> (number_of(name) or 0) & 1]
    if absent:
        notes += (f"the policy allows {listed(absent, 4)}, which this process does not have and cannot pass on",)
    if rules.missing:
        notes += (f"not there, so without a rule: {listed(rules.missing, 4)}",)
    return Confinement(policy, Loader(enforcing(policy)), rules, tuple(shortfalls(rules, policy.no_new_privs)), notes)


def execute(made: Confinement, workload: Workload) -> NoReturn:
    """Confine the calling process and execute the workload in its place. When that fails, print why and exit: the
    filter may refuse what Python does at its end."""
    policy = made.policy
    mask = mask_of(policy)

    def last() -> None:
        confine(mask, policy.no_new_privs, made.loader, made.rules.descriptor)

    start = Start(workload, lambda: reduce_bounding(mask), last)
    code = 0
    try:
        start.execute()
    except OSError as error:
        code = error.errno or 0
    except ValueError:
        pass
    found = failure(workload.path, start.step, code)
    hint = ""
    if isinstance(found, CommandNotExecutable):
        hint = " (the policy may not allow it: profgen verify names what it refuses)"
    os.write(2, f"profgen: {found}{hint}\n".encode("utf-8", "backslashreplace"))
    os._exit(found.exit_code)
