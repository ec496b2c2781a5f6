"""A policy as rules of Landlock (landlock(7)).

Landlock knows files and directories that exist when it is enforced, and what holds for a directory holds for all that
is below. So a file that the workload may make, or that has a pattern for its name, becomes a rule of its directory: the
rules never allow less than the policy, and often more. {home} and {version} are the exception: what they stand for is
there at the start, and is looked up then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from profiler.confinement import Landlock, Path, Ports, Right
from profiler.kernel.landlock import in_order, is_loader, of_name, of_object, rights
from profiler.policy.covering import EPHEMERAL, FileRules
from profiler.policy.model import FileRule, Policy
from profiler.policy.patterns import Class, Literal, dumps, parse
from profiler.wording import listed

_AT_START = frozenset({"home", "version"})
"""The classes whose names are there when the workload starts, and stay."""
_MAKES = frozenset({"make", "link", "bind", "rename_to"})
_ENDS = frozenset({"remove", "rename_from", "rename_to"})
_DEVICES = frozenset({"char", "block", "unknown"})
_TCP = (0, 6)
"""The protocol of a socket for TCP: the default of stream sockets, or IPPROTO_TCP."""


@dataclass(frozen=True)
class Plan:
    """``wider``: directories whose rules allow more than the policy, with the rights. ``unlinked``: patterns of links
    to files that are not known, which Landlock allows in one directory only. ``overwritten``: patterns of files that
    the policy lets be appended to only. ``unused``: sections that Landlock has no rules for under this policy, and why.
    """

    rules: Landlock
    wider: tuple[tuple[str, tuple[str, ...]], ...] = ()
    unlinked: tuple[str, ...] = ()
    overwritten: tuple[str, ...] = ()
    unused: tuple[tuple[str, str], ...] = ()

    def unlimited(self) -> list[str]:
        """Return what ``unused`` says, as sentences: one for each reason."""
        reasons = dict.fromkeys(why for _, why in self.unused)
        return [
            f"Landlock does not limit {listed([section for section, each in self.unused if each == why], 3)}: {why}"
            for why in reasons
        ]


def plan(policy: Policy) -> Plan:
    """Return the rules for a policy."""
    if not policy.has_files:
        return Plan(Landlock(), unused=(("files", "the policy has no rules for files, sockets and signals"),))
    if any(row.whom == "outside" for row in policy.inspections):
        why = "the policy allows to inspect processes outside of the workload, which no process under Landlock may do"
        return Plan(
            Landlock(),
            unused=tuple((section, why) for section in ("files", "sockets", "signals")),
        )
    network = Landlock(network=rights("network"), scopes=tuple(_scopes(policy)), ports=tuple(sorted(_ports(policy))))
    if policy.mounts:
        why = "the policy allows mounts, which no process under Landlock's rules for files may make"
        return Plan(network, unused=(("files", why),))
    files = _Files(policy)
    paths = tuple(Path(place, " ".join(in_order(files.given[place])), files.above(place)) for place in files.places)
    wider = tuple((place, in_order(files.wider[place])) for place in files.places if files.wider.get(place))
    rules = network._replace(files=rights("files"), paths=paths)
    return Plan(rules, wider, tuple(sorted(files.unlinked)), tuple(sorted(files.overwritten)))


def _ports(policy: Policy) -> Iterator[Ports]:
    for row in policy.sockets:
        if row.family in ("inet", "inet6") and row.type == "stream" and row.protocol in _TCP:
            ports = dict(row.ports)
            for port in ports.get("bind", ()):
                yield Ports("bind_tcp", port, port)
            if "connect" in row.operations:
                yield Ports("connect_tcp", EPHEMERAL.start, EPHEMERAL.stop - 1)
            for port in ports.get("connect", ()):
                if port not in EPHEMERAL:
                    yield Ports("connect_tcp", port, port)


def _scopes(policy: Policy) -> Iterator[Right]:
    """Yield the scopes that the workload never leaves."""
    leaves = set()
    for row in policy.sockets:
        addresses = dict(row.addresses)
        for operation in {"connect", "send"} & set(row.operations) if row.family == "unix" else ():
            # Without an address it is not known.
            if any(address[:1] in ("@", "{") for address in addresses.get(operation, ("@",))):
                leaves.add("abstract_unix_socket")
    if any(row.whom in ("outside", "group") for row in policy.signals):
        leaves.add("signal")
    return (right for right in rights("scopes") if right.name not in leaves)


def _parent(pattern: str) -> str:
    """Return the pattern of the directory that holds a name."""
    return pattern.rpartition("/")[0] or "/"


def _ancestors(pattern: str) -> Iterator[str]:
    """Yield a pattern and those of all directories above, without the root."""
    while pattern != "/":
        yield pattern
        pattern = _parent(pattern)


class _Files:
    """Rights by place: the pattern of a file, or of a directory. ``wider``: those that hold for more than the policy
    allows."""

    def __init__(self, policy: Policy) -> None:
        rules = [row for row in policy.files if set(row.states) - {"detached"} and _is_path(row.pattern)]
        makers = [row for row in rules if {*row.access} & _MAKES or "make_reg" in of_name(row.access, row.kinds)]
        self._made = FileRules(makers)
        self._ended = FileRules(row for row in rules if {*row.access} & _ENDS)
        self._moved = FileRules(row for row in rules if "rename_to" in row.access)
        self._ioctl = any(row.name == "ioctl" for row in policy.syscalls)
        self.given: dict[str, set[str]] = {}
        self.wider: dict[str, set[str]] = {}
        self.unlinked: set[str] = set()
        self.overwritten: set[str] = set()
        for rule in rules:
            self._add(rule)
        self._refer(rules)

    @property
    def places(self) -> tuple[str, ...]:
        """The places that have rights, sorted."""
        return tuple(sorted(place for place, given in self.given.items() if given))

    def above(self, place: str) -> bool:
        """Return whether something may be made at a place, so that its directory has its rights until then."""
        return any(self._made.around(place)) or any(any(self._moved.around(one)) for one in _ancestors(place))

    def _replaced(self, place: str) -> bool:
        """Return whether another file or directory may come to be at a place."""
        return any(self._moved.around(place)) or (any(self._made.around(place)) and any(self._ended.around(place)))

    def _directory(self, pattern: str) -> str:
        """Return the closest directory that stays the same while the workload runs."""
        found = pattern
        for each in _ancestors(pattern):
            if self._replaced(each):
                found = _parent(each)
        return found

    def _give(self, place: str, names: Iterable[str], wider: bool) -> None:
        self.given.setdefault(place, set()).update(names)
        if wider:
            self.wider.setdefault(place, set()).update(names)

    def _add(self, rule: FileRule) -> None:
        of_file, of_directory = set(of_object(rule.access, rule.kinds)), of_name(rule.access, rule.kinds)
        if self._ioctl and not _DEVICES.isdisjoint(rule.kinds or _DEVICES) and of_file & {"read_file", "write_file"}:
            of_file.add("ioctl_dev")
        if "read_file" in of_file and is_loader(rule.pattern.rpartition("/")[2]):
            of_file.add("execute")
        if "append" in rule.access and "write" not in rule.access and "write_file" in of_file:
            self.overwritten.add(rule.pattern)
        directory, exact = directory_of(rule)
        if directory is not None:
            place = self._directory(directory)
            self._give(place, of_file | of_directory, wider=not exact or place != directory)
            return
        parent = self._directory(_parent(rule.pattern))
        if set(rule.kinds) == {"directory"} and self._directory(rule.pattern) == rule.pattern:
            # It is there, or it will be made and stay.
            self._give(rule.pattern, of_file, wider=True)
        elif self.above(rule.pattern):
            self._give(parent, of_file, wider=True)
        else:
            self._give(rule.pattern, of_file, wider=False)
        self._give(parent, of_directory, wider=True)
        if rule.pattern.endswith("/ptmx"):
            # Who opens it opens its terminals: they are made later, and no recording shows those that ioctl(2) opens
            # (TIOCGPTPEER; devpts_mntget, fs/devpts/inode.c, finds their directory).
            self._give("/dev/pts" if rule.pattern == "/dev/ptmx" else parent, of_file, wider=True)

    def _refer(self, rules: Iterable[FileRule]) -> None:
        """Give ``refer`` where a file may get a name in another directory, and to the directory that it comes from all
        rights of the one that it goes to: a file may not gain rights (is_access_to_paths_allowed,
        security/landlock/fs.c)."""
        renamed = [row for row in rules if {"rename_from", "rename_to"} & {*row.access}]
        if len({_place(row) for row in renamed}) > 1 or any(directory_of(row)[0] is not None for row in renamed):
            sources = [row.pattern for row in renamed if "rename_from" in row.access]
            targets = [row.pattern for row in renamed if "rename_to" in row.access]
            files_only = all({"directory", "unknown"}.isdisjoint(row.kinds or ("unknown",)) for row in renamed)
            self._pair(sources, targets, files_only)
        for row in rules:
            if "link" in row.access:
                if not row.existing:
                    self.unlinked.add(row.pattern)
                elsewhere = [each for each in row.existing if _is_path(each) and _parent(each) != _place(row)]
                if elsewhere:
                    self._pair(elsewhere, [row.pattern], files_only=True)

    def _pair(self, sources: Iterable[str], targets: Iterable[str], files_only: bool) -> None:
        """``files_only``: no directories are moved, which the other rights matter for."""
        from_places, to_places = ({self._holder(each) for each in names} for names in (sources, targets))
        carried: set[str] = set()
        for place in from_places | to_places:
            self._give(place, {"refer"}, wider=True)
            carried.update(*(given for other, given in self.given.items() if _holds(other, place)))
        if files_only:
            carried &= {right.name for right in rights("files") if right.file}
        for place in from_places:
            self._give(place, carried - self.given[place], wider=True)

    def _holder(self, pattern: str) -> str:
        directory, _ = _cut(pattern)
        return self._directory(_parent(pattern) if directory is None else directory)


def _is_path(pattern: str) -> bool:
    return pattern.startswith(("/", "{"))


def _holds(directory: str, place: str) -> bool:
    return directory in ("/", place) or place.startswith(f"{directory}/")


def _place(rule: FileRule) -> str:
    """Return the directory that holds a rule's names, as a pattern."""
    return _parent(rule.pattern)


def directory_of(rule: FileRule) -> tuple[str | None, bool]:
    """Return the closest directory for a rule without a name that is known at the start, None for others; and whether
    the rule is for all that is below it. A file without a name is below the directory that it was opened in."""
    directory, exact = _cut(rule.pattern)
    if directory is None and "linked" not in rule.states:
        return _parent(rule.pattern), False
    return directory, exact


def _cut(pattern: str) -> tuple[str | None, bool]:
    tokens = parse(pattern)
    for at, token in enumerate(tokens):
        if isinstance(token, Class) and token.name not in _AT_START:
            before = dumps(tokens[:at])
            exact = token.name == "tree" and at == len(tokens) - 1 and before.endswith("/")
            return _parent(before) if before else "/", exact
        if not isinstance(token, (Class, Literal)):
            return "/", False
    return None, False
