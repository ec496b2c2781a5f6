"""Describe a denial in one line for people."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from profiler.denials.model import Denial
from profiler.kernel.abi import native_abi
from profiler.kernel.arguments import render, spec_for
from profiler.quoting.text import word
from profiler.wording import counted


def alike(denials: Iterable[Denial]) -> list[Denial]:
    """Join the denials that have the same description: they differ only in what it leaves out, such as registers
    without a meaning."""
    found: dict[tuple[str, bool], Denial] = {}
    for denial in denials:
        key = (described(dataclasses.replace(denial, count=1)), denial.refused)
        before = found.get(key)
        found[key] = denial if before is None else dataclasses.replace(before, count=before.count + denial.count)
    return list(found.values())


def described(denial: Denial) -> str:
    """Return what was denied, how often, and to which process."""
    words = [_what(denial)]
    if denial.kind == "syscall" and denial.refused and denial.errno:
        words.append(f"= {denial.errno}")
    who = word(denial.comm) if denial.comm else "?"
    if denial.exe:
        who += f" ({word(denial.exe)})"
    if denial.pid is not None:
        who += f", pid {denial.pid}"
    often = "" if denial.count == 1 else f", {counted(denial.count, 'time')}"
    return f"{' '.join(words)}{often}: {who}"


def _what(denial: Denial) -> str:
    if denial.kind == "syscall":
        return f"syscall {_call(denial)}"
    if denial.kind == "capability":
        return f"capability {denial.capability}" + (f" in {denial.name}" if denial.name else "")
    if denial.kind == "file":
        return f"file {word(denial.path) if denial.path else '?'}: {', '.join(denial.access) or denial.mask}"
    if denial.kind == "socket":
        place = word(denial.address) if denial.address else f"port {denial.port}" if denial.port is not None else ""
        return (
            f"socket {denial.family} {denial.type} {denial.protocol}: {', '.join(denial.operations)} {place}".rstrip()
        )
    if denial.kind == "signal":
        return f"signal {denial.signal} to {_peer(denial)}"
    if denial.kind == "inspection":
        return f"{', '.join(denial.operations)} of a process: {_peer(denial)}"
    if denial.kind == "execution":
        return f"execution of {word(denial.path or '?')}"
    if denial.kind == "mount":
        parts = (
            denial.operation,
            ",".join(denial.flags),
            denial.source and word(denial.source),
            denial.target and f"-> {word(denial.target)}",
        )
        return " ".join(part for part in parts if part)
    if denial.name is not None:
        return f"{denial.kind.replace('_namespace', ' namespace')} in {denial.name}"
    return " ".join(part for part in (denial.kind, denial.operation, denial.info) if part)


def _peer(denial: Denial) -> str:
    """Return the process that a signal or an inspection is for."""
    return denial.whom or (word(denial.peer) if denial.peer else "?")


def _call(denial: Denial) -> str:
    """Return ``socket(domain=AF_INET, type=SOCK_STREAM, protocol=0)``: the call with the arguments that a policy can
    restrict."""
    name = denial.name or f"number {denial.number}"
    if denial.abi != native_abi():
        name = f"{denial.abi}:{name}"
    if denial.arguments is None:
        return name
    spec = spec_for(denial.name, denial.abi) if denial.name is not None else None
    if spec is None or spec.pointer:
        return name
    values = [denial.arguments[at] & mask for at, mask in zip(spec.positions, spec.masks, strict=True)]
    shown = (
        f"{field}={render(denial.name or '', field, value, values)}"
        for field, value in zip(spec.fields, values, strict=True)
    )
    return f"{name}({', '.join(shown)})"
