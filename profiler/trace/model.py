"""The Trace: what was observed, without conclusions beyond what a row says itself.

Every class here is frozen and holds plain data; docs/trace.schema.json describes the same structure as a file. Times
are seconds from the start of the recording (float, rounded to milliseconds). Rows refer to programs by their index in
``Trace.programs``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

SCHEMA = "profgen.trace/1"

ARGUMENT_VALUES_MAX = 128
"""The number of argument tuples kept for one (ABI, syscall); beyond it every tracer keeps only the overflow mark."""


@dataclass(frozen=True)
class Program:
    """One executed file.

    ``path`` is the absolute path that the kernel resolved. For a script it is the script's path, and ``interpreter`` is
    the resolved path of the binary that runs it. ``sha256`` and ``build_id`` (lower-case hex) belong to that file, if
    it could still be read. ``executions`` counts successful execs. ``argv0`` comes from the first exec that was seen.
    """

    path: str
    interpreter: str | None = None
    argv0: str | None = None
    sha256: str | None = None
    build_id: str | None = None
    executions: int = 0

    @property
    def name(self) -> str:
        """The last component of the path, for people."""
        return self.path.rsplit("/", 1)[-1] or self.path


@dataclass(frozen=True)
class Results:
    """Results of the watched calls: the number of successes, and a count for each errno name.

    The result of a syscall is watched until its first success in a program (docs/tracers.md), so the sum may be smaller
    than the number of calls. ``ok == 0`` with errors means that no success was seen.
    """

    ok: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Arguments:
    """The argument values of one syscall.

    ``fields`` names the recorded positions (profiler/kernel/arguments.yaml). Each value is a tuple of that length, with
    the programs that used it. After ``overflow`` the values are empty: there were too many to list.
    """

    fields: tuple[str, ...]
    values: Mapping[tuple[int, ...], frozenset[int]] = field(default_factory=dict)
    overflow: bool = False


@dataclass(frozen=True)
class Syscall:
    """One (ABI, number), summed over the recording. ``name`` is None if the tables do not know the number."""

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
    """The number of merged recordings in which this row was seen."""

    @property
    def label(self) -> str:
        """The name, or ``syscall_<number>`` for an unknown number."""
        return self.name or f"syscall_{self.number}"


@dataclass(frozen=True)
class Capability:
    """Capability checks with the same subject and outcome.

    ``namespace`` is ``initial`` if the check was against the user namespace in which the workload was started (or an
    ancestor of it), ``child`` if it was against one created below it. ``verdict`` is ``granted`` or ``refused``.
    ``audited`` is False for the kernel's silent probes (``*_noaudit``), None if the tracer cannot tell. ``decisive``
    says whether the check could change the result of the call: False for the advisory checks listed in
    profiler/kernel/capabilities.yaml, and for set*id calls that change nothing. ``inferred`` marks rows that the ptrace
    tracer derived from a call, its arguments and its result, without seeing the check.
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
    """The syscall in progress, ``name`` or ``abi:name`` if not native, to a count."""
    chains: tuple[tuple[str, ...], ...] = ()
    """Kernel call chains, innermost function first."""
    runs: int = 1


GAINED = ("setuid", "setgid", "capabilities")
"""Ways to gain privileges by the executed file: the set-user-ID bit, the set-group-ID bit, file capabilities."""


@dataclass(frozen=True)
class Exec:
    """``by`` executed ``program`` ``count`` times.

    ``by`` is None for the workload's start, by the tracer or a container runtime. ``entered``: how many of the
    executions without ``by`` came into a running workload from outside (``docker exec``, a health check). ``gained``:
    the privileges that came from the executed file, of GAINED; no_new_privs would have prevented it.
    """

    program: int
    by: int | None
    count: int
    runs: int = 1
    entered: int = 0
    gained: frozenset[str] = frozenset()


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
"""The ways in which a path is used.

``read``, ``write``, ``append``, ``create``, ``truncate``: what an open requested. ``map``: mapped executable. ``lock``:
a shared lock was taken, or a lock released; ``lock_exclusive``: an exclusive lock was taken (LOCK_EX, F_WRLCK).
``list``: the entries of a directory were read. ``make``: created by mkdir, mknod or symlink; ``File.kind`` says as
what. ``link``: a new name for ``File.existing``. ``bind``, ``connect``: the path of a unix socket. ``look``: queried by
a call that needs no right on the file itself (stat, access); only failures are kept.
"""

FILE_KINDS = ("file", "directory", "symlink", "fifo", "socket", "char", "block", "unknown")
"""``unknown``: the file did not exist, or vanished before it could be examined."""

FILE_OWNERS = ("self", "other")
"""``self``: owned by the fsuid of the process that used the file; ``other``: owned by another user."""

FILE_STATES = ("linked", "deleted", "detached")
"""``deleted``: the name is no longer in its directory, or never was (O_TMPFILE: ``/tmp/#123``). ``detached``: the file
is in no tree below a root (memfd, a file of another mount namespace), and the path is the kernel's name for it."""


@dataclass(frozen=True)
class File:
    """Uses of one path in one way.

    ``path`` is absolute in the *mount namespace* of its user: symbolic links, working directory and directory
    descriptors are resolved, and it is not relative to a chroot (path-based security modules see it in this form,
    d_absolute_path in fs/d_path.c). It has no trailing slash. The path of a missing file is the existing part,
    resolved, followed by the rest of the text. ``results`` counts uses by ``ok`` or an errno name. ``owner`` says who
    owned the file when it was used: ``self`` (the user's fsuid), ``other``, both, or nothing if that is not known.
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
    """For ``link``: the path of the file that got another name."""
    whose: str | None = None
    """For a path below /proc/PID: the owner of that process, one of WHOM; None for all other paths."""
    runs: int = 1

    @property
    def key(self) -> FileKey:
        """What identifies the row: no two rows of a trace have the same key."""
        return (self.path, self.access, self.kind, self.state, self.existing, self.whose)


WHOM = ("self", "workload", "outside")
"""The recipient of a signal or an inspection: the process itself, another process of the workload, any other
process."""


@dataclass(frozen=True)
class Socket:
    """One operation on sockets of one kind.

    ``family`` and ``type`` are the kernel's names in lower case without prefix (``inet``, ``stream``), or a number as
    text if there is no name. ``protocol`` is the number that the socket has (6 for TCP). ``port`` is the local port of
    ``bind`` (0: any), the peer's port of ``connect`` and ``send``, and None otherwise. ``address`` is the path of a
    unix socket, resolved like File.path (as given where that is impossible), or ``@name`` for the abstract namespace.
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
        """What identifies the row: no two rows of a trace have the same key."""
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
    """Signals sent.

    ``signal`` is ``TERM``, ``RTMIN+3``, or ``0`` for the existence check. ``whom`` is one of WHOM, or ``group`` for a
    process group or all processes (kill(2) with a pid of 0 or below).
    """

    signal: str
    whom: str
    results: Mapping[str, int]
    programs: frozenset[int]
    runs: int = 1

    @property
    def key(self) -> tuple[str, str]:
        """What identifies the row: no two rows of a trace have the same key."""
        return (self.signal, self.whom)


INSPECTIONS = ("trace", "traceme", "read")


@dataclass(frozen=True)
class Inspection:
    """Another process traced or read.

    ``operation`` is ``trace`` (ptrace(2) to attach or control), ``traceme`` (the process asks to be traced) or ``read``
    (process_vm_readv, kcmp, pidfd_getfd...). ``whom`` is one of WHOM. Reads through /proc/PID are File rows with
    ``whose``.
    """

    operation: str
    whom: str
    results: Mapping[str, int]
    programs: frozenset[int]
    runs: int = 1

    @property
    def key(self) -> tuple[str, str]:
        """What identifies the row: no two rows of a trace have the same key."""
        return (self.operation, self.whom)


@dataclass(frozen=True)
class Mount:
    """A change of the mount tree.

    ``operation``: mount, bind, rbind, move, remount, propagation, umount, pivot_root, or the name of a call of the
    descriptor-based interface (``move_mount``, ``open_tree``, ``fsmount``...). ``target`` is resolved like File.path.
    ``source`` is resolved for bind, move and pivot_root (there the source is the new root, the target the place of the
    old one), else as given. ``flags``: names in lower case without MS_ or MNT_, and those
    without a name as one hexadecimal number, sorted.
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
        """What identifies the row: no two rows of a trace have the same key."""
        return (self.operation, self.source, self.target, self.filesystem, self.flags)


Use = File | Socket | Signal | Inspection | Mount
"""A row about something that was used."""


def row_order(key: tuple[object, ...]) -> tuple[tuple[bool, object], ...]:
    """Return a sort key for the ``key`` of a row, in which None comes before any value."""
    return tuple((member is not None, member) for member in key)


@dataclass(frozen=True, order=True)
class ContainerMount:
    """What an engine mounted into a container.

    ``kind``: bind, volume, tmpfs or another word of the engine; ``source``: a path on the host, the name of a volume,
    or empty.
    """

    kind: str
    source: str
    destination: str
    read_only: bool


@dataclass(frozen=True)
class Pod:
    """The Kubernetes pod that a container belongs to.

    A member that is None is not known, or differs between merged recordings. ``workload``: the pod's name without what
    is new for each replica (engines/pods.py), such as the name of a Deployment.
    """

    namespace: str | None
    name: str | None
    uid: str | None
    workload: str | None


@dataclass(frozen=True)
class Container:
    """The container that the workload ran in, as its engine described it.

    A member that is None or empty is not known, or differs between merged recordings. ``image`` is the name of its
    image, ``digest`` the image's content (``sha256:...``): that of the manifest if the engine knows it, else that of
    the configuration. ``entrypoint`` followed by ``command`` is what was started. ``user`` is as given to the engine,
    empty for the image's own. ``directory``: the working directory. ``network``: what the engine attaches it to, such
    as ``host``. ``ports``: ``80/tcp``. ``capabilities``: the bounding set that it was given. ``pod``: None outside of
    Kubernetes; in a pod ``name`` is the container's name there.
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
    directory: str | None = None
    network: str | None = None
    mounts: tuple[ContainerMount, ...] = ()
    ports: tuple[str, ...] = ()
    capabilities: tuple[str, ...] | None = None
    privileged: bool = False
    read_only: bool = False
    no_new_privs: bool = False
    pod: Pod | None = None

    @property
    def full_name(self) -> str | None:
        """``NAMESPACE/POD/CONTAINER``, with the workload's name in place of several pods'; without a pod, its name."""
        if self.pod is None:
            return self.name
        return "/".join(text or "?" for text in (self.pod.namespace, self.pod.name or self.pod.workload, self.name))


@dataclass(frozen=True)
class Meta:
    """Where and how the recording was made. ``runs`` is the number of recordings that are merged in this trace. It is 0
    for denials (denials/as_trace.py): they add rights, and say nothing about how often a run uses them."""

    tool: str
    tracer: str
    features: tuple[str, ...]
    """What the tracer could use, e.g. ``capabilities:tracepoint``."""
    kernel: str
    arch: str
    """The native ABI of the machine: x86_64, aarch64."""
    distribution: str | None
    libc: str | None
    argv: tuple[str, ...]
    cwd: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    no_new_privs: bool
    """Whether the workload ran with no_new_privs (a recording with ptrace by an unprivileged user sets it)."""
    start: str
    """UTC, in ISO 8601."""
    duration: float
    exit_status: int | None
    """As a shell shows it: 128+N after signal N. None if the workload had not ended."""
    complete: bool
    losses: Mapping[str, int]
    """A count for each class of loss; empty if nothing was lost (docs/tracers.md names the classes)."""
    last_new: float
    """When the last new item appeared (a syscall, argument value, capability, program, or row of files and other
    resources)."""
    runs: int = 1
    container: Container | None = None
    """None if no container was watched, or not in every merged recording."""
    watched: str | None = None
    """What profgen was told to watch, if it did not start the workload itself: ``pid 812``, ``unit redis.service``."""
    standing: tuple[str, ...] = ()
    """How a command that profgen started stood, in sorted words: ``group_leader``, ``session_leader``, ``pid_1`` and
    ``terminal`` (a controlling one), or each with ``no_``; ``stdin_file``, ``stdout_pipe`` and so on: each standard
    stream with ``file``, ``pipe``, ``socket``, ``terminal``, ``null`` (/dev/null), ``device`` or ``closed``. Merged:
    the words of all; empty if one recording has none."""
    tasks: int = 0
    """The most threads of the workload that were alive at once, of all its processes together; 0 if that is not known.
    Merged: the largest."""


@dataclass(frozen=True)
class Trace:
    """A recording, or several merged ones."""

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
        """Whether every recording watched files, sockets, signals, inspections and mounts."""
        return FILES_FEATURE in self.meta.features

    @property
    def joined(self) -> tuple[str, ...]:
        """Return the paths of the programs that were running when joined, and that no recording saw start.

        If the start of no workload was seen, all programs count if each was executed: a program that executed itself
        again did not start as it did the first time.
        """
        if JOINED_FEATURE not in self.meta.features:
            return ()
        never = tuple(row.path for row in self.programs if row.executions == 0 and row.path.startswith("/"))
        started = any(row.by is None and row.count > row.entered for row in self.execs)
        return never if never or started else tuple(row.path for row in self.programs if row.path.startswith("/"))


FILES_FEATURE = "files"
"""In Meta.features if the recording watched more than syscalls and capabilities. A merge keeps it only if all
have it."""

JOINED_FEATURE = "joined"
"""In Meta.features if a recording began with programs that were already running: they have no executions."""

GUARDED_FEATURE = "terminal:guarded"
"""In Meta.features if profgen refused the workload to type into its terminal (tracers/launch.py): the trace may lack
such calls."""
