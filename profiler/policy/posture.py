"""The posture of a workload: everything about its confinement that is not a right by itself.

It follows from a policy alone: the user, where the root file system must be writable, devices, ports, mounts, the limit
of tasks. Launchers (profiler/targets/) write it in the words of their system.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from profiler.policy import patterns
from profiler.policy.covering import EPHEMERAL
from profiler.policy.model import FileRule, Policy
from profiler.policy.writable import SYSTEM, changes, gathered, place_of, within
from profiler.trace.model import ContainerMount
from profiler.wording import UNKNOWN


@dataclass(frozen=True)
class Temporary:
    """A directory that may be empty at each start. ``executed``: programs or libraries in it are executed or mapped, so
    it cannot be mounted noexec."""

    path: str
    executed: bool = False


@dataclass(frozen=True)
class Device:
    """A device that the workload uses. ``access``: letters of the device cgroup, ``r``, ``w`` and ``m`` (mknod), in
    this order. ``kind``: char or block."""

    path: str
    access: str
    kind: str = "char"


@dataclass(frozen=True)
class Posture:
    """How a container of the workload is set up. None or empty: not known, or not needed.

    ``sure``: the workload was recorded in a container, so what is known about it holds in one. ``user`` is the text
    that an engine takes (``33:33``, ``www-data``), ``uid`` and ``gid`` are numbers. ``read_only``: a root file system
    that cannot be written is known to do. ``temporary``, ``kept``, ``elsewhere`` and ``apart`` say where the workload
    writes, as in :class:`Written`; ``elsewhere`` is None when the recording did not watch files. ``devices``: without
    those that every runtime gives; ``device_patterns``: patterns of devices whose names are not known. ``dev_written``:
    files are made or changed below /dev, such as shared memory in /dev/shm, so the memory there cannot be read-only.
    ``shared``: the directory of shared memory, when it is written to; LXC and libvirt-lxc have none by themselves.
    ``tasks``: the limit of threads and processes. ``ports``: as in :func:`listened`. ``mounts``: bind mounts and
    volumes of the recorded container. ``network``: host or none. ``command``: the workload's argv.
    ``unprivileged_port``: the lowest port that the workload needs CAP_NET_BIND_SERVICE for: where the sysctl
    net.ipv4.ip_unprivileged_port_start is not above it, the capability is not needed.
    """

    uid: int
    gid: int | None = None
    user: str | None = None
    sure: bool = False
    read_only: bool = False
    temporary: tuple[Temporary, ...] = ()
    kept: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] | None = None
    apart: tuple[tuple[str, str], ...] = ()
    devices: tuple[Device, ...] = ()
    device_patterns: tuple[str, ...] = ()
    dev_written: bool = False
    shared: Temporary | None = None
    tasks: int | None = None
    ports: tuple[tuple[int, str], ...] = ()
    mounts: tuple[ContainerMount, ...] = ()
    network: str | None = None
    directory: str | None = None
    command: tuple[str, ...] = ()
    unprivileged_port: int | None = None


def posture(policy: Policy) -> Posture:
    """Return the posture of a policy's workload."""
    work, launch = policy.workload, policy.workload.launch
    places = written(policy)
    devices, device_patterns = _devices(policy.files)
    tmpfs = [row.destination for row in launch.mounts if row.kind == "tmpfs" and not row.read_only]
    return Posture(
        uid=work.uid,
        gid=_gid(policy),
        user=launch.user,
        sure=work.image is not None,
        read_only=_would_do(policy, places),
        temporary=(
            *(places.temporary if places else ()),
            *(Temporary(path, places is None or _executed(policy, path)) for path in tmpfs),
        ),
        kept=places.kept if places else (),
        elsewhere=places.elsewhere if places else None,
        apart=places.apart if places else (),
        devices=devices,
        device_patterns=device_patterns,
        dev_written=_changed_below(policy, "/dev"),
        shared=Temporary(_SHARED, _executed(policy, _SHARED)) if _changed_below(policy, _SHARED) else None,
        tasks=launch.tasks,
        ports=listened(policy),
        mounts=tuple(row for row in launch.mounts if row.kind != "tmpfs"),
        network=launch.network,
        directory=launch.directory,
        command=launch.command or (() if work.joined or UNKNOWN in work.argv else work.argv),
        unprivileged_port=_unprivileged_port(policy),
    )


def _gid(policy: Policy) -> int | None:
    """Return the group's number, from the user's text or as it was recorded."""
    group = (policy.workload.launch.user or "").partition(":")[2]
    return int(group) if group.isascii() and group.isdecimal() else policy.workload.launch.gid


def _would_do(policy: Policy, places: Written | None) -> bool:
    """Return whether a root that cannot be written is known to do: it was recorded in a container, with such a root, or
    writing nothing but what may be empty at each start."""
    if places is None or policy.workload.image is None or policy.workload.incomplete:
        return False
    return policy.workload.launch.read_only or not (places.kept or places.elsewhere or places.apart)


# --- where it writes

_MAKES = frozenset({"create", "make", "rename_to", "link", "bind"})
_RUNTIMES_OWN = ("/dev", "/proc", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
"""Places that a runtime or an engine mounts into every container."""
_SHARED = "/dev/shm"
_TEMPORARY = ("/tmp", "/var/tmp", "/run", "/var/run")


@dataclass(frozen=True)
class Written:
    """Where a workload writes, outside of what is mounted anyway.

    ``kept``: directories with content of the image, or that may have to last. ``elsewhere``: patterns of what is
    written among the image's own files, or at places that are not known: a root that cannot be written would break the
    workload. ``apart``: see :class:`Places`.
    """

    temporary: tuple[Temporary, ...] = ()
    kept: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    apart: tuple[tuple[str, str], ...] = ()


def written(policy: Policy) -> Written | None:
    """Return where the workload writes, None when the recording did not watch files."""
    if not policy.has_files:
        return None
    mounted = (*_RUNTIMES_OWN, *(row.destination for row in policy.workload.launch.mounts))
    places: set[str] = set()
    elsewhere: set[str] = set()
    for rule in policy.files:
        if not changes(rule):
            continue
        place = place_of(rule)
        if place is None or place == "/" or place.split("/")[1] in SYSTEM:
            if not within(patterns.start_of(rule.pattern), mounted):
                elsewhere.add(rule.pattern)
        elif not within(place, mounted):
            places.add(place)
    together = gathered(policy.files, places, mounted)
    outer = together.writable
    empty = [place for place in outer if within(place, _TEMPORARY) and not _filled(policy, place)]
    return Written(
        tuple(Temporary(place, _executed(policy, place)) for place in empty),
        tuple(place for place in outer if place not in empty),
        tuple(sorted(elsewhere)),
        together.apart,
    )


def blocked(policy: Policy, mounts: Mapping[str, bool]) -> tuple[str, ...]:
    """Return the patterns of what the policy changes on a read-only mount. ``mounts``: where each is, and whether it is
    read-only; the innermost one counts."""
    found = []
    for rule in policy.files:
        start = patterns.start_of(rule.pattern)
        around = [path for path in mounts if within(start, (path,))]
        if around and mounts[max(around, key=len)] and changes(rule):
            found.append(rule.pattern)
    return tuple(sorted(found))


def _below(rule: FileRule, place: str) -> bool:
    return patterns.start_of(rule.pattern).startswith(place + "/")


def _filled(policy: Policy, place: str) -> bool:
    """Return whether the workload uses something below the directory that it did not make there."""
    return any(
        _below(rule, place) and not set(rule.access) & _MAKES and set(rule.access) - {"remove", "chroot"}
        for rule in policy.files
        if rule.kinds != ("directory",) and "linked" in rule.states
    )


def _changed_below(policy: Policy, place: str) -> bool:
    return any(changes(rule) and within(patterns.start_of(rule.pattern), (place,)) for rule in policy.files)


def _executed(policy: Policy, place: str) -> bool:
    return any(_below(rule, place) and {"execute", "map"} & set(rule.access) for rule in policy.files)


# --- devices

_DEVICE_KINDS = {"char", "block"}
_GIVEN = ("null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", "pts", "shm", "mqueue", "fd")
_GIVEN_DEVICES = tuple(f"/dev/{name}" for name in _GIVEN)
"""What every runtime makes (OCI runtime specification, config-linux.md, default devices)."""
_LETTERS = {"r": {"read"}, "w": {"write", "append"}, "m": {"make"}}


def _devices(rules: Iterable[FileRule]) -> tuple[tuple[Device, ...], tuple[str, ...]]:
    """Return the devices that are used, sorted, and the patterns of those that have no single path. A file elsewhere
    than below /dev that the workload makes itself counts too."""
    found: dict[tuple[str, str], set[str]] = {}
    unknown: set[str] = set()
    for rule in rules:
        kinds = _DEVICE_KINDS & set(rule.kinds)
        letters = {letter for letter, words in _LETTERS.items() if words & set(rule.access)}
        if not kinds or not letters or "linked" not in rule.states:
            continue
        path = patterns.path_of(rule.pattern)
        if within(path or patterns.start_of(rule.pattern), _GIVEN_DEVICES):
            continue
        if path is None:
            unknown.add(rule.pattern)
            continue
        for kind in kinds:
            found.setdefault((path, kind), set()).update(letters)
    devices = (
        Device(path, "".join(letter for letter in _LETTERS if letter in letters), kind)
        for (path, kind), letters in sorted(found.items())
    )
    return tuple(devices), tuple(sorted(unknown))


# --- ports

_PROTOCOLS = {"stream": "tcp", "dgram": "udp"}
_PORT = re.compile(r"([1-9][0-9]{0,4})/(tcp|udp)")


def listened(policy: Policy) -> tuple[tuple[int, str], ...]:
    """Return the ports at which others reach the workload, as (port, tcp or udp), sorted: what it listens on, and what
    its container exposes. A datagram socket that is bound to a port which the kernel also gives to clients is taken for
    a client."""
    found = set()
    for rule in policy.sockets:
        protocol = _PROTOCOLS.get(rule.type)
        if rule.family not in ("inet", "inet6") or protocol is None:
            continue
        if protocol == "tcp" and "listen" not in rule.operations:
            continue
        for port in dict(rule.ports).get("bind", ()):
            if port and (protocol == "tcp" or port not in EPHEMERAL):
                found.add((port, protocol))
    for text in policy.workload.launch.ports:
        if (match := _PORT.fullmatch(text)) and int(match[1]) <= 0xFFFF:
            found.add((int(match[1]), match[2]))
    return tuple(sorted(found))


_FIRST_UNPRIVILEGED = 1024
"""The kernel's default of net.ipv4.ip_unprivileged_port_start (PROT_SOCK, net/sock.h)."""


def _unprivileged_port(policy: Policy) -> int | None:
    """Return the lowest port that the workload binds with CAP_NET_BIND_SERVICE. The network of the host has a sysctl of
    its own, which no container may set."""
    if "CAP_NET_BIND_SERVICE" not in policy.needed() or policy.workload.launch.network == "host":
        return None
    bound = (port for rule in policy.sockets for port in dict(rule.ports).get("bind", ()))
    return min((port for port in bound if 0 < port < _FIRST_UNPRIVILEGED), default=None)
