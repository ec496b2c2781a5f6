"""What ``profgen verify`` prints about a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from profiler.cli.options import OutputOptions
from profiler.cli.proposals import denial_data
from profiler.denials.additions import Addition, Proposal
from profiler.denials.describe import alike, described
from profiler.denials.model import Denial
from profiler.denials.propose import propose
from profiler.enforce.base import Outcome
from profiler.policy.document import lines_for
from profiler.policy.model import Policy
from profiler.quoting.json import as_json
from profiler.quoting.shell import profgen
from profiler.quoting.text import printable
from profiler.wording import counted


class VerifyReport:
    """The report on a run. ``asked``: it ended by the SIGTERM of --duration."""

    def __init__(self, policy: Policy, outcome: Outcome, under: str, mode: str, asked: bool = False) -> None:
        self.policy, self.outcome, self.under, self.mode = policy, outcome, under, mode
        self.asked = asked
        everything = propose(policy, outcome.denials)
        items = {danger.item for addition in everything.refused for danger in addition.dangers}
        self.proposal: Proposal = propose(policy, outcome.denials, items)

    def lines(self, addition: Addition) -> list[str]:
        """Return the lines of policy.yaml that would allow what an addition is for."""
        alone = propose(self.policy, addition.denials, {danger.item for danger in addition.dangers})
        return lines_for(self.policy, alone.policy)

    def text(self, path: Path, to: OutputOptions) -> Iterator[str]:
        """Return the report for people. ``path``: the policy's."""
        return map(printable, (*self._denials(path), *self._end(path, to)))

    def _denials(self, path: Path) -> Iterator[str]:
        refused = sum(denial.count for denial in self.outcome.denials if denial.refused)
        passed = sum(denial.count for denial in self.outcome.denials if not denial.refused)
        if refused:
            more = f", {passed} more not allowed by the policy and let pass" if passed else ""
            yield f"{counted(refused, 'use')} refused{more}:"
        elif passed:
            yield f"{counted(passed, 'use')} not allowed by the policy, and let pass:"
        for addition in self.proposal.added:
            for denial in alike(addition.denials):
                yield f"  {described(denial)}{' (let pass)' if refused and not denial.refused else ''}"
            lines = self.lines(addition)
            if lines:
                yield f"    allowed by, in {path}:"
                yield from (f"      {line}" for line in lines)
            yield from (f"    note: {note}" for note in addition.notes)
            yield from (f"    danger: {danger.why}" for danger in addition.dangers)
        for row in self.proposal.unanswered:
            yield f"  {row.what}, {counted(row.count, 'time')}: {row.why}"

    def _end(self, path: Path, to: OutputOptions) -> Iterator[str]:
        outcome = self.outcome
        if not outcome.denials and not to.quiet:
            yield f"nothing was {'refused' if self.mode == 'enforce' else 'outside the policy'}"
        yield from (f"warning: {warning}" for warning in outcome.warnings)
        for name, count in outcome.losses.items():
            yield f"there may be more: lost {count} {name} (docs/tracers.md)"
        if outcome.status or not to.quiet:
            asked = ": SIGTERM, as --duration asked" if self.asked else ""
            yield f"the command ended with status {outcome.status}{asked}"
        if outcome.status and not outcome.denials and not self.asked:
            unseen = f"; this run cannot see: {'; '.join(outcome.unseen)}" if outcome.unseen else ""
            yield f"the command failed, and no denial that was seen explains it{unseen}"
        if to.quiet:
            return
        yield from (f"{self.under}: {means}" for means in outcome.means)
        if self.mode == "enforce" and any(denial.refused for denial in outcome.denials):
            yield "--mode log refuses nothing: one run then names every denial"
        if to.output is not None and not to.printed:
            yield f"wrote {to.output}"
            if outcome.denials:
                yield f"next: {profgen('generate', 'RECORDING', Path(to.output), '-o', path.parent)}"

    def json(self) -> str:
        """Return the report for programs."""
        answers: dict[Denial, Addition] = {
            denial: addition for addition in self.proposal.added for denial in addition.denials
        }

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
        data = {
            "under": self.under,
            "mode": self.mode,
            "status": outcome.status,
            "denials": [row(denial) for denial in outcome.denials],
            "means": list(outcome.means),
            "losses": dict(outcome.losses),
            "unseen": list(outcome.unseen),
            "warnings": list(outcome.warnings),
        }
        return as_json(data)
