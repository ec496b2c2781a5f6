"""Concrete paths of patterns."""

from __future__ import annotations

from profiler.policy import patterns

EXAMPLES = {
    "pid": ["1", "4194304"], "tid": ["2"], "uuid": ["123e4567-e89b-12d3-a456-426614174000"], "hex": ["0af3" * 4],
    "digits": ["7", "20" * 10], "random": ["aB3_xY", "aB3_xYaB3_"], "date": ["20240102", "2024-01-02T03:04:05"],
    "version": ["1", "1.22.333.4"], "name": ["x", "a b:\u00e9"], "tree": ["x", "a/b c"],
    "home": ["/root", "/home/u"],
}  # fmt: skip


def paths(pattern: str) -> list[str]:
    """Some paths that fit the pattern: the shortest and the longest example of each class."""
    found = []
    for which in (0, -1):
        parts = []
        for token in patterns.parse(pattern):
            if isinstance(token, patterns.Class):
                sized = patterns.sized(token.name)
                parts.append("1" * sized[2 if which else 1] if sized else EXAMPLES[token.name][which])
            else:
                parts.append(token.text if isinstance(token, patterns.Literal) else token.name)
        found.append("".join(parts))
    return found
