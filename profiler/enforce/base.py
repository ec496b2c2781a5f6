"""What an enforcer is: one screen. A new one is a module with such a class and one line in ENFORCERS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Protocol

from profiler.denials.model import Denial
from profiler.policy.model import Policy
from profiler.tracers.base import Workload

ENFORCERS: Mapping[str, str] = {
    "direct": "profiler.enforce.direct:Direct",
    "apparmor": "profiler.enforce.apparmor:AppArmor",
    "runc": "profiler.enforce.containers:Runc",
    "crun": "profiler.enforce.containers:Crun",
    "docker": "profiler.enforce.containers:Docker",
}

MODES = ("enforce", "log")
"""``enforce``: what the policy does not allow is refused. ``log``: nothing is, and everything is reported."""


@dataclass(frozen=True)
class Options:
    """How a run is made.

    ``denials``: find out what was refused; without, only the status is known and a run costs next to nothing.
    ``files``: hold the run to the policy's rules for files, sockets, signals and so on too, where it has any.
    ``duration``: seconds after which the workload is asked to end. ``bundle``: of OCI runtimes, the directory with
    config.json.
    """

    mode: str = "enforce"
    denials: bool = True
    files: bool = True
    duration: float | None = None
    bundle: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """``status`` as a shell shows it. ``denials``: those alike as one, in the order in which they came, times in
    seconds since the epoch.

    ``means``: how each sort of denial was refused and seen, a line each for people. ``losses``: as of a trace; with
    any, there may be more denials.
    """

    status: int
    denials: tuple[Denial, ...] = ()
    means: tuple[str, ...] = ()
    losses: Mapping[str, int] = field(default_factory=dict)


class Enforcer(Protocol):
    """One way to run a workload confined."""

    name: str

    def unavailable(self, policy: Policy, options: Options) -> str | None:
        """Why it cannot work here, with what to do about it, or None when it can. Quick, changes nothing."""

    def run(self, policy: Policy, workload: Workload, options: Options) -> Outcome:
        """Run the workload under the policy to the end of its last descendant.

        The FORWARDED signals must be held (tracers/supervisor.py). Raises CommandNotFound, CommandNotExecutable or
        ProfgenError before the workload ran.
        """


def load(name: str) -> Enforcer:
    """The enforcer of this name, imported now."""
    module, _, cls = ENFORCERS[name].partition(":")
    enforcer: Enforcer = getattr(import_module(module), cls)()
    return enforcer
