"""What ``profgen minimise`` prints: progress while it runs, and the verdicts at the end."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from profiler.cli.live import SECONDS, LiveLine
from profiler.cli.terminal import redraws, say
from profiler.files import STANDARD_OUTPUT
from profiler.minimise.conclusion import FLAKY, KEPT, NEEDED, OPEN, SPARE, VERDICTS
from profiler.minimise.minimise import Progress, Report
from profiler.policy.directory import default_directory
from profiler.quoting.shell import profgen
from profiler.quoting.text import printable
from profiler.style import PLAIN, Style
from profiler.wording import counted, duration

QUIET_SECONDS = 30.0
"""Seconds between lines of progress when standard error is not a terminal."""


class Live:
    """Shows progress: one line on a terminal, redrawn; elsewhere a line now and then. ``width``: concurrent runs."""

    def __init__(self, width: int, shown: bool) -> None:
        self._width = width
        self._line = LiveLine() if shown and redraws(sys.stderr) else None
        self._every = SECONDS if self._line is not None else QUIET_SECONDS if shown else math.inf
        self._next = time.monotonic() + self._every
        self._interrupted = False

    def interrupt(self, number: int, frame: object) -> None:
        """Handle a signal: the next call of show raises KeyboardInterrupt."""
        self._interrupted = True

    def show(self, progress: Progress) -> None:
        """Show the progress. Called a few times a second."""
        if self._interrupted:
            raise KeyboardInterrupt
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self._every
        gone = progress.entries - progress.kept
        text = f"{counted(progress.runs, 'run')}, {gone} of {progress.entries} entries removed"
        if progress.left is not None and progress.runs:
            text += f", about {duration(round(progress.left * progress.seconds / progress.runs / self._width))} left"
        if self._line is None:
            say(text)
        else:
            self._line.draw(text)

    def end(self) -> None:
        """Erase the line for good."""
        if self._line is not None:
            self._line.close()


_MEANINGS = {NEEDED: "warning", FLAKY: "error", OPEN: "error", SPARE: "good"}


def table(report: Report, style: Style = PLAIN) -> Iterator[str]:
    """Return a line for each entry: its verdict, its place, and the evidence."""
    rows = sorted(report.findings, key=lambda row: VERDICTS.index(row.verdict))
    wide = max((len(row.entry.section) for row in rows), default=0)
    for row in rows:
        note = "; ".join(text for text in (row.evidence, row.why) if text)
        text = f"{row.entry.section:<{wide}}  {row.entry.label}" + (f"  ({note})" if note else "")
        verdict = f"{row.verdict:<10}"
        yield f"{style(_MEANINGS[row.verdict], verdict) if row.verdict in _MEANINGS else verdict}  {printable(text)}"


def summary(report: Report, path: Path) -> Iterator[str]:
    """Return lines about the result, which was written to ``path``."""
    counts = {
        verdict: sum(row.verdict == verdict for row in report.findings)
        for verdict in (NEEDED, SPARE, FLAKY, OPEN, KEPT)
    }
    parts = [f"{counts[verdict]} {verdict}" for verdict in counts if counts[verdict] or verdict in (NEEDED, SPARE)]
    yield f"{', '.join(parts)}; {counted(report.runs, 'run')} in {duration(report.seconds)}"
    if report.promoted:
        yield "the test passes only with capabilities that the policy lists as checked: it now grants those it needs"
    if counts[FLAKY]:
        yield "flaky entries were kept: without them the test sometimes passes and sometimes fails"
    if not report.finished:
        yield (
            "--max-runs was reached: the test passes under the policy, and entries that are not settled were kept; run "
            "the same command with a larger --max-runs to continue"
        )
    elif not report.sure:
        yield (
            "the test did not pass each time under the least policy: it is flaky, or something outside the policy "
            "changed meanwhile"
        )
    if report.policy.entries("base"):
        yield "syscalls.base is unchanged: a run without a container cannot show what its runtime needs"
    if path != STANDARD_OUTPUT:
        yield f"wrote {path}"
        yield f"next: {profgen('generate', path, '-o', default_directory(path))}"


def as_data(report: Report) -> dict[str, Any]:
    """Return the verdicts for programs."""
    return {
        "entries": [
            {
                "section": row.entry.section,
                "item": row.entry.item,
                "part": row.entry.part,
                "verdict": row.verdict,
                "runs": row.runs,
                "failed": row.failed,
                "why": row.why,
            }
            for row in report.findings
        ],
        "runs": report.runs,
        "seconds": round(report.seconds, 3),
        "finished": report.finished,
        "sure": report.sure,
        "promoted": report.promoted,
    }
