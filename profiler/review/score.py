"""Score how much a profile leaves open: figures for each kind of right, and one number from 0 to 100.

The number is a weighted sum of shares (:data:`WEIGHTS`), each the closed part of something. Removing a right can only
close more, so it never lowers the number; adding one never raises it. Harmless calls that come by timing
(profiler/kernel/companions.yaml) count neither as open nor as closed. It says how much is open, not whether the rest is
safe.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from profiler.kernel.abi import SUB_ABIS
from profiler.kernel.arguments import recorded_names, spec_for
from profiler.kernel.capabilities import CAPABILITIES
from profiler.kernel.companions import harmless
from profiler.kernel.cves import Tests, Verdict, sources, verdicts
from profiler.kernel.syscalls import names_of
from profiler.policy.model import capability_order
from profiler.review.cubes import EVERYTHING, WIDTH, Cube, TooHard, includes, projected
from profiler.review.equivalence import seen_bits
from profiler.review.rights import Allowance, Rights

WEIGHTS: Mapping[str, int] = {"syscalls": 35, "other_abis": 5, "arguments": 15, "capabilities": 20, "cves": 25}
"""The points for closing all of a kind; 100 together."""


@dataclass(frozen=True)
class Share:
    """``closed`` of ``total``; ``open`` is the rest."""

    closed: int
    total: int

    @property
    def open(self) -> int:
        """What is not closed."""
        return self.total - self.closed

    @property
    def part(self) -> float:
        """The closed part, from 0 to 1; 1 if there is nothing to close."""
        return self.closed / self.total if self.total else 1.0


@dataclass(frozen=True)
class Score:
    """The figures of one set of rights.

    ``open`` lists the native ABI's syscalls that are not refused, ``filtered`` those of them that are allowed only with
    some arguments, and ``unfiltered`` those that profgen would filter but this profile does not. ``assumed``: the file
    does not mention capabilities, and these were assumed.
    """

    source: str
    kind: str
    native: str
    open: tuple[str, ...]
    filtered: tuple[str, ...]
    unfiltered: tuple[str, ...]
    capabilities: tuple[str, ...]
    assumed: bool
    shares: Mapping[str, Share]
    """Keys as in WEIGHTS."""
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...] = ()

    @cached_property
    def exact(self) -> float:
        """The sum, before it is cut to a whole number."""
        return sum(WEIGHTS[name] * share.part for name, share in self.shares.items())

    @property
    def points(self) -> int:
        """The sum from 0 to 100, rounded down."""
        return int(self.exact + 1e-9)

    def of_source(self, source: str) -> Share:
        """Return the CVEs of one source (cves.sources)."""
        rows = [verdict for verdict in self.verdicts if source in verdict.cve.sources]
        return Share(sum(verdict.blocked for verdict in rows), len(rows))

    @property
    def blocked(self) -> Mapping[str, tuple[Verdict, ...]]:
        """The reason why CVEs are blocked, the most frequent first, to those CVEs."""
        return _grouped((verdict.reason, verdict) for verdict in self.verdicts if verdict.blocked)

    @property
    def reachable(self) -> Mapping[str, tuple[Verdict, ...]]:
        """The subsystem and first step of reachable CVEs, the most frequent first, to those CVEs."""
        return _grouped((_way(row), row) for row in self.verdicts if not row.blocked)


def _way(row: Verdict) -> str:
    first = row.cve.needs[0].text
    return f"{row.cve.about}: {first}" if row.cve.about and row.cve.about != first else first


def _grouped(rows: Iterable[tuple[str, Verdict]]) -> dict[str, tuple[Verdict, ...]]:
    groups: dict[str, list[Verdict]] = {}
    for reason, verdict in rows:
        groups.setdefault(reason, []).append(verdict)
    return {reason: tuple(found) for reason, found in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))}


class PermissionsOf:
    """Rights in the form that profiler.kernel.cves asks for."""

    def __init__(self, rights: Rights, capabilities: frozenset[str]) -> None:
        self._rights = rights
        self._capabilities = capabilities

    @property
    def abis(self) -> Sequence[str]:
        return self._rights.abis

    def allows(self, abi: str, name: str, tests: Tests) -> bool:
        wanted = Cube(
            sum(mask << (WIDTH * position) for position, mask, _ in tests),
            sum(value << (WIDTH * position) for position, _, value in tests),
        )
        return any(cube.meets(wanted) for cube in self._rights.allowance(abi, name).cubes)

    def holds(self, capability: str) -> bool:
        return capability in self._capabilities


def restricts(allowance: Allowance, abi: str, name: str) -> bool:
    """Return whether some arguments are refused, as far as the kernel looks at them.

    A filter that lets every int pass with some upper half refuses none. One with too many alternatives to add up counts
    as none too.
    """
    if allowance.unconditional or not allowance.exact:
        return allowance.refused
    try:
        return not includes(projected(allowance.cubes, seen_bits(abi, name)), (EVERYTHING,))
    except TooHard:
        return False


@cache
def filterable(abi: str) -> frozenset[str]:
    """Return the syscalls with arguments that profgen records and a filter can compare (arguments.yaml)."""
    found = set()
    for name in recorded_names() & names_of(abi):
        spec = spec_for(name, abi)
        if spec is not None and not spec.pointer:
            found.add(name)
    return frozenset(found)


def score(rights: Rights, assumed: frozenset[str]) -> Score:
    """Return the figures. ``assumed``: capabilities for rights that do not mention them."""
    held = rights.capabilities if rights.capabilities is not None else assumed
    native = rights.native
    allowed = {name: rights.allowance(native, name) for name in sorted(names_of(native))}
    open_names = tuple(name for name, allowance in allowed.items() if not allowance.refused)
    filtered = tuple(name for name in open_names if restricts(allowed[name], native, name))
    unfiltered = tuple(name for name in open_names if name in filterable(native) and name not in filtered)
    counted = allowed.keys() - harmless()
    others = [(abi, name) for abi in SUB_ABIS.get(native, ()) for name in names_of(abi) - harmless()]
    found = verdicts(PermissionsOf(rights, held))
    return Score(
        source=rights.source,
        kind=rights.kind,
        native=native,
        open=open_names,
        filtered=filtered,
        unfiltered=unfiltered,
        capabilities=tuple(sorted(held, key=capability_order)),
        assumed=rights.capabilities is None,
        shares={
            "syscalls": Share(sum(allowed[name].refused for name in counted), len(counted)),
            "other_abis": Share(sum(rights.allowance(abi, name).refused for abi, name in others), len(others)),
            "arguments": Share(len(filterable(native)) - len(unfiltered), len(filterable(native))),
            "capabilities": Share(len(CAPABILITIES) - len(held & frozenset(CAPABILITIES)), len(CAPABILITIES)),
            "cves": Share(sum(verdict.blocked for verdict in found), len(found)),
        },
        verdicts=found,
        notes=rights.notes,
    )


@dataclass(frozen=True)
class Excess:
    """What one set of rights allows of the native ABI that another does not."""

    syscalls: tuple[str, ...]
    capabilities: tuple[str, ...]
    cves: tuple[str, ...]


def excess_of(ours: Score, theirs: Score) -> Excess:
    """Return what ``ours`` leaves open and ``theirs`` does not."""
    there = frozenset(theirs.open)
    blocked = {verdict.cve.identifier for verdict in theirs.verdicts if verdict.blocked}
    return Excess(
        syscalls=tuple(name for name in ours.open if name not in there),
        capabilities=tuple(name for name in ours.capabilities if name not in theirs.capabilities),
        cves=tuple(row.cve.identifier for row in ours.verdicts if not row.blocked and row.cve.identifier in blocked),
    )


def as_data(found: Score) -> dict[str, object]:
    """Return the figures as plain data for JSON."""
    return {
        "source": found.source,
        "kind": found.kind,
        "abi": found.native,
        "score": found.points,
        "shares": {
            name: {
                "closed": share.closed,
                "open": share.open,
                "total": share.total,
                "points": round(WEIGHTS[name] * share.part, 2),
            }
            for name, share in found.shares.items()
        },
        "syscalls": {"open": list(found.open), "filtered": list(found.filtered), "unfiltered": list(found.unfiltered)},
        "capabilities": {"held": list(found.capabilities), "assumed": found.assumed},
        "cves": {
            "by_source": {
                name: {"blocked": share.closed, "total": share.total}
                for name in sources()
                for share in [found.of_source(name)]
            },
            "blocked": [
                {"id": row.cve.identifier, "because": [step.impossible for step in row.missing]}
                for row in found.verdicts
                if row.blocked
            ],
            "reachable": [
                {"id": row.cve.identifier, "by": [step.text for step in row.cve.needs]}
                for row in found.verdicts
                if not row.blocked
            ],
        },
        "notes": list(found.notes),
    }
