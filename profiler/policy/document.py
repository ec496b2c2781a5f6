"""``policy.yaml``: the policy as people read, review, edit and commit it. Written canonically, read strictly."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml

from profiler.errors import InputError
from profiler.kernel.abi import ABIS
from profiler.kernel.arguments import ArgumentSpec, parse, render, spec_for
from profiler.kernel.capabilities import number_of as capability_number
from profiler.kernel.errno import FIRST_INTERNAL
from profiler.kernel.errno import number_of as errno_number
from profiler.kernel.syscalls import known_names, number_of
from profiler.policy.model import (
    SCHEMA,
    SECTIONS,
    USES,
    Allowed,
    Capability,
    Condition,
    Policy,
    Refused,
    Rule,
    Unknown,
    Workload,
    capability_order,
)
from profiler.policy.resources import SECTIONS_OF_USES, Items, because_data, read_uses, uses_data
from profiler.policy.variables import written
from profiler.quoting.yaml import yaml as quoted
from profiler.trace.collection import no_collection
from profiler.trace.store import read_limited

T = TypeVar("T")

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_HEADER = """\
# What this workload may do, and why. Made by profgen from a recording; review it, edit it, commit it.
# `profgen generate policy.yaml` writes the profiles of container systems from it as it stands.
"""

_COMMENTS = {
    "workload": "What was recorded. An entry with `runs` was seen in that many of the runs, the others in all.",
    "abis": "ABIs with syscalls of their own: the native one, others only because they were seen.",
    "runtime": "The container runtimes whose own needs are in syscalls.base (measured sets: "
    "profiler/kernel/runtimes.yaml).",
    "capabilities": (
        "needed: granted at a check that settled a call. refused: asked for and not there. child_namespace: "
        "used only in a user\n"
        "# namespace of the workload's own making. checked: asked for at a check that settles nothing. Only "
        "`needed` is granted."
    ),
    "syscalls": (
        "observed: seen. equivalent: stands in for one that was seen under another libc or kernel. base: the "
        "container runtime's.\n"
        "# A call with `arguments` is allowed when one line fits: `only` means no flag outside it, `without` "
        "means none of these."
    ),
    "refused": "Answered with an error of their own; everything else that is not allowed gets the profile's default.",
    "unknown": "Syscall numbers without a name: they cannot be written in a profile that works by names.",
    "variables": (
        "Where volumes and directories of the host are mounted. {@name} at the start of a pattern is any of "
        "its paths: to move one, or to\n"
        "# have it at two places, change its line here."
    ),
    "files": (
        "needed: used, and all that is granted. missing: looked for and never there. refused: the kernel said no.\n"
        "# A pattern is a path with classes in braces: {pid}, {digits}, {name} (a name in this directory), "
        "{tree} (all below it),\n"
        "# and others in docs/policy.md. `opens` says what it grants beyond the `paths` that were seen.\n"
        "# owner: only files of the process's own user. Left out where it is the usual: kinds [file], states "
        "[linked], owner false."
    ),
    "executions": "Which program was executed by which; `start` is the workload's first.",
    "network": "Sockets by family, type and protocol number, with what was done with them.",
    "signals": "Signals sent: to the process itself, to others of the workload, outside it, or to a process group.",
    "inspections": "Other processes traced or read: ptrace(2) and its like, and what /proc/PID shows only to "
    "those who may trace.",
    "mounts": "Changes of the mount tree.",
    "namespaces": "User namespaces made or joined.",
    "io_uring": "Requests through io_uring are no syscalls: seccomp does not see them, and files used through "
    "them are not in this policy.",
}


LIMIT_BYTES = 16 << 20
EVENTS = 2_000_000
"""Scalars, starts and ends; a policy with every syscall has some 20 000, and 20 for each file."""
_KEY_MAX = 900
"""Longer keys stand on a line of their own: YAML takes 1 024 characters before a colon."""
DEPTH = 16
"""Collections within collections; a policy has nine at most."""

_WIDTH = 118
_UNNAMED = re.compile(r"CAP_[0-9]{1,3}\Z")
"""A capability newer than the list: kept for people, granted by no profile."""


def _lines(key: str, value: Any, indent: str) -> Iterator[str]:
    """One key of a block mapping: values that fit stand on its line, longer ones below it."""
    name = quoted(key)
    label = f"{indent}{name}:"
    if len(name) > _KEY_MAX:
        yield f"{indent}? {name}"
        label = f"{indent}:"
    if isinstance(value, Mapping):
        if not value:
            yield f"{label} {{}}"
            return
        yield label
        for inner, item in value.items():
            yield from _lines(inner, item, indent + "  ")
        return
    if isinstance(value, Items):
        yield label
        for item in value:
            start = "- "
            for inner, member in item.items():
                for line in _lines(inner, member, ""):
                    yield f"{indent}  {start}{line}"
                    start = "  "
        return
    line = f"{label} {_flow(value)}"
    if not isinstance(value, list) or (len(line) <= _WIDTH and not any(isinstance(item, Mapping) for item in value)):
        yield line
        return
    yield label
    for item in value:
        yield f"{indent}  - {_flow(item)}"


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{quoted(key)}: {_flow(item)}" for key, item in value.items()) + "}"
    return quoted(value)


def _section(key: str, value: Any) -> str:
    note = _COMMENTS.get(key)
    return (f"\n# {note}\n" if note else "") + "".join(line + "\n" for line in _lines(key, value, ""))


def _scalar(text: str) -> str | int:
    return int(text) if text.isdigit() else text


def _condition_data(name: str, spec: ArgumentSpec | None, condition: Condition, context: Sequence[int]) -> Any:
    field = condition.field
    if spec is not None and field in spec.fields:
        index = spec.fields.index(field)
        full = spec.masks[index]
        if spec.positions[index] == condition.position:
            if condition.mask == full:
                return _scalar(render(name, field, condition.value, context))
            if condition.value == 0 and condition.mask & ~full == 0:
                if spec.compares[index] == "subset":
                    return {"only": _scalar(render(name, field, full & ~condition.mask, context))}
                return {"without": _scalar(render(name, field, condition.mask, context))}
    return {"position": condition.position, "mask": condition.mask, "value": condition.value}


def _rule_data(name: str, abi: str, rule: Rule) -> dict[str, Any]:
    spec = spec_for(name, abi)
    data: dict[str, Any] = {}
    context: list[int] = []
    for condition in rule.conditions:
        data[condition.field] = _condition_data(name, spec, condition, context)
        context.append(condition.value)
    return data


def rule_text(name: str, abi: str, rule: Rule) -> str:
    """A rule as its line of ``arguments`` has it: ``{domain: AF_INET, type: SOCK_STREAM}``."""
    return _flow(_rule_data(name, abi, rule))


def _allowed_data(entry: Allowed) -> dict[str, Any]:
    data: dict[str, Any] = because_data(entry)
    if entry.stands_for:
        data["stands_for"] = list(entry.stands_for)
    if entry.failed:
        data["failed"] = list(entry.failed)
    if entry.rules:
        data["arguments"] = [_rule_data(entry.name, entry.abi, rule) for rule in entry.rules]
    return data


def dumps(policy: Policy) -> str:
    """The text of ``policy.yaml``: the same policy gives the same text."""
    policy = written(policy)
    native = policy.abis[0]

    def key(abi: str, name: str) -> str:
        return name if abi == native else f"{abi}:{name}"

    work = policy.workload
    workload: dict[str, Any] = {
        "argv": list(work.argv),
        "uid": work.uid,
        "runs": work.runs,
        "tracers": work.tracers,
        "kernel": work.kernel,
    }
    if work.incomplete:
        workload["incomplete"] = True
    workload |= {name: value for name, value in (("image", work.image), ("digest", work.digest)) if value is not None}
    if work.joined:
        workload["joined"] = list(work.joined)
    capabilities: dict[str, Any] = {}
    for use in USES:
        rows = sorted(
            (row for row in policy.capabilities if row.use == use), key=lambda row: capability_order(row.name)
        )
        capabilities[use] = {row.name: because_data(row) | ({"inferred": True} if row.inferred else {}) for row in rows}
    sections = {
        section: {key(entry.abi, entry.name): _allowed_data(entry) for entry in policy.entries(section)}
        for section in SECTIONS
    }
    parts = [
        _HEADER,
        _section("schema", SCHEMA),
        _section("workload", workload),
        _section("abis", list(policy.abis)),
        _section("no_new_privs", policy.no_new_privs),
        _section("runtime", policy.runtime),
        _section("capabilities", capabilities),
        _section("syscalls", sections),
        _section("refused", {row.name: {"errno": row.errno, "because": list(row.because)} for row in policy.refused}),
    ]
    if policy.unknown:
        unknown = {key(row.abi, str(row.number)): because_data(row) for row in policy.unknown}
        parts.append(_section("unknown", unknown))
    parts += [_section(name, value) for name, value in uses_data(policy).items()]
    return "".join(parts)


_WORKLOAD_LATER = ("incomplete", "image", "digest", "joined")
"""Members of `workload` that are there only if there is something to say."""


class _Refusal(yaml.YAMLError):
    """YAML that a policy does not use."""

    def __init__(self, problem: str, mark: Any) -> None:
        super().__init__(problem)
        self.problem, self.problem_mark = problem, mark


class _Strict(_Loader):  # type: ignore[misc]
    """Refuses a key given twice, which YAML readers otherwise settle in silence."""


def _mapping(loader: Any, node: Any, deep: bool = False) -> dict[Any, Any]:
    seen: set[str] = set()
    for key_node, _ in node.value:
        if key_node.value.__class__ is str:
            if key_node.value in seen:
                raise _Refusal(f"key {key_node.value!r} is given twice", key_node.start_mark)
            seen.add(key_node.value)
    result: dict[Any, Any] = _Loader.construct_mapping(loader, node, deep=True)
    return result


_Strict.add_constructor("tag:yaml.org,2002:map", _mapping)


def _check_nesting(data: bytes) -> None:
    """Refuse what no policy holds and what the C loader, which calls itself for each level, would crash on."""
    depth = 0
    for number, event in enumerate(yaml.parse(data, Loader=_Loader)):
        if number > EVENTS:
            raise _Refusal("too long for a policy", event.start_mark)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _Refusal("anchors and aliases are not used in a policy", event.start_mark)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEPTH:
            raise _Refusal("nested too deeply", event.start_mark)


class _Reader:
    """Checks shapes; every complaint names the file and the key."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.total = 0
        """Recordings behind the policy: no entry can have been seen in more."""

    def fail(self, where: str, what: str) -> NoReturn:
        raise InputError(f"{self.name}: {where}: {what}")

    def mapping(self, value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            self.fail(where, "must be a mapping")
        for key in value:
            if not isinstance(key, (str, int)) or isinstance(key, bool):
                self.fail(where, f"{key!r} cannot be a key here")
        return {str(key): item for key, item in value.items()}

    def keys(self, value: Any, where: str, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, Any]:
        data = self.mapping(value, where)
        for key in required:
            if key not in data:
                self.fail(where, f"{key!r} is missing")
        for key in data:
            if key not in required and key not in optional:
                self.fail(where, f"unknown key {key!r}")
        return data

    def typed(self, value: Any, kind: type[T], where: str) -> T:
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            words = {str: "text", int: "a number", bool: "true or false", list: "a list"}
            self.fail(where, f"must be {words.get(kind, kind.__name__)}")
        return value

    def texts(self, value: Any, where: str) -> tuple[str, ...]:
        return tuple(self.typed(item, str, where) for item in self.typed(value, list, where))

    def number(self, value: Any, where: str) -> int:
        number = self.typed(value, int, where)
        if not 0 <= number < 1 << 64:
            self.fail(where, f"{number} is out of range")
        return number

    def runs(self, data: Mapping[str, Any], where: str) -> int | None:
        if "runs" not in data:
            return None
        runs = self.number(data["runs"], f"{where}.runs")
        if not 0 < runs <= self.total:
            self.fail(f"{where}.runs", f"must be from 1 to the workload's runs, {self.total}")
        return runs if runs < self.total else None

    def subject(self, key: str, native: str, where: str) -> tuple[str, str]:
        abi, separator, name = key.partition(":")
        if not separator:
            return native, key
        if abi not in ABIS:
            self.fail(where, f"unknown ABI {abi!r}")
        return abi, name

    def condition(self, name: str, abi: str, field: str, value: Any, context: list[int], where: str) -> Condition:
        spec = spec_for(name, abi)
        if isinstance(value, dict) and "mask" in value:
            data = self.keys(value, where, ("position", "mask", "value"))
            position = self.number(data["position"], where)
            if position > 5:
                self.fail(where, "position must be 0 to 5")
            mask, wanted = self.number(data["mask"], where), self.number(data["value"], where)
            if wanted & ~mask:
                self.fail(where, "value has bits outside the mask, so it would never fit")
            return Condition(field, position, mask, wanted)
        if spec is None or field not in spec.fields or spec.pointer:
            self.fail(where, f"{name} has no argument {field!r} that can be filtered")
        index = spec.fields.index(field)
        position, full = spec.positions[index], spec.masks[index]

        def parsed(text: Any) -> int:
            if not isinstance(text, (str, int)) or isinstance(text, bool):
                self.fail(where, "must be a name or a number")
            try:
                return parse(name, field, text, context)
            except ValueError as error:
                self.fail(where, str(error))

        if isinstance(value, dict):
            if set(value) == {"only"}:
                mask = full & ~parsed(value["only"])
            elif set(value) == {"without"}:
                mask = parsed(value["without"]) & full
            else:
                self.fail(where, "must be a value, {only: flags}, {without: flags} or {position, mask, value}")
            if not mask:
                self.fail(where, "allows every value: leave it out")
            return Condition(field, position, mask, 0)
        number = parsed(value)
        if number & ~full:
            self.fail(where, f"{number:#x} has bits outside {full:#x}, so it would never fit")
        return Condition(field, position, full, number)

    def rule(self, name: str, abi: str, value: Any, where: str) -> Rule:
        data = self.mapping(value, where)
        if not data:
            self.fail(where, "an empty rule allows everything: leave `arguments` out")
        conditions: list[Condition] = []
        context: list[int] = []
        for field, item in data.items():
            condition = self.condition(name, abi, field, item, context, f"{where}.{field}")
            context.append(condition.value)
            conditions.append(condition)
        positions = [condition.position for condition in conditions]
        if len(set(positions)) != len(positions):
            self.fail(where, "two conditions on one argument: runtimes read them as alternatives")
        return Rule(tuple(sorted(conditions, key=lambda condition: condition.position)))

    def allowed(self, section: str, key: str, value: Any, native: str) -> Allowed:
        where = f"syscalls.{section}.{key}"
        abi, name = self.subject(key, native, where)
        if number_of(abi, name) is None:
            hint = "known, but not to this ABI" if name in known_names() else "check the spelling"
            self.fail(where, f"{abi} has no syscall {name!r} ({hint})")
        data = self.keys(value, where, ("because",), ("stands_for", "failed", "arguments", "runs"))
        rules: tuple[Rule, ...] = ()
        if "arguments" in data:
            rows = self.typed(data["arguments"], list, f"{where}.arguments")
            if not rows:
                self.fail(f"{where}.arguments", "no rule: leave it out to allow any arguments, or remove the syscall")
            rules = tuple(self.rule(name, abi, row, f"{where}.arguments") for row in rows)
        return Allowed(
            section=section,
            abi=abi,
            name=name,
            because=self.texts(data["because"], f"{where}.because"),
            rules=rules,
            stands_for=self.texts(data.get("stands_for", []), f"{where}.stands_for"),
            failed=self.texts(data.get("failed", []), f"{where}.failed"),
            runs=self.runs(data, where),
        )

    def policy(self, value: Any) -> Policy:
        top = ("schema", "workload", "abis", "no_new_privs", "runtime", "capabilities", "syscalls", "refused")
        schema = value.get("schema") if isinstance(value, dict) else None
        if isinstance(schema, str) and schema.startswith("profgen.trace/"):
            raise InputError(f"{self.name} is a trace: make a policy of it first: profgen generate {self.name} -o DIR")
        if schema != SCHEMA:
            found = f"it says {schema!r}" if isinstance(schema, str) and len(schema) < 80 else "it has no schema"
            raise InputError(f"{self.name}: no policy that this profgen can read: {found}, expected {SCHEMA!r}")
        data = self.keys(value, "policy", top, ("unknown", *SECTIONS_OF_USES))
        work = self.keys(data["workload"], "workload", ("argv", "uid", "runs", "tracers", "kernel"), _WORKLOAD_LATER)
        self.total = self.number(work["runs"], "workload.runs")
        abis = self.texts(data["abis"], "abis")
        if not abis or len(set(abis)) != len(abis):
            self.fail("abis", "must name at least one ABI, each once")
        for abi in abis:
            if abi not in ABIS:
                self.fail("abis", f"unknown ABI {abi!r}: one of {', '.join(ABIS)}")
        native = abis[0]
        sections = self.keys(data["syscalls"], "syscalls", (), SECTIONS)
        entries = [
            self.allowed(section, key, item, native)
            for section in SECTIONS
            for key, item in self.mapping(sections.get(section) or {}, f"syscalls.{section}").items()
        ]
        for entry in entries:
            if entry.abi not in abis:
                self.fail(f"syscalls.{entry.section}.{entry.abi}:{entry.name}", f"{entry.abi} is not among the abis")
        return Policy(
            workload=Workload(
                argv=self.texts(work["argv"], "workload.argv"),
                uid=self.number(work["uid"], "workload.uid"),
                runs=self.total,
                tracers=self.typed(work["tracers"], str, "workload.tracers"),
                kernel=self.typed(work["kernel"], str, "workload.kernel"),
                incomplete=self.typed(work.get("incomplete", False), bool, "workload.incomplete"),
                image=self.typed(work["image"], str, "workload.image") if "image" in work else None,
                digest=self.typed(work["digest"], str, "workload.digest") if "digest" in work else None,
                joined=self.texts(work.get("joined", []), "workload.joined"),
            ),
            abis=abis,
            no_new_privs=self.typed(data["no_new_privs"], bool, "no_new_privs"),
            runtime=self.typed(data["runtime"], str, "runtime"),
            syscalls=tuple(entries),
            refused=self.refused(data["refused"], entries),
            unknown=self.unknown(data.get("unknown") or {}, native),
            capabilities=self.capabilities(data["capabilities"]),
            **read_uses(self, data),
        )

    def refused(self, value: Any, entries: list[Allowed]) -> tuple[Refused, ...]:
        rows = []
        allowed = {entry.name for entry in entries}
        for name, item in self.mapping(value or {}, "refused").items():
            where = f"refused.{name}"
            if name not in known_names():
                self.fail(where, f"no syscall {name!r} (check the spelling)")
            if name in allowed:
                self.fail(where, "is allowed as well: remove one of the two")
            data = self.keys(item, where, ("errno", "because"))
            errno = self.typed(data["errno"], str, f"{where}.errno")
            if not 0 < (errno_number(errno) or 0) < FIRST_INTERNAL:
                self.fail(f"{where}.errno", f"unknown error {errno!r}")
            rows.append(Refused(name, errno, self.texts(data["because"], f"{where}.because")))
        return tuple(rows)

    def unknown(self, value: Any, native: str) -> tuple[Unknown, ...]:
        rows = []
        for key, item in self.mapping(value, "unknown").items():
            where = f"unknown.{key}"
            abi, number = self.subject(key, native, where)
            if not number.isdigit():
                self.fail(where, f"{number!r} is no syscall number")
            data = self.keys(item, where, ("because",), ("runs",))
            rows.append(
                Unknown(abi, int(number), self.texts(data["because"], f"{where}.because"), self.runs(data, where))
            )
        return tuple(rows)

    def capabilities(self, value: Any) -> tuple[Capability, ...]:
        rows: list[Capability] = []
        for use, names in self.keys(value, "capabilities", (), USES).items():
            for name, item in self.mapping(names or {}, f"capabilities.{use}").items():
                where = f"capabilities.{use}.{name}"
                if capability_number(name) is None and not _UNNAMED.match(name):
                    self.fail(where, f"unknown capability {name!r}")
                if any(row.name == name for row in rows):
                    self.fail(where, "is listed under another use as well")
                data = self.keys(item, where, ("because",), ("inferred", "runs"))
                inferred = self.typed(data.get("inferred", False), bool, f"{where}.inferred")
                rows.append(
                    Capability(
                        name, use, self.texts(data["because"], f"{where}.because"), inferred, self.runs(data, where)
                    )
                )
        return tuple(rows)


@no_collection()
def loads(data: bytes, name: str) -> Policy:
    """Parse and check the bytes of a ``policy.yaml``. Raises InputError with one line that names ``name`` and the
    key."""
    if len(data) > LIMIT_BYTES:
        raise InputError(f"{name}: larger than {LIMIT_BYTES >> 20} MiB, so no policy")
    try:
        _check_nesting(data)
        value = yaml.load(data, Loader=_Strict)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "not YAML"
        where = f" (line {mark.line + 1})" if mark else ""
        raise InputError(f"{name}: cannot be read as YAML: {problem}{where}") from error
    except (ValueError, RecursionError, TypeError) as error:
        raise InputError(f"{name}: cannot be read as YAML: {error.__class__.__name__}") from error
    return _Reader(name).policy(value)


def read_policy(path: str | Path) -> Policy:
    """Read and check a policy. Raises InputError."""
    return loads(read_limited(path), str(path))
