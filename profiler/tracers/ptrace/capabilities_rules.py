"""What the rules of capability inference share: the stopped call that they look at, and the rules' type."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from profiler.files import kernel_text
from profiler.kernel.files import AT_FDCWD, FileUse, file_uses
from profiler.tracers.paths import Way
from profiler.tracers.ptrace.sockets import Sorts
from profiler.tracers.ptrace.threads import U32, Credentials, Threads, signed
from profiler.tracers.unchecked import Claim

KEEP = U32
"""The id -1, which leaves an id unchanged (chown(2), setresuid(2))."""


@dataclass(frozen=True)
class Stop:
    """A thread that is about to make a call."""

    threads: Threads
    tid: int
    name: str
    args: tuple[int, ...]
    credentials: Credentials
    sorts: Sorts
    searched: list[str] = field(default_factory=list)
    """The capabilities that the directories on the way of its path arguments need; :meth:`walk` adds them."""
    claims: list[tuple[Claim, str | None]] = field(default_factory=list)
    """What the call needs in other sets than its thread's effective one, each with the user namespace that counts, None
    for the thread's."""
    more: set[str] = field(default_factory=set)
    """Calls from which capabilities can be inferred once this one was made."""

    @property
    def uses(self) -> tuple[FileUse, ...]:
        """The files that the call uses."""
        return file_uses()[self.name]

    def walk(self, use: FileUse, *, follow: bool | None = None) -> str | None:
        """Resolve a path argument as the kernel does (path_resolution(7)) and note what its directories need.

        Gives the end of the path, as this process can open it; the end need not exist. ``follow``: whether a symbolic
        link there is followed; by default what the call's flags say. None for an argument that cannot be read. Raises
        FileNotFoundError when a directory on the way does not exist.
        """
        assert use.path is not None
        address = self.args[use.path]
        text = self.threads.text(self.tid, address) if address else ""
        if text is None:
            return None
        dirfd = None if use.at is None else self.args[use.at]
        if not text:
            at_cwd = dirfd is None or signed(dirfd) == AT_FDCWD
            return f"/proc/{self.tid}/cwd" if at_cwd else f"/proc/{self.tid}/fd/{signed(dirfd or 0)}"
        if follow is None:
            follow = use.follows(use.flags_of(self.args))
        ways: list[Way] = []
        found = self.threads.find(self.tid, dirfd, text, follow=follow, ways=ways)
        for way in ways:
            self.searched.extend(self.threads.needs(self.credentials, way))
        if found is None or not found.reached or found.look is None:
            raise FileNotFoundError
        return found.look

    def status(self, use: FileUse) -> os.stat_result | None:
        """The status of the file that a call works on, by descriptor or by path. None for an unreadable path."""
        if use.path is None or (use.fd is not None and not self.args[use.path]):
            assert use.fd is not None
            return os.stat(f"/proc/{self.tid}/fd/{signed(self.args[use.fd])}")
        found = self.walk(use)
        # A link of procfs leads straight to a file. No other link is at the end of a path that was followed.
        return None if found is None else os.stat(found, follow_symlinks=use.follows(use.flags_of(self.args)))


Rule = Callable[[Stop], tuple[str, ...]]
"""Gives the capabilities that a call needs besides those of its directories. May raise OSError and ValueError when they
cannot be known."""


def unique(names: list[str]) -> tuple[str, ...]:
    """Drop repeated names, keeping the order."""
    return tuple(dict.fromkeys(names))


def always(*capabilities: str) -> Rule:
    """Make a rule for calls that need these capabilities whatever their arguments."""
    return lambda _stop: capabilities


def when(test: Callable[[tuple[int, ...]], bool], *capabilities: str) -> Rule:
    """Make a rule for calls that need these capabilities when their arguments pass a test."""
    return lambda stop: capabilities if test(stop.args) else ()


def sysctl(name: str) -> int:
    """Read a sysctl, named by its path below /proc/sys."""
    with kernel_text(f"/proc/sys/{name}") as file:
        return int(file.read())


@functools.cache
def kernel() -> tuple[int, ...]:
    """Return version and patch level of the running kernel, such as (6, 10)."""
    return tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2])
