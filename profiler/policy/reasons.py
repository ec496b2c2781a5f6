"""Reasons: why an entry of a policy is there, as data.

A reason is written for people by :func:`sentence` alone, and nothing reads a sentence back. In ``policy.yaml`` a reason
is a mapping with one key, its kind (``{observed: [nginx]}``); a user's own words are a plain string.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from profiler.quoting.text import printable, quoted, word
from profiler.wording import suggestion

NAMED = 4
"""Names in one reason. A reason with more names has none: who used it is in the trace."""
_UNLISTED = "unlisted"
"""What policy.yaml has for the names of a reason without any. An empty list would read as if there were nobody."""


@dataclass(frozen=True)
class Kind:
    """A kind of reason. ``by``: who gives it: ``recording``, ``pass``, ``refine``, ``minimise`` or ``user``. ``holds``:
    the one member that it has: ``programs``, ``errors``, ``names`` or ``text``. ``words``: its sentence, with ``{}``
    for what it holds; ``alone``: the sentence when it holds nothing."""

    by: str
    holds: str
    words: str
    alone: str = ""


KINDS: Mapping[str, Kind] = {
    "observed": Kind("recording", "programs", "observed ({})", "observed"),
    "inherited": Kind("recording", "programs", "a descriptor that was passed to it ({})", "a descriptor passed to it"),
    "inferred": Kind("recording", "programs", "inferred from calls and their results ({})", "inferred from calls"),
    "gained": Kind("recording", "names", "gains privileges by its file ({})", "gains privileges by its file"),
    "in": Kind("recording", "names", "in {}", "in many calls"),
    "through": Kind("recording", "names", "through {}", "through many files"),
    "failed": Kind("recording", "errors", "never seen to succeed ({})", "never seen to succeed"),
    "equivalent": Kind("pass", "text", "equivalent: {}"),
    "companion": Kind("pass", "text", "comes by timing: {}"),
    "base": Kind("pass", "names", "needed by {}", "needed by the container runtime"),
    "widened": Kind("pass", "text", "widened: {}"),
    "fallback": Kind("pass", "text", "not allowed: {}"),
    "generalised": Kind("pass", "text", "one rule: {}"),
    "mounted": Kind("pass", "text", "{}"),
    "denied": Kind("refine", "programs", "was denied ({})", "was denied"),
    "logged": Kind("refine", "programs", "was logged as a denial ({})", "was logged as a denial"),
    "assumed": Kind("refine", "text", "assumed: {}"),
    "minimise": Kind("minimise", "text", "minimise: {}"),
    "user": Kind("user", "text", "{}"),
}
"""All kinds, in the order in which the reasons of one entry stand."""

_ORDER = {kind: index for index, kind in enumerate(KINDS)}


@dataclass(frozen=True)
class Reason:
    """One reason. ``kind`` is a key of KINDS. ``names``: programs, syscalls, files or the names of errors, sorted, as
    the kind says; empty: too many to name, or not known. ``text``: of kinds that hold text. Both are printable."""

    kind: str
    names: tuple[str, ...] = ()
    text: str = ""

    @property
    def by(self) -> str:
        """Who gave it."""
        return KINDS[self.kind].by

    @property
    def programs(self) -> tuple[str, ...]:
        """The programs that it names."""
        return self.names if KINDS[self.kind].holds == "programs" else ()

    @property
    def key(self) -> tuple[str, str]:
        """What it shares with a reason that says the same of another recording: all but the names."""
        return (self.kind, self.text)


Reasons = tuple[Reason, ...]


def named(kind: str, names: Iterable[str]) -> Reason:
    """Return a reason with these names, or without any when there are more than NAMED."""
    found = tuple(sorted({printable(name) for name in names}))
    return Reason(kind, found if len(found) <= NAMED else ())


def said(kind: str, text: str) -> Reason:
    """Return a reason with a text."""
    return Reason(kind, text=printable(text))


def sentence(reason: Reason) -> str:
    """Return the reason in words, printable. Names that are not plain words, and a user's own
    words, stand in quotation marks."""
    kind = KINDS[reason.kind]
    holds = reason.text if kind.holds == "text" else ", ".join(map(word, reason.names))
    if reason.kind == "user":
        holds = quoted(reason.text)
    return printable(kind.words.replace("{}", holds, 1) if holds or not kind.alone else kind.alone)


def sentences(reasons: Iterable[Reason]) -> tuple[str, ...]:
    """Return the reasons in words, each once."""
    return tuple(dict.fromkeys(map(sentence, reasons)))


def programs_of(reasons: Iterable[Reason]) -> tuple[str, ...]:
    """Return the programs that the reasons name, in their order."""
    return tuple(dict.fromkeys(name for reason in reasons for name in reason.programs))


def joined(several: Iterable[Sequence[Reason]]) -> Reasons:
    """Return the reasons of all lists as one, in the order of KINDS: those that share a key become one with the names
    of all. Commutative, associative and idempotent."""
    found: dict[tuple[str, str], Reason] = {}
    for reasons in several:
        for reason in reasons:
            known = found.get(reason.key)
            if known is None or not reason.names:
                found[reason.key] = reason
            elif known.names:
                found[reason.key] = named(reason.kind, {*known.names, *reason.names})
    return tuple(sorted(found.values(), key=lambda reason: (_ORDER[reason.kind], reason.text)))


def three_way(base: Sequence[Reason], ours: Sequence[Reason], theirs: Sequence[Reason]) -> Reasons:
    """Return the reasons of ``theirs``, without those that were taken out of ``ours`` since ``base``, and with those
    that were added to it. Names alone are not a change."""
    old, mine, other = ({reason.key for reason in reasons} for reasons in (base, ours, theirs))
    kept = [reason for reason in theirs if reason.key in mine or reason.key not in old]
    return (*kept, *(reason for reason in ours if reason.key not in old and reason.key not in other))


def to_data(reasons: Sequence[Reason]) -> Any:
    """Return the reasons as ``because`` of policy.yaml has them: a single one stands without a list."""
    return _to_data(reasons[0]) if len(reasons) == 1 else [_to_data(reason) for reason in reasons]


def _to_data(reason: Reason) -> Any:
    if reason.kind == "user":
        return reason.text
    if KINDS[reason.kind].holds == "text":
        return {reason.kind: reason.text}
    return {reason.kind: list(reason.names) or _UNLISTED}


def from_data(value: Any, fail: Callable[[str], Any]) -> Reasons:
    """Read ``because``: one reason or a list of them. ``fail`` raises the error for what cannot be read."""
    return tuple(_from_data(item, fail) for item in (value if isinstance(value, list) else [value]))


def _from_data(value: Any, fail: Callable[[str], Any]) -> Reason:
    if isinstance(value, str):
        return Reason("user", text=value)
    if not isinstance(value, dict) or len(value) != 1:
        fail("must be text, or a mapping with one key: the kind of the reason")
    ((kind, held),) = value.items()
    known = KINDS.get(kind) if isinstance(kind, str) and kind != "user" else None
    if known is None:
        kinds = [word for word in KINDS if word != "user"]
        fail(f"unknown kind of reason {str(kind)[:40]!r}{suggestion(str(kind), kinds)}: one of {', '.join(kinds)}")
    elif known.holds == "text":
        if not isinstance(held, str):
            fail(f"{kind} must be text")
        return Reason(kind, text=held)
    elif held == _UNLISTED:
        return Reason(kind)
    elif not isinstance(held, list) or not held or not all(isinstance(name, str) for name in held):
        fail(f"{kind} must be a list of names, or {_UNLISTED}")
    return Reason(kind, tuple(held))
