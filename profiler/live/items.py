"""What a recording has seen, as lines for people: one item for each right, however many rows it takes in a trace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from profiler.quoting.text import printable
from profiler.tracers.recording import Recording, Seen

TEXT_MAX = 1000
"""The length at which the text of an item is cut: a path may have 4 096 bytes."""

KINDS = {
    "program": "programs",
    "syscall": "syscalls",
    "capability": "capabilities",
    "file": "files",
    "socket": "sockets",
    "other": "other",
}
"""The kinds of items in their order on the screen, and their plural. ``other``: signals, inspections and mounts."""


@dataclass(frozen=True)
class Item:
    """A right that was used. ``kind``: of KINDS. ``first``: when, in seconds from the start. ``by``: the program that
    used it first. ``subject``: the container or process that is recorded. All texts are printable."""

    kind: str
    first: float
    text: str
    by: str
    subject: str = ""


def kind_of(seen: Seen) -> str:
    """Return the kind of the item."""
    return seen.kind if seen.kind in KINDS else "other"


def identity(seen: Seen) -> tuple[Any, ...]:
    """Return what an item is told apart by. A file's rows differ in more than its lines show."""
    key = seen.key
    if seen.kind == "file":
        return seen.kind, key[0], key[1]
    if seen.kind == "capability":
        return seen.kind, key[0], _outcome(key)
    return seen.kind, *key


def item(recording: Recording, seen: Seen, first: float, subject: str) -> Item:
    """Return what a recording of ``subject`` has seen. ``first``: when, in seconds from the start of the view."""
    index = min(seen.programs, default=-1)  # -1 before the workload's first program is known
    by = "" if index < 0 or seen.kind == "program" else recording.programs[index].path.rpartition("/")[2]
    return Item(
        kind_of(seen), round(first, 3), _shown(_TEXTS[seen.kind](recording, seen.key)), _shown(by), _shown(subject)
    )


def _shown(text: str) -> str:
    return printable(text[:TEXT_MAX] + ("…" if len(text) > TEXT_MAX else ""))


def _outcome(key: tuple[Any, ...]) -> str:
    """Return the outcome of a capability's check, in the words of a policy."""
    namespace, verdict, decisive = str(key[1]), str(key[2]), key[4]
    if not decisive:
        return "checked"
    if verdict != "granted":
        return verdict
    return "needed" if namespace == "initial" else "needed in a user namespace"


def _program(_: Recording, key: tuple[Any, ...]) -> str:
    path, interpreter = key
    return path if interpreter is None else f"{path} (run by {interpreter})"


def _socket(_: Recording, key: tuple[Any, ...]) -> str:
    family, sort, _, operation, port, address = key
    place = f" {address}" if address else ""
    return f"{operation} {family} {sort}{place}{'' if port is None else f' port {port}'}"


def _mount(_: Recording, key: tuple[Any, ...]) -> str:
    operation, source, target, filesystem, flags = key
    words = (operation, filesystem and f"-t {filesystem}", source, target, flags and f"({','.join(flags)})")
    return " ".join(word for word in words if word)


_TEXTS: dict[str, Callable[[Recording, tuple[Any, ...]], str]] = {
    "program": _program,
    "syscall": lambda recording, key: recording.label(*key),
    "capability": lambda _, key: f"{key[0]} {_outcome(key)}",
    "file": lambda _, key: f"{key[1]} {key[0]}",
    "socket": _socket,
    "signal": lambda _, key: f"send SIG{key[0]} to {key[1]}",
    "inspection": lambda _, key: f"{key[0]} a process: {key[1]}",
    "mount": _mount,
}
