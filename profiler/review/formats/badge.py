"""A score as the JSON that shields.io draws a badge from (its endpoint badge)."""

from __future__ import annotations

from profiler.quoting.json import as_json

COLOURS = ((80, "brightgreen"), (65, "green"), (50, "yellow"), (35, "orange"), (0, "red"))
"""The least score of each colour. Docker's default profile has 42."""


def render(points: int) -> str:
    """Return the badge of a score from 0 to 100."""
    colour = next(colour for least, colour in COLOURS if points >= least)
    badge = {"schemaVersion": 1, "label": "profgen score", "message": f"{points} of 100", "color": colour}
    return as_json(badge, indent=1) + "\n"
