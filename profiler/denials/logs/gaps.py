"""Statements in a log that records are missing."""

from __future__ import annotations

import re
from dataclasses import dataclass

from profiler.denials.model import EVENTS_MAX

MARKS = (b"audit_lost=", b" limit exceeded", b" callbacks suppressed", b" messages")
"""Every statement contains one of these."""

PRINTED_MAX, PRINTED_SECONDS = 10, 5.0
"""How many records the kernel prints on the whole machine if no audit daemon takes them (kernel.printk_ratelimit and
..._burst in sysctl/kernel.rst). It reports dropped records only when it next prints one."""

_BURST = "the kernel's limit of 10 records in 5 seconds was reached: it may have dropped records after them"

_STATEMENTS: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"\baudit_lost=(\d{1,20})\b"), "audit_lost: the kernel dropped records"),
    (
        re.compile(rb"\baudit: (?:rate|backlog) limit exceeded()"),
        "audit: rate or backlog limit exceeded: the kernel dropped records",
    ),
    # All callers of printk_ratelimit() share one limit: another caller may report what audit lost.
    (
        re.compile(rb"\b(?:\w*audit\w*|show_signal\w*): (\d{1,20}) callbacks suppressed"),
        "callbacks suppressed: the kernel printed fewer records than there were",
    ),
    (
        re.compile(rb"\b(\d{1,20}) (?:printk )?messages dropped\b"),
        "messages dropped: the kernel's log was read too slowly",
    ),
    (
        re.compile(rb"\b(?:some messages lost|kmsg buffer overrun)()"),
        "messages lost: the kernel's log was read too slowly",
    ),
    (re.compile(rb"\bMissed (\d{1,20}) kernel messages\b"), "missed kernel messages: the journal read them too slowly"),
    (re.compile(rb"\bSuppressed (\d{1,20}) messages from\b"), "suppressed messages: the journal limits their rate"),
    (re.compile(rb"\b(\d{1,20}) messages lost due to rate-limiting"), "messages lost: syslog limits their rate"),
)


@dataclass(frozen=True)
class Gap:
    """A statement in the log that records are missing.

    ``lost``: how many, if stated; ``times``: how often it was stated.
    """

    what: str
    times: int
    lost: int | None
    lines: tuple[int, ...]


class Gaps:
    """The statements of one or more logs."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, int | None, list[int]]] = {}
        self._window = (0.0, 0)

    def line(self, line: bytes, number: int | None) -> None:
        """Note what a line states."""
        for pattern, what in _STATEMENTS:
            if found := pattern.search(line):
                self.note(what, int(found[1]) if found[1] else None, number)
                return

    def printed(self, time: float, number: int | None) -> None:
        """Take the time of a record that the kernel printed, and note when it reached its limit."""
        begin, printed = self._window
        if not begin <= time <= begin + PRINTED_SECONDS:
            begin, printed = time, 0
        self._window = (begin, printed + 1)
        if printed + 1 == PRINTED_MAX:
            self.note(_BURST, None, number)

    def note(self, what: str, lost: int | None, number: int | None) -> None:
        """Add a statement."""
        times, before, lines = self._found.get(what, (0, None, []))
        if lost is not None:
            # audit_lost counts from the start of the machine, the others since their last message.
            lost = max(before or 0, lost) if what.startswith("audit_lost") else (before or 0) + lost
        if number is not None and len(lines) < EVENTS_MAX:
            lines.append(number)
        self._found[what] = (times + 1, before if lost is None else lost, lines)

    def all(self) -> tuple[Gap, ...]:
        """Return the statements so far."""
        return tuple(Gap(what, times, lost, tuple(lines)) for what, (times, lost, lines) in self._found.items())
