"""Tell searches apart: a journal belongs to one policy, one test and one way to run it."""

from __future__ import annotations

import hashlib
import os
from typing import Any

from profiler.minimise.trial import Test
from profiler.policy.document import dumps
from profiler.policy.model import Policy
from profiler.quoting.json import as_json
from profiler.tracers.base import Workload


def digest(policy: Policy, test: Test, timeout: float | None) -> str:
    """Return the SHA-256 of all that is known to change a run's result: the policy, the test with the content of its
    files, and how it is run."""

    def of(workload: Workload | None) -> Any:
        return workload and [
            workload.argv,
            workload.cwd,
            workload.user,
            [_content(word, workload.cwd) for word in (workload.path, *workload.argv)],
        ]

    return hashlib.sha256(
        as_json([dumps(policy), of(test.command), of(test.load), of(test.before), of(test.check), timeout]).encode()
    ).hexdigest()


def _content(word: str, cwd: str) -> str:
    """Return the SHA-256 of the file that a word of the command names, empty when it does not name one."""
    path = os.path.join(cwd, word)
    try:
        if not os.path.isfile(path):
            return ""
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError):
        return ""
