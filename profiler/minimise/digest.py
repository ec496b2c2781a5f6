"""Tell searches apart: a journal belongs to one policy, one test and one way to search."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Sequence
from typing import Any

from profiler import __version__
from profiler.minimise.entries import Choice
from profiler.minimise.trial import Test
from profiler.quoting.json import as_json
from profiler.tracers.base import Workload


def digest(
    policy: bytes, test: Test, choice: Choice, checked: Sequence[str], repeat: int, timeout: float | None
) -> str:
    """Return the SHA-256 of all that is known to change the result of a search.

    That is: the file of the policy, whose comments the result keeps; the test with the content of its files; which
    entries may go, and the capabilities that may be granted (``checked``); the runs that must agree and their time
    limit; the kernel and this program.
    """

    def of(workload: Workload | None) -> Any:
        return workload and [
            workload.argv,
            workload.cwd,
            workload.user,
            [_content(word, workload.cwd) for word in (workload.path, *workload.argv)],
        ]

    search = [
        [of(test.command), of(test.load), of(test.before), of(test.check)],
        [sorted(choice.kinds), choice.equivalents, choice.reviewers, choice.untestable, list(checked), repeat, timeout],
        [platform.release(), platform.machine(), __version__],
    ]
    return hashlib.sha256(policy + b"\0" + as_json(search).encode()).hexdigest()


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
