"""Denials as findings, for verify and refine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from profiler.denials.additions import Addition
from profiler.denials.describe import described
from profiler.denials.model import KINDS, Denial
from profiler.review.findings import Finding, Rule

DENIED: Mapping[str, Rule] = {
    f"denied-{kind.replace('_', '-')}": Rule("error", f"the policy does not allow this use: {kind.replace('_', ' ')}")
    for kind in KINDS
}
"""A rule for each kind of denial."""


def of_denial(
    denial: Denial, level: str, addition: Addition, what: str, fix: str, details: Mapping[str, Any]
) -> Finding:
    """Return the finding for a denial that an addition answers, at the entry of the policy that would allow it."""
    who = described(replace(denial, count=1, pid=None))
    rule = f"denied-{denial.kind.replace('_', '-')}"
    return Finding(rule, level, addition.section, what, fix, (addition.item,), (who,), details=details)
