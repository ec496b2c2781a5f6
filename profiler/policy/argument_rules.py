"""Derive rules from the argument values that were seen.

The rules of one syscall are alternatives. Their number is limited; beyond the limit a filter becomes wider, never
narrower.
"""

from __future__ import annotations

from collections.abc import Iterable

from profiler.kernel.arguments import NAMESPACE_FLAGS, ArgumentSpec
from profiler.policy.model import RULE_BUDGET, Condition, Rule

PROT_WRITE = 2
PROT_EXEC = 4

AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16
_DEFAULT_PROTOCOL = {1: 6, 2: 17}
"""The protocol that 0 selects for AF_INET and AF_INET6: TCP for SOCK_STREAM, UDP for SOCK_DGRAM.

Source: socket(2), net/ipv4/af_inet.c:inetsw_array.
"""


class TooWide(Exception):
    """No filter is possible or useful; ``str()`` is the reason."""


def _maximal(values: Iterable[int]) -> list[int]:
    """Return the values that are not a subset of another one, as sets of bits."""
    unique = sorted(set(values))
    return [value for value in unique if not any(value != other and value & ~other == 0 for other in unique)]


def _without(field: str, position: int, forbidden: int) -> Rule:
    return Rule((Condition(field, position, forbidden, 0),))


def _flag_rules(spec: ArgumentSpec, values: Iterable[tuple[int, ...]], universe: int) -> list[Rule]:
    """Return one rule for each largest set of flags seen: no flag of ``universe`` outside it."""
    field, position = spec.fields[0], spec.positions[0]
    rules = []
    for value in _maximal(row[0] & universe for row in values):
        forbidden = universe & ~value
        if not forbidden:
            raise TooWide("every flag was seen")
        rules.append(_without(field, position, forbidden))
    return rules


def _protection_rules(spec: ArgumentSpec, values: Iterable[tuple[int, ...]]) -> list[Rule]:
    seen = {row[0] for row in values}
    field, position = spec.fields[0], spec.positions[0]
    if any(value & PROT_EXEC and value & PROT_WRITE for value in seen):
        raise TooWide("memory that is writable and executable at once was seen")
    if any(value & PROT_EXEC for value in seen):
        return [_without(field, position, PROT_WRITE), _without(field, position, PROT_EXEC)]
    return [_without(field, position, PROT_EXEC)]


def _exact(spec: ArgumentSpec, row: tuple[int | None, ...]) -> Rule:
    conditions = [
        Condition(field, position, mask, value & mask)
        for field, position, mask, value in zip(spec.fields, spec.positions, spec.compared, row, strict=True)
        if value is not None
    ]
    return Rule(tuple(sorted(conditions, key=lambda condition: condition.position)))


def _socket_rows(row: tuple[int, ...]) -> list[tuple[int | None, ...]]:
    """Return what one (domain, type, protocol) allows: the same socket with each spelling of its protocol (socket(2),
    ip(7))."""
    domain, kind, protocol = row
    if domain == AF_UNIX:
        return [(domain, kind, None)]
    if domain in (AF_INET, AF_INET6) and kind in _DEFAULT_PROTOCOL and protocol in (0, _DEFAULT_PROTOCOL[kind]):
        return [(domain, kind, 0), (domain, kind, _DEFAULT_PROTOCOL[kind])]
    if domain == AF_NETLINK:
        # SOCK_RAW and SOCK_DGRAM make the same netlink socket (net/netlink/af_netlink.c:netlink_create).
        return [(domain, None, protocol)]
    return [row]


def _exact_rules(spec: ArgumentSpec, values: Iterable[tuple[int, ...]]) -> list[Rule]:
    rows: set[tuple[int | None, ...]] = set()
    for row in values:
        if spec.fields == ("domain", "type", "protocol"):
            rows.update(_socket_rows(row))
        else:
            rows.add(row)
    for kept in range(len(spec.fields), 0, -1):
        narrowed = {(*row[:kept], *(None,) * (len(row) - kept)) for row in rows}
        if len(narrowed) <= RULE_BUDGET:
            return sorted(_exact(spec, row) for row in narrowed)
    raise TooWide(f"more than {RULE_BUDGET} different values were seen")


def rules_for(spec: ArgumentSpec, values: Iterable[tuple[int, ...]]) -> tuple[Rule, ...]:
    """Return rules that allow the values and what cannot be distinguished from them. Raises TooWide if there
    are none."""
    rows = list(values)
    if spec.pointer:
        raise TooWide("the flags are behind a pointer, where seccomp cannot read them")
    if not rows:
        raise TooWide("no argument values were recorded")
    compare = spec.compares[0]
    if compare == "protection":
        rules = _protection_rules(spec, rows)
    elif compare == "namespaces":
        rules = _flag_rules(spec, rows, NAMESPACE_FLAGS)
    elif compare == "subset":
        rules = _flag_rules(spec, rows, spec.compared[0])
    else:
        rules = _exact_rules(spec, rows)
    if len(rules) > RULE_BUDGET:
        raise TooWide(f"more than {RULE_BUDGET} different values were seen")
    return tuple(sorted(rules))


def is_widened(spec: ArgumentSpec, rules: Iterable[Rule]) -> bool:
    """Return whether fields were left out of every rule to stay within the limit."""
    used = {condition.field for rule in rules for condition in rule.conditions}
    return bool(set(spec.fields) - used)
