"""A program as its first exec reported it (``struct event`` of shared.h)."""

from __future__ import annotations

import contextlib
import os
import posixpath
from dataclasses import dataclass, replace
from typing import Any

from profiler.kernel.file_capabilities import FileCapabilities
from profiler.tracers.ebpf.shared import constant, structure
from profiler.tracers.host import absolute
from profiler.tracers.paths import OWN_MOUNTS, Found, Resolver, View, below
from profiler.tracers.unchecked import file_capabilities
from profiler.wording import UNKNOWN

Event = structure("event")


@dataclass(frozen=True)
class Executed:
    """A program. ``path`` and ``interpreter`` are paths of the program's own root; ``interpreter`` is a script's."""

    path: str
    interpreter: str | None
    argv0: str | None
    binary: str = ""
    """The file that runs, in its mount namespace."""
    state: str = "linked"
    own: bool = False
    """Whether the file belongs to the user who runs it."""
    fsuid: int = 0
    name: str | None = None
    """Of a script: what was given to execve(2)."""
    cwd: str = "/"
    """Of a script: the directory of the mount namespace that ``name`` starts from."""
    view: View | None = None
    local: bool = True
    """Whether its path leads to the same file for profgen."""
    loader: tuple[str, bool] | None = None
    """The loader's path, and whether it is the user's own; an empty path for a static program; None where the kernel
    does not tell."""
    generation: int = 0
    """Of the session at that time (Reader.generation)."""
    capabilities: FileCapabilities | None = None
    """Of the binary."""


def executed_by(event: Any, held: str | None, mounts: str, resolver: Resolver) -> Executed:
    """Return the program of an event.

    ``held``: how profgen reaches the session's root, if not as its own; ``mounts``: where it reads the mounts there.
    """
    root = _path(event.root, event.root_length) or "/"
    exe = _path(event.exe, event.exe_length) or UNKNOWN
    if event.pseudo and event.exe_length:
        exe = exe[1:]  # a memfd's name is not below a directory
    name = os.fsdecode(event.name)
    inside = below(exe, root) or exe
    top: str | None = "/"
    reach, seen = root, OWN_MOUNTS
    if event.other_mounts:
        ours = held is not None and not event.foreign
        reach, seen = (held or "", mounts) if ours else (f"/proc/{event.tgid}/root", f"/proc/{event.tgid}/mountinfo")
        top = reach if root == "/" else None
    executed = Executed(
        inside,
        None,
        os.fsdecode(event.argv0) if name else _first_argument(event.tgid),
        exe,
        "detached" if event.pseudo else "deleted" if event.deleted else "linked",
        event.uid == event.fsuid,
        event.fsuid,
        view=View(event.tgid, event.tid, reach, root, top, seen),
        local=not event.foreign and not event.other_mounts,
        generation=event.generation,
    )
    if event.script and not name.startswith("/dev/fd/"):
        directory = _path(event.cwd, event.cwd_length) or "/"
        script = absolute(below(directory, root) or directory, name)
        executed = replace(executed, path=script, interpreter=inside, name=name, cwd=directory)
    if event.loader_known:
        loader = _path(event.loader, event.loader_length) or ""
        executed = replace(executed, loader=(loader, event.loader_uid == event.fsuid))
    return replace(executed, capabilities=_capabilities(executed, resolver))


def _capabilities(executed: Executed, resolver: Resolver) -> FileCapabilities | None:
    """Return the capabilities of a program's binary, through its process as long as that runs it."""
    view = executed.view
    if view is None or executed.state != "linked":
        return None
    link = f"/proc/{view.tgid}/exe"

    def read(look: str | None) -> FileCapabilities | None:
        with contextlib.suppress(OSError):
            return resolver.read(view, Found(executed.binary, look=look), "capabilities", file_capabilities)
        return None

    def runs_it() -> bool:
        with contextlib.suppress(OSError):
            return os.readlink(link) == executed.binary
        return False

    if runs_it():
        found = read(link)
        if found is not None or runs_it():  # else it ended meanwhile
            return found
    return read(view.reach(executed.binary))


def _path(components: Any, length: int) -> str | None:
    return path_of(bytes(components)[:length]) if length else None


def path_of(components: bytes) -> str:
    """Return an absolute path from components with their NULs, leaf first (``walk`` in programs.h)."""
    parts = [os.fsdecode(part) for part in components.split(b"\0") if part]
    return posixpath.join("/", *reversed(parts))


def _first_argument(tgid: int) -> str:
    """Return argv[0] of a running process; empty when it is gone."""
    try:
        with open(f"/proc/{tgid}/cmdline", "rb") as file:
            return os.fsdecode(file.read(constant("NAME_SIZE")).split(b"\0", 1)[0])
    except OSError:
        return ""
