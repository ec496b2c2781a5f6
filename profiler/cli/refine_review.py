"""``profgen refine --review``: what the log says about each addition."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from profiler.denials.additions import Proposal
    from profiler.review.stepwise import Choice

_UNPROVEN = "unproven: any local user can write such lines into a text log"


class Denials:
    """The denials behind additions, for a review. ``allowed``: dangerous items that the user allowed by name."""

    def __init__(self, proposal: Proposal, allowed: Collection[str]) -> None:
        self._additions = {(row.section, row.item): row for row in proposal.added}
        self._allowed = allowed

    def about(self, choice: Choice) -> list[str]:
        """Return the denials behind an addition, and what to know about it."""
        row = self._additions.get((choice.section, choice.item))
        return [] if row is None else [*row.because, *(f"note: {note}" for note in row.notes), *row.choices]

    def dangers(self, choice: Choice) -> list[str]:
        """Return why an addition is dangerous, and that it is not proven."""
        row = self._additions.get((choice.section, choice.item))
        if row is None:
            return []
        dangers = [danger.why for danger in row.dangers if danger.item not in self._allowed]
        unproven = any(denial.unproven for denial in row.denials)
        return [*dangers, *([_UNPROVEN] if unproven else [])]
