"""The files of a policy as a tree that folds, with what may be done to them."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from profiler.policy.head import WRITING
from profiler.policy.model import FileRule

GROUPS = ("written", "executed", "connected", "read")
"""Sorts of access, the most telling first."""

DEPTH_MAX = 24
"""Levels of the tree; the rest of a deeper path is one name."""
CHILDREN_MAX = 25
"""Names shown in one directory."""
NODES_MAX = 1500
"""Names shown in the whole tree: a page of a workload with very many files stays small."""


def group_of(access: str) -> str:
    """Return the sort of one access (FILE_ACCESSES). ``executed`` includes what is mapped executable, as libraries."""
    if access in WRITING:
        return "written"
    if access in ("execute", "map"):
        return "executed"
    return "connected" if access in ("bind", "connect") else "read"


@dataclass(frozen=True)
class Node:
    """A name, or several of a path in which nothing branches. ``access``: what the policy's rule for it allows; empty
    for a directory without one. ``counts``: the rules here and below by GROUPS. ``more``: names that are left out."""

    name: str
    access: str
    counts: Mapping[str, int]
    children: tuple[Node, ...] = ()
    more: int = 0

    @property
    def groups(self) -> tuple[str, ...]:
        """The sorts of access here and below."""
        return tuple(self.counts)


@dataclass
class _Growing:
    """A node while rules are added. ``shown``: children that are not left out."""

    rules: list[FileRule] = field(default_factory=list)
    children: dict[str, _Growing] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    shown: list[str] = field(default_factory=list)


def _parts(pattern: str) -> list[str]:
    """Return the names on the way to a pattern; one that is neither absolute nor in a home directory is one name."""
    if pattern.startswith("/"):
        parts = ["/", *filter(None, pattern.split("/"))]
    elif pattern.startswith("{home}/"):
        parts = pattern.split("/")
    else:
        return [pattern]
    return parts if len(parts) <= DEPTH_MAX else [*parts[: DEPTH_MAX - 1], "/".join(parts[DEPTH_MAX - 1 :])]


def tree(rules: Iterable[FileRule]) -> tuple[Node, ...]:
    """Return the roots of the tree, with at most NODES_MAX names, shared out from the top."""
    top = _Growing()
    for rule in rules:
        groups = dict.fromkeys(map(group_of, rule.access), 1)
        node = top
        for part in _parts(rule.pattern):
            node = node.children.setdefault(part, _Growing())
            node.counts.update(groups)
        node.rules.append(rule)
    left, queue = NODES_MAX, deque([top])
    while queue:
        node = queue.popleft()
        room = max(min(left, CHILDREN_MAX), 0)
        ranked = sorted(node.children, key=lambda name: (_rank(node.children[name]), name))
        node.shown = sorted(ranked if len(ranked) <= min(left, CHILDREN_MAX + 1) else ranked[:room])
        left -= len(node.shown)
        queue.extend(node.children[name] for name in node.shown)
    return tuple(_view(name, top.children[name]) for name in top.shown)


def _rank(node: _Growing) -> int:
    """Order names for the choice of those that are shown: what is written first, what is only read last."""
    return min((GROUPS.index(group) for group in node.counts), default=len(GROUPS))


def _view(name: str, node: _Growing) -> Node:
    while not node.rules and len(node.children) == len(node.shown) == 1:
        (below,) = node.shown
        name = _joined(name, below)
        node = node.children[below]
    access = "; ".join(dict.fromkeys(_access(rule) for rule in node.rules))
    counts = {group: node.counts[group] for group in GROUPS if node.counts[group]}
    children = tuple(_view(below, node.children[below]) for below in node.shown)
    return Node(name, access, counts, children, len(node.children) - len(node.shown))


def _joined(first: str, second: str) -> str:
    return first + second if first.endswith("/") else f"{first}/{second}"


def _access(rule: FileRule) -> str:
    return ", ".join(rule.access) + (" (own files only)" if rule.owner else "")


def place_of(pattern: str) -> str:
    """Return the directory of the root that a pattern is in, with the name of a file there; else its first name."""
    parts = _parts(pattern)
    return f"/{parts[1]}" if parts[0] == "/" and len(parts) > 1 else parts[0]
