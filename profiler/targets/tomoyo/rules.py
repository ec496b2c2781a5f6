"""TOMOYO's rules as data, made from a policy. The templates write them.

A domain stands for a program, under the shortest chain of executions that leads to it. What the policy does not tell
apart by program is in a group of rules that all domains use.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from profiler.policy import patterns
from profiler.policy.covering import EPHEMERAL
from profiler.policy.model import FileRule, MountRule, Policy, SocketRule
from profiler.quoting.text import printable
from profiler.quoting.tomoyo import WORD_MAX, Inexpressible, tomoyo
from profiler.targets.base import Loss
from profiler.targets.tomoyo.names import words

MODES, IDS, FLAGS = "0-07777", "0-4294967295", "0x0-0xFFFFFFFF"
"""Any mode, any user or group, any flags: a policy has none of them."""
ADDRESSES = {"inet": "0.0.0.0-255.255.255.255", "inet6": "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}
_BY_PATH = {"read": "read", "list": "read", "write": "write", "append": "append", "truncate": "truncate"}
_MADE = {"file": "create", "fifo": "mkfifo", "socket": "mksock"}
_NODES = {"char": "mkchar", "block": "mkblock"}
_PROPAGATION = ("unbindable", "private", "slave", "shared")


@dataclass(frozen=True)
class Domain:
    """A domain: its name without the namespace (empty: the namespace itself), and its rules."""

    name: str
    rules: tuple[str, ...]
    shared: bool
    """Whether it has the rules of the group too."""


@dataclass(frozen=True)
class Group:
    """Files of one kind of use, which rules name together."""

    name: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Rules:
    """What the templates write. ``shared``: rules of all domains."""

    domains: tuple[Domain, ...]
    groups: tuple[Group, ...]
    shared: tuple[str, ...]
    losses: tuple[Loss, ...]


@dataclass(frozen=True)
class _Renamed:
    """The names that a program's renames begin with, and end with. A policy does not have them in pairs."""

    old: set[str] = field(default_factory=set)
    new: set[str] = field(default_factory=set)

    def add(self, rule: FileRule) -> None:
        """Add the names of a rule."""
        for word, names in (("rename_from", self.old), ("rename_to", self.new)):
            if word in rule.access:
                names.update(words(rule.pattern, rule.kinds, rule.whose)[0])


class _Chains:
    """The name of each program's domain: the shortest chain of executions from the start."""

    def __init__(self, policy: Policy, losses: list[Loss]) -> None:
        self._transitions = [row for row in policy.transitions if _said(row.program, losses)]
        self.firsts = sorted({row.program for row in self._transitions if row.by is None})
        self.names = {program: _component(program) for program in self.firsts}
        todo = list(self.firsts)
        for program in todo:
            for row in sorted(self.executed(program), key=str):
                if row not in self.names:
                    chain = f"{self.names[program]} {_component(row)}"
                    self.names[row] = chain if len(chain) <= WORD_MAX else _component(row)
                    todo.append(row)
        for transition in self._transitions:  # of a policy that a person wrote: nothing leads to it
            self.names.setdefault(transition.program, _component(transition.program))

    def executed(self, by: str) -> set[str]:
        """Return the programs that a program executes."""
        return {row.program for row in self._transitions if row.by is not None and _same(row.by, by)}

    def having(self, programs: Iterable[str]) -> set[str]:
        """Return the programs whose domains need a rule of these programs; all when they are not known."""
        wanted = tuple(programs)
        found = {name for name in self.names if any(_same(name, each) for each in wanted)}
        return found or set(self.names)


def _same(one: str, other: str) -> bool:
    return one == other or patterns.matches(one, other) or patterns.matches(other, one)


def _said(program: str, losses: list[Loss]) -> bool:
    try:
        words(program, ("file",))
        _component(program)
    except Inexpressible as error:
        losses.append(Loss("transitions", program, str(error), "refused"))
        return False
    return True


def _component(program: str) -> str:
    """Return a program's part of the names of domains; a pattern stands for itself."""
    path = patterns.path_of(program)
    return tomoyo(path if path is not None and path.startswith("/") else f"/{program.lstrip('/')}")


def build(policy: Policy, namespace: str) -> Rules:
    """Return the rules of a policy, in a namespace."""
    losses: list[Loss] = []
    chains = _Chains(policy, losses)
    shared: set[str] = set(_sockets(policy, losses)) | set(_mounts(policy, losses))
    own: dict[str, set[str]] = {program: set() for program in chains.names}
    renamed = {program: _Renamed() for program in chains.names}
    for rule in policy.files:
        programs = chains.having(rule.programs)
        try:
            rules = set(_file(rule, losses))
            if "execute" in rule.access and not any(_same(rule.pattern, name) for name in chains.names):
                rules |= {f"file execute @program keep {_realpath(word)}" for word in words(rule.pattern, ("file",))[0]}
        except Inexpressible as error:
            losses.append(Loss("files", rule.pattern, str(error), "refused"))
            continue
        for program in programs:
            renamed[program].add(rule)
        if programs == set(chains.names):
            shared |= rules
        else:
            for program in programs:
                own[program] |= rules
    groups = [Group("program", ("/\\*", "/\\{\\*\\}/\\*", "proc:/\\{\\*\\}/\\*", "tmpfs:/\\*"))]
    for number, (program, names) in enumerate(sorted(renamed.items()), start=1):
        if names.old and names.new:
            groups += [
                Group(f"old_{number}", tuple(sorted(names.old))),
                Group(f"new_{number}", tuple(sorted(names.new))),
            ]
            own[program].add(f"file rename @old_{number} @new_{number}")
    starts = tuple(_execute(chains, program, namespace) for program in chains.firsts)
    domains = [Domain("", tuple(sorted(line for lines in starts for line in lines)), shared=False)]
    for program, name in sorted(chains.names.items(), key=lambda item: item[1]):
        rules = own[program].union(*(_execute(chains, each, namespace) for each in chains.executed(program)))
        domains.append(Domain(name, tuple(sorted(rules)), shared=True))
    return Rules(tuple(domains), tuple(groups), tuple(sorted(shared)), tuple(losses))


def _realpath(word: str) -> str:
    return f'exec.realpath="{word}"'


def _execute(chains: _Chains, program: str, namespace: str) -> list[str]:
    """Return the rules that let a program be executed, by any name that leads to it, and say where it then runs."""
    domain = f"<{namespace}> {chains.names[program]}"
    return [f"file execute @program {domain} {_realpath(word)}" for word in words(program, ("file",))[0]]


# --- files


def _file(rule: FileRule, losses: list[Loss]) -> Iterator[str]:
    """Yield the rules for the uses of a file."""
    if rule.pattern.lstrip("/").startswith(("SYSV", "dev/zero")) and "detached" in rule.states:
        return  # the kernel does not ask for these files
    names, wide = words(rule.pattern, rule.kinds, rule.whose)
    if wide:
        losses.append(Loss("files", rule.pattern, "TOMOYO has no such class of names; any characters are allowed"))
    owner = " task.fsuid=path1.uid" if rule.owner else ""
    access = set(rule.access)
    if "execute" in access:
        access.add("read")  # whoever is executed as an interpreter is read
    if access & {"write", "append"} and "create" in access and rule.owner:
        owner = ""  # the file was not there, so it had no owner
    for name in names:
        for word in sorted(access & _BY_PATH.keys()):
            yield f"file {_BY_PATH[word]} {name}{owner}"
        yield from _made(rule, access, name)
        slash = name.endswith("/")
        if "remove" in access:
            yield f"file {'rmdir' if slash else 'unlink'} {name}{owner}"
        if "mode" in access:
            yield f"file chmod {name} {MODES}{owner}"
        if "owner" in access:
            yield f"file chown {name} {IDS}{owner}"
            yield f"file chgrp {name} {IDS}{owner}"
        if "chroot" in access and slash:
            yield f"file chroot {name}"
        if "link" in access and not slash:
            for existing in rule.existing:
                for other in words(existing, ("file",))[0]:
                    yield f"file link {other} {name}"


def _made(rule: FileRule, access: set[str], name: str) -> Iterator[str]:
    kinds = set(rule.kinds) or {"file"}
    anything = "unknown" in kinds
    if name.endswith("/"):
        if "make" in access:
            yield f"file mkdir {name} {MODES}"
        return
    if "create" in access and (kinds & {"file"} or anything):
        yield f"file create {name} {MODES}"
    if "bind" in access:
        yield f"file mksock {name} {MODES}"
    if "make" in access:
        for kind, word in _MADE.items():
            if kind in kinds or anything:
                yield f"file {word} {name} {MODES}"
        for kind, word in _NODES.items():
            if kind in kinds:
                yield f"file {word} {name} {MODES} {IDS} {IDS}"
        if "symlink" in kinds or anything:
            yield f"file symlink {name}"


# --- sockets


def _sockets(policy: Policy, losses: list[Loss]) -> Iterator[str]:
    unseen = set()
    for rule in policy.sockets:
        if rule.family in ADDRESSES and rule.type in ("stream", "dgram", "raw"):
            yield from _internet(rule)
        elif rule.family == "unix" and rule.type in ("stream", "dgram", "seqpacket"):
            yield from _unix(rule, losses)
        else:
            unseen.add(f"{rule.family} {rule.type}")
    if policy.has_files:
        also = f", so not {', '.join(sorted(map(printable, unseen)))}" if unseen else ""
        losses.append(Loss("sockets", "other sockets", f"TOMOYO looks at internet and unix sockets only{also}"))


def _internet(rule: SocketRule) -> Iterator[str]:
    ports = dict(rule.ports)
    address = ADDRESSES[rule.family]
    start = f"network inet {rule.type}"
    if rule.type == "raw":
        for word in {"bind", "connect", "send"} & set(rule.operations):
            yield f"{start} {'bind' if word == 'bind' else 'send'} {address} {rule.protocol or '0-255'}"
        return
    bound = set(ports.get("bind", ()))
    if "bind" in rule.operations:
        yield from (f"{start} bind {address} {port}" for port in bound)
    if rule.type == "stream" and "listen" in rule.operations:
        yield from (f"{start} listen {address} {port}" for port in bound - {0} or {0})
        if 0 in bound or not bound:
            yield f"{start} listen {address} {EPHEMERAL[0]}-{EPHEMERAL[-1]}"
    for word in ("connect", "send"):
        if word not in rule.operations or (word == "send" and rule.type == "stream"):
            continue
        said = "connect" if rule.type == "stream" else "send"
        yield from (f"{start} {said} {address} {port}" for port in ports.get(word, ()))
        yield f"{start} {said} {address} {EPHEMERAL[0]}-{EPHEMERAL[-1]}"


def _unix(rule: SocketRule, losses: list[Loss]) -> Iterator[str]:
    places = dict(rule.addresses)
    for word, several in places.items():
        said = {"bind": "bind", "connect": "connect", "send": "send"}.get(word)
        if said is None:
            continue
        if rule.type == "dgram" and said == "connect":
            said = "send"
        elif rule.type != "dgram" and said == "send":
            continue
        for text in several:
            try:
                for name in _addresses(text):
                    yield f"network unix {rule.type} {said} {name}"
                    if said == "bind" and rule.type != "dgram" and "listen" in rule.operations:
                        yield f"network unix {rule.type} listen {name}"
            except Inexpressible as error:
                losses.append(Loss("sockets", f"unix socket {printable(text)}", str(error), "refused"))


def _addresses(text: str) -> tuple[str, ...]:
    """Return the words for an address. The kernel has the text that the program gave, not where it leads: /var/run is
    another name of /run on every distribution. An abstract name begins with a NUL."""
    if text in ("", "@"):
        return ("anonymous",)
    if text.startswith("@"):
        return tuple(f"\\000{word.removeprefix('/')}" for word in words(f"/{text[1:]}", ("socket",))[0])
    given = [text, f"/var{text}"] if text.startswith("/run/") else [text]
    return tuple(word for each in given for word in words(each, ("socket",))[0])


# --- mounts


def _mounts(policy: Policy, losses: list[Loss]) -> Iterator[str]:
    for rule in policy.mounts:
        what = f"{rule.operation} {rule.target or ''}".strip()
        try:
            yield from _mount(rule)
        except Inexpressible as error:
            losses.append(Loss("mounts", what, str(error), "refused"))
        else:
            if rule.operation not in ("umount", "pivot_root"):
                losses.append(Loss("mounts", what, "its flags are not compared"))


def _mount(rule: MountRule) -> Iterator[str]:
    if rule.target is None:
        raise Inexpressible("its place is not known")
    places = words(rule.target, ("file", "directory"))[0]
    if rule.operation == "umount":
        yield from (f"file unmount {place}" for place in places)
        return
    sources: tuple[str, ...] = ("\\*", "/\\*", "/\\{\\*\\}/\\*")
    if rule.source is not None and rule.operation in ("bind", "rbind", "move", "pivot_root"):
        sources = words(rule.source, ("file", "directory"))[0]
    if rule.operation == "pivot_root":
        yield from (f"file pivot_root {source} {place}" for source in sources for place in places)
        return
    kinds = {"bind": "--bind", "rbind": "--bind", "move": "--move", "remount": "--remount"}
    names = [kinds[rule.operation]] if rule.operation in kinds else []
    if rule.operation == "propagation":
        names = [f"--make-{word}" for word in _PROPAGATION if word in rule.flags]
    elif rule.operation == "mount":
        name = patterns.path_of(rule.filesystem) if rule.filesystem is not None else None
        names = [tomoyo(name)] if name else []
    if not names:
        raise Inexpressible("TOMOYO has no word for it")
    for name in names:
        yield from (f"file mount {source} {place} {name} {FLAGS}" for source in sources for place in places)
