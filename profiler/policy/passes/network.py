"""Sockets of each sort, with the ports and addresses that tell something of the next run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from profiler.policy.covering import EPHEMERAL
from profiler.policy.evidence import program_names
from profiler.policy.model import Options, Policy, SocketRule
from profiler.policy.patterns import literal
from profiler.policy.places import pattern_for
from profiler.policy.reasons import named
from profiler.trace.model import SOCKET_OPERATIONS, Socket, Trace

REFUSALS = frozenset({"EACCES", "EAFNOSUPPORT", "EPERM", "EPROTONOSUPPORT", "EPROTOTYPE", "ESOCKTNOSUPPORT"})
"""Errors by which the kernel refuses sockets of this sort, or this use of them. Every other error (EINPROGRESS,
ECONNREFUSED, ...) comes from the network, after the kernel allowed the use."""

_PEERS = frozenset({"connect", "send"})


def used(row: Socket) -> bool:
    """Whether the kernel allowed the operation at least once."""
    return any(number and result not in REFUSALS for result, number in row.results.items())


@dataclass
class _Sort:
    operations: set[str] = field(default_factory=set)
    programs: set[int] = field(default_factory=set)
    ports: dict[str, set[int]] = field(default_factory=dict)
    addresses: dict[str, set[str]] = field(default_factory=dict)


def _in_order(operations: Iterable[str]) -> list[str]:
    order = {word: index for index, word in enumerate(SOCKET_OPERATIONS)}
    return sorted(operations, key=lambda word: (order.get(word, len(order)), word))


def network(policy: Policy, trace: Trace, options: Options) -> Policy:
    """One rule for each (family, type, protocol) that was used. Peers' ports that a client was given are left out."""
    if not trace.has_files:
        return policy
    sorts: dict[tuple[str, str, int], _Sort] = {}
    for row in trace.sockets:
        if not used(row):
            continue
        item = sorts.setdefault((row.family, row.type, row.protocol), _Sort())
        item.operations.add(row.operation)
        item.programs |= row.programs
        if row.port is not None and not (row.operation in _PEERS and row.port in EPHEMERAL):
            item.ports.setdefault(row.operation, set()).add(row.port)
        if row.address is not None:
            pattern = (
                literal(row.address)
                if row.address.startswith("@")
                else pattern_for(policy, row.address, {"bind", "connect"})
            )
            item.addresses.setdefault(row.operation, set()).add(pattern)
    rules = tuple(
        SocketRule(
            family=family,
            type=kind,
            protocol=protocol,
            operations=tuple(_in_order(item.operations)),
            because=(
                named(
                    "inherited" if item.operations == {"inherit"} else "observed", program_names(trace, item.programs)
                ),
            ),
            ports=tuple((word, tuple(sorted(item.ports[word]))) for word in _in_order(item.ports)),
            addresses=tuple((word, tuple(sorted(item.addresses[word]))) for word in _in_order(item.addresses)),
        )
        for (family, kind, protocol), item in sorted(sorts.items())
    )
    return replace(policy, sockets=rules)
