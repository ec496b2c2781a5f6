"""Published holes of the kernel, and which of them a set of rights lets a program reach. Data, sources and the rule:
cves.yaml.

Nothing here knows how rights are written down: :class:`Allowing` is all it asks of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

from profiler.kernel.arguments import parse, spec_for
from profiler.kernel.capabilities import number_of as capability_number
from profiler.kernel.data import load
from profiler.kernel.multiplexers import doing
from profiler.kernel.syscalls import known_names, number_of

Tests = tuple[tuple[int, int, int], ...]
"""(position, mask, value): each true when ``argument[position] & mask == value``; all must hold. Registers of 64 bits
(seccomp(2))."""


class Allowing(Protocol):
    """What rights are asked."""

    @property
    def abis(self) -> Sequence[str]:
        """The ABIs whose calls are not refused altogether."""
        ...

    def allows(self, abi: str, name: str, tests: Tests) -> bool:
        """Whether some call with arguments that fit the tests is allowed. Only asked for names that the ABI has."""
        ...

    def holds(self, capability: str) -> bool:
        """Whether a program may hold it in the initial user namespace."""
        ...


@dataclass(frozen=True)
class Call:
    """A syscall, with what its arguments must be. ``text`` is how the table writes it."""

    name: str
    tests: Tests
    text: str


MANY = 3
"""Alternatives that are written out."""


@dataclass(frozen=True)
class Step:
    """One of ``calls``, or a capability: held, or to be had by one of ``calls``, which make a user namespace."""

    calls: tuple[Call, ...]
    capability: str | None = None

    @property
    def text(self) -> str:
        """What it takes."""
        if self.capability is not None:
            return f"{self.capability} or a new user namespace"
        if len(self.calls) > MANY:
            return f"{self.calls[0].text} or the like"
        return " or ".join(call.text for call in self.calls)

    @property
    def lacking(self) -> str:
        """That it cannot be done."""
        if self.capability is not None:
            return f"neither {self.capability} nor a new user namespace"
        return f"no {self.text}"


@dataclass(frozen=True)
class Cve:
    """``identifier`` is CVE-YEAR-NUMBER, ``sources`` are keys of :func:`sources`. ``needs``: all of them. ``about`` may
    be empty."""

    identifier: str
    sources: tuple[str, ...]
    about: str
    needs: tuple[Step, ...]


@dataclass(frozen=True)
class Verdict:
    """``missing``: the steps that cannot be done; none when the hole is reachable."""

    cve: Cve
    missing: tuple[Step, ...]

    @property
    def blocked(self) -> bool:
        """Whether the rights keep a program from the hole."""
        return bool(self.missing)

    @property
    def reason(self) -> str:
        """The telling step that cannot be done; empty when it is reachable."""
        return self.missing[0].lacking if self.missing else ""


_CALL = re.compile(r"([a-z0-9_]+)(?:\((.*)\))?\Z")
_TEST = re.compile(r"([a-z]+)([=&])(\w+)\Z")


def call(text: str) -> Call:
    """``socket(domain=AF_ALG)`` read. Raises ValueError for anything the tables do not know."""
    found = _CALL.match(text)
    if not found or found[1] not in known_names():
        raise ValueError(f"no such syscall: {text!r}")
    name, spec = found[1], spec_for(found[1])
    tests: list[tuple[int, int, int]] = []
    context: list[int] = []
    for part in (found[2] or "").split(", ") if found[2] else ():
        one = _TEST.match(part)
        if not one or spec is None or spec.pointer or one[1] not in spec.fields:
            raise ValueError(f"{text!r}: {part!r} cannot be tested")
        index = spec.fields.index(one[1])
        value = parse(name, one[1], one[3], context)
        tests.append((spec.positions[index], spec.masks[index] if one[2] == "=" else value, value))
        context.append(value)
    return Call(name, tuple(tests), text)


def _step(row: Any) -> Step:
    raw = load("cves.yaml")
    if isinstance(row, dict):
        if capability_number(row["capability"]) is None:
            raise ValueError(f"no such capability: {row['capability']!r}")
        return Step(user_namespace(), row["capability"])
    return Step(tuple(call(text) for text in (raw["steps"][row] if isinstance(row, str) else row)))


@cache
def user_namespace() -> tuple[Call, ...]:
    """The calls that make a user namespace."""
    return tuple(call(text) for text in load("cves.yaml")["user_namespace"])


@cache
def sources() -> dict[str, str]:
    """Word to what it stands for."""
    return dict(load("cves.yaml")["sources"])


def date() -> str:
    """When the table was last looked over: a year and a month."""
    return str(load("cves.yaml")["date"])


@cache
def cves() -> tuple[Cve, ...]:
    """All of them, by year and number."""
    found = [
        Cve(f"CVE-{number}", tuple(row["from"]), row.get("about", ""), tuple(_step(step) for step in row["needs"]))
        for row in load("cves.yaml")["holes"]
        for number in row["ids"]
    ]
    return tuple(sorted(found, key=lambda cve: tuple(int(part) for part in cve.identifier.split("-")[1:])))


def ways(rights: Allowing, wanted: Call) -> tuple[str, ...]:
    """How a call can be had: the names, with the ABI behind ``under`` when it is not the first one; none when it
    cannot.

    A multiplexer that does its work counts: a filter cannot look at what it passes on.
    """
    found = []
    for abi in rights.abis:
        suffix = "" if abi == rights.abis[0] else f" under {abi}"
        if number_of(abi, wanted.name) is None:
            continue
        if rights.allows(abi, wanted.name, wanted.tests):
            found.append(wanted.name + suffix)
    for abi in rights.abis:
        suffix = "" if abi == rights.abis[0] else f" under {abi}"
        for other in doing(wanted.name):
            if number_of(abi, other.name) is None:
                continue
            alternatives: Sequence[Tests] = [(test,) for test in other.does[wanted.name]] or [()]
            if any(rights.allows(abi, other.name, tests) for tests in alternatives):
                found.append(other.name + suffix)
    return tuple(dict.fromkeys(found))


class _Asked:
    """Steps that were looked at: many holes share them."""

    def __init__(self, rights: Allowing) -> None:
        self.rights = rights
        self.calls: dict[Call, bool] = {}

    def call(self, wanted: Call) -> bool:
        if wanted not in self.calls:
            self.calls[wanted] = bool(ways(self.rights, wanted))
        return self.calls[wanted]

    def step(self, step: Step) -> bool:
        if step.capability is not None and self.rights.holds(step.capability):
            return True
        return any(self.call(wanted) for wanted in step.calls)


def verdicts(rights: Allowing) -> tuple[Verdict, ...]:
    """For every hole of the table, which steps the rights refuse."""
    asked = _Asked(rights)
    return tuple(Verdict(cve, tuple(step for step in cve.needs if not asked.step(step))) for cve in cves())
