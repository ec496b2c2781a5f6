"""``policy.yaml``: the policy as people read, review, edit and commit it. Written canonically, read strictly."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from errno import errorcode
from pathlib import Path
from typing import Any

from profiler.errors import InputError
from profiler.kernel.abi import ABIS
from profiler.kernel.arguments import ArgumentSpec, parse, render, spec_for
from profiler.kernel.capabilities import CAPABILITIES
from profiler.kernel.capabilities import number_of as capability_number
from profiler.kernel.errno import FIRST_INTERNAL
from profiler.kernel.errno import number_of as errno_number
from profiler.kernel.syscalls import known_names, names_of, number_of
from profiler.policy import launch
from profiler.policy.head import head, is_outdated
from profiler.policy.layout import WIDTH, Items, Section, flow, lines
from profiler.policy.model import (
    SCHEMA,
    SECTIONS,
    Allowed,
    Capability,
    Condition,
    Policy,
    Refused,
    Rule,
    Unknown,
    Variable,
    Workload,
    capability_order,
)
from profiler.policy.resources import SECTIONS_OF_USES, because_data, because_of, read_uses, uses_data
from profiler.policy.strict import Reader, load
from profiler.policy.variables import written
from profiler.trace.collection import no_collection
from profiler.trace.store import read_limited
from profiler.wording import suggestion

COMMENTS = {
    "workload": "What was recorded.",
    "runtime": "The container runtimes whose own syscalls are in syscalls.base.",
    "syscalls": "observed: seen. equivalent: used instead elsewhere. companion: comes by timing. base: of the runtime.",
    "refused": "Answered with an error of their own. All else that is not listed gets the profile's default.",
    "unknown": "Syscall numbers without a name: no profile can hold them.",
    "variables": "Where volumes and directories of the host are mounted. To move one, change its line.",
    "files": "Paths. Words in braces, such as {name}, {tree}, {version} and {home}, are classes: docs/policy.md#files.",
    "executions": "Which program executes which. start: the workload's first.",
    "network": "Sockets by family, type and protocol number.",
    "signals": "Signals sent, and to whom.",
    "inspections": "Other processes traced or read.",
    "mounts": "Changes of the mount tree.",
    "namespaces": "User namespaces are made or joined.",
    "io_uring": "seccomp does not see requests through io_uring; files used only through them are not listed here.",
}

_UNNAMED = re.compile(r"CAP_[0-9]{1,3}\Z")
"""A capability newer than the list: kept for people, granted by no profile."""


def _section(key: str, value: Any) -> Iterator[str]:
    if key in COMMENTS:
        yield f"\n# {COMMENTS[key]}"
    yield from lines(key, value)


def _scalar(text: str) -> str | int:
    return int(text) if text.isdigit() else text


def _condition_data(name: str, spec: ArgumentSpec | None, condition: Condition, context: Sequence[int]) -> Any:
    field = condition.field
    if spec is not None and field in spec.fields:
        index = spec.fields.index(field)
        full = spec.compared[index]
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
    return flow(_rule_data(name, abi, rule))


def _allowed_data(entry: Allowed) -> dict[str, Any]:
    data: dict[str, Any] = {"stands_for": list(entry.stands_for)} if entry.stands_for else {}
    if entry.rules:
        data["arguments"] = [_rule_data(entry.name, entry.abi, rule) for rule in entry.rules]
    return data | because_data(entry)


def _entries_data(section: str, entries: Mapping[str, Any]) -> Section:
    """Return the entries of one list of syscalls. Companions for one reason share a key, ``poll, select``."""
    if section != "companion":
        return Section(entries)
    alike: dict[str, list[str]] = {}
    for key, data in entries.items():
        alike.setdefault(flow(data), []).append(key)
    return Section(
        {
            line.rstrip(","): entries[keys[0]]
            for keys in alike.values()
            for line in textwrap.wrap(", ".join(keys), WIDTH - 10, break_long_words=False, break_on_hyphens=False)
        }
    )


def _workload_data(work: Workload, variables: Sequence[Variable]) -> dict[str, Any]:
    data: dict[str, Any] = {"argv": list(work.argv), "uid": work.uid}
    data |= {name: True for name in ("incomplete", "denials_only") if getattr(work, name)}
    data |= {name: value for name, value in (("image", work.image), ("digest", work.digest)) if value is not None}
    data |= {"joined": list(work.joined)} if work.joined else {}
    return data | ({"launch": started} if (started := launch.data(work.launch, variables)) else {})


def _data(policy: Policy) -> dict[str, Any]:
    """Return the sections as plain data. ``policy``: with variables in its rows."""
    native = policy.abis[0]

    def key(abi: str, name: str) -> str:
        return name if abi == native else f"{abi}:{name}"

    capabilities = sorted(policy.capabilities, key=lambda row: capability_order(row.name))
    data: dict[str, Any] = {
        "schema": SCHEMA,
        "workload": _workload_data(policy.workload, policy.variables),
        "abis": list(policy.abis),
        "no_new_privs": policy.no_new_privs,
        "runtime": policy.runtime,
        "capabilities": Section({row.name: because_data(row) for row in capabilities}),
        "syscalls": Section(
            {
                section: _entries_data(section, {key(row.abi, row.name): _allowed_data(row) for row in rows})
                for section in SECTIONS
                if (rows := policy.entries(section))
            }
        ),
        "refused": Section({row.name: {"errno": row.errno} | because_data(row) for row in policy.refused}),
    }
    if policy.unknown:
        data["unknown"] = Section({key(row.abi, str(row.number)): because_data(row) for row in policy.unknown})
    return data | uses_data(policy)


def dumps(policy: Policy) -> str:
    """Return the text of ``policy.yaml``, without a digest: the same policy gives the same text."""
    policy = written(policy)
    sections = _data(policy).items()
    return head(policy) + "".join(f"{line}\n" for name, value in sections for line in _section(name, value))


def head_is_outdated(data: bytes, policy: Policy) -> bool:
    """Return whether the comments at the top of a policy's file say something else than its entries, ``policy``."""
    return is_outdated(data.decode("utf-8", "replace"), head(written(policy)))


def lines_for(old: Policy, new: Policy) -> list[str]:
    """Return the entries that ``new`` has and ``old`` does not have, as lines that can be put into the text of ``old``:
    each below the keys of its section."""
    return list(_changed(_data(written(old)), _data(written(new)), ""))


def _changed(old: Mapping[str, Any], new: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, value in new.items():
        before = old.get(key)
        if value == before:
            continue
        if isinstance(value, Section):
            yield f"{indent}{key}:"
            yield from _changed(before or {}, value, indent + "  ")
        elif isinstance(value, Items):
            yield from lines(key, Items(item for item in value if item not in (before or ())), indent)
        else:
            yield from lines(key, value, indent)


class _Reader(Reader):
    """Reads the sections that every policy has."""

    def subject(self, key: str, native: str, where: str) -> tuple[str, str]:
        abi, separator, name = key.partition(":")
        if not separator:
            return native, key
        if abi not in ABIS:
            self.fail(where, f"unknown ABI {abi!r}{suggestion(abi, ABIS)}: one of {', '.join(ABIS)}")
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
        position, full = spec.positions[index], spec.compared[index]

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
                mask = parsed(value["without"]) & spec.masks[index]
            else:
                self.fail(where, "must be a value, {only: flags}, {without: flags} or {position, mask, value}")
            if not mask:
                self.fail(where, "allows every value: leave it out")
            return Condition(field, position, mask, 0)
        number = parsed(value)
        if number & ~spec.masks[index]:
            self.fail(where, f"{number:#x} has bits outside {spec.masks[index]:#x}, so it would never fit")
        return Condition(field, position, full, number & full)

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
            hint = " (known, but not to this ABI)" if name in known_names() else suggestion(name, names_of(abi))
            self.fail(where, f"{abi} has no syscall {name!r}{hint}")
        data = self.keys({} if value is None else value, where, (), ("stands_for", "arguments", "because"))
        rules: tuple[Rule, ...] = ()
        if "arguments" in data:
            rows = self.typed(data["arguments"], list, f"{where}.arguments")
            if not rows:
                self.fail(f"{where}.arguments", "no rule: leave it out to allow any arguments, or remove the syscall")
            rules = tuple(self.rule(name, abi, row, f"{where}.arguments") for row in rows)
        stands_for = self.texts(data.get("stands_for", []), f"{where}.stands_for")
        return Allowed(section, abi, name, because_of(self, data, where), rules, stands_for)

    def workload(self, value: Any, variables: Sequence[Variable]) -> Workload:
        data = self.keys(
            value, "workload", ("argv", "uid"), ("incomplete", "denials_only", "image", "digest", "joined", "launch")
        )
        return Workload(
            argv=self.texts(data["argv"], "workload.argv"),
            uid=self.number(data["uid"], "workload.uid"),
            incomplete=self.typed(data.get("incomplete", False), bool, "workload.incomplete"),
            image=self.typed(data["image"], str, "workload.image") if "image" in data else None,
            digest=self.typed(data["digest"], str, "workload.digest") if "digest" in data else None,
            joined=self.texts(data.get("joined", []), "workload.joined"),
            denials_only=self.typed(data.get("denials_only", False), bool, "workload.denials_only"),
            launch=launch.read(self, data.get("launch", {}), "workload.launch", variables),
        )

    def abis(self, value: Any) -> tuple[str, ...]:
        abis = self.texts(value, "abis")
        if not abis or len(set(abis)) != len(abis):
            self.fail("abis", "must name at least one ABI, each once")
        for abi in abis:
            if abi not in ABIS:
                self.fail("abis", f"unknown ABI {abi!r}{suggestion(abi, ABIS)}: one of {', '.join(ABIS)}")
        return abis

    def entries(self, section: str, value: object) -> list[tuple[str, Any]]:
        """Return the entries of one list of syscalls; companions one by one, in the order of their names."""
        found = self.mapping(value, f"syscalls.{section}")
        if section != "companion":
            return list(found.items())
        single = [(key, item) for keys, item in found.items() for key in keys.split(", ")]
        return sorted(single, key=lambda entry: (":" in entry[0], entry[0]))  # the native ABI's have no prefix

    def policy(self, value: Any) -> Policy:
        top = ("schema", "workload", "abis", "no_new_privs", "runtime", "capabilities", "syscalls", "refused")
        schema = value.get("schema") if isinstance(value, dict) else None
        if isinstance(schema, str) and schema.startswith("profgen.trace/"):
            raise InputError(f"{self.name} is a trace: make a policy of it first: profgen generate {self.name}")
        if schema != SCHEMA:
            found = f"it says {schema!r}" if isinstance(schema, str) and len(schema) < 80 else "it has no schema"
            raise InputError(f"{self.name} is not a policy that this profgen can read: {found}, expected {SCHEMA!r}")
        data = self.keys(value, "policy", top, ("unknown", *SECTIONS_OF_USES))
        abis = self.abis(data["abis"])
        sections = self.keys(data["syscalls"] or {}, "syscalls", (), SECTIONS)
        entries = tuple(
            self.allowed(section, key, item, abis[0])
            for section in SECTIONS
            for key, item in self.entries(section, sections.get(section) or {})
        )
        if len({(entry.section, entry.abi, entry.name) for entry in entries}) < len(entries):
            self.fail("syscalls.companion", "a name is there twice")
        for entry in entries:
            if entry.abi not in abis:
                self.fail(f"syscalls.{entry.section}.{entry.abi}:{entry.name}", f"{entry.abi} is not among the abis")
        uses = read_uses(self, data)
        return Policy(
            workload=self.workload(data["workload"], uses.get("variables", ())),
            abis=abis,
            no_new_privs=self.typed(data["no_new_privs"], bool, "no_new_privs"),
            runtime=self.typed(data["runtime"], str, "runtime"),
            syscalls=entries,
            refused=self.refused(data["refused"], entries),
            unknown=self.unknown(data.get("unknown") or {}, abis[0]),
            capabilities=self.capabilities(data["capabilities"] or {}),
            **uses,
        )

    def refused(self, value: Any, entries: Sequence[Allowed]) -> tuple[Refused, ...]:
        rows = []
        allowed = {entry.name for entry in entries}
        for name, item in self.mapping(value or {}, "refused").items():
            where = f"refused.{name}"
            if name not in known_names():
                self.fail(where, f"no syscall {name!r}{suggestion(name, known_names())}")
            if name in allowed:
                self.fail(where, "is allowed as well: remove one of the two")
            data = self.keys(item, where, ("errno",), ("because",))
            errno = self.typed(data["errno"], str, f"{where}.errno")
            if not 0 < (errno_number(errno) or 0) < FIRST_INTERNAL:
                self.fail(f"{where}.errno", f"unknown error {errno!r}{suggestion(errno, errorcode.values())}")
            rows.append(Refused(name, errno, because_of(self, data, where)))
        return tuple(rows)

    def unknown(self, value: Any, native: str) -> tuple[Unknown, ...]:
        rows = []
        for key, item in self.mapping(value, "unknown").items():
            where = f"unknown.{key}"
            abi, number = self.subject(key, native, where)
            if not number.isdigit():
                self.fail(where, f"{number!r} is not a syscall number")
            data = self.keys({} if item is None else item, where, (), ("because",))
            rows.append(Unknown(abi, int(number), because_of(self, data, where)))
        return tuple(rows)

    def capabilities(self, value: Any) -> tuple[Capability, ...]:
        rows: list[Capability] = []
        for name, item in self.mapping(value, "capabilities").items():
            where = f"capabilities.{name}"
            if capability_number(name) is None and not _UNNAMED.match(name):
                self.fail(where, f"unknown capability {name!r}{suggestion(name.upper(), CAPABILITIES)}")
            data = self.keys({} if item is None else item, where, (), ("because",))
            rows.append(Capability(name, because_of(self, data, where)))
        return tuple(rows)


@no_collection()
def loads(data: bytes, name: str) -> Policy:
    """Parse and check the bytes of a ``policy.yaml``. Raises InputError with one line that names ``name`` and the
    key."""
    return _Reader(name).policy(load(data, name))


def read_policy(path: str | Path) -> Policy:
    """Read and check a policy. Raises InputError."""
    return loads(read_limited(path), str(path))
