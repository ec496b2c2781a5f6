"""Show additions to a policy, for verify and refine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from profiler.quoting.text import printable
from profiler.wording import counted, suggestion

if TYPE_CHECKING:
    from profiler.denials.additions import Addition, Proposal
    from profiler.denials.model import Denial


def _about(addition: Addition) -> Iterator[str]:
    yield from (f"    {reason}" for reason in addition.because)
    yield from (f"    note: {note}" for note in addition.notes)


def about_proposal(proposal: Proposal, label: str) -> Iterator[str]:
    """Return lines about a proposal for people. ``label``: the words before the number of additions."""
    if proposal.added:
        yield f"{label} {counted(len(proposal.added), 'entry', 'entries')}:"
        for addition in proposal.added:
            yield f"  {addition.section}: {addition.what}"
            yield from _about(addition)
    if proposal.refused:
        yield (
            f"not added, {counted(len(proposal.refused), 'entry', 'entries')} that may be dangerous; decide on each:"
        )
        for addition in proposal.refused:
            yield f"  {addition.section}: {addition.what}"
            yield from _about(addition)
            yield from (f"    danger: {danger.why}" for danger in addition.dangers)
            yield from (f"    either: {choice}" for choice in addition.choices)
            options = " ".join(dict.fromkeys(f"--allow-dangerous {_word(danger.item)}" for danger in addition.dangers))
            yield f"    {'or' if addition.choices else 'to add it'}: {options}"
    for row in proposal.unanswered:
        yield f"nothing to add for {row.what} ({counted(row.count, 'time')}): {row.why}"
    for item in proposal.unused:
        dangers = [danger.item for addition in proposal.refused for danger in addition.dangers]
        yield f"--allow-dangerous {item}: no denial needs it{suggestion(item, dangers)}"


def _word(text: str) -> str:
    from profiler.quoting.shell import shell

    return printable(shell(text))


def denial_data(denial: Denial) -> dict[str, Any]:
    """Return a denial for programs: what is known of it, and whether it was refused."""
    return {
        name: value for name, value in asdict(denial).items() if value not in (None, "", (), False) or name == "refused"
    }


def addition_data(row: Addition) -> dict[str, Any]:
    """Return an addition for programs."""
    return asdict(row) | {"denials": [denial_data(denial) for denial in row.denials]}
