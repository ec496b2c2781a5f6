"""Policies, workloads and enforcers for tests of runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection
from dataclasses import replace

from profiler.enforce.base import Options, Outcome
from profiler.kernel.abi import native_abi
from profiler.kernel.syscalls import names_of
from profiler.policy.model import Allowed, Capability, FileRule, Policy, Workload
from profiler.tracers import base


def everything_but(names: Collection[str] = (), capabilities: Collection[str] = ()) -> Policy:
    """A policy of this machine that allows every syscall but these, without rules for files."""
    abi = native_abi()
    return Policy(
        workload=Workload(("app",), 0),
        abis=(abi,),
        no_new_privs=True,
        runtime="none",
        syscalls=tuple(Allowed("observed", abi, name) for name in sorted(names_of(abi) - set(names))),
        capabilities=tuple(Capability(name) for name in capabilities),
    )


def with_files(policy: Policy) -> Policy:
    return replace(policy, has_files=True, files=(FileRule("/{tree}", ("read",)),))


def shell(script: str, **env: str) -> base.Workload:
    return base.Workload(("sh", "-c", script), "/bin/sh", {"PATH": os.environ["PATH"], **env}, "/")


def python(script: str) -> base.Workload:
    return base.Workload((sys.executable, "-c", script), sys.executable, dict(os.environ), "/")


class Fake:
    """An enforcer whose run is a function, which the keeper calls."""

    name = "fake"

    def __init__(self, work: Callable[[], Outcome]) -> None:
        self._work = work

    def unavailable(self, policy: Policy, options: Options) -> str | None:
        return None

    def run(self, policy: Policy, workload: base.Workload, options: Options) -> Outcome:
        return self._work()
