"""Capabilities, and what a kernel call chain says about a check of one.

A chain is a sequence of kernel function names, innermost first, as in a stack trace: it starts with ``cap_capable`` and
its helpers. The data, with its sources in the kernel, is in capabilities.yaml.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache

from profiler.kernel.data import load

CAPABILITIES: tuple[str, ...] = tuple(load("capabilities.yaml")["names"])
"""Every capability; the index is its number."""

ALL = (1 << len(CAPABILITIES)) - 1
"""All of them as a set: a bit for each number."""

_NUMBERS = {name: number for number, name in enumerate(CAPABILITIES)}


def name_of(number: int) -> str:
    """Return the name of a capability: ``CAP_CHOWN`` for 0, ``CAP_<n>`` for a number newer than the list."""
    return CAPABILITIES[number] if 0 <= number < len(CAPABILITIES) else f"CAP_{number}"


def number_of(name: str) -> int | None:
    """Return the number of a capability: 0 for ``CAP_CHOWN``, None for an unknown name."""
    return _NUMBERS.get(name)


def names_in(mask: int) -> tuple[str, ...]:
    """Return the names of the capabilities in a set."""
    return tuple(name_of(number) for number in range(mask.bit_length()) if mask >> number & 1)


@dataclass(frozen=True)
class _Rule:
    capabilities: frozenset[str]
    below: frozenset[str]
    directly: frozenset[str]
    silently: bool
    unless_below: frozenset[str]
    syscalls: dict[str, int]
    bits: int
    own: str
    reason: str


@dataclass(frozen=True)
class _Data:
    audited: frozenset[str]
    silent: frozenset[str]
    helpers: frozenset[str]
    tracing: tuple[str, ...]
    silent_callers: frozenset[str]
    rules: tuple[_Rule, ...]
    overlay_prefix: str
    overlay_own: frozenset[tuple[str, str]]


@cache
def _data() -> _Data:
    raw = load("capabilities.yaml")
    helpers = raw["helpers"]
    rules = tuple(
        _Rule(
            capabilities=frozenset(row["capabilities"]),
            below=frozenset(row.get("below", ())),
            directly=frozenset(row.get("directly", ())),
            silently=row.get("silently", False),
            unless_below=frozenset(row.get("unless_below", ())),
            syscalls=row.get("argument", {}).get("syscalls", {}),
            # YAML 1.1 reads 0o2000 as text.
            bits=int(str(row.get("argument", {}).get("bits", 0)), 0),
            own=row.get("own", ""),
            reason=row["reason"],
        )
        for row in raw["advisory"]
    )
    return _Data(
        audited=frozenset(helpers["audited"]),
        silent=frozenset(helpers["silent"]),
        helpers=frozenset(helpers["audited"]) | frozenset(helpers["silent"]) | frozenset(helpers["other"]),
        tracing=tuple(raw["tracing"]),
        silent_callers=frozenset(raw["silent_callers"]),
        rules=rules,
        overlay_prefix=raw["overlay"]["prefix"],
        overlay_own=frozenset((inner, outer) for inner, outer in raw["overlay"]["own_checks"]),
    )


def plain(chain: Sequence[str]) -> tuple[str, ...]:
    """Return the chain without compiler suffixes (``.isra.0``), offsets, module names and the tracer's own frames."""
    names = []
    for entry in chain:
        name = entry.split("+", 1)[0].split(" ", 1)[0].split(".", 1)[0]
        if name and not name.startswith(_data().tracing):
            names.append(name)
    return tuple(names)


def advisory_reason(
    capability: str,
    chain: Sequence[str],
    syscall: str | None = None,
    arguments: Sequence[int] = (),
    own: Collection[str] = (),
) -> str | None:
    """Return why the check of ``capability`` with this chain cannot change what a program sees, or None if it can.

    ``syscall`` and ``arguments`` (six registers) describe the call in progress. ``own``: the ways in which the program
    used none but its own files. Some checks can be classified only with them; without them such a check counts as one
    that matters.
    """
    data = _data()
    names = plain(chain)
    if not names:
        return None
    asked_by = next((name for name in names if name not in data.helpers), None)
    everything = frozenset(names)
    silent = bool(everything & data.silent)
    for rule in data.rules:
        if capability not in rule.capabilities or everything & rule.unless_below or (rule.silently and not silent):
            continue
        if not (everything & rule.below or asked_by in rule.directly) or (rule.own and rule.own not in own):
            continue
        if rule.syscalls:
            position = rule.syscalls.get(syscall or "")
            if position is None or position >= len(arguments) or arguments[position] & rule.bits:
                continue
        return rule.reason
    for index, name in enumerate(names):
        if name.startswith(data.overlay_prefix):
            inner = names[index - 1] if index else ""
            if (inner, name) in data.overlay_own:
                return None
            return "checked with the credentials of the overlay file system's mounter"
    return None


def is_advisory(
    capability: str,
    chain: Sequence[str],
    syscall: str | None = None,
    arguments: Sequence[int] = (),
    own: Collection[str] = (),
) -> bool:
    """Return whether :func:`advisory_reason` finds a reason."""
    return advisory_reason(capability, chain, syscall, arguments, own) is not None


def is_audited(chain: Sequence[str]) -> bool | None:
    """Return whether the kernel would audit a refusal of this check, or None if the chain does not tell.

    False for the kernel's silent probes (``*_noaudit``). A silent check can still matter: see :func:`is_advisory`.
    """
    data = _data()
    for name in plain(chain):
        if name in data.silent or name in data.silent_callers:
            return False
        if name in data.audited:
            return True
        if name not in data.helpers:
            return None
    return None
