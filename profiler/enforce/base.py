"""What an enforcer is. A new one is a module with such a class, and one line in ENFORCERS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Protocol

from profiler.denials.model import Denial
from profiler.kernel.abi import SUB_ABIS, native_abi
from profiler.policy.model import Policy
from profiler.tracers.base import Workload

ENFORCERS: Mapping[str, str] = {
    "direct": "profiler.enforce.direct:Direct",
    "landlock": "profiler.enforce.landlock:Landlock",
    "apparmor": "profiler.enforce.apparmor:AppArmor",
    "runc": "profiler.enforce.containers:Runc",
    "crun": "profiler.enforce.containers:Crun",
    "docker": "profiler.enforce.containers:Docker",
}


@dataclass(frozen=True)
class Options:
    """How to run a workload.

    ``mode``: with ``enforce``, what the policy does not allow is refused; with ``log`` nothing is refused, and
    everything is reported.

    ``denials``: find out what is refused; without it only the status is known, and a run is much faster. ``files``:
    compare files, sockets, signals, inspections and mounts with the policy too, if it has rules for them. ``duration``:
    seconds after which the workload is asked to end. ``bundle``: the directory with config.json, for OCI runtimes.
    """

    mode: str = "enforce"
    denials: bool = True
    files: bool = True
    duration: float | None = None
    bundle: Path | None = None
    refused: frozenset[tuple[str, str]] = frozenset()
    """Capabilities that calls were already refused while recording (policy/evidence.py): not denials."""


FILES_UNSEEN = "files, sockets, signals and mounts"
"""What a run without the policy's rules for them cannot notice (Outcome.unseen)."""


@dataclass(frozen=True)
class Outcome:
    """The result of a run. ``status`` as a shell shows it. ``denials``: in the order of their first occurrence, equal
    ones joined; times in seconds since the epoch. ``means``: lines for people about how each sort of denial was refused
    and noticed. ``unseen``: what such a run cannot notice, in words. ``losses``: as of a trace; with any, there may be
    more denials. ``warnings``: why something was lost, for people."""

    status: int
    denials: tuple[Denial, ...] = ()
    means: tuple[str, ...] = ()
    losses: Mapping[str, int] = field(default_factory=dict)
    unseen: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Enforcer(Protocol):
    """One way to run a workload confined."""

    name: str

    def unavailable(self, policy: Policy, options: Options) -> str | None:
        """Return why it cannot work here and what to do about it, None when it can. Quick; changes nothing."""

    def run(self, policy: Policy, workload: Workload, options: Options) -> Outcome:
        """Run the workload under the policy to the end of its last descendant.

        The FORWARDED signals must be held (tracers/supervisor.py). Raises CommandNotFound, CommandNotExecutable or
        ProfgenError before the workload ran.
        """


def load(name: str) -> Enforcer:
    """Import the enforcer of this name, and return it."""
    module, _, cls = ENFORCERS[name].partition(":")
    enforcer: Enforcer = getattr(import_module(module), cls)()
    return enforcer


def wrong_machine(policy: Policy) -> str | None:
    """Return why a policy cannot be enforced on this machine, None when it can."""
    if policy.abis[0] != native_abi() or not set(policy.abis[1:]) <= set(SUB_ABIS[policy.abis[0]]):
        return f"the policy is for {', '.join(policy.abis)}, and this machine is {native_abi()}"
    return None


def without_files(policy: Policy, options: Options) -> str | None:
    """Return why a run has no rules for files that an enforcer needs, None when it has some."""
    if not policy.has_files:
        return "the policy has no rules for files: use --under direct, or record without --no-files"
    return None if options.files else "--no-files leaves out what it enforces: use --under direct, or no --no-files"
