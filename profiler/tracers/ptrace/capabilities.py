"""Capabilities inferred from calls, for the tracer that cannot see the kernel's checks.

A call that succeeded was allowed by a capability if its arguments, the caller's ids and the modes of the files that it
named would not have allowed it. A call that failed with EPERM or EACCES was refused a capability if one would have let
it through. The rules follow capabilities(7) and the kernel's order of checks (fs/namei.c generic_permission,
kernel/sys.c, net/ipv4/af_inet.c). Not seen: POSIX ACLs, checks below ioctl(2) and device drivers, xattr and quota
subtleties (docs/limits.md). Rows are marked ``inferred``.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass

from profiler.kernel.capabilities import names_in
from profiler.kernel.file_capabilities import FileCapabilities
from profiler.kernel.files import file_uses
from profiler.tracers.ptrace.capabilities_files import FILES, LOOKS, PATH_CALLS
from profiler.tracers.ptrace.capabilities_processes import PROCESSES
from profiler.tracers.ptrace.capabilities_rules import Stop, unique
from profiler.tracers.ptrace.capabilities_writes import WRITES
from profiler.tracers.ptrace.sockets import Sorts
from profiler.tracers.ptrace.threads import Credentials, Threads
from profiler.tracers.recording import Recording
from profiler.tracers.unchecked import Claim, file_capabilities, gained_by_ids


@dataclass(frozen=True)
class Call:
    """A call in flight, with the capabilities that decide its result."""

    name: str
    credentials: Credentials
    needs: tuple[str, ...]
    searched: tuple[str, ...]
    """The needs of the directories on the way: used even when the file at the end is missing."""
    claims: tuple[tuple[Claim, str | None], ...]
    """See Stop."""


class Inference:
    """Watches calls at entry and exit and adds capability rows to a recording."""

    def __init__(self, recording: Recording, threads: Threads) -> None:
        self._recording = recording
        self._threads = threads
        self._namespace = os.readlink("/proc/self/ns/user")
        self._sorts = Sorts(threads, [])
        self._wanted = RULES.keys() - LATER
        self.widened = False
        """Whether :meth:`wants` has other answers than before; its user clears this."""

    def wants(self, name: str) -> bool:
        """Whether a capability may be inferred from calls of this name, so that their result is needed."""
        return name in self._wanted

    def enter(self, tid: int, name: str, args: tuple[int, ...]) -> Call | None:
        """Look at a call before it is made; None when no capability can be inferred from its result."""
        credentials = self._threads.credentials(tid)
        if credentials is None:
            return None
        if name in PATH_CALLS and self._everyday(credentials):
            return None
        if name in LOOKS and self._sees(tid, name, args):
            return None
        stop = Stop(self._threads, tid, name, args, credentials, self._sorts)
        try:
            own = RULES[name](stop)
            needs = unique([*stop.searched, *own])
        except (OSError, ValueError):
            needs = ()
        if not (needs or stop.searched or stop.claims or stop.more):
            return None
        if not stop.more <= self._wanted:
            self._wanted |= stop.more
            self.widened = True
        searched, claims = unique(stop.searched), tuple(stop.claims)
        return Call(name, credentials, needs, searched, claims) if needs or searched or claims else None

    def _sees(self, tid: int, name: str, args: tuple[int, ...]) -> bool:
        with contextlib.suppress(OSError):
            return self._threads.sees(tid, file_uses()[name][0], args)
        return False

    def file_of(self, tid: int) -> tuple[os.stat_result, FileCapabilities | None] | None:
        """Return the status and the capabilities of the program that a thread has just executed; None if it is gone."""
        try:
            found = self._threads.paths.descriptor(self._threads.view(tid), f"/proc/{tid}/exe")
            if found is None or found.status is None:
                return None
            return found.status, self._threads.read(tid, found, "capabilities", file_capabilities)
        except OSError:
            return None

    def executed(
        self, tid: int, program: int, file: tuple[os.stat_result, FileCapabilities | None] | None
    ) -> list[str]:
        """Note what a program that has just been executed needed for that; return the privileges that it gained.

        ``file``: what :meth:`file_of` returned.
        """
        credentials = self._threads.credentials(tid)
        if credentials is None or file is None:
            return []
        status, has = file
        gained = gained_by_ids(status, credentials.uids, credentials.gids)
        child = self._is_child(credentials.namespace)
        if not child and credentials.uids[1] and credentials.sets.permitted & ~credentials.ambient:
            gained.append("capabilities")
        for name in names_in(has.needed if has is not None else 0):
            self._recording.needed(name, program, "execve", child=child)
        return gained

    def _is_child(self, namespace: str) -> bool:
        return namespace != self._namespace

    def _everyday(self, credentials: Credentials) -> bool:
        """Whether refusals by mode bits are normal for this caller: it has no capability at all."""
        return not credentials.effective

    def leave(self, tid: int, call: Call, result: int, code: int, program: int) -> None:
        """Note what a call that returned ``result``, or failed with errno ``code``, needed or lacked."""
        refused = code in (errno.EPERM, errno.EACCES)
        if code and not refused and code not in _PAST_SEARCH:
            return
        own = call.credentials.namespace
        namespace = "child" if self._is_child(own) else "initial"
        for claim, where in call.claims:
            for name in names_in(claim.needed if not code else claim.missing if code == errno.EPERM else 0):
                child = self._is_child(where or own)
                self._recording.needed(name, program, call.name, child=child, refused=refused)
        for capability in call.searched if code and not refused else call.needs:
            if call.credentials.has(capability) is refused:
                continue  # it had the capability and something else refused, or it lacked it and something else allowed
            if refused and not _answers(capability, call.name, code):
                continue
            verdict = "refused" if refused else "granted"
            self._recording.check((capability, namespace, verdict, None, True, True), program, call.name)


def _answers(capability: str, name: str, code: int) -> bool:
    """Return whether a call fails with this error, EPERM or EACCES, for want of a capability."""
    if code == errno.EACCES:
        return capability in _ACCESS or (capability == "CAP_SYS_RESOURCE" and name in WRITES)
    return capability not in _ACCESS or capability == "CAP_SYS_NICE" or name in _NOT_PERMITTED


_ACCESS = frozenset({"CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_LEASE", "CAP_NET_BIND_SERVICE", "CAP_SYS_NICE"})
"""Capabilities whose want is answered with EACCES: fs/namei.c generic_permission, fs/locks.c generic_setlease,
net/ipv4/af_inet.c __inet_bind, kernel/sys.c set_one_prio, which has EPERM for another user's process. So is
CAP_SYS_RESOURCE for a write (fs/proc/base.c __set_oom_adj). All others are answered with EPERM."""
_NOT_PERMITTED = frozenset({"link", "linkat", "open_by_handle_at"})
"""Calls that have EPERM for want of these: fs/namei.c may_linkat, fs/fhandle.c may_decode_fh."""

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
"""Errors of calls whose path lookup passed every directory on the way."""


RULES = FILES | PROCESSES | WRITES
LATER = WRITES.keys()
"""Calls that programs repeat, and that matter only once the workload has made what they write to (Stop.more)."""


def rules() -> Iterator[str]:
    """Iterate over the names of the calls that inference looks at, for the documentation's test."""
    return iter(sorted(RULES))
