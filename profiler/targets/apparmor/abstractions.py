"""Deciding which of AppArmor's abstractions (files of shared rules) a profile includes: those that save more rules than
they open."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from profiler.targets.apparmor.rules import FileLine


@dataclass(frozen=True)
class Verdict:
    """How much an abstraction would bring. ``saved``: rules of the profile that it holds already. ``opened``: how many
    of its rules nothing in the profile needs."""

    name: str
    saved: tuple[FileLine, ...]
    opened: int

    @property
    def included(self) -> bool:
        """Return whether it is worth including."""
        return len(self.saved) > self.opened


def aare(pattern: str) -> re.Pattern[str]:
    """Return a regular expression for a pattern of abstractions.yaml: ``*``, ``**``, ``?``, sets, and alternatives."""
    out, at = "", 0
    while at < len(pattern):
        char = pattern[at]
        if pattern.startswith("**", at):
            out, at = out + "[^\\0]*", at + 2
            continue
        if char == "[":
            end = pattern.index("]", at)
            out, at = out + pattern[at : end + 1], end + 1
            continue
        out += {"*": "[^/]*", "?": "[^/]", "{": "(?:", "}": ")", ",": "|"}.get(char, re.escape(char))
        at += 1
    return re.compile(out)


@cache
def _abstractions() -> dict[str, tuple[tuple[re.Pattern[str], str, str], ...]]:
    text = Path(__file__).with_name("abstractions.yaml").read_text(encoding="utf-8")
    data: dict[str, list[tuple[str, str]]] = yaml.safe_load(text)
    return {name: tuple((aare(pattern), modes, pattern) for pattern, modes in rows) for name, rows in data.items()}


def weigh(lines: Sequence[FileLine]) -> tuple[Verdict, ...]:
    """Return a verdict on every abstraction that would save something, by name. Only plain paths are compared, and
    patterns that are written in the same way."""
    verdicts = []
    for name, rows in sorted(_abstractions().items()):
        saved, used = [], set()
        for line in (line for line in lines if line.target is None and not line.owner):
            path = line.path[1:-1].replace("@{PROC}/", "/proc/")
            for index, (regex, modes, pattern) in enumerate(rows):
                literal = not re.search(r"[\\*?{\[]", path)
                if set(line.modes) <= set(modes) and (path == pattern or (literal and regex.fullmatch(path))):
                    saved.append(line)
                    used.add(index)
                    break
        if saved:
            verdicts.append(Verdict(name, tuple(saved), len(rows) - len(used)))
    return tuple(verdicts)
