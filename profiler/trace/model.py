"""The Trace: what was seen, and nothing inferred beyond what a row says of itself.

Every class here is frozen and holds plain data; docs/trace.schema.json describes the same shape as a file.
Times are seconds from the start of the recording (float, rounded to a millisecond).
Rows name programs by their index in ``Trace.programs``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

SCHEMA = "profgen.trace/1"

ARGUMENT_VALUES_MAX = 128
"""Distinct argument tuples kept for one (ABI, syscall); past it only the overflow mark remains, in every tracer."""


@dataclass(frozen=True)
class Program:
    """One executed file.

    ``path`` is the absolute path the kernel resolved; for a script it is the script's path and ``interpreter`` the
    resolved path of the binary that runs it. ``sha256`` and ``build_id`` (lower-case hex) are of that file, when it
    could still be read. ``executions`` counts successful execs. ``argv0`` is that of the first exec seen.
    """

    path: str
    interpreter: str | None = None
    argv0: str | None = None
    sha256: str | None = None
    build_id: str | None = None
    executions: int = 0

    @property
    def name(self) -> str:
        """Last component of the path, for people."""
        return self.path.rsplit("/", 1)[-1] or self.path


@dataclass(frozen=True)
class Results:
    """Results of the calls whose result was watched: how many succeeded, and a count per errno name.

    A call's result is watched until it first succeeded in its program (docs/tracers.md), so the sum may be
    smaller than the number of calls. ``ok == 0`` with errors means: never seen to succeed.
    """

    ok: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Arguments:
    """Argument values seen for one syscall.

    ``fields`` names the recorded positions (profiler/kernel/arguments.yaml), each value is a tuple of that length
    with the programs that used it. After ``overflow`` the values are empty: too many to list.
    """

    fields: tuple[str, ...]
    values: Mapping[tuple[int, ...], frozenset[int]] = field(default_factory=dict)
    overflow: bool = False


@dataclass(frozen=True)
class Syscall:
    """One (ABI, number), summed over the recording. ``name`` is None for a number the tables do not know."""

    abi: str
    number: int
    name: str | None
    calls: int
    results: Results
    first: float
    last: float
    programs: Mapping[int, int]
    """Program index to number of calls."""
    arguments: Arguments | None = None
    runs: int = 1
    """In how many of the merged recordings this row was seen."""

    @property
    def label(self) -> str:
        """The name, or ``syscall_<number>`` for an unknown one."""
        return self.name or f"syscall_{self.number}"


@dataclass(frozen=True)
class Capability:
    """Capability checks with the same subject and outcome.

    ``namespace`` is ``initial`` when the check was against the user namespace the workload was started in (or an
    ancestor), ``child`` when it was against one made below it. ``verdict`` is ``granted`` or ``refused``.
    ``audited`` is False for the kernel's silent probes (``*_noaudit``), None when the tracer cannot tell.
    ``decisive`` says whether the check could change the outcome of the call: False for the advisory checks listed in
    profiler/kernel/capabilities.yaml, and for set*id calls that change nothing. ``inferred`` marks rows that no
    tracer saw as a check but that follow from a call, its arguments and its result (the ptrace tracer).
    """

    capability: str
    namespace: str
    verdict: str
    audited: bool | None
    decisive: bool
    inferred: bool
    count: int
    first: float
    last: float
    programs: frozenset[int]
    syscalls: Mapping[str, int]
    """Syscall in flight, ``name`` or ``abi:name`` when not native, to count."""
    chains: tuple[tuple[str, ...], ...] = ()
    """Kernel call chains, innermost function first."""
    runs: int = 1


@dataclass(frozen=True)
class Exec:
    """``program`` was executed ``count`` times by ``by`` (None: as the workload's start, by the tracer or a container's
    runtime).

    ``entered``: how many of those without ``by`` came from outside into a workload that ran already (``docker exec``, a
    health check).
    """

    program: int
    by: int | None
    count: int
    runs: int = 1
    entered: int = 0


FileKey = tuple[str, str, str, str, str | None, str | None]
"""path, access, kind, state, existing, whose"""

SocketKey = tuple[str, str, int, str, int | None, str | None]
"""family, type, protocol, operation, port, address"""

MountKey = tuple[str, str | None, str | None, str | None, tuple[str, ...]]
"""operation, source, target, filesystem, flags"""

FILE_ACCESSES = (
    "read", "write", "append", "create", "truncate", "execute", "map", "lock", "lock_exclusive", "list",
    "make", "remove", "rename_from", "rename_to", "link", "mode", "owner", "times", "xattr",
    "chroot", "bind", "connect", "readlink", "look",
)  # fmt: skip
"""What is done with a path. ``read``, ``write``, ``append``, ``create``, ``truncate``: what an open asked for. ``map``:
mapped executable. ``lock``: a shared lock was taken, or one given back; ``lock_exclusive``: one that nobody shares
(LOCK_EX, F_WRLCK). ``list``: a directory's entries were read. ``make``: made by mkdir, mknod or symlink; ``File.kind``
says what. ``link``: a further name of ``File.existing``. ``bind``, ``connect``: a unix socket's path. ``look``: looked
for by a call that needs no right on the file itself (stat, access); only its failures are kept."""

FILE_KINDS = ("file", "directory", "symlink", "fifo", "socket", "char", "block", "unknown")
"""``unknown``: the file is not there, or was gone before it could be looked at."""

FILE_OWNERS = ("self", "other")
"""The fsuid of the process that used it; any other."""

FILE_STATES = ("linked", "deleted", "detached")
"""``deleted``: a name that is not in its directory any more, or never was (O_TMPFILE: ``/tmp/#123``). ``detached``: on
no tree that leads to a root (memfd, a file of another mount namespace); the path is then what the kernel has for a
name."""


@dataclass(frozen=True)
class File:
    """Uses of one path in one way.

    ``path`` is absolute as the *mount namespace* of its user shows it: symbolic links, working directory and directory
    descriptors resolved, not relative to a chroot (that is how path-based security modules see it, d_absolute_path in
    fs/d_path.c). No trailing slash. A path that is missing is the resolved part that exists with the rest of the text.
    ``results`` counts uses by ``ok`` or an errno name. ``owner`` says who owned the file when it was used: ``self``
    (the user's fsuid), ``other``, both, or nothing where it is not known.
    """

    path: str
    access: str
    kind: str
    state: str
    results: Mapping[str, int]
    owner: frozenset[str]
    programs: frozenset[int]
    first: float
    last: float
    existing: str | None = None
    """Of ``link``: the path of the file that got another name."""
    whose: str | None = None
    """Of a path below /proc/PID: whose it is, one of WHOM; None for all other paths."""
    runs: int = 1

    @property
    def key(self) -> FileKey:
        """What no two rows of a trace share."""
        return (self.path, self.access, self.kind, self.state, self.existing, self.whose)


WHOM = ("self", "workload", "outside")
"""Whom a signal or a look at another process went to: the process itself, another of the workload, any other."""


@dataclass(frozen=True)
class Socket:
    """One operation on sockets of one sort.

    ``family`` and ``type`` are the kernel's names in lower case without prefix (``inet``, ``stream``), a number as text
    where there is none; ``protocol`` the number the socket has (6 for TCP). ``port``: the local port of ``bind`` (0:
    any), the peer's of ``connect`` and ``send``; None elsewhere. ``address``: of unix sockets the path as given, or
    ``@name`` of the abstract namespace.
    """

    family: str
    type: str
    protocol: int
    operation: str
    port: int | None
    address: str | None
    results: Mapping[str, int]
    programs: frozenset[int]
    first: float
    last: float
    runs: int = 1

    @property
    def key(self) -> SocketKey:
        """What no two rows of a trace share."""
        return (self.family, self.type, self.protocol, self.operation, self.port, self.address)


SOCKET_OPERATIONS = (
    "inherit",
    "create",
    "pair",
    "bind",
    "listen",
    "connect",
    "accept",
    "send",
    "receive",
    "getoption",
    "setoption",
    "name",
    "shutdown",
)


SIGNAL_WHOM = (*WHOM, "group")


@dataclass(frozen=True)
class Signal:
    """Signals sent: ``signal`` as ``TERM``, ``RTMIN+3``, or ``0`` for the check whether a process exists; ``whom`` one
    of WHOM, or ``group`` for a process group or all processes (kill(2) with pid 0 or below)."""

    signal: str
    whom: str
    results: Mapping[str, int]
    programs: frozenset[int]
    runs: int = 1

    @property
    def key(self) -> tuple[str, str]:
        """What no two rows of a trace share."""
        return (self.signal, self.whom)


INSPECTIONS = ("trace", "traceme", "read")


@dataclass(frozen=True)
class Inspection:
    """Another process traced or read: ``operation`` is ``trace`` (ptrace(2) attaching or controlling, ``traceme`` when
    it asks to be traced) or ``read`` (process_vm_readv, kcmp, pidfd_getfd...); ``whom`` one of WHOM. Reads through
    /proc/PID are File rows with ``whose``."""

    operation: str
    whom: str
    results: Mapping[str, int]
    programs: frozenset[int]
    runs: int = 1

    @property
    def key(self) -> tuple[str, str]:
        """What no two rows of a trace share."""
        return (self.operation, self.whom)


@dataclass(frozen=True)
class Mount:
    """A change of the mount tree.

    ``operation``: mount, bind, rbind, move, remount, propagation, umount, pivot_root, or the name of a call of the
    descriptor-based interface (``move_mount``, ``open_tree``, ``fsmount``...). ``target`` is resolved as File.path is;
    ``source`` too for bind, move and pivot_root (there it is the new root, the target where the old one goes), else as
    given. ``flags``: names in lower case without MS_ or MNT_, sorted.
    """

    operation: str
    source: str | None
    target: str | None
    filesystem: str | None
    flags: tuple[str, ...]
    results: Mapping[str, int]
    programs: frozenset[int]
    runs: int = 1

    @property
    def key(self) -> MountKey:
        """What no two rows of a trace share."""
        return (self.operation, self.source, self.target, self.filesystem, self.flags)


def row_order(key: tuple[object, ...]) -> tuple[tuple[bool, object], ...]:
    """Sort key for the ``key`` of a row, which may hold None: that goes before any value."""
    return tuple((member is not None, member) for member in key)


@dataclass(frozen=True, order=True)
class ContainerMount:
    """What an engine mounted into a container. ``kind``: bind, volume, tmpfs or another word of the engine's;
    ``source``: a path of the host, a volume's name, or empty."""

    kind: str
    source: str
    destination: str
    read_only: bool


@dataclass(frozen=True)
class Container:
    """The container the workload ran in, as its engine told. None, or nothing: not known, or not the same in merged
    recordings.

    ``image`` is the name it was made from, ``digest`` its content (``sha256:...``): the manifest's where the engine
    knows it, else the configuration's. ``entrypoint`` and ``command`` together are what was started. ``user`` as given
    to the engine, empty for the image's own. ``ports``: ``80/tcp``. ``capabilities``: the bounding set it was given.
    """

    engine: str | None
    runtime: str | None
    id: str | None
    name: str | None
    image: str | None = None
    digest: str | None = None
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    user: str | None = None
    mounts: tuple[ContainerMount, ...] = ()
    ports: tuple[str, ...] = ()
    capabilities: tuple[str, ...] | None = None
    privileged: bool = False
    read_only: bool = False
    no_new_privs: bool = False


@dataclass(frozen=True)
class Meta:
    """Where and how the recording was made. ``runs`` is the number of recordings merged into this trace."""

    tool: str
    tracer: str
    features: tuple[str, ...]
    """What the tracer had at hand, e.g. ``capabilities:tracepoint``."""
    kernel: str
    arch: str
    """Native ABI of the machine: x86_64, aarch64."""
    distribution: str | None
    libc: str | None
    argv: tuple[str, ...]
    cwd: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    no_new_privs: bool
    """Whether the workload ran with no_new_privs (an unprivileged ptrace recording sets it)."""
    start: str
    """UTC, ISO 8601."""
    duration: float
    exit_status: int | None
    """As a shell would show it: 128+N for death by signal N. None when the workload had not ended."""
    complete: bool
    losses: Mapping[str, int]
    """Count per class; empty when nothing was lost (docs/tracers.md names the classes)."""
    last_new: float
    """When the last new item (syscall, argument value, capability, program, or row of files and what follows) came."""
    runs: int = 1
    container: Container | None = None
    """None: none was watched, or not in every merged recording."""
    watched: str | None = None
    """What profgen was told to watch, when it did not start the workload itself: ``pid 812``, ``unit
    redis.service``."""


@dataclass(frozen=True)
class Trace:
    """A recording, or several merged."""

    meta: Meta
    programs: tuple[Program, ...]
    syscalls: tuple[Syscall, ...]
    capabilities: tuple[Capability, ...] = ()
    execs: tuple[Exec, ...] = ()
    files: tuple[File, ...] = ()
    sockets: tuple[Socket, ...] = ()
    signals: tuple[Signal, ...] = ()
    inspections: tuple[Inspection, ...] = ()
    mounts: tuple[Mount, ...] = ()

    @property
    def has_files(self) -> bool:
        """Whether files, sockets, signals, inspections and mounts were watched in every recording."""
        return FILES_FEATURE in self.meta.features

    @property
    def joined(self) -> tuple[str, ...]:
        """Paths of the programs that ran already when a recording joined them, and that none saw start: how they begin
        is not known.

        Without the start of any workload, all programs if each was executed: one that runs itself again has not begun
        as it did first.
        """
        if JOINED_FEATURE not in self.meta.features:
            return ()
        never = tuple(row.path for row in self.programs if row.executions == 0 and row.path.startswith("/"))
        started = any(row.by is None and row.count > row.entered for row in self.execs)
        return never if never or started else tuple(row.path for row in self.programs if row.path.startswith("/"))


FILES_FEATURE = "files"
"""In Meta.features when the recording watched more than syscalls and capabilities. A merge keeps it only if all have
it."""

JOINED_FEATURE = "joined"
"""In Meta.features when the recording, or one of those merged, began with programs that ran already: they have no
executions."""
