"""The sections of ``policy.yaml`` on files, programs, sockets, signals, processes and mounts: as plain data, and read
from it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from profiler.errors import InputError
from profiler.policy.layout import Items, Section
from profiler.policy.model import (
    FileRule,
    InspectionRule,
    MountRule,
    Policy,
    SignalRule,
    SocketRule,
    Transition,
    Variable,
)
from profiler.policy.patterns import VARIABLE, Class, Place, literal, parse, path_of
from profiler.policy.reasons import Reasons, from_data, to_data
from profiler.policy.rows import KEYS, in_order
from profiler.policy.strict import Reader
from profiler.policy.variables import SECTIONS as WITH_PATHS
from profiler.policy.variables import unfolded
from profiler.trace.model import (
    FILE_ACCESSES,
    FILE_KINDS,
    FILE_STATES,
    INSPECTIONS,
    SIGNAL_WHOM,
    SOCKET_OPERATIONS,
    WHOM,
)

SECTIONS_OF_USES = (
    "variables",
    "files",
    "executions",
    "network",
    "signals",
    "inspections",
    "mounts",
    "namespaces",
    "io_uring",
)
"""``files`` is there when the recording watched files, and only then; the other five and when they hold anything."""

_ACCESSES = tuple(word for word in FILE_ACCESSES if word != "look")
_KINDS, _STATES = ("file",), ("linked",)
_WORD = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
_FLAG = re.compile(rf"{_WORD.pattern}|0x[0-9a-f]{{1,8}}", re.ASCII)
_SOCKET_NAME = re.compile(r"[a-z][a-z0-9_]*|-?[0-9]{1,10}", re.ASCII)
_SIGNAL = re.compile(r"[A-Z][A-Z0-9]*(\+[0-9]{1,2})?|-?[0-9]{1,10}", re.ASCII)
"""Names and numbers as in a trace (profiler/trace/store.py)."""
START = "start"
"""In place of ``by``: the program is the workload's first."""


class _Entry(Protocol):
    @property
    def because(self) -> Reasons: ...


def because_data(entry: _Entry) -> dict[str, Any]:
    """Return the member ``because`` of an entry; nothing when it has no reason."""
    return {"because": to_data(entry.because)} if entry.because else {}


def because_of(reader: Reader, data: Mapping[str, Any], where: str) -> Reasons:
    """Read the member ``because`` of an entry, which may be left out."""
    if "because" not in data:
        return ()
    return from_data(data["because"], lambda what: reader.fail(f"{where}.because", what))


class _Programs:
    """The programs of a policy's executions: file rules name them by the last part of their paths where only one has
    it."""

    def __init__(self, programs: Sequence[str]) -> None:
        self.all = tuple(programs)
        names = Counter(map(self._name, programs))
        self._by_name = {name: path for path in programs if names[name := self._name(path)] == 1 and name[:1] != "{"}

    @staticmethod
    def _name(program: str) -> str:
        return program.rpartition("/")[2]

    def texts(self, programs: Sequence[str]) -> list[str]:
        """Return the programs as they are written."""
        return [name if self._by_name.get(name := self._name(path)) == path else path for path in programs]

    def pattern(self, text: str) -> str:
        """Return the pattern of a program's path."""
        return self._by_name.get(text, text)


def _file_data(rule: FileRule, programs: _Programs) -> dict[str, Any]:
    data: dict[str, Any] = {"access": list(rule.access)}
    if rule.kinds != _KINDS:
        data["kinds"] = list(rule.kinds)
    if rule.owner:
        data["owner"] = True
    if rule.states != _STATES:
        data["states"] = list(rule.states)
    if rule.whose:
        data["whose"] = list(rule.whose)
    if rule.existing:
        data["existing"] = list(rule.existing)
    if rule.programs != programs.all:
        data["programs"] = programs.texts(rule.programs)
    return data | because_data(rule)


def _transition_data(row: Transition) -> dict[str, Any]:
    by = {START: True} if row.by is None else {"by": row.by}
    return {"program": row.program, **by} | because_data(row)


def _socket_data(row: SocketRule) -> dict[str, Any]:
    data: dict[str, Any] = {"family": row.family, "type": row.type, "protocol": row.protocol}
    data["operations"] = list(row.operations)
    if row.ports:
        data["ports"] = {word: list(ports) for word, ports in row.ports}
    if row.addresses:
        data["addresses"] = {word: list(addresses) for word, addresses in row.addresses}
    return data | because_data(row)


def _mount_data(row: MountRule) -> dict[str, Any]:
    members = {"operation": row.operation, "source": row.source, "target": row.target, "filesystem": row.filesystem}
    data: dict[str, Any] = {name: value for name, value in members.items() if value is not None}
    if row.flags:
        data["flags"] = list(row.flags)
    return data | because_data(row)


def uses_data(policy: Policy) -> dict[str, Any]:
    """Return the sections, in the order in which they are written. ``policy``: with variables in its rows."""
    data: dict[str, Any] = {}
    if policy.variables:
        data["variables"] = Section(
            {row.name: {"paths": list(map(literal, row.paths))} | because_data(row) for row in policy.variables}
        )
    if policy.has_files:
        programs = _Programs(policy.programs)
        rules = sorted(policy.files, key=lambda rule: rule.pattern)
        data["files"] = Section({rule.pattern: _file_data(rule, programs) for rule in rules})
        lists: dict[str, list[dict[str, Any]]] = {
            "executions": [_transition_data(row) for row in policy.transitions],
            "network": [_socket_data(row) for row in policy.sockets],
            "signals": [{"signal": row.signal, "whom": row.whom} | because_data(row) for row in policy.signals],
            "inspections": [
                {"operation": row.operation, "whom": row.whom} | because_data(row) for row in policy.inspections
            ],
            "mounts": [_mount_data(row) for row in policy.mounts],
        }
        data |= {name: Items(rows) for name, rows in lists.items() if rows}
    if policy.user_namespaces:
        data["namespaces"] = {"user": to_data(policy.user_namespaces)}
    if policy.io_uring:
        data["io_uring"] = to_data(policy.io_uring)
    return data


class _Uses:
    """Reads the sections with the checks of the policy's reader."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.variables: tuple[Variable, ...] = ()
        self.programs = _Programs(())

    def pattern(self, text: str, where: str, absolute: bool = True) -> str:
        """A pattern, and when ``absolute`` one of paths as the kernel writes them."""
        try:
            tokens = parse(text)
        except InputError as error:
            self.reader.fail(where, str(error))
        if (
            tokens
            and isinstance(place := tokens[0], Place)
            and not any(row.name == place.name for row in self.variables)
        ):
            self.reader.fail(where, f"there is no variable {place.name!r} in `variables`")
        if not absolute:
            return text
        if not text.startswith("/") and not (tokens and (tokens[0] == Class("home") or isinstance(tokens[0], Place))):
            self.reader.fail(where, f"{text[:200]!r} is not an absolute path")
        if text != "/" and not {"", ".", ".."}.isdisjoint(
            VARIABLE.sub("", text.removeprefix("{home}"), count=1).split("/")[1:]
        ):
            self.reader.fail(
                where, f"{text[:200]!r} is not a path as the kernel writes it: no //, /./, /../ and no / at the end"
            )
        if "\\x00" in text and any("\0" in getattr(token, "text", "") for token in tokens):
            self.reader.fail(where, "a path cannot hold a NUL")
        return text

    def patterns(self, value: Any, where: str, absolute: bool = True) -> tuple[str, ...]:
        return tuple(self.pattern(text, where, absolute) for text in self.reader.texts(value, where))

    def like(self, value: Any, where: str, shape: re.Pattern[str]) -> str:
        text = (
            str(value)
            if isinstance(value, int) and not isinstance(value, bool)
            else self.reader.typed(value, str, where)
        )
        if not shape.fullmatch(text):
            self.reader.fail(where, f"{text[:40]!r} cannot be")
        return text

    def because(self, data: Mapping[str, Any], where: str) -> Reasons:
        return because_of(self.reader, data, where)

    def variable(self, name: str, value: Any) -> Variable:
        where = f"variables.{name[:200]}"
        if not VARIABLE.fullmatch(f"{{@{name}}}"):
            self.reader.fail(
                where, "is not a name for a variable: mount_ or volume_, then at most 60 letters, digits and _"
            )
        data = self.reader.keys(value, where, ("paths",), ("because",))
        paths = []
        for text in self.reader.texts(data["paths"], f"{where}.paths"):
            path = path_of(self.pattern(text, f"{where}.paths"))
            if path is None or path == "/":
                self.reader.fail(
                    f"{where}.paths", f"{text[:200]!r} must be the path of a directory or file, without classes"
                )
            paths.append(path)
        if not paths:
            self.reader.fail(f"{where}.paths", "needs at least one")
        return Variable(name, tuple(sorted(set(paths))), self.because(data, where))

    def file(self, pattern: str, value: Any) -> FileRule:
        where = f"files.{pattern[:200]}"
        optional = ("kinds", "owner", "states", "whose", "existing", "programs", "because")
        data = self.reader.keys(value, where, ("access",), optional)
        states = self.reader.words(data["states"], f"{where}.states", FILE_STATES) if "states" in data else _STATES
        self.pattern(pattern, where, absolute="detached" not in states)
        access = self.reader.words(data["access"], f"{where}.access", _ACCESSES)
        if not access:
            self.reader.fail(f"{where}.access", "grants nothing: remove the rule")
        programs = self.programs.all
        if "programs" in data:
            given = self.patterns(data["programs"], f"{where}.programs", absolute=False)
            programs = tuple(map(self.programs.pattern, given))
        return FileRule(
            pattern=pattern,
            access=access,
            kinds=self.reader.words(data["kinds"], f"{where}.kinds", FILE_KINDS) if "kinds" in data else _KINDS,
            because=self.because(data, where),
            owner=self.reader.typed(data.get("owner", False), bool, f"{where}.owner"),
            programs=programs,
            existing=self.patterns(data.get("existing", []), f"{where}.existing", absolute=False),
            states=states,
            whose=self.reader.words(data["whose"], f"{where}.whose", WHOM) if "whose" in data else (),
        )

    def transition(self, value: Any, where: str) -> Transition:
        data = self.reader.keys(value, where, ("program",), ("by", START, "because"))
        if ("by" in data) == (START in data):
            self.reader.fail(where, "needs `by`, a program, or `start: true`")
        if START in data and data[START] is not True:
            self.reader.fail(f"{where}.{START}", "can only be true")
        program = self.pattern(
            self.reader.typed(data["program"], str, f"{where}.program"), f"{where}.program", absolute=False
        )
        by = (
            self.pattern(self.reader.typed(data["by"], str, f"{where}.by"), f"{where}.by", absolute=False)
            if "by" in data
            else None
        )
        return Transition(program, by, self.because(data, where))

    def socket(self, value: Any, where: str) -> SocketRule:
        data = self.reader.keys(
            value, where, ("family", "type", "protocol", "operations"), ("ports", "addresses", "because")
        )
        protocol = self.reader.typed(data["protocol"], int, f"{where}.protocol")
        if not -(1 << 31) <= protocol < 1 << 32:
            self.reader.fail(f"{where}.protocol", "is out of range")
        ports, addresses = {}, {}
        for word, items in self.reader.mapping(data.get("ports", {}), f"{where}.ports").items():
            found = [
                self.reader.number(item, f"{where}.ports") for item in self.reader.typed(items, list, f"{where}.ports")
            ]
            if any(port >= 1 << 32 for port in found):
                self.reader.fail(f"{where}.ports", "has a number that is not a port")
            ports[self.reader.word(word, f"{where}.ports", SOCKET_OPERATIONS)] = tuple(sorted(set(found)))
        for word, items in self.reader.mapping(data.get("addresses", {}), f"{where}.addresses").items():
            patterns = self.patterns(items, f"{where}.addresses", absolute=False)
            addresses[self.reader.word(word, f"{where}.addresses", SOCKET_OPERATIONS)] = tuple(sorted(set(patterns)))
        return SocketRule(
            family=self.like(data["family"], f"{where}.family", _SOCKET_NAME),
            type=self.like(data["type"], f"{where}.type", _SOCKET_NAME),
            protocol=protocol,
            operations=self.reader.words(data["operations"], f"{where}.operations", SOCKET_OPERATIONS),
            because=self.because(data, where),
            ports=tuple((word, ports[word]) for word in SOCKET_OPERATIONS if word in ports),
            addresses=tuple((word, addresses[word]) for word in SOCKET_OPERATIONS if word in addresses),
        )

    def signal(self, value: Any, where: str) -> SignalRule:
        data = self.reader.keys(value, where, ("signal", "whom"), ("because",))
        signal = self.like(data["signal"], f"{where}.signal", _SIGNAL)
        whom = self.reader.word(data["whom"], f"{where}.whom", SIGNAL_WHOM)
        return SignalRule(signal, whom, self.because(data, where))

    def inspection(self, value: Any, where: str) -> InspectionRule:
        data = self.reader.keys(value, where, ("operation", "whom"), ("because",))
        operation = self.reader.word(data["operation"], f"{where}.operation", INSPECTIONS)
        whom = self.reader.word(data["whom"], f"{where}.whom", WHOM)
        return InspectionRule(operation, whom, self.because(data, where))

    def mount(self, value: Any, where: str) -> MountRule:
        data = self.reader.keys(value, where, ("operation",), ("source", "target", "filesystem", "flags", "because"))

        def text(name: str) -> str | None:
            if name not in data:
                return None
            return self.pattern(
                self.reader.typed(data[name], str, f"{where}.{name}"), f"{where}.{name}", absolute=False
            )

        flags = tuple(
            self.like(flag, f"{where}.flags", _FLAG)
            for flag in self.reader.typed(data.get("flags", []), list, f"{where}.flags")
        )
        operation = self.like(data["operation"], f"{where}.operation", _WORD)
        return MountRule(
            operation,
            text("source"),
            text("target"),
            text("filesystem"),
            tuple(sorted(set(flags))),
            self.because(data, where),
        )


def read_uses(reader: Reader, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return members of Policy from these sections. Raises InputError."""
    read = _Uses(reader)

    def rows(name: str, one: Callable[[Any, str], Any]) -> tuple[Any, ...]:
        if name not in data:
            return ()
        if "files" not in data:
            reader.fail(name, "needs a section `files`: empty it if there are no rules for files")
        items = reader.typed(data[name], list, name)
        return tuple(one(item, f"{name}[{number}]") for number, item in enumerate(items))

    if "variables" in data:
        if "files" not in data:
            reader.fail("variables", "needs a section `files`: empty it if there are no rules for files")
        given = reader.mapping(data["variables"] or {}, "variables")
        read.variables = tuple(read.variable(name, given[name]) for name in sorted(given))
    namespaces = reader.keys(data.get("namespaces") or {}, "namespaces", (), ("user",))

    def reasons(value: Any, where: str) -> Reasons:
        return from_data(value or [], lambda what: reader.fail(where, f"{what}: say why it is allowed"))

    transitions = rows("executions", read.transition)
    read.programs = _Programs(
        sorted({name for row in transitions for name in (row.program, row.by) if name is not None})
    )
    found: dict[str, Any] = {
        "has_files": "files" in data,
        "variables": read.variables,
        "files": tuple(read.file(*item) for item in reader.mapping(data.get("files") or {}, "files").items()),
        "transitions": transitions,
        "sockets": rows("network", read.socket),
        "signals": rows("signals", read.signal),
        "inspections": rows("inspections", read.inspection),
        "mounts": rows("mounts", read.mount),
        "user_namespaces": reasons(namespaces.get("user"), "namespaces.user"),
        "io_uring": reasons(data.get("io_uring"), "io_uring"),
    }
    if read.variables:
        found |= {name: unfolded(found[name], read.variables) for name in WITH_PATHS}
        patterns = Counter(rule.pattern for rule in found["files"])
        for pattern, times in patterns.items():
            if times > 1:
                reader.fail(f"files.{pattern[:200]}", "is listed twice, once with a variable")
        found |= {name: in_order(name, found[name]) for name in KEYS}
    return found
