"""Compare a policy or profile with the image that it is for.

What the files of the image make of it: programs that gain privileges, which the profile makes useless or needs; and
what keeps the workload from running as another user than root, or in a user namespace.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from profiler.kernel.capabilities import names_in, number_of
from profiler.kernel.user_namespaces import can_be_mounted, mapped_ids, only_initial
from profiler.policy.model import FileRule, Policy, capability_order
from profiler.policy.patterns import matches, path_of, start_of
from profiler.policy.writable import within
from profiler.quoting.text import printable
from profiler.review.findings import Finding, Rule, by_level
from profiler.review.foreign import Source
from profiler.review.rights import Rights
from profiler.wording import counted, listed

if TYPE_CHECKING:
    from profiler.images.files import Node
    from profiler.images.image import Image

_LISTED = 6
_NOT_OF_THE_IMAGE = ("/dev", "/proc", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
"""What a runtime mounts over the image."""
_CONTENT = frozenset({"write", "append", "truncate", "connect"})
"""Accesses that need the right to write to what is there."""
_NAMES = frozenset({"create", "make", "remove", "rename_from", "rename_to", "link", "bind"})
"""Accesses that need the right to write to the directory."""
_READS, _RUNS = frozenset({"read", "list", "lock"}), frozenset({"execute"})
_OWNERS = frozenset({"mode", "owner"})
"""Accesses that only the owner of the file has."""

RULES: Mapping[str, Rule] = {
    "privileges-useless": Rule("warning", "a program of the image gains no privileges by its file under the profile"),
    "privileges-refused": Rule("error", "a program of the image cannot be executed: the profile lacks a capability"),
    "privileges-open": Rule("warning", "programs of the image gain privileges that the workload does not use"),
    "privileges-used": Rule("note", "the workload uses a program of the image that gains privileges"),
    "needs-root": Rule("note", "what keeps the workload from running as another user than root"),
    "needs-host-root": Rule("note", "what keeps the workload from running in a user namespace"),
    "image-note": Rule("note", "what was not read of the image"),
}
"""The rules of ``lint --image``."""


@dataclass(frozen=True)
class _Program:
    """A program that gains privileges by its file. ``executed``: by the policy; None when that is not known."""

    path: str
    node: Node
    executed: bool | None

    @property
    def gains(self) -> str:
        """What it gains, in words."""
        parts = []
        if self.node.mode & stat.S_ISUID:
            parts.append("setuid root" if self.node.uid == 0 else f"setuid to user {self.node.uid}")
        if _setgid(self.node):
            parts.append(f"setgid to group {self.node.gid}")
        if self.node.capabilities is not None:
            parts.append(" ".join(names_in(self.node.capabilities.permitted)))
        return ", ".join(parts)


def _setgid(node: Node) -> bool:
    both = stat.S_ISGID | stat.S_IXGRP
    return node.mode & both == both


class _Subject:
    """A profile and an image."""

    def __init__(self, rights: Rights, policy: Policy | None, image: Image) -> None:
        self.rights = rights
        self.policy = policy
        self.image = image

    @cached_property
    def executed(self) -> tuple[str, ...] | None:
        """Patterns of what is executed."""
        if self.rights.files is None:
            return None
        started = [row.program for row in self.rights.transitions or ()]
        return (*started, *(rule.pattern for rule in self.rights.files if "execute" in rule.access))

    @cached_property
    def programs(self) -> tuple[_Program, ...]:
        """The programs of the image that gain privileges."""
        return tuple(
            _Program(path, node, self._is_executed(path))
            for path, node in self.image.files
            if node.kind == "file"
            and node.mode & 0o111
            and (node.mode & stat.S_ISUID or _setgid(node) or node.capabilities is not None)
        )

    def _is_executed(self, path: str) -> bool | None:
        return None if self.executed is None else any(matches(pattern, path) for pattern in self.executed)

    @property
    def runs_as_root(self) -> bool:
        """Whether the workload runs as root, as the policy or else the image says."""
        if self.policy is not None:
            return self.policy.workload.uid == 0
        return self.image.user.partition(":")[0] in ("", "0", "root")


def findings(source: Source, abi: str, image: Image) -> tuple[Finding, ...]:
    """Return the findings on a profile and an image, errors first."""
    subject = _Subject(source.rights(abi, None), source.policy, image)
    checks = (_privileges, _needs_root, _needs_host_root, _notes)
    return by_level(finding for check in checks for finding in check(subject))


# Programs that gain privileges.


def _privileges(subject: _Subject) -> Iterator[Finding]:
    held, confined = subject.rights.capabilities, subject.rights.no_new_privs
    idle: list[_Program] = []
    for program in subject.programs:
        needed = program.node.capabilities.needed if program.node.capabilities is not None else 0
        lacking = [] if held is None else [name for name in names_in(needed) if name not in held]
        if lacking and program.executed is not False:
            yield _refused(program, lacking)
        elif not program.executed:
            idle.append(program)
        elif confined:
            yield _useless(program)
        elif confined is False:
            yield _used(program, held)
    yield from _idle(idle, confined)


def _refused(program: _Program, lacking: list[str]) -> Finding:
    path = printable(program.path)
    # execve(2) is EPERM when the bounding set lacks a capability of a file with the effective bit.
    what = f"{path} has {', '.join(lacking)} by its file, and the profile does not: execve fails with EPERM"
    level = "error" if program.executed else "warning"
    if not program.executed:
        what += ", if it is executed"
    fix = f"remove the capabilities from the file (setcap -r {path}), or allow {', '.join(lacking)}"
    return Finding("privileges-refused", level, "capabilities", what, fix, (program.path, *lacking))


def _useless(program: _Program) -> Finding:
    what = f"{printable(program.path)} ({program.gains}) is executed, and gains nothing under no_new_privs: it may fail"
    fix = "generate with --allow-new-privs if it needs them; else remove the bits or capabilities from the image"
    return Finding("privileges-useless", "warning", "no_new_privs", what, fix, (program.path,))


def _used(program: _Program, held: frozenset[str] | None) -> Finding:
    gained = "" if held is None or not program.node.mode & stat.S_ISUID or program.node.uid else _as_root(held)
    what = f"{printable(program.path)} ({program.gains}) is executed, and gains that{gained}"
    fix = "if the workload can do without, remove it and set no_new_privs"
    return Finding("privileges-used", "note", "no_new_privs", what, fix, (program.path,))


def _as_root(held: frozenset[str]) -> str:
    names = sorted(held, key=capability_order)
    return f", with {listed(names, _LISTED)}" if names else ", without a capability: the bounding set is empty"


def _idle(programs: list[_Program], confined: bool | None) -> Iterator[Finding]:
    """Find programs that the policy does not execute, or of which it says nothing."""
    if not programs:
        return
    texts = [f"{printable(program.path)} ({program.gains})" for program in programs]
    paths = tuple(program.path for program in programs)
    which = "that the workload does not execute" if programs[0].executed is False else "of the image"
    number = f"{counted(len(programs), 'program')} {which}"
    fix = "remove them from the image, or their bits (chmod ug-s, setcap -r)"
    if confined:
        what = f"{number} would gain privileges, but gain nothing under no_new_privs: {listed(texts, _LISTED)}"
        yield Finding("privileges-useless", "note", "no_new_privs", what, fix, paths)
    elif confined is False:
        what = f"{number} gain privileges, as no_new_privs is off: {listed(texts, _LISTED)}"
        yield Finding("privileges-open", "warning", "no_new_privs", what, fix, paths)
    else:
        what = f"{number} gain privileges where the container is started without no_new_privs: "
        yield Finding("privileges-open", "note", "", what + listed(texts, _LISTED), fix, paths)


# Running as another user.

_OF_ROOT = {
    "CAP_NET_BIND_SERVICE": "listen on a port from 1024 on, or set net.ipv4.ip_unprivileged_port_start=0",
    "CAP_SETUID": "start the workload as the user that it changes to",
    "CAP_SETGID": "start the workload as the group that it changes to",
    "CAP_CHOWN": "give the files their owners in the image",
    "CAP_DAC_OVERRIDE": "give the files to the user in the image",
    "CAP_FOWNER": "give the files to the user in the image",
}
"""What to do instead of holding a capability that programs of root often need."""


def _needs_root(subject: _Subject) -> Iterator[Finding]:
    if not subject.runs_as_root:
        return
    for name in sorted(subject.rights.capabilities or (), key=capability_order):
        what = f"{name}: engines give capabilities to root alone, or to another user only as ambient ones (Podman, OCI)"
        fix = _OF_ROOT.get(name, "use an engine with ambient capabilities, or a file with this capability")
        yield Finding("needs-root", "note", "capabilities", what, fix, (name,))
    places = _only_root(subject)
    for (verb, fix), paths in places.items():
        shown = listed([printable(path) for path in sorted(paths)], _LISTED)
        what = f"only root may {verb} {shown}, as the image has {'it' if len(paths) == 1 else 'them'}"
        yield Finding("needs-root", "note", "files", what, fix, tuple(sorted(paths)))


def _only_root(subject: _Subject) -> dict[tuple[str, str], set[str]]:
    """Return the paths of the image that only root may use as the policy does, by what it does and a remedy."""
    found: dict[tuple[str, str], set[str]] = {}
    mounts = subject.policy.workload.launch.mounts if subject.policy is not None else ()
    covered = (*_NOT_OF_THE_IMAGE, *(row.destination for row in mounts))
    own = "give it to the user in the image (COPY --chown, RUN chown)"
    volume = f"{own}, or mount a volume or tmpfs there"
    for rule in subject.rights.files or ():
        path = path_of(rule.pattern) or start_of(rule.pattern).rpartition("/")[0]
        if "linked" not in rule.states or not path.startswith("/") or within(path, covered):
            continue
        for verb, where in _refusals(subject.image, rule, path):
            found.setdefault((verb, volume if verb == "write to" else own), set()).add(where)
    return found


def _refusals(image: Image, rule: FileRule, path: str) -> Iterator[tuple[str, str]]:
    """Yield what the rule needs and another user than root or the owner may not do, and the path of the image."""
    access, literal = set(rule.access), path_of(rule.pattern) is not None
    there = image.files.find(path)
    kinds = set(rule.kinds) & {"file", "directory", "symlink", "unknown"}
    if access & _NAMES:
        above = path if not literal else path.rpartition("/")[0] or "/"
        where, node = image.files.nearest(above)
        if node.kind == "directory" and node.mode & 0o003 != 0o003:
            yield "write to", where
    if there is None or not literal or not kinds:
        return
    where, node = there
    if access & _CONTENT and node.kind == "file" and not node.mode & 0o002:
        yield "write to", where
    if access & _READS and node.kind in ("file", "directory") and not node.mode & 0o004:
        yield "read", where
    if access & _RUNS and node.kind == "file" and not node.mode & 0o001:
        yield "execute", where
    if access & _OWNERS and node.uid == 0:
        yield "change the owner or mode of", where


# Running in a user namespace.


def _needs_host_root(subject: _Subject) -> Iterator[Finding]:
    rule, fix = "needs-host-root", "run the container without a user namespace, or do without"
    for name in sorted(subject.rights.capabilities or (), key=capability_order):
        if number_of(name) is not None and (why := only_initial().get(name)):
            what = f"{name} counts only in the initial user namespace: {why}"
            yield Finding(rule, "note", "capabilities", what, fix, (name,))
    types = sorted({row.filesystem for row in subject.rights.mounts or () if row.filesystem is not None})
    if barred := [name for name in types if not can_be_mounted(name)]:
        what = (
            f"file systems that cannot be mounted in a user namespace: {listed(list(map(printable, barred)), _LISTED)}"
        )
        yield Finding(rule, "note", "mounts", what, fix, tuple(barred))
    yield from _unmapped(subject.image.files)


def _unmapped(files: Iterable[tuple[str, Node]]) -> Iterator[Finding]:
    foreign, devices = [], []
    for path, node in files:
        if max(node.uid, node.gid) >= mapped_ids():
            foreign.append((path, max(node.uid, node.gid)))
        if node.kind == "device":
            devices.append(path)
    if foreign:
        texts = [f"{printable(path)} ({number})" for path, number in foreign]
        what = f"{counted(len(foreign), 'file')} of the image with an id from {mapped_ids()} on, which is usually not "
        what += f"mapped in a user namespace: {listed(texts, _LISTED)}"
        fix = "give them an owner and a group with lower ids in the image"
        yield Finding("needs-host-root", "note", "", what, fix, tuple(path for path, _ in foreign[:_LISTED]))
    if devices:
        what = f"device nodes in the image, which cannot be made in a user namespace: {listed(devices, _LISTED)}"
        fix = "remove them from the image: the runtime makes those that every program uses"
        yield Finding("needs-host-root", "note", "", printable(what), fix, tuple(devices[:_LISTED]))


def _notes(subject: _Subject) -> Iterator[Finding]:
    for note in subject.image.notes:
        yield Finding("image-note", "note", "", f"{printable(subject.image.name)}: {note}", "", (note,))
