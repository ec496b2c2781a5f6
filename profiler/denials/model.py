"""A Denial: something that a profile refused, or would have refused if it did more than report.

Readers of logs (profiler/denials/logs/) and enforced runs create the same objects. What is not known is None or
empty. Times are seconds since the epoch (UTC). Text is as the kernel has it, hostile bytes included (surrogateescape):
printing goes through profiler/quoting/.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace

KINDS = (
    "syscall",
    "capability",
    "file",
    "socket",
    "signal",
    "inspection",
    "mount",
    "execution",
    "user_namespace",
    "io_uring",
    "other",
)

EVENTS_MAX = 3
"""The number of places in the source that are kept for one denial."""


@dataclass(frozen=True)
class Denial:
    """One use of one right by one program under one profile, ``count`` times.

    ``kind`` is one of KINDS. ``by`` is what reported it: ``seccomp``, ``apparmor``, ``selinux``, ``tomoyo``, ``kernel``
    (a capability that the process lacked), or ``policy`` (profgen, which checked a use against the policy's rules).
    ``refused`` is False if it was only reported (SCMP_ACT_LOG, complain or permissive mode). The kind ``other`` is for
    what policies cannot express; ``operation`` and ``info`` then describe it.
    """

    kind: str
    by: str
    refused: bool
    action: str = ""
    """The action of seccomp: ``errno``, ``log``, ``kill_process``... (SECCOMP_RET_*, seccomp(2))."""
    operation: str | None = None
    """The security module's word for the operation (``open``, ``mknod``, ``capable``)."""
    info: str | None = None
    """The security module's further text (``Failed name lookup - disconnected path``)."""

    # who
    comm: str | None = None
    exe: str | None = None
    """The path of the program, as seen from the reader's root."""
    profile: str | None = None

    # syscall
    abi: str | None = None
    number: int | None = None
    """The number in the ABI's own table (for x32 without the x32 bit)."""
    name: str | None = None
    arguments: tuple[int, ...] | None = None
    """The six registers. The kernel's own records do not contain them."""
    errno: str | None = None

    capability: str | None = None
    """``CAP_NET_RAW``."""

    # file
    path: str | None = None
    """Without a slash at the end; ``directory`` says that there was one."""
    directory: bool = False
    file_kind: str | None = None
    """One of FILE_KINDS, if it is known."""
    access: tuple[str, ...] = ()
    """Words of FILE_ACCESSES (profiler/trace/model.py) that were requested and refused."""
    mask: str = ""
    """The security module's letters for ``access``."""
    owner: bool | None = None
    """Whether the process itself (its fsuid) owned the file."""
    whose: str | None = None
    """For a path below /proc/PID: one of WHOM."""
    state: str | None = None
    """One of FILE_STATES, if it is known."""
    existing: str | None = None
    """For ``link``: the file that would have got another name."""

    # socket
    family: str | None = None
    type: str | None = None
    protocol: int | None = None
    operations: tuple[str, ...] = ()
    """Words of SOCKET_OPERATIONS; for inspections ``trace`` or ``read``; for signals ``send`` or ``receive``."""
    port: int | None = None
    address: str | None = None

    # signal, inspection
    signal: str | None = None
    peer: str | None = None
    """The profile of the other process."""
    whom: str | None = None
    """One of WHOM, if the other process itself is known and not only its profile."""

    # mount; of an execution, ``source`` is the program that executed ``path``
    source: str | None = None
    target: str | None = None
    filesystem: str | None = None
    flags: tuple[str, ...] = ()
    """As in MountRule; ``operation`` is then one of its words."""

    # evidence
    count: int = 1
    first: float | None = None
    last: float | None = None
    pid: int | None = None
    """The process of the first one."""
    events: tuple[str, ...] = ()
    """The audit system's own numbers of the first ones, ``1795359961.305:1094``."""
    lines: tuple[int, ...] = ()
    """Line numbers of the first ones in the source."""
    unproven: bool = False
    """Whether it is only in text logs, into which any local user can write."""

    @property
    def key(self) -> Denial:
        """The denial without its evidence: what repeated denials have in common."""
        return replace(self, **_NO_EVIDENCE)  # type: ignore[arg-type]

    @property
    def sort_of_file(self) -> str:
        """One of FILE_KINDS: the known one, or the one that the rest implies."""
        if self.file_kind is not None:
            return self.file_kind
        return (
            "directory" if self.directory or self.path == "/" else "symlink" if self.operation == "symlink" else "file"
        )

    @property
    def label(self) -> str:
        """A syscall of an ABI that is not native as policy.yaml names it: ``x86_64:socket``, ``x86_64:999``."""
        return f"{self.abi}:{self.name if self.name is not None else self.number}"


_EVIDENCE = ("count", "first", "last", "pid", "events", "lines", "unproven")
_NO_EVIDENCE = {field.name: field.default for field in fields(Denial) if field.name in _EVIDENCE}


def _earliest(*times: float | None) -> float | None:
    return min((time for time in times if time is not None), default=None)


def _latest(*times: float | None) -> float | None:
    return max((time for time in times if time is not None), default=None)


class Collection:
    """Denials, with equal ones counted together.

    Holds at most ``limit`` different ones; more are counted in ``beyond`` and dropped.
    """

    def __init__(self, limit: int) -> None:
        self._rows: dict[Denial, Denial] = {}
        self._limit = limit
        self.beyond = 0

    def add(self, denial: Denial) -> None:
        """Add a denial, which may itself stand for several."""
        key = denial.key
        known = self._rows.get(key)
        if known is not None:
            self._rows[key] = replace(
                known,
                count=known.count + denial.count,
                first=_earliest(known.first, denial.first),
                last=_latest(known.last, denial.last),
                events=(*known.events, *denial.events)[:EVENTS_MAX],
                lines=(*known.lines, *denial.lines)[:EVENTS_MAX],
                unproven=known.unproven and denial.unproven,
            )
        elif len(self._rows) < self._limit:
            self._rows[key] = denial
        else:
            self.beyond += denial.count

    def __iter__(self) -> Iterator[Denial]:
        """Yield the denials in the order in which they first appeared."""
        return iter(self._rows.values())

    def __len__(self) -> int:
        return len(self._rows)


def merged(denials: Iterable[Denial]) -> tuple[Denial, ...]:
    """Return the denials with equal ones combined, in the order in which they first appeared."""
    found = Collection(limit=1 << 62)
    for denial in denials:
        found.add(denial)
    return tuple(found)
