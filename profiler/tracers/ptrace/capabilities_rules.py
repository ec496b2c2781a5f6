"""What the rules of capability inference share: the stopped call that they look at, and the rules' type."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from profiler.files import kernel_text
from profiler.kernel.files import AT_FDCWD, FileUse, file_uses
from profiler.tracers.paths import Found, Way
from profiler.tracers.ptrace.sockets import Sorts
from profiler.tracers.ptrace.threads import U32, Credentials, Threads, signed
from profiler.tracers.served import status_of
from profiler.tracers.unchecked import Claim

KEEP = U32
"""The id -1, which leaves an id unchanged (chown(2), setresuid(2))."""


@dataclass(frozen=True)
class Walked:
    """The end of a path, and the status of the directory that contains it, None when it is not known."""

    found: Found
    directory: os.stat_result | None

    @property
    def status(self) -> os.stat_result:
        """The file's status. Raises FileNotFoundError."""
        if self.found.status is None:
            raise FileNotFoundError
        return self.found.status


@dataclass(slots=True)
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

    def walk(self, use: FileUse, *, follow: bool | None = None) -> Walked | None:
        """Resolve a path argument as the kernel does (path_resolution(7)) and note what its directories need.

        The end of the path need not exist. ``follow``: whether a symbolic link there is followed; by default what the
        call's flags say. None for an argument that cannot be read. Raises FileNotFoundError when a directory on the way
        does not exist.
        """
        assert use.path is not None
        address = self.args[use.path]
        text = self.threads.text(self.tid, address) if address else ""
        if text is None:
            return None
        dirfd = None if use.at is None else self.args[use.at]
        if not text:
            found = self.threads.descriptor(self.tid, AT_FDCWD if dirfd is None else dirfd)
            if found is None:
                raise FileNotFoundError
            return Walked(found, None)
        if follow is None:
            follow = use.follows(use.flags_of(self.args))
        ways: list[Way] = []
        found = self.threads.find(self.tid, dirfd, text, follow=follow, ways=ways)
        for way in ways:
            self.searched.extend(self.threads.needs(self.credentials, way))
        if found is None or not found.reached or found.look is None:
            raise FileNotFoundError
        return Walked(found, ways[-1][-1] if ways and ways[-1] else None)

    def status(self, use: FileUse) -> os.stat_result | None:
        """The status of the file that a call works on, by descriptor or by path. None for an unreadable path."""
        if use.path is None or (use.fd is not None and not self.args[use.path]):
            assert use.fd is not None
            return self.status_of(self.args[use.fd])
        walked = self.walk(use)
        return None if walked is None else walked.status

    def status_of(self, fd: int) -> os.stat_result:
        """The status of the file behind a descriptor. Raises OSError."""
        return status_of(f"/proc/{self.tid}/fd/{signed(fd)}")


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
