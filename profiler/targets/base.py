"""What a target is, the list of them, and rendering through templates.

To add one: a module with ``render(policy, options) -> dict[str, bytes]`` (file name to content), its templates, its
test, and a line in TARGETS. A target never reads a trace and writes no file itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from profiler.errors import InputError
from profiler.policy.model import Policy
from profiler.quoting.text import printable

TARGETS: Mapping[str, str] = {
    "seccomp": "profiler.targets.seccomp",
    "capabilities": "profiler.targets.capabilities",
    "oci": "profiler.targets.oci",
    "docker": "profiler.targets.docker",
    "apparmor": "profiler.targets.apparmor.profile",
}

DEFAULT_ACTIONS: Mapping[str, str] = {
    "errno": "SCMP_ACT_ERRNO",
    "log": "SCMP_ACT_LOG",
    "kill-process": "SCMP_ACT_KILL_PROCESS",
}
"""What a profile does with a syscall it does not name: the word on the command line, and OCI's."""

EXECUTABLE = frozenset({"docker-run.sh"})
"""Files that are scripts."""


APPARMOR_ABIS = ("3.0", "4.0")
"""What an AppArmor profile may be written for: the features of the kernel and the words of the parser that it counts
on."""


@dataclass(frozen=True)
class AppArmorOptions:
    """How the AppArmor profile is written. ``name``: None makes one from the workload's program. ``attach``: the path
    of the program that always runs under it; None for profiles that something names (containers, systemd). ``abi``: one
    of APPARMOR_ABIS. ``complain``: denials are logged, not enforced. ``children``: each further program gets a profile
    of its own.
    """

    name: str | None = None
    attach: str | None = None
    abi: str = "3.0"
    complain: bool = False
    children: bool = False


@dataclass(frozen=True)
class RenderOptions:
    """``default_action`` is a key of DEFAULT_ACTIONS. ``oci_config``: name and content of a config.json to rewrite.
    ``names_apparmor``: the target apparmor is rendered too, so those that start containers name its profile.
    """

    default_action: str = "errno"
    oci_config: tuple[str, bytes] | None = None
    apparmor: AppArmorOptions = AppArmorOptions()
    names_apparmor: bool = False


class Target(Protocol):
    """A module of this package."""

    def render(self, policy: Policy, options: RenderOptions) -> dict[str, bytes]:
        """File name to content. Deterministic. Raises InputError for options that cannot be used."""
        ...


def target(name: str) -> Target:
    """The target of that name. Raises InputError for an unknown one."""
    if name not in TARGETS:
        raise InputError(f"unknown target {printable(name)!r}: one of {', '.join(TARGETS)}")
    module: Any = import_module(TARGETS[name])
    found: Target = module
    return found
