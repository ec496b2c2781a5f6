"""A Denial: something that a profile in force refused, or in a mode that only reports would have refused.

Readers of logs (profiler/denials/auditlog.py) and enforced runs make the same objects. What is not known is None or
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
    "user_namespace",
    "io_uring",
    "other",
)

EVENTS_MAX = 3
"""Places in the source kept for one denial."""


@dataclass(frozen=True)
class Denial:
    """One use of one right by one program under one profile, ``count`` times.

    ``kind`` is one of KINDS, ``by`` who spoke: ``seccomp``, ``apparmor``, ``kernel`` (a capability that was not there),
    or ``policy`` (profgen, which held a use to the policy's rules). ``refused``: False when it was only reported
    (SCMP_ACT_LOG, complain mode). ``other``: what no policy has words for; ``operation`` and ``info`` then say what it
    was.
    """

    kind: str
    by: str
    refused: bool
    action: str = ""
    """Of seccomp: ``errno``, ``log``, ``kill_process``... (SECCOMP_RET_*, seccomp(2))."""
    operation: str | None = None
    """The security module's word for what was done (``open``, ``mknod``, ``capable``)."""
    info: str | None = None
    """What it said beside it (``Failed name lookup - disconnected path``)."""

    # who
    comm: str | None = None
    exe: str | None = None
    """Path of the program, as the reader's root shows it."""
    profile: str | None = None

    # syscall
    abi: str | None = None
    number: int | None = None
    """In the ABI's own table (for x32 without the x32 bit)."""
    name: str | None = None
    arguments: tuple[int, ...] | None = None
    """The six registers. The kernel's own records do not have them."""
    errno: str | None = None

    capability: str | None = None
    """``CAP_NET_RAW``."""

    # file
    path: str | None = None
    """Without a slash at the end; ``directory`` says that there was one."""
    directory: bool = False
    file_kind: str | None = None
    """One of FILE_KINDS, where it is known."""
    access: tuple[str, ...] = ()
    """Words of FILE_ACCESSES (profiler/trace/model.py) that were asked for and not there."""
    mask: str = ""
    """The security module's letters behind ``access``."""
    owner: bool | None = None
    """Whether the file was the process's own (fsuid)."""
    whose: str | None = None
    """Of a path below /proc/PID: one of WHOM."""
    existing: str | None = None
    """Of ``link``: the file that was to get another name."""

    # socket
    family: str | None = None
    type: str | None = None
    protocol: int | None = None
    operations: tuple[str, ...] = ()
    """Words of SOCKET_OPERATIONS; of inspections ``trace`` or ``read``; of signals ``send`` or ``receive``."""
    port: int | None = None
    address: str | None = None

    # signal, inspection
    signal: str | None = None
    peer: str | None = None
    """The profile of the other side."""
    whom: str | None = None
    """One of WHOM, where the other side itself is known and not only its profile."""

    # mount
    source: str | None = None
    target: str | None = None
    filesystem: str | None = None
    flags: tuple[str, ...] = ()
    """As in MountRule; ``operation`` is one of its words then."""

    # evidence
    count: int = 1
    first: float | None = None
    last: float | None = None
    pid: int | None = None
    """Of the first."""
    events: tuple[str, ...] = ()
    """The audit system's own numbers, ``1795359961.305:1094``, of the first ones."""
    lines: tuple[int, ...] = ()
    """Line numbers in the source, of the first ones."""

    @property
    def key(self) -> Denial:
        """The same without its evidence: what repeated denials share."""
        return replace(self, **_NO_EVIDENCE)  # type: ignore[arg-type]

    @property
    def sort_of_file(self) -> str:
        """One of FILE_KINDS: what is known, or what it must be from the rest."""
        if self.file_kind is not None:
            return self.file_kind
        return (
            "directory" if self.directory or self.path == "/" else "symlink" if self.operation == "symlink" else "file"
        )

    @property
    def label(self) -> str:
        """A syscall as policy.yaml names it for a stranger: ``x86_64:socket``, ``x86_64:999``."""
        return f"{self.abi}:{self.name if self.name is not None else self.number}"


_EVIDENCE = ("count", "first", "last", "pid", "events", "lines")
_NO_EVIDENCE = {field.name: field.default for field in fields(Denial) if field.name in _EVIDENCE}


def _earliest(*times: float | None) -> float | None:
    return min((time for time in times if time is not None), default=None)


def _latest(*times: float | None) -> float | None:
    return max((time for time in times if time is not None), default=None)


class Collection:
    """Denials, those alike as one. Holds at most ``limit`` different ones; more are counted in ``beyond`` and
    dropped."""

    def __init__(self, limit: int) -> None:
        self._rows: dict[Denial, Denial] = {}
        self._limit = limit
        self.beyond = 0

    def add(self, denial: Denial) -> None:
        """One more, which may itself stand for several."""
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
            )
        elif len(self._rows) < self._limit:
            self._rows[key] = denial
        else:
            self.beyond += denial.count

    def __iter__(self) -> Iterator[Denial]:
        """In the order in which they first came."""
        return iter(self._rows.values())

    def __len__(self) -> int:
        return len(self._rows)


def merged(denials: Iterable[Denial]) -> tuple[Denial, ...]:
    """Those alike as one, in the order in which they first came."""
    found = Collection(limit=1 << 62)
    for denial in denials:
        found.add(denial)
    return tuple(found)
