"""What Landlock cannot enforce, each with its own reason."""

from __future__ import annotations

import pytest
from unit.enforce.runs import everything_but, with_files

from profiler.enforce.base import Options
from profiler.enforce.landlock import Landlock
from profiler.policy.model import Policy


@pytest.mark.parametrize(
    ("policy", "options", "reason"),
    [
        (everything_but(), Options(), "the policy has no rules for files"),
        (with_files(everything_but()), Options(files=False), "--no-files leaves out what it enforces"),
        (with_files(everything_but()), Options(mode="log"), "Landlock refuses, and cannot only log"),
    ],
)
def test_what_it_cannot_enforce(policy: Policy, options: Options, reason: str) -> None:
    assert (Landlock().unavailable(policy, options) or "").startswith(reason)
