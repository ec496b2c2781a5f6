"""Strategies for rules on files, programs, sockets, signals, processes and mounts, close enough to meet each other."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st
from unit.policy.making import trace

from profiler.policy.covering import Resource
from profiler.policy.derive import derive
from profiler.policy.model import (
    FileRule,
    InspectionRule,
    MountRule,
    Options,
    Policy,
    SignalRule,
    SocketRule,
    Transition,
)
from profiler.trace.model import FILE_ACCESSES, FILE_KINDS, FILE_STATES, INSPECTIONS, SIGNAL_WHOM, WHOM

PATTERNS = st.sampled_from(["/a", "/b", "/a/x", "/{name}", "/a/{name}", "/a/{digits}", "/{tree}"])


def some(words: tuple[str, ...], least: int = 0, most: int = 3) -> st.SearchStrategy[tuple[str, ...]]:
    """Some of the words, in their order."""
    chosen = st.sets(st.sampled_from(words), min_size=least, max_size=most)
    return chosen.map(lambda found: tuple(word for word in words if word in found))


ACCESSES = some(("read", "append", "write", "make", "link", "list")) | some(FILE_ACCESSES[:-1])
KINDS = st.just(("unknown",)) | some(tuple(kind for kind in FILE_KINDS if kind != "unknown"), 1)
NAMES = st.lists(PATTERNS, max_size=2, unique=True).map(lambda found: tuple(sorted(found)))


@st.composite
def _file(draw: st.DrawFn) -> FileRule:
    access = draw(ACCESSES.filter(bool))
    return FileRule(
        draw(PATTERNS),
        access,
        draw(KINDS),
        (),
        draw(st.booleans()),
        existing=draw(NAMES) if "link" in access else (),
        states=draw(some(FILE_STATES, 1)),
        whose=draw(some(WHOM)),
    )


@st.composite
def _socket(draw: st.DrawFn) -> SocketRule:
    operations = draw(some(("create", "bind", "connect"), 1))
    family = draw(st.sampled_from(["inet", "unix"]))
    ports, addresses = [], []
    for word in operations:
        if word != "create" and family == "inet" and (found := draw(st.sets(st.sampled_from([0, 80, 443, 40000])))):
            ports.append((word, tuple(sorted(found))))
        if word != "create" and family == "unix" and (names := draw(NAMES)):
            addresses.append((word, names))
    return SocketRule(family, "stream", 6, operations, (), ports=tuple(ports), addresses=tuple(addresses))


FILES = _file()
SOCKETS = _socket()
TRANSITIONS = st.builds(Transition, PATTERNS, st.none() | PATTERNS, st.just(()))
SIGNALS = st.builds(SignalRule, st.sampled_from(["TERM", "HUP"]), st.sampled_from(SIGNAL_WHOM), st.just(()))
LOOKS = st.builds(InspectionRule, st.sampled_from(INSPECTIONS), st.sampled_from(WHOM), st.just(()))
MOUNTS = st.builds(
    MountRule,
    st.sampled_from(["mount", "bind"]),
    st.none() | PATTERNS,
    st.none() | PATTERNS,
    st.none() | st.just("tmpfs"),
    some(("nodev", "nosuid")),
    st.just(()),
)
SORTS = (FILES, SOCKETS, TRANSITIONS, SIGNALS, LOOKS, MOUNTS)
RESOURCES = st.one_of(*SORTS)


SECTIONS = {
    "files": (FILES, lambda row: row.pattern),
    "sockets": (SOCKETS, lambda row: (row.family, row.type, row.protocol)),
    "transitions": (TRANSITIONS, lambda row: row),
    "signals": (SIGNALS, lambda row: row),
    "inspections": (LOOKS, lambda row: row),
    "mounts": (MOUNTS, lambda row: row),
}
"""Section of a policy to the strategy for its rules, and what no two of them share."""


_EMPTY = replace(derive(trace(), Options(runtime="none", equivalents=False)), refused=())


@st.composite
def _policy(draw: st.DrawFn) -> Policy:
    sections = {name: tuple(draw(st.lists(sort, max_size=3, unique_by=key))) for name, (sort, key) in SECTIONS.items()}
    return replace(_EMPTY, has_files=True, **sections)


POLICIES = _policy()
"""Policies with such rules and nothing else."""


def resources(policy: Policy) -> tuple[Resource, ...]:
    """All such rules of a policy."""
    return tuple(rule for name in SECTIONS for rule in getattr(policy, name))
