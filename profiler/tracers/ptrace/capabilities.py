"""Capabilities inferred from calls, for the tracer that cannot see the kernel's checks.

A call that succeeded though its arguments, the caller's ids and the modes of the files it named would not have allowed
it, was allowed by a capability; one that failed with EPERM or EACCES where a capability would have let it through was
refused one. The rules follow capabilities(7) and the kernel's order of checks (fs/namei.c generic_permission,
kernel/sys.c, net/ipv4/af_inet.c). Not seen: POSIX ACLs, checks below ioctl(2) and device drivers, xattr and quota
subtleties (docs/limits.md). Rows are marked ``inferred``.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass

from profiler.kernel.files import AT_FDCWD
from profiler.tracers.paths import Way
from profiler.tracers.ptrace.capabilities_files import FILES, PATH_CALLS
from profiler.tracers.ptrace.capabilities_processes import PROCESSES
from profiler.tracers.ptrace.capabilities_rules import unique
from profiler.tracers.ptrace.threads import Credentials, Threads, signed
from profiler.tracers.recording import Recording


@dataclass(frozen=True)
class Call:
    """A call in flight: the capabilities that it needs if it succeeds, the one that it lacked if it fails."""

    name: str
    credentials: Credentials
    needs: tuple[str, ...]
    searched: tuple[str, ...]
    """Those of them that the directories on the way ask for: used even when the file at the end is missing."""


class Inference:
    """Watches calls at entry and exit and adds capability rows to a recording."""

    def __init__(self, recording: Recording, threads: Threads) -> None:
        self._recording = recording
        self._threads = threads
        self._namespace = os.readlink("/proc/self/ns/user")
        self._searched: list[str] = []

    def wants(self, name: str) -> bool:
        """Whether calls of this name are worth an exit stop."""
        return name in RULES

    def enter(self, tid: int, name: str, args: tuple[int, ...]) -> Call | None:
        """Look at a call about to be made; None when its result cannot tell of a capability."""
        credentials = self._threads.credentials(tid)
        if credentials is None:
            return None
        self._threads.changes(tid, name)
        if name in ("clone", "clone3"):
            self._threads.clones(tid, name, args)
        if name in PATH_CALLS and self._everyday(credentials):
            return None
        self._searched = []
        try:
            needs = RULES[name](self, tid, args, credentials)
        except (OSError, ValueError):
            needs = ()
        searched = unique(self._searched)
        return Call(name, credentials, needs, searched) if needs or searched else None

    def _everyday(self, credentials: Credentials) -> bool:
        """Without any capability mode bits decide, and their refusals are everyday life."""
        return not credentials.effective

    def leave(self, tid: int, call: Call, result: int, code: int, program: int) -> None:
        """The call has returned ``result``, or failed with errno ``code``."""
        self._threads.changes(tid, call.name)
        refused = code in (errno.EPERM, errno.EACCES)
        if code and not refused and code not in _PAST_SEARCH:
            return
        namespace = "initial" if call.credentials.namespace == self._namespace else "child"
        for capability in call.searched if code and not refused else call.needs:
            if call.credentials.has(capability) is refused:
                continue  # it had the capability, and something else refused; or it had not, and something else allowed
            verdict = "refused" if refused else "granted"
            self._recording.check((capability, namespace, verdict, None, True, True), program, call.name)

    # -- files ---------------------------------------------------------------------------------------------------

    def walk(
        self, tid: int, dirfd: int | None, address: int, credentials: Credentials, *, follow: bool = True
    ) -> tuple[str, list[str]] | None:
        """Go the way of a path argument as the kernel does (path_resolution(7)).

        Gives the end of it, as this process can open it, and what the directories on the way need; None for an
        unreadable argument. The end need not exist; FileNotFoundError when something on the way does not.
        """
        text = self._threads.text(tid, address) if address else ""
        if text is None:
            return None
        if not text:
            return f"/proc/{tid}/cwd" if dirfd is None or signed(
                dirfd
            ) == AT_FDCWD else f"/proc/{tid}/fd/{signed(dirfd)}", []
        ways: list[Way] = []
        found = self._threads.find(tid, dirfd, text, follow=follow, ways=ways)
        for way in ways:
            self._searched += self._threads.needs(credentials, way)
        if found is None or not found.reached or found.look is None:
            raise FileNotFoundError
        return found.look, list(self._searched)


_PAST_SEARCH = frozenset(
    {
        errno.ENOENT,
        errno.EEXIST,
        errno.EISDIR,
        errno.ENOTDIR,
        errno.ENOTEMPTY,
        errno.EXDEV,
        errno.EBUSY,
        errno.ETXTBSY,
        errno.EINVAL,
        errno.ERANGE,
    }
)
"""Errors that a lookup ends with after its directories let it through."""


RULES = FILES | PROCESSES


def rules() -> Iterator[str]:
    """The names of the calls inference looks at, for the documentation's test."""
    return iter(sorted(RULES))
