"""Published kernel vulnerabilities, and which of them a set of rights lets a program reach.

The data, its sources and the rule are in cves.yaml. This module does not know how rights are written down: it asks a
:class:`Permissions`.
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
"""(position, mask, value) each; a test holds when ``argument[position] & mask == value``, and all must hold.

Registers have 64 bits (seccomp(2)).
"""


class Permissions(Protocol):
    """What this module asks of a set of rights."""

    @property
    def abis(self) -> Sequence[str]:
        """Return the ABIs under which at least some calls are allowed."""
        ...

    def allows(self, abi: str, name: str, tests: Tests) -> bool:
        """Return whether some call with arguments that pass the tests is allowed. The ABI has the name."""
        ...

    def holds(self, capability: str) -> bool:
        """Return whether a program may hold the capability in the initial user namespace."""
        ...


@dataclass(frozen=True)
class Call:
    """A syscall with the tests that its arguments must pass. ``text`` is its notation in cves.yaml."""

    name: str
    tests: Tests
    text: str


MANY = 3
"""The largest number of alternatives that a text lists in full."""


@dataclass(frozen=True)
class Step:
    """One step of an exploit: one of ``calls``, or a capability, held or gained through one of ``calls``."""

    calls: tuple[Call, ...]
    capability: str | None = None

    @property
    def text(self) -> str:
        """Return what the step takes."""
        if self.capability is not None:
            return f"{self.capability} or a new user namespace"
        if len(self.calls) > MANY:
            return f"{self.calls[0].text} or an equivalent"
        return " or ".join(call.text for call in self.calls)

    @property
    def impossible(self) -> str:
        """Return the text which says that the step is impossible."""
        if self.capability is not None:
            return f"neither {self.capability} nor a new user namespace"
        return f"no {self.text}"


@dataclass(frozen=True)
class Cve:
    """A vulnerability: CVE-YEAR-NUMBER, keys of :func:`sources`, and the steps, all of which are needed."""

    identifier: str
    sources: tuple[str, ...]
    about: str
    needs: tuple[Step, ...]


@dataclass(frozen=True)
class Verdict:
    """The result for one vulnerability: the steps that are impossible. It is reachable when there are none."""

    cve: Cve
    missing: tuple[Step, ...]

    @property
    def blocked(self) -> bool:
        """Return whether the rights block the vulnerability."""
        return bool(self.missing)

    @property
    def reason(self) -> str:
        """Return the most telling impossible step; empty if the vulnerability is reachable."""
        return self.missing[0].impossible if self.missing else ""


_CALL = re.compile(r"([a-z0-9_]+)(?:\((.*)\))?\Z")
_TEST = re.compile(r"([a-z]+)([=&])(\w+)\Z")


def call(text: str) -> Call:
    """Parse a call such as ``socket(domain=AF_ALG)``. Raises ValueError for a name that the tables do not contain."""
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
    """Return the calls that create a user namespace."""
    return tuple(call(text) for text in load("cves.yaml")["user_namespace"])


@cache
def sources() -> dict[str, str]:
    """Return what each source key stands for."""
    return dict(load("cves.yaml")["sources"])


def date() -> str:
    """Return the year and month of the table's last review."""
    return str(load("cves.yaml")["date"])


@cache
def cves() -> tuple[Cve, ...]:
    """Return all vulnerabilities, ordered by year and number."""
    found = [
        Cve(f"CVE-{number}", tuple(row["from"]), row.get("about", ""), tuple(_step(step) for step in row["needs"]))
        for row in load("cves.yaml")["holes"]
        for number in row["ids"]
    ]
    return tuple(sorted(found, key=lambda cve: tuple(int(part) for part in cve.identifier.split("-")[1:])))


def ways(rights: Permissions, wanted: Call) -> tuple[str, ...]:
    """Return how a call can be made, as names, with ``under ABI`` if it is not the first ABI; empty if it cannot.

    A multiplexer that does the same work counts, because a filter cannot inspect the operations that it carries.
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


class _StepCache:
    """Cache the steps that were already tested: many vulnerabilities share them."""

    def __init__(self, rights: Permissions) -> None:
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


def verdicts(rights: Permissions) -> tuple[Verdict, ...]:
    """Return, for every vulnerability of the table, which steps the rights refuse."""
    cached = _StepCache(rights)
    return tuple(Verdict(cve, tuple(step for step in cve.needs if not cached.step(step))) for cve in cves())
