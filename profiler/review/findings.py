"""The result of a review as one value: findings, each with its rule, level, place and fix.

``lint``, ``score``, ``diff``, ``verify`` and ``refine`` make a Report; profiler/review/formats/ renders it. Every
format reads the same findings, so their counts agree.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from profiler.review.places import Lines
from profiler.review.repository import place
from profiler.review.sources import parts
from profiler.wording import counted

LEVELS = ("error", "warning", "note")
"""A hole or something that breaks; something that is probably unintended; something to know."""

SEVERITIES: Mapping[str, float] = {"error": 8.0, "warning": 5.0, "note": 2.0}
"""The middle of the ranges by which GitHub names a `security-severity`: high, medium, low."""


@dataclass(frozen=True)
class Rule:
    """What findings have in common. ``level``: the usual one. ``severity``: 0 to 10, as of CVSS."""

    level: str
    title: str
    help: str = ""
    severity: float | None = None

    @property
    def security_severity(self) -> float:
        """The severity, by default that of the level."""
        return SEVERITIES[self.level] if self.severity is None else self.severity


@dataclass(frozen=True)
class Finding:
    """One finding. ``rule`` is a key of the report's rules, ``level`` one of LEVELS.

    ``where`` names a part of the file (``syscalls[4].args``), or is empty. ``fix`` says what to do. ``about``: the
    entries that it is about, such as a capability: they are what an ignored finding is known by. ``key``: what makes it
    the same finding in another version of the file, by default ``about``. ``names``: the words that find its line, by
    default ``about``. ``file``: when it is not about the report's file. ``details``: for programs.
    """

    rule: str
    level: str
    where: str
    what: str
    fix: str = ""
    about: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    file: str = ""
    line: int = 1
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Accepted:
    """A finding that people decided to accept, and their reason."""

    finding: Finding
    reason: str


@dataclass(frozen=True)
class Report:
    """What a command found in ``source``, a file as the user named it.

    ``summary``: the outcome in a few words. ``facts``: figures, each with its label. ``failing``: levels that make the
    command fail. ``data``: further members of the JSON.
    """

    command: str
    source: str
    rules: Mapping[str, Rule]
    findings: tuple[Finding, ...]
    summary: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    failing: tuple[str, ...] = ()
    accepted: tuple[Accepted, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """The number of findings of each level."""
        return {level: sum(finding.level == level for finding in self.findings) for level in LEVELS}

    @property
    def counted(self) -> str:
        """The counts in words: ``1 error, 2 warnings``."""
        return ", ".join(counted(number, level) for level, number in self.counts.items() if number) or "nothing found"

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The findings that make the command fail."""
        return tuple(finding for finding in self.findings if finding.level in self.failing)

    def file_of(self, finding: Finding) -> str:
        """Return the file that a finding is in, as the user named it, without the name of an object in it."""
        return finding.file or parts(self.source)[0]

    def place_of(self, finding: Finding) -> str:
        """Return the same file for a service that has the repository: from its root, or an absolute path."""
        return place(self.file_of(finding))

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """A digest for each finding, which does not change when its line or the wording does. Equal findings are
        numbered."""
        seen: Counter[tuple[str, ...]] = Counter()
        found = []
        for finding in self.findings:
            identity = (self.command, finding.rule, *(finding.key or finding.about))
            seen[identity] += 1
            found.append(hashlib.sha256(ascii((*identity, seen[identity])).encode()).hexdigest())
        return tuple(found)


def at_least(level: str) -> tuple[str, ...]:
    """Return the levels from the worst to this one; none for ``never``."""
    return LEVELS[: LEVELS.index(level) + 1] if level in LEVELS else ()


def by_level(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings, errors first."""
    return tuple(sorted(findings, key=lambda finding: LEVELS.index(finding.level)))


def located(findings: Sequence[Finding], content: bytes) -> tuple[Finding, ...]:
    """Return findings with the lines of a file that has this content."""
    lines = Lines(content)
    return tuple(
        replace(finding, line=lines.find(finding.where, finding.names or finding.about)) for finding in findings
    )
