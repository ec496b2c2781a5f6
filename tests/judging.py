"""Every profile that the suite writes goes before the judge: the filter that libseccomp makes of it lets through what
the policy says, no more and no less."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simulation import calls

from profiler.policy.document import loads
from profiler.policy.model import Policy
from profiler.review.cubes import joined
from profiler.review.sources import from_bytes


def written(directory: Path) -> None:
    """Check the seccomp.json in a directory that ``generate`` wrote, with the policy next to it if there is one, on an
    x86-64 machine."""
    profile, policy = (directory / name for name in ("seccomp.json", "policy.yaml"))
    if os.uname().machine == "x86_64" and profile.is_file():
        _written(profile.read_bytes(), policy.read_bytes() if policy.is_file() else None)


@functools.lru_cache(maxsize=512)
def _written(profile: bytes, policy: bytes | None) -> None:
    exact(json.loads(profile), None if policy is None else loads(policy, "policy.yaml"))


def exact(profile: Mapping[str, Any], policy: Policy | None) -> None:
    """Check that the kernel, the reader and the policy agree on every call of a profile that profgen wrote."""
    rights = from_bytes(json.dumps(profile).encode(), "seccomp.json").rights("x86_64", None)
    for abi, name, arguments, passes in calls(profile):
        allowance = rights.allowance(abi, name)
        assert allowance.exact, (abi, name)
        says = any(cube.has(joined(arguments)) for cube in allowance.cubes)
        assert says == passes, (abi, name, arguments, "the reader")
        if policy is not None and rights.default == "refuse":
            expected = abi in policy.abis and permitted(policy, abi, name, arguments)
            assert expected == passes, (abi, name, arguments, "the policy")


def permitted(policy: Policy, abi: str, name: str, arguments: tuple[int, ...]) -> bool:
    """Return whether the policy allows the call. A profile has one list for all ABIs, which is a known loss."""
    by_name = any(entry.name == name and entry.permits(arguments) for entry in policy.syscalls)
    return by_name or policy.permits(abi, name, arguments)
