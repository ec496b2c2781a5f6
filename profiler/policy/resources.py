"""The sections of ``policy.yaml`` on files, programs, sockets, signals, processes and mounts: as plain data, and read
from it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from profiler.errors import InputError
from profiler.policy.merge_resources import KEYS, in_order
from profiler.policy.model import (
    FILE_USES,
    FileRule,
    InspectionRule,
    MountRule,
    Policy,
    SignalRule,
    SocketRule,
    Transition,
    Variable,
)
from profiler.policy.patterns import VARIABLE, Class, Place, is_literal, literal, parse, path_of
from profiler.policy.variables import SECTIONS as WITH_PATHS
from profiler.policy.variables import unfolded
from profiler.quoting.text import printable
from profiler.trace.model import (
    FILE_ACCESSES,
    FILE_KINDS,
    FILE_STATES,
    INSPECTIONS,
    SIGNAL_WHOM,
    SOCKET_OPERATIONS,
    WHOM,
)

if TYPE_CHECKING:
    from profiler.policy.document import _Reader

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
_SOCKET_NAME = re.compile(r"[a-z][a-z0-9_]*|-?[0-9]{1,10}", re.ASCII)
_SIGNAL = re.compile(r"[A-Z][A-Z0-9]*(\+[0-9]{1,2})?|-?[0-9]{1,10}", re.ASCII)
"""Names and numbers as in a trace (profiler/trace/store.py)."""
START = "start"
"""In place of ``by``: the program is the workload's first."""


class Items(list[dict[str, Any]]):
    """A list of which each member is written on lines of its own."""


class _Entry(Protocol):
    @property
    def because(self) -> tuple[str, ...]: ...
    @property
    def runs(self) -> int | None: ...


def because_data(entry: _Entry) -> dict[str, Any]:
    """What every entry has: its reasons and, where it is said, in how many of the recordings it was seen."""
    return {"because": list(entry.because)} | ({} if entry.runs is None else {"runs": entry.runs})


def _file_data(rule: FileRule) -> dict[str, Any]:
    data: dict[str, Any] = {"access": list(rule.access)} | because_data(rule)
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
    if rule.programs:
        data["programs"] = list(rule.programs)
    if rule.opens:
        data["opens"] = rule.opens
    if rule.seen != 1 or rule.paths:
        data["seen"] = rule.seen
    if rule.paths:
        data["paths"] = list(rule.paths)
    return data


def _transition_data(row: Transition) -> dict[str, Any]:
    by = {START: True} if row.by is None else {"by": row.by}
    return {"program": row.program, **by} | because_data(row)


def _socket_data(row: SocketRule) -> dict[str, Any]:
    data: dict[str, Any] = {
        "family": row.family,
        "type": row.type,
        "protocol": row.protocol,
        "operations": list(row.operations),
    }
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
    """The sections, in the order in which they are written."""
    data: dict[str, Any] = {}
    if policy.variables:
        data["variables"] = {
            row.name: {"paths": list(map(literal, row.paths)), "because": list(row.because)} for row in policy.variables
        }
    if policy.has_files:
        data["files"] = {
            use: {
                rule.pattern: _file_data(rule)
                for rule in sorted(policy.files, key=lambda rule: rule.pattern)
                if rule.use == use
            }
            for use in FILE_USES
        }
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
        data["namespaces"] = {"user": list(policy.user_namespaces)}
    if policy.io_uring:
        data["io_uring"] = list(policy.io_uring)
    return data


class _Uses:
    """Reads the sections with the checks of the policy's reader."""

    def __init__(self, reader: _Reader) -> None:
        self.reader = reader
        self.variables: tuple[Variable, ...] = ()

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
            self.reader.fail(where, f"{text[:200]!r} is no absolute path")
        if text != "/" and not {"", ".", ".."}.isdisjoint(
            VARIABLE.sub("", text.removeprefix("{home}"), count=1).split("/")[1:]
        ):
            self.reader.fail(
                where, f"{text[:200]!r} is no path as the kernel writes it: no //, /./, /../ and no / at the end"
            )
        if "\\x00" in text and any("\0" in getattr(token, "text", "") for token in tokens):
            self.reader.fail(where, "no path holds a NUL")
        return text

    def patterns(self, value: Any, where: str, absolute: bool = True) -> tuple[str, ...]:
        return tuple(self.pattern(text, where, absolute) for text in self.reader.texts(value, where))

    def words(self, value: Any, where: str, known: Sequence[str]) -> tuple[str, ...]:
        """Known words, each once; given back in the order of ``known``."""
        found = self.reader.texts(value, where)
        for word in found:
            if word not in known:
                self.reader.fail(where, f"unknown word {word[:40]!r}: one of {', '.join(known)}")
        if len(set(found)) != len(found):
            self.reader.fail(where, "names a word twice")
        return tuple(word for word in known if word in found)

    def word(self, value: Any, where: str, known: Collection[str]) -> str:
        text = self.reader.typed(value, str, where)
        if text not in known:
            self.reader.fail(where, f"unknown word {text[:40]!r}: one of {', '.join(known)}")
        return text

    def like(self, value: Any, where: str, shape: re.Pattern[str]) -> str:
        text = (
            str(value)
            if isinstance(value, int) and not isinstance(value, bool)
            else self.reader.typed(value, str, where)
        )
        if not shape.fullmatch(text):
            self.reader.fail(where, f"{text[:40]!r} cannot be")
        return text

    def because(self, data: Mapping[str, Any], where: str) -> tuple[str, ...]:
        return self.reader.texts(data["because"], f"{where}.because")

    def variable(self, name: str, value: Any) -> Variable:
        where = f"variables.{printable(name)[:200]}"
        if not VARIABLE.fullmatch(f"{{@{name}}}"):
            self.reader.fail(
                where, "is no name for a variable: mount_ or volume_, and 60 letters, digits and _ at most"
            )
        data = self.reader.keys(value, where, ("paths", "because"))
        paths = []
        for text in self.reader.texts(data["paths"], f"{where}.paths"):
            path = path_of(self.pattern(text, f"{where}.paths"))
            if path is None or path == "/":
                self.reader.fail(
                    f"{where}.paths", f"{text[:200]!r} must be the path of a directory or file, without classes"
                )
            paths.append(path)
        if not paths:
            self.reader.fail(f"{where}.paths", "needs one at least")
        return Variable(name, tuple(sorted(set(paths))), self.because(data, where))

    def file(self, use: str, pattern: str, value: Any) -> FileRule:
        where = f"files.{use}.{printable(pattern)[:200]}"
        optional = ("kinds", "owner", "states", "whose", "existing", "programs", "opens", "seen", "paths", "runs")
        data = self.reader.keys(value, where, ("access", "because"), optional)
        states = self.words(data["states"], f"{where}.states", FILE_STATES) if "states" in data else _STATES
        self.pattern(pattern, where, absolute="detached" not in states)
        access = self.words(data["access"], f"{where}.access", _ACCESSES)
        if use == "needed" and not access:
            self.reader.fail(f"{where}.access", "grants nothing: remove the rule")
        paths = self.patterns(data.get("paths", []), f"{where}.paths", absolute=False)
        if not all(map(is_literal, paths)):
            self.reader.fail(f"{where}.paths", "must be paths that were seen, without classes")
        return FileRule(
            pattern=pattern,
            use=use,
            access=access,
            kinds=self.words(data["kinds"], f"{where}.kinds", FILE_KINDS) if "kinds" in data else _KINDS,
            because=self.because(data, where),
            owner=self.reader.typed(data.get("owner", False), bool, f"{where}.owner"),
            seen=self.reader.number(data.get("seen", 1), f"{where}.seen"),
            paths=paths,
            opens=self.reader.typed(data.get("opens", ""), str, f"{where}.opens"),
            programs=self.patterns(data.get("programs", []), f"{where}.programs", absolute=False),
            existing=self.patterns(data.get("existing", []), f"{where}.existing", absolute=False),
            states=states,
            whose=self.words(data["whose"], f"{where}.whose", WHOM) if "whose" in data else (),
            runs=self.reader.runs(data, where),
        )

    def files(self, value: Any) -> tuple[FileRule, ...]:
        sections = self.reader.keys(value, "files", (), FILE_USES)
        rules: list[FileRule] = []
        seen: dict[str, str] = {}
        for use in FILE_USES:
            for pattern, item in self.reader.mapping(sections.get(use) or {}, f"files.{use}").items():
                if pattern in seen:
                    self.reader.fail(
                        f"files.{use}.{printable(pattern)[:200]}", f"is listed under {seen[pattern]} as well"
                    )
                seen[pattern] = use
                rules.append(self.file(use, pattern, item))
        return tuple(rules)

    def transition(self, value: Any, where: str) -> Transition:
        data = self.reader.keys(value, where, ("program", "because"), ("by", START, "runs"))
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
        return Transition(program, by, self.because(data, where), self.reader.runs(data, where))

    def socket(self, value: Any, where: str) -> SocketRule:
        data = self.reader.keys(
            value, where, ("family", "type", "protocol", "operations", "because"), ("ports", "addresses", "runs")
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
                self.reader.fail(f"{where}.ports", "has a number that is no port")
            ports[self.word(word, f"{where}.ports", SOCKET_OPERATIONS)] = tuple(sorted(set(found)))
        for word, items in self.reader.mapping(data.get("addresses", {}), f"{where}.addresses").items():
            patterns = self.patterns(items, f"{where}.addresses", absolute=False)
            addresses[self.word(word, f"{where}.addresses", SOCKET_OPERATIONS)] = tuple(sorted(set(patterns)))
        return SocketRule(
            family=self.like(data["family"], f"{where}.family", _SOCKET_NAME),
            type=self.like(data["type"], f"{where}.type", _SOCKET_NAME),
            protocol=protocol,
            operations=self.words(data["operations"], f"{where}.operations", SOCKET_OPERATIONS),
            because=self.because(data, where),
            ports=tuple((word, ports[word]) for word in SOCKET_OPERATIONS if word in ports),
            addresses=tuple((word, addresses[word]) for word in SOCKET_OPERATIONS if word in addresses),
            runs=self.reader.runs(data, where),
        )

    def signal(self, value: Any, where: str) -> SignalRule:
        data = self.reader.keys(value, where, ("signal", "whom", "because"), ("runs",))
        signal = self.like(data["signal"], f"{where}.signal", _SIGNAL)
        whom = self.word(data["whom"], f"{where}.whom", SIGNAL_WHOM)
        return SignalRule(signal, whom, self.because(data, where), self.reader.runs(data, where))

    def inspection(self, value: Any, where: str) -> InspectionRule:
        data = self.reader.keys(value, where, ("operation", "whom", "because"), ("runs",))
        operation = self.word(data["operation"], f"{where}.operation", INSPECTIONS)
        whom = self.word(data["whom"], f"{where}.whom", WHOM)
        return InspectionRule(operation, whom, self.because(data, where), self.reader.runs(data, where))

    def mount(self, value: Any, where: str) -> MountRule:
        data = self.reader.keys(
            value, where, ("operation", "because"), ("source", "target", "filesystem", "flags", "runs")
        )

        def text(name: str) -> str | None:
            if name not in data:
                return None
            return self.pattern(
                self.reader.typed(data[name], str, f"{where}.{name}"), f"{where}.{name}", absolute=False
            )

        flags = tuple(
            self.like(flag, f"{where}.flags", _WORD)
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
            self.reader.runs(data, where),
        )


def read_uses(reader: _Reader, data: Mapping[str, Any]) -> dict[str, Any]:
    """Members of Policy from these sections. Raises InputError."""
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
    found: dict[str, Any] = {
        "has_files": "files" in data,
        "variables": read.variables,
        "files": read.files(data["files"] or {}) if "files" in data else (),
        "transitions": rows("executions", read.transition),
        "sockets": rows("network", read.socket),
        "signals": rows("signals", read.signal),
        "inspections": rows("inspections", read.inspection),
        "mounts": rows("mounts", read.mount),
        "user_namespaces": reader.texts(namespaces.get("user", []), "namespaces.user"),
        "io_uring": reader.texts(data.get("io_uring") or [], "io_uring"),
    }
    if read.variables:
        found |= {name: unfolded(found[name], read.variables) for name in WITH_PATHS}
        seen: set[str] = set()
        for rule in found["files"]:
            if rule.pattern in seen:
                reader.fail(
                    f"files.{rule.use}.{printable(rule.pattern)[:200]}", "is listed twice, once with a variable"
                )
            seen.add(rule.pattern)
        found |= {name: in_order(name, found[name]) for name in KEYS}
    return found
