"""SELinux rules as data, made from a policy. templates/selinux.cil.j2 writes them.

Which permission an access needs is in profiler/kernel/selinux.yaml, which types files have in labels.py.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from profiler.kernel import selinux
from profiler.kernel.capabilities import CAPABILITIES
from profiler.policy import patterns
from profiler.policy.covering import EPHEMERAL
from profiler.policy.model import FileRule, MountRule, Policy, SocketRule
from profiler.quoting.text import printable
from profiler.targets.base import Loss
from profiler.targets.selinux.labels import ANYONE, CONTAINER, OWN, PROCESS, Labels, makes, sample
from profiler.wording import counted, listed

_OWN_PROC = re.compile(r"/proc/(?:\{pid\}|[0-9]+|self|thread-self)(?=/|$)")
_NET = re.compile(r"/proc/(?:\{pid\}|[0-9]+)/net(?=/|$)")
_ATTACHES = frozenset({"process_vm_readv", "process_vm_writev", "pidfd_getfd"})
"""Calls that a policy has under ``read`` and for which the kernel asks as for a tracer."""
_EXECUTABLE = 4  # PROT_EXEC
_LATER = frozenset({"bpf", "checkpoint_restore", "perfmon"})
"""Capabilities that policies from before 2021 do not know."""


@dataclass(frozen=True, order=True)
class Allow:
    """The workload's processes may do this to objects of a type or attribute. ``optional``: older policies have no such
    class or type; they ignore the rule."""

    target: str
    kind: str
    permissions: tuple[str, ...]
    optional: bool = False


class Rules:
    """Collects rules: one for each target and class."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str, bool], set[str]] = {}

    def allow(self, target: str, kind: str, permissions: Iterable[str], *, optional: bool = False) -> None:
        """Add permissions."""
        if names := set(permissions):
            self._rows.setdefault((target, kind, optional), set()).update(names)

    def rows(self) -> tuple[Allow, ...]:
        """Return the rules: the workload's own objects first, then by type and class."""
        rows = (Allow(target, kind, tuple(sorted(names)), maybe) for (target, kind, maybe), names in self._rows.items())
        return tuple(sorted(rows, key=lambda row: (row.target not in (PROCESS, OWN), row)))


@dataclass(frozen=True, order=True)
class Transition:
    """A file of a class that the workload makes in a directory of a type gets the workload's own type."""

    directory: str
    kind: str


@dataclass(frozen=True)
class Domain:
    """Everything that the template writes of the rights. ``entry``: the types of the programs that the workload starts
    as. ``inherited``: class and permissions of sockets that it got from whoever started it."""

    rules: tuple[Allow, ...]
    transitions: tuple[Transition, ...]
    entry: tuple[str, ...]
    inherited: tuple[tuple[str, tuple[str, ...]], ...]
    losses: tuple[Loss, ...]


Ports = Mapping[tuple[str, int], str]
"""Protocol and number to the type of a port."""


def build(policy: Policy, labels: Labels, given: Ports | None = None, *, inherits: bool = False) -> Domain:
    """Return the rules of a policy. ``given``: types of ports that differ from those of the reference policy.
    ``inherits``: a template has the rights on the files of a container already."""
    rules, losses = Rules(), list[Loss]()
    transitions = _files(policy, labels, rules, losses, inherits)
    _sockets(policy, given or {}, rules, losses)
    _others(policy, rules, losses)
    _mounts(policy, labels, rules, losses)
    entry = tuple(sorted({labels.types(path, "file") for path in _first(policy)}))
    return Domain(rules.rows(), transitions, entry, tuple(_inherited(policy.sockets)), tuple(losses))


def _first(policy: Policy) -> Iterator[str]:
    """Yield a path of each program that the workload may start as."""
    firsts = [row.program for row in policy.transitions if row.by is None]
    if not firsts:
        firsts = [rule.pattern for rule in policy.files if "execute" in rule.access and "linked" in rule.states]
    yield from (sample(pattern) for pattern in firsts if sample(pattern).startswith("/"))


# --- files


def _files(policy: Policy, labels: Labels, rules: Rules, losses: list[Loss], inherits: bool) -> tuple[Transition, ...]:
    transitions: set[Transition] = set()
    shared: dict[str, list[str]] = {}
    watches = any(row.name == "inotify_add_watch" and not row.never_succeeded for row in policy.syscalls)
    for rule in policy.files:
        rule = _narrowed(rule)
        for target, kind in _objects(rule, labels, losses):
            if inherits and target == CONTAINER:
                continue
            shared.setdefault(target, []).append(rule.pattern)
            for access in rule.access:
                rules.allow(target, kind, selinux.own(access, kind))
            if watches and kind in ("dir", "file") and {"read", "list", "write"} & set(rule.access):
                rules.allow(target, kind, selinux.table("watches"))
        transitions |= _names(rule, labels, rules, inherits)
    if any(rule.owner for rule in policy.files):
        losses.append(Loss("files", "owner", "SELinux does not look at who owns a file"))
    for target in sorted(shared):
        if target not in (OWN, PROCESS, ANYONE):
            count = counted(len(set(shared[target])), "rule")
            losses.append(Loss("files", target, f"types are coarser than paths: what {count} allow holds for the type"))
    return tuple(sorted(transitions))


def _narrowed(rule: FileRule) -> FileRule:
    """Return the rule without what SELinux does not ask for: O_CREAT on a device that is there. No open makes one."""
    if set(rule.kinds) <= {"char", "block"}:
        return replace(rule, access=tuple(word for word in rule.access if word != "create"))
    return rule


def _objects(rule: FileRule, labels: Labels, losses: list[Loss]) -> Iterator[tuple[str, str]]:
    """Yield type and class of what a rule names."""
    if not rule.pattern.startswith(("/", "{home}")) or "detached" in rule.states:
        if rule.pattern.lstrip("/").startswith("memfd:"):
            yield OWN, "file"
        elif rule.pattern.lstrip("/").startswith(("SYSV", "dev/zero")):
            pass  # the kernel does not ask for these files
        else:
            losses.append(Loss("files", rule.pattern, "no path leads to it, so its type is not known", "refused"))
        return
    path = sample(rule.pattern)
    for kind in selinux.classes_of(rule.kinds):
        if _OWN_PROC.match(rule.pattern) and not _NET.match(rule.pattern):
            if "outside" in rule.whose:
                yield ANYONE, kind
            if set(rule.whose) != {"outside"}:
                yield PROCESS, kind
        elif _NET.match(rule.pattern):
            yield labels.types("/proc/net/x", kind), kind
        else:
            yield labels.types(path, kind), kind


def _names(rule: FileRule, labels: Labels, rules: Rules, inherits: bool) -> set[Transition]:
    """Allow what a rule does to the directories that hold names, and to files that get another one."""
    if not rule.pattern.startswith(("/", "{home}")):
        return {Transition("tmpfs_t", "file")} if rule.pattern.startswith("memfd:") else set()
    path = sample(rule.pattern)
    directories = {labels.types(posixpath.dirname(path) or "/", "dir")}
    if rule.pattern.endswith("{tree}"):
        directories.add(labels.types(path, "dir"))
    for access in rule.access:
        for directory in directories:
            if not (inherits and directory == CONTAINER):
                rules.allow(directory, "dir", selinux.holder(access))
    for pattern in rule.existing if "link" in rule.access else ():
        rules.allow(labels.types(sample(pattern), "file"), "file", ("getattr", "link"))
    if not (makes(rule) and labels.made(path)):
        return set()
    return {
        Transition(directory, kind)
        for directory in directories - {OWN}
        for kind in selinux.classes_of(rule.kinds)
        if kind != "lnk_file" or "make" in rule.access
    }


# --- sockets


def _sockets(policy: Policy, given: Ports, rules: Rules, losses: list[Loss]) -> None:
    ports: dict[str, set[int]] = {}
    bound = [text for rule in policy.sockets for word, several in rule.addresses if word == "bind" for text in several]
    for rule in policy.sockets:
        kind = selinux.socket_class(rule.family, rule.type, rule.protocol)
        names = selinux.socket_permissions(kind, rule.operations)
        rules.allow(PROCESS, kind, names)
        if rule.family in ("inet", "inet6"):
            _internet(rule, kind, given, rules, ports)
        elif rule.family == "unix":
            _unix(rule, kind, bound, rules, losses)
    for name in sorted(ports):
        some = listed([str(port) for port in sorted(ports[name])], 8)
        losses.append(Loss("sockets", name, f"the rule for port {some} holds for all ports of the type"))


def _inherited(sockets: Iterable[SocketRule]) -> Iterator[tuple[str, tuple[str, ...]]]:
    found: dict[str, set[str]] = {}
    for rule in sockets:
        if "inherit" in rule.operations:
            kind = selinux.socket_class(rule.family, rule.type, rule.protocol)
            found.setdefault(kind, set()).update(selinux.socket_permissions(kind, rule.operations) - {"create"})
    yield from ((kind, tuple(sorted(found[kind]))) for kind in sorted(found))


def _internet(rule: SocketRule, kind: str, given: Ports, rules: Rules, ports: dict[str, set[int]]) -> None:
    tables = dict(rule.ports)
    protocol = kind.removesuffix("_socket")
    if "bind" in rule.operations:
        rules.allow("node_type", kind, ("node_bind",))
    for word, right, kinds in (
        ("bind", "name_bind", "named_ports"),
        ("connect", "name_connect", "connected_ports"),
    ):
        if kind not in selinux.table(kinds):
            continue
        wanted = {port for port in tables.get(word, ()) if port}
        if word == "connect" and word in rule.operations:
            wanted |= {EPHEMERAL[0]}  # a rule does not list those (covering.EPHEMERAL)
        for port in wanted:
            name = given.get((protocol, port)) or selinux.port_type(protocol, port)
            if name is None:
                continue
            rules.allow(name, kind, (right,))
            ports.setdefault(name, set()).add(port)
            if port in EPHEMERAL:
                rules.allow(selinux.table("ephemeral")["type"], kind, (right,), optional=True)


def _unix(rule: SocketRule, kind: str, bound: list[str], rules: Rules, losses: list[Loss]) -> None:
    right = "connectto" if kind == "unix_stream_socket" else "sendto"
    rules.allow(PROCESS, kind, (right,))
    outside = [
        text
        for word, several in rule.addresses
        if word in ("connect", "send")
        for text in several
        if text not in bound and text not in ("", "@")
    ]
    if outside:
        rules.allow(ANYONE, kind, (right,))
        for text in sorted(set(outside)):
            losses.append(
                Loss("sockets", f"unix socket {printable(text)}", "SELinux asks for the type of the other process: any")
            )


# --- processes, capabilities, namespaces


def _others(policy: Policy, rules: Rules, losses: list[Loss]) -> None:
    rules.allow(PROCESS, "process", selinux.table("process"))
    names = {row.name for row in policy.syscalls if not row.never_succeeded}
    for call in sorted(names & selinux.table("calls").keys()):
        for kind, rights in selinux.table("calls")[call].items():
            rules.allow(PROCESS, kind, rights)
    if _makes_code(policy):
        rules.allow(PROCESS, "process", ("execmem",))
    for name in policy.needed():
        kind, right = selinux.capability(name)
        rules.allow(PROCESS, kind, (right,), optional=right in _LATER)
    if policy.user_namespaces:
        rules.allow(PROCESS, "user_namespace", ("create",), optional=True)
        for name in CAPABILITIES:  # a policy does not limit those that a process has in a namespace of its own
            kind, right = selinux.capability(name, userns=True)
            rules.allow(PROCESS, kind, (right,), optional=right in _LATER)
    if policy.io_uring:
        rules.allow(PROCESS, "anon_inode", ("create", "map", "read", "write"), optional=True)
        rules.allow(PROCESS, "io_uring", ("override_creds", "sqpoll"), optional=True)
    several = set()
    for signal in policy.signals:
        right = selinux.signal_permission(signal.signal)
        rules.allow(ANYONE if signal.whom == "outside" else PROCESS, "process", (right,))
        if right == "signal" and signal.whom == "outside":
            several.add(signal.signal)
    if several:
        why = "one permission covers all signals but CHLD, KILL and STOP, and any process can be the other one"
        losses.append(Loss("signals", ", ".join(sorted(map(printable, several))), why))
    for rule in policy.inspections:
        whom = ANYONE if rule.whom == "outside" else PROCESS
        if rule.operation == "read":
            rules.allow(whom, "file", ("read",))
        if rule.operation != "read" or names & _ATTACHES:
            rules.allow(whom, "process", ("ptrace",))


def _makes_code(policy: Policy) -> bool:
    """Return whether memory that was written may be executed: the kernel asks for execmem when a mapping without a file
    becomes executable, or a private one is writable and executable."""
    abi = policy.abis[0]
    anonymous = 0x22  # MAP_PRIVATE, MAP_ANONYMOUS
    return any(
        policy.permits(abi, "mmap", (0, 4096, _EXECUTABLE | extra, anonymous, 0xFFFFFFFF, 0)) for extra in (2, 3)
    ) or any(policy.permits(abi, "mprotect", (0, 4096, _EXECUTABLE | extra, 0, 0, 0)) for extra in range(4))


# --- mounts


def _mounts(policy: Policy, labels: Labels, rules: Rules, losses: list[Loss]) -> None:
    for rule in policy.mounts:
        what = f"{rule.operation} {rule.target or ''}".strip()
        place = sample(rule.target) if rule.target is not None and rule.target.startswith("/") else None
        kind = _filesystem(rule)
        if place is None or (rule.operation == "mount" and kind is None):
            losses.append(Loss("mounts", what, "its place or its file system has no known type", "refused"))
            continue
        here = labels.types(place, "dir")
        rules.allow(here, "dir", ("getattr", "mounton", "search"))
        rights = {"mount": "mount", "umount": "unmount", "remount": "remount", "propagation": None}
        right = rights.get(rule.operation, "mount")
        if right is not None:
            rules.allow(kind or "filesystem_type", "filesystem", ("getattr", right))
        losses.append(Loss("mounts", what, "SELinux does not look at the source and the flags of a mount"))


def _filesystem(rule: MountRule) -> str | None:
    """Return the type of the file system that is mounted, None when it is not known."""
    name = patterns.path_of(rule.filesystem) if rule.filesystem is not None else None
    found: str | None = selinux.table("filesystems").get(name)
    return found
