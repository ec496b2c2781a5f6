"""Sockets of each sort, with the ports and addresses that tell something of the next run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from profiler.policy.covering import EPHEMERAL
from profiler.policy.evidence import program_names
from profiler.policy.model import Options, Policy, SocketRule
from profiler.policy.names import Seen, choose, readings
from profiler.policy.patterns import Class, Literal, dumps, literal
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


_PADDED = re.compile(r"@(?P<name>.*?)(?P<padding>\0*)", re.DOTALL)
_AUTOBIND = re.compile("[0-9a-f]{5}")
"""What the kernel names a socket that is bound without a name (unix_autobind in net/unix/af_unix.c)."""
_BINARY = re.compile("[\x01-\x1f\x7f-\x9f\udc80-\udcff]")

_BOUND, _PEER = Seen("temporary", made=True, gone=True), Seen("data", made=True)
"""A name in the abstract namespace never outlasts its socket, so also a peer's may be another at the next start."""


def _abstract(trace: Trace) -> dict[str, str]:
    """Return the pattern of each address in the abstract namespace that is new at each start, or may be."""
    bound: dict[str, bool] = {}
    runs: dict[str, int] = {}
    for row in trace.sockets:
        if used(row) and row.address is not None and row.address.startswith("@"):
            bound[row.address] = bound.get(row.address, False) or row.operation == "bind"
            runs[row.address] = max(runs.get(row.address, 0), row.runs)
    parts = {}
    for address, own in bound.items():
        found = _PADDED.fullmatch(address)
        names = found["name"].split("/") if found else []
        for at, name in enumerate(names):
            parts[address, at] = (
                "/".join(names[:at]),
                readings(name, _BOUND if own and at == len(names) - 1 else _PEER),
            )
    chosen = choose(parts, lambda key: runs[key[0]] < trace.meta.runs)
    return {address: _abstract_pattern(address, own, chosen) for address, own in bound.items()}


def _abstract_pattern(address: str, own: bool, chosen: Mapping[tuple[str, int], str]) -> str:
    found = _PADDED.fullmatch(address)
    assert found is not None, address
    name, padding = found["name"], found["padding"]
    if _AUTOBIND.fullmatch(name):
        return dumps([Literal("@"), Class("hex:5"), Literal(padding)])
    binary = _BINARY.search(name)
    if binary and own:
        # Random bytes may be any character, also a slash: what stands before them is all that is known.
        before = re.match(r".*[-._:/\0]", name[: binary.start()], re.DOTALL)
        return dumps([Literal("@" + (before[0] if before else "")), Class("tree")])
    names = [chosen.get((address, at), literal(part)) for at, part in enumerate(name.split("/"))]
    return literal("@") + "/".join(names) + literal(padding)


def network(policy: Policy, trace: Trace, options: Options) -> Policy:
    """One rule for each (family, type, protocol) that was used. Peers' ports that a client was given are left out."""
    if not trace.has_files:
        return policy
    abstract = _abstract(trace) if options.generalise else {}
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
                abstract.get(row.address, literal(row.address))
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
