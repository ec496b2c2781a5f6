"""How many inputs the property tests try."""

from __future__ import annotations

from hypothesis import settings


def examples(most: int) -> int:
    """Return how many inputs a test tries for which ``most`` are enough: half as many where they are the same at each
    run (tests/conftest.py)."""
    return most * settings.default.max_examples // settings.get_profile("random").max_examples
