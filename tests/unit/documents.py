"""Reading the project's documents: their sections and tables."""

from __future__ import annotations

import re
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^( *)```\w*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def outside_fences(text: str) -> str:
    """Return the text without its code blocks."""
    return _FENCE.sub("", text)


def in_fences(text: str) -> list[str]:
    """Return the lines of the code blocks."""
    return [line for block in _FENCE.finditer(text) for line in block[2].splitlines()]


def text_of(name: str) -> str:
    return (TOP / name).read_text(encoding="utf-8")


def section(name: str, heading: str) -> str:
    """The text under a heading, up to the next one of the same or a higher level."""
    text = _FENCE.sub(lambda block: block[0].replace("\n#", "\n "), text_of(name))  # a root's prompt is not a heading
    found = re.search(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    assert found, f"{name} has no heading {heading!r}"
    rest = text[found.end() :]
    end = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def rows(text: str) -> list[list[str]]:
    """Return the cells of every table row but the headings."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    ruled = {index for index, line in enumerate(lines) if set(line) <= set("|- :")}
    kept = [line for index, line in enumerate(lines) if index not in ruled and index + 1 not in ruled]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in kept]


def items(text: str) -> list[str]:
    """Return the items of every list, each on one line."""
    found = re.findall(r"^- .*(?:\n  .*)*", text, re.MULTILINE)
    return [" ".join(item[2:].split()) for item in found]
