"""Rendering for tests."""

from __future__ import annotations

import json
from typing import Any

from profiler.policy.model import Policy
from profiler.targets.rendering import render_one


def seccomp(policy: Policy, action: str = "errno") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(render_one("seccomp", policy, {"action": action}).files[0].data)
    return found
