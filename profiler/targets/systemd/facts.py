"""What a policy shows about a service, as the options of systemd need it: pure functions over its rules."""

from __future__ import annotations

import posixpath
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

from profiler.kernel.arguments import NAMESPACE_FLAGS, value_of
from profiler.kernel.systemd import NAMESPACES, words
from profiler.policy import patterns
from profiler.policy.covering import EPHEMERAL
from profiler.policy.model import Allowed, FileRule, Policy
from profiler.policy.posture import Posture, posture
from profiler.policy.writable import Places, changes, gathered, place_of, within
from profiler.quoting.systemd import has_unit_path

_HOMES = ("/home", "/root")
_VIRTUAL = ("/dev", "/proc", "/sys")
"""File systems that ProtectSystem= leaves as they are."""
TEMPORARY = ("/tmp", "/var/tmp")
_MAKES = frozenset({"create", "make", "rename_to"})
_FLAGS = {"clone": 0, "unshare": 0}
"""Position of the flags of calls that make namespaces."""
_PROTOCOLS = {"stream": ("tcp", 6), "dgram": ("udp", 17)}
_VERSIONS = {"inet": "ipv4", "inet6": "ipv6"}
_INTERNET = frozenset({"inet", "inet6"})


@dataclass(frozen=True)
class Facts:
    """A policy, seen from the options of systemd.

    Base entries are left out: they are for container runtimes, and systemd loads its filter last.
    ``has_paths``: file rules are known, and their paths are those of the host. ``loopback``: the user says that it
    talks to this machine alone, which a policy cannot show. ``named``: paths that the user's unit names itself.
    """

    policy: Policy
    loopback: bool = False
    named: tuple[str, ...] = ()

    @cached_property
    def entries(self) -> tuple[Allowed, ...]:
        """The calls of the workload itself."""
        return tuple(entry for entry in self.policy.syscalls if entry.section != "base")

    @cached_property
    def stance(self) -> Posture:
        """The posture of the workload."""
        return posture(self.policy)

    @property
    def has_paths(self) -> bool:
        """Whether the paths of the policy are known, and are not those of a container."""
        return self.policy.has_files and self.policy.workload.image is None

    def calls(self, *names: str) -> bool:
        """Return whether one of the calls is allowed, in any ABI."""
        return any(entry.name in names for entry in self.entries)

    def needs(self, *capabilities: str) -> bool:
        """Return whether one of the capabilities is needed."""
        return bool(set(capabilities) & set(self.policy.needed()))

    def passes(self, name: str, position: int, bits: int) -> bool:
        """Return whether a call may be made with all of these bits set in an argument."""
        return any(
            not entry.rules
            or any(
                all(one.position != position or not bits & one.mask & ~one.value for one in rule.conditions)
                for rule in entry.rules
            )
            for entry in self.entries
            if entry.name == name
        )

    def values(self, name: str, position: int) -> frozenset[int] | None:
        """Return the values that an argument of a call may have; None when they are not known one by one."""
        found: set[int] = set()
        for entry in self.entries:
            if entry.name != name:
                continue
            for rule in entry.rules:
                values = [one.value for one in rule.conditions if one.position == position and one.mask == 0xFFFFFFFF]
                if not values:
                    return None
                found.update(values)
            if not entry.rules:
                return None
        return frozenset(found)

    # --- files

    def uses(self, *places: str) -> bool:
        """Return whether a rule may be about one of the places or something below it, or the unit names such a path."""
        used = any(_may_lie(rule, place) for rule in self.policy.files for place in places)
        return used or any(within(path, places) for path in self.named)

    def changes(self, *places: str) -> bool:
        """Return whether something may be changed at one of the places or below it."""
        return any(changes(rule) and _may_lie(rule, place) for rule in self.policy.files for place in places)

    @cached_property
    def places(self) -> Places | None:
        """The directories that must be writable; None when some are not known. One that a unit cannot name is replaced
        by the directory that it is in."""
        places: set[str] = set()
        for rule in self.policy.files:
            if not changes(rule) or within(patterns.start_of(rule.pattern), _VIRTUAL):
                continue
            place = place_of(rule)
            while place and place != "/" and not has_unit_path(place):
                place = posixpath.dirname(place)
            if place is None or place == "/":
                return None
            places.add(place)
        return gathered(self.policy.files, places, _VIRTUAL)

    @property
    def written(self) -> tuple[str, ...] | None:
        """The directories that can be made writable one by one; None when some are not known, or when files are moved
        between two of them that no directory of its own holds."""
        return None if self.places is None or self.places.apart else self.places.writable

    def moves(self, *places: str) -> bool:
        """Return whether files are moved into one of the places, or out of one, from or to a directory that must stay
        on the same mount."""
        pairs = self.places.apart if self.places else ()
        return any(within(one, places) for pair in pairs for one in pair)

    @property
    def own_temporary(self) -> bool:
        """Whether what it uses below /tmp and /var/tmp is its own: made there, and not a socket that others reach."""
        rows = [(_child(rule.pattern), rule) for rule in self.policy.files]
        made = {child for child, rule in rows if rule.pattern == child and _makes(rule)}
        used = {child for child, rule in rows for top in TEMPORARY if _may_lie(rule, top) and rule.pattern != top}
        known = (*self.named, *map(patterns.start_of, self._addresses()))
        return used <= made and not any(within(one, TEMPORARY) for one in known)

    def _addresses(self) -> list[str]:
        """Patterns of the addresses of unix sockets."""
        return [one for rule in self.policy.sockets for _, found in rule.addresses for one in found]

    @property
    def makes_files(self) -> bool:
        """Whether it makes files, directories or sockets in directories, which get a mode."""
        made = any({"create", "make", "bind"} & set(rule.access) for rule in self.policy.files)
        bound = any(operation == "bind" for rule in self.policy.sockets for operation, _ in rule.addresses)
        return made or bound or self.calls("mq_open")

    @property
    def own_processes_only(self) -> bool:
        """Whether it looks at no other process below /proc."""
        rows = [rule for rule in self.policy.files if _may_lie(rule, "/proc")]
        return all(set(rule.whose) <= {"self"} and rule.pattern != "/proc" for rule in rows)

    @property
    def reads_kernel(self) -> bool:
        """Whether it may use something below /proc that is not in the directory of a process. ``/proc/mounts`` and
        ``/proc/net`` are links into such a directory, and a policy has the paths behind links."""
        starts = (patterns.start_of(rule.pattern) for rule in self.policy.files if not rule.whose)
        return any(within(start, ("/proc",)) or start in ("", "/") for start in starts) or self._about("mounts", "net")

    @property
    def reads_network(self) -> bool:
        """Whether it may look at the network through files."""
        below = [rule.pattern for rule in self.policy.files if _may_lie(rule, "/sys/devices")]
        devices = any("/net/" in f"{pattern}/" or "{tree}" in pattern for pattern in below)
        return devices or self._about("net") or self.uses("/proc/sys/net", "/sys/class/net")

    @property
    def reads_ipc(self) -> bool:
        """Whether it may look at message queues, semaphores and shared memory through files."""
        return self.uses("/proc/sysvipc", "/dev/mqueue", "/proc/sys/fs/mqueue", *words("ipc_settings"))

    def _about(self, *names: str) -> bool:
        """Return whether a rule may be about one of these members of a process's directory below /proc."""
        parts = (rule.pattern.split("/") for rule in self.policy.files if _may_lie(rule, "/proc"))
        return any(part in names or "{" in part for path in parts for part in (*path[3:4], *path[5:6]))

    @property
    def private_devices(self) -> bool:
        """Whether the devices that every service gets will do."""
        given = tuple(f"/dev/{name}" for name in words("private_dev"))
        return not any(within(path, ("/dev",)) and not within(path, given) for path in self.named) and not any(
            _may_lie(rule, "/dev")
            and rule.pattern != "/dev"
            and (not within(patterns.start_of(rule.pattern), given) or "map" in rule.access)
            for rule in self.policy.files
        )

    @property
    def devices(self) -> tuple[tuple[str, str], ...] | None:
        """The devices besides those that DevicePolicy=closed allows, with letters; None when some cannot be named."""
        closed = tuple(f"/dev/{name}" for name in words("closed"))
        found: dict[str, str] = {}
        if self.stance.device_patterns:
            return None
        for row in self.stance.devices:
            if not row.path.startswith("/dev/") or "m" in row.access or not has_unit_path(row.path):
                return None
            found[row.path] = row.access
        for rule in self.policy.files:  # the posture leaves out what container runtimes give, which is more
            start = patterns.start_of(rule.pattern)
            if start in ("/dev/console", "/dev/tty") and not within(start, closed):
                found[start] = "rw"
        return tuple(sorted(found.items()))

    # --- sockets and namespaces

    @cached_property
    def families(self) -> frozenset[int] | None:
        """Numbers of the address families of sockets that it makes; None when they are not known."""
        if self.calls("socketcall"):
            return None
        return self.values("socket", 0)

    @property
    def internet(self) -> bool:
        """Whether it may have a socket of the Internet families, made by itself or given to it."""
        numbers = {value_of("address_family", name) for name in ("AF_INET", "AF_INET6")}
        return self.families is None or bool(numbers & self.families) or self._has_family(_INTERNET)

    def _has_family(self, names: Collection[str]) -> bool:
        return any(rule.family in names for rule in self.policy.sockets)

    @property
    def unix_only(self) -> bool:
        """Whether it has no sockets but those of the unix family with a path."""
        others = {rule.family for rule in self.policy.sockets} - {"unix"}
        made = self.families
        by_path = all(patterns.start_of(one).startswith("/") for one in self._addresses())
        return made is not None and made <= {value_of("address_family", "AF_UNIX")} and not others and by_path

    @property
    def serves_unix(self) -> bool:
        """Whether others can connect to it by a unix socket."""
        return any(
            rule.family == "unix" and {"listen", "accept"} & set(rule.operations) for rule in self.policy.sockets
        )

    @property
    def bound(self) -> tuple[str, ...] | None:
        """What it binds, as SocketBindAllow= takes it (``ipv4:tcp:80``); None when that is not known."""
        found: set[str] = set()
        for rule in self.policy.sockets:
            if rule.family not in _INTERNET or "bind" not in rule.operations:
                continue
            name, number = _PROTOCOLS.get(rule.type, ("", 0))
            ports = dict(rule.ports).get("bind", ())
            if not name or rule.protocol not in (0, number) or not ports:
                return None
            version = _VERSIONS[rule.family]
            if any(port == 0 or port in EPHEMERAL for port in ports):
                found.add(f"{version}:{name}")
            found.update(f"{version}:{name}:{port}" for port in ports if port)
        return tuple(sorted(row for row in found if row.count(":") == 1 or row.rpartition(":")[0] not in found))

    @property
    def namespaces(self) -> frozenset[str] | None:
        """The namespaces that it may make or enter, in systemd's words; None when the filter for them would refuse
        something else as well."""
        # clone3 keeps its flags in memory, so it is refused as a whole; setns with 0 means a namespace of any kind.
        types = self.values("setns", 1)
        if self.calls("clone3") or types is None or 0 in types:
            return None
        flags = 0
        for value in types:
            flags |= value
        for bit in NAMESPACES:
            if any(self.passes(name, position, bit) for name, position in _FLAGS.items()):
                flags |= bit
        return frozenset(name for bit, name in NAMESPACES.items() if flags & bit & NAMESPACE_FLAGS)


def _makes(rule: FileRule) -> bool:
    """Return whether the workload made what it uses. A file without a name (O_TMPFILE) is always its own."""
    return bool(_MAKES & set(rule.access)) or "linked" not in rule.states


def _child(pattern: str) -> str:
    """Return the pattern of what it names, or is in, directly below /tmp or /var/tmp; empty elsewhere."""
    for top in TEMPORARY:
        if pattern.startswith(f"{top}/"):
            return "/".join(pattern.split("/")[: top.count("/") + 2])
    return ""


def _may_lie(rule: FileRule, place: str) -> bool:
    """Return whether a file of the rule may be the place or lie below it."""
    path = patterns.path_of(rule.pattern)
    if path is not None:
        return within(path, (place,))
    if rule.pattern.startswith("{home}"):
        return any(within(home, (place,)) or within(place, (home,)) for home in _HOMES)
    if rule.pattern.startswith("/proc/{pid}"):
        return within("/proc", (place,))  # no other name below /proc is a number
    start = patterns.start_of(rule.pattern)
    return within(start, (place,)) or place.startswith(start)
