"""What the parts of a page are made of: text and numbers, without any markup."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Spec = Mapping[str, Any]
"""A Vega-Lite specification."""


@dataclass(frozen=True)
class Table:
    """``rows``: cells as text, one for each column. The first column is the heading of its row, the others hold numbers
    unless they are in ``words``. ``more``: what was left out, in words."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: frozenset[int] = frozenset()
    more: str = ""


@dataclass(frozen=True)
class Figure:
    """One question, its answer in a sentence, a plot, and the same as a table. ``name`` distinguishes it in the page.

    ``chart`` is None if there is nothing to plot; ``says`` then tells why.
    """

    name: str
    title: str
    says: str
    chart: Spec | None = None
    table: Table | None = None
