"""Tell text that was made at random from words."""

from __future__ import annotations

import re
from functools import cache
from itertools import pairwise

from profiler.kernel.data import load

_PIECES = re.compile("[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
"""Words as names join them: ``camelCase``, ``CAPITALS``, ``word2``."""

RANDOM = 0.3
"""The share of odd places (:func:`oddness`) from which a text counts as random. Of the words with digits in file names
of six to thirteen characters 8 of 100 reach it, of random names of six letters and digits all but 1 of 100."""

CERTAIN = 0.35
"""The same where nothing else speaks for it."""

CAMEL = 0.4
"""The same for letters only with capitals among them, as in ``libLLVMCodeGen``."""

LIKELY = 0.2
"""The same for names that are likely to be random because of what was done with them."""


@cache
def _pairs() -> frozenset[str]:
    rows: dict[str, str] = load("names.yaml", __file__)["pairs"]
    return frozenset(first + second for first, row in rows.items() for second in row)


def oddness(text: str) -> int:
    """Count the places where letters, digits and cases change other than in words, or letters seldom follow one
    another."""
    pieces = _PIECES.findall(text)
    rare = sum(
        one + other not in _pairs()
        for piece in map(str.lower, pieces)
        if piece.isalpha()
        for one, other in pairwise(piece)
    )
    return max(0, len(pieces) - 1) + rare


def looks_random(text: str, share: float = RANDOM) -> bool:
    """Return whether text of letters and digits was made at random, as far as it shows."""
    return bool(text) and oddness(text) >= share * len(text)
