"""Read dangerous.yaml: which rights are added only if they are named explicitly, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from profiler.kernel.data import load
from profiler.kernel.risks import LEVELS, capability_risk, named, path_risks, socket_risks, syscall_risks, whom_risk
from profiler.policy.patterns import matches


def _data() -> dict[str, Any]:
    data: dict[str, Any] = load("dangerous.yaml", __file__)
    return data


@cache
def _rank() -> int:
    return LEVELS.index(_data()["level"])


@dataclass(frozen=True)
class OfSyscall:
    """Why a syscall is dangerous: ``always``, or ``sometimes``, with arguments that the record does not contain.
    ``warnings``: the same for syscalls that nearly every program makes."""

    always: tuple[str, ...]
    sometimes: tuple[str, ...]
    warnings: tuple[str, ...]


def of_syscall(name: str, arguments: Sequence[int] | None) -> OfSyscall:
    """Return why a syscall is dangerous if it is allowed with these six registers, or (None) with any."""
    always = [row["why"] for row in _data()["syscalls"] if name in row["names"]]
    sometimes: list[str] = []
    for risk in syscall_risks(name):
        if risk.risk.rank < _rank():
            continue
        if not risk.alternatives:
            always.append(risk.risk.why)
        elif arguments is None:
            sometimes.append(risk.risk.why)
        elif any(all(arguments[at] & mask == value for at, mask, value in tests) for tests in risk.alternatives):
            always.append(risk.risk.why)
    first, second = tuple(dict.fromkeys(always)), tuple(dict.fromkeys(sometimes))
    return OfSyscall(first, (), second) if name in _data()["with_warning"] else OfSyscall(first, second, ())


def of_abi() -> str:
    """Return why syscalls of an ABI that the policy does not name are dangerous."""
    return named("abi").why


def of_capability(name: str) -> list[str]:
    """Return why a capability is dangerous; empty if it is not."""
    risk = capability_risk(name)
    return [risk.why] if risk.rank >= _rank() else []


def _below(place: str, path: str, exactly: bool, prefix: bool) -> bool:
    if place.startswith("{home}"):
        return matches(place, path) or (not exactly and matches(place + "/{tree}", path))
    if path == place:
        return True
    return not exactly and (path.startswith(place) if prefix else path.startswith(place.rstrip("/") + "/"))


def of_file(path: str, access: Sequence[str], executed: Sequence[str]) -> list[str]:
    """Return why these uses of a path are dangerous. ``executed``: patterns of programs that the policy executes."""
    found = [
        risk.risk.why
        for risk in path_risks()
        if risk.risk.rank >= _rank()
        and not risk.states
        and (risk.accesses is None or not risk.accesses.isdisjoint(access))
        and _below(risk.path, path, risk.exactly, risk.prefix)
    ]
    if "execute" in access and not any(matches(pattern, path) for pattern in executed):
        name = path.rsplit("/", 1)[-1]
        if any(matches(pattern, name) for pattern in _data()["execute"]["names"]):
            found.append(_data()["execute"]["why"])
    return list(dict.fromkeys(found))


def of_socket(family: str, type_: str, protocol: int, ports: Sequence[int], operations: Sequence[str]) -> list[str]:
    """Return why sockets of this kind are dangerous."""

    def fits() -> Iterator[str]:
        for row in socket_risks():
            if row.risk.rank < _rank() or (row.ports and row.ports.isdisjoint(ports)):
                continue
            if row.operations and row.operations.isdisjoint(operations):
                continue
            wanted = ((row.family, family), (row.type, type_), (row.protocol, protocol))
            if all(want is None or want == have for want, have in wanted):
                yield row.risk.why

    return list(dict.fromkeys(fits()))


def of_signal(whom: str) -> list[str]:
    """Return why signals to these processes are dangerous."""
    risk = whom_risk("signals", whom)
    return [risk.why] if risk.rank >= _rank() else []


def of_inspection() -> list[str]:
    """Return why tracing and reading other processes is dangerous."""
    return [_data()["inspections"]]


def of_mount() -> list[str]:
    """Return why changes of the mount tree are dangerous."""
    return [named("mounts").why]


def of_user_namespaces() -> list[str]:
    """Return why user namespaces are dangerous."""
    return [_data()["user_namespaces"]]


def of_io_uring() -> list[str]:
    """Return why io_uring is dangerous."""
    return [_data()["io_uring"]]
