"""What ``profgen verify`` reports about a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from profiler.cli.denial_findings import DENIED, of_denial
from profiler.cli.options import OutputOptions
from profiler.cli.proposals import denial_data
from profiler.denials.additions import Addition, Proposal
from profiler.denials.describe import alike, described
from profiler.denials.model import Denial
from profiler.denials.propose import propose
from profiler.enforce.base import Outcome
from profiler.policy.document import lines_for
from profiler.policy.model import Policy
from profiler.quoting.shell import profgen
from profiler.quoting.text import printable
from profiler.review.findings import Finding, Report, Rule, located
from profiler.trace.caveats import lost
from profiler.wording import counted

RULES = {
    **DENIED,
    "denials-lost": Rule("error", "the run lost events: there may be more denials"),
    "command-failed": Rule("error", "the command failed, and no denial explains it"),
    "run-warning": Rule("warning", "something limits what the run shows"),
}


@dataclass(frozen=True)
class VerifyReport:
    """The report on a run. ``path``: the policy's; ``content``: of that file. ``asked``: the command ended by the
    SIGTERM of --duration."""

    policy: Policy
    outcome: Outcome
    under: str
    mode: str
    path: Path
    content: bytes = b""
    asked: bool = False

    @cached_property
    def proposal(self) -> Proposal:
        """The additions that would allow everything, dangerous ones included."""
        everything = propose(self.policy, self.outcome.denials)
        items = {danger.item for addition in everything.refused for danger in addition.dangers}
        return propose(self.policy, self.outcome.denials, items)

    @cached_property
    def report(self) -> Report:
        """The result behind every format. A command that fails, and a denial, is an error."""
        outcome = self.outcome
        findings = tuple(finding for _, several in self._answered for finding in several)
        return Report(
            "verify",
            str(self.path),
            RULES,
            located((*findings, *self._unanswered, *self._of_the_run()), self.content),
            self._summary,
            (("the command's exit status", str(outcome.status)), ("confined by", self.under), ("mode", self.mode)),
            ("error",),
            data=self._data(),
        )

    @property
    def _refused(self) -> int:
        return sum(denial.count for denial in self.outcome.denials if denial.refused)

    @property
    def _summary(self) -> str:
        passed = sum(denial.count for denial in self.outcome.denials if not denial.refused)
        if self._refused:
            more = f", {passed} more not allowed by the policy and let pass" if passed else ""
            return f"{counted(self._refused, 'use')} refused{more}"
        if passed:
            return f"{counted(passed, 'use')} not allowed by the policy, and let pass"
        return f"nothing was {'refused' if self.mode == 'enforce' else 'outside the policy'}"

    @cached_property
    def _answered(self) -> list[tuple[Addition, list[Finding]]]:
        """Each addition with the findings that it answers."""
        return [
            (addition, [self._finding(addition, denial) for denial in alike(addition.denials)])
            for addition in self.proposal.added
        ]

    def _finding(self, addition: Addition, denial: Denial) -> Finding:
        passed = " (let pass)" if self._refused and not denial.refused else ""
        lines = self.lines(addition)
        fix = "\n".join([f"allow it in {self.path}:", *lines]) if lines else ""
        details = {"lines": lines, "notes": list(addition.notes), "dangers": [row.why for row in addition.dangers]}
        return of_denial(denial, "error", addition, described(denial) + passed, fix, details)

    @property
    def _unanswered(self) -> list[Finding]:
        proposal = self.proposal
        rows = [(row.what, f"{row.what}, {counted(row.count, 'time')}: {row.why}") for row in proposal.unanswered]
        if not rows and not proposal.added:
            rows = [(described(denial), described(denial)) for denial in self.outcome.denials]
        return [Finding("denied-other", "error", "", what, key=(key,)) for key, what in rows]

    def _of_the_run(self) -> Iterator[Finding]:
        outcome = self.outcome
        for warning in outcome.warnings:
            yield Finding("run-warning", "warning", "", warning, key=(warning,))
        for name, count in outcome.losses.items():
            what = f"there may be more: {lost({name: count})} (docs/tracers.md)"
            yield Finding("denials-lost", "error", "", what, key=(name,))
        if outcome.status and not outcome.denials and not self.asked:
            unseen = f"; this run cannot see: {'; '.join(outcome.unseen)}" if outcome.unseen else ""
            what = f"the command failed, and no denial that was seen explains it{unseen}"
            yield Finding("command-failed", "error", "", what, details={"status": outcome.status})

    def lines(self, addition: Addition) -> list[str]:
        """Return the lines of policy.yaml that would allow what an addition is for."""
        alone = propose(self.policy, addition.denials, {danger.item for danger in addition.dangers})
        return lines_for(self.policy, alone.policy)

    def text(self, to: OutputOptions) -> Iterator[str]:
        """Return the report for people."""
        return map(printable, (*self._denials(), *self._end(to)))

    def _denials(self) -> Iterator[str]:
        if self.outcome.denials:
            yield f"{self._summary}:"
        for addition, findings in self._answered:
            for finding in findings:
                yield f"  {finding.what}"
            if lines := findings[0].details["lines"]:
                yield f"    allowed by, in {self.path}:"
                yield from (f"      {line}" for line in lines)
            yield from (f"    note: {note}" for note in addition.notes)
            yield from (f"    danger: {danger.why}" for danger in addition.dangers)
        yield from (f"  {finding.what}" for finding in self._unanswered)

    def _end(self, to: OutputOptions) -> Iterator[str]:
        outcome = self.outcome
        if not outcome.denials and not to.quiet:
            yield self._summary
        of_the_run = list(self._of_the_run())
        yield from (f"warning: {finding.what}" for finding in of_the_run if finding.rule == "run-warning")
        yield from (finding.what for finding in of_the_run if finding.rule == "denials-lost")
        if outcome.status or not to.quiet:
            asked = ": SIGTERM, as --duration asked" if self.asked else ""
            yield f"the command ended with status {outcome.status}{asked}"
        yield from (finding.what for finding in of_the_run if finding.rule == "command-failed")
        if to.quiet:
            return
        yield from (f"{self.under}: {means}" for means in outcome.means)
        if self.mode == "enforce" and any(denial.refused for denial in outcome.denials):
            direct = "--under direct with " if self.under == "landlock" else ""
            yield f"{direct}--mode log refuses nothing: one run then names every denial"
        if to.output is not None and not to.printed:
            yield f"wrote {to.output}"
            if outcome.denials:
                yield f"next: {profgen('generate', 'RECORDING', Path(to.output), '-o', self.path.parent)}"

    def _data(self) -> dict[str, Any]:
        answers = {denial: addition for addition in self.proposal.added for denial in addition.denials}

        def row(denial: Denial) -> dict[str, Any]:
            addition = answers.get(denial)
            allowed = None
            if addition is not None:
                allowed = {
                    "section": addition.section,
                    "item": addition.item,
                    "lines": self.lines(addition),
                    "dangers": [danger.why for danger in addition.dangers],
                }
            return denial_data(denial) | {"allowed_by": allowed}

        outcome = self.outcome
        return {
            "under": self.under,
            "mode": self.mode,
            "status": outcome.status,
            "denials": [row(denial) for denial in outcome.denials],
            "means": list(outcome.means),
            "losses": dict(outcome.losses),
            "unseen": list(outcome.unseen),
            "warnings": list(outcome.warnings),
        }
