"""Read profiles from elsewhere: seccomp JSON of Docker and OCI, OCI config.json, SeccompProfile.

They are read as the runtimes read them (runc's libcontainer/seccomp, moby's profiles/seccomp), which is not always what
they seem to say:

- Rules of one syscall are alternatives. The conditions of one rule must all hold, on different arguments. If an
  argument comes twice, runc and crun make each condition a rule, and so does this reader.
- A rule without conditions overrides those with conditions, and the first of several such rules applies (libseccomp,
  src/db.c). A rule with the default action is ignored. Where two rules with conditions contradict each other,
  libseccomp's choice is not documented. The more permissive reading is taken, here and wherever something is unclear:
  it is better to report a right twice than to miss it.
- SCMP_ACT_LOG allows. SCMP_ACT_NOTIFY leaves the call to a program that is not in the file; it counts as allowed, with
  a note. TRACE is refused if no tracer is attached, so it counts as refused. ERRNO with 0 does nothing and returns
  success: refused.
- The native ABI is always filtered, listed or not. Calls of ABIs that are not listed are killed, whatever the default
  action.
- `includes` and `excludes` are Docker's. In a seccomp JSON they are resolved for one machine: `arches` for its native
  ABI; `minKernel` as on a kernel newer than any named; `caps` against the given capabilities, or against Docker's
  default set if none are given. Of `archMap`, the entry of the native ABI applies. In a config.json the runtimes ignore
  them.
- Keys are case-insensitive, as in Go's JSON reader; a key that comes twice is an error.
- config.json without linux.seccomp filters nothing. With process but without process.capabilities, a container has no
  capabilities. The rights are the union of the five sets, limited to capabilities that the kernel knows.
- For a SeccompProfile with a base profile, only the content of the file itself counts, with a note.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from errno import EPERM
from typing import Any, NoReturn

import yaml

from profiler.errors import InputError
from profiler.kernel.abi import ABIS, SUB_ABIS
from profiler.kernel.capabilities import number_of as capability_number
from profiler.policy.model import Policy
from profiler.quoting.text import printable
from profiler.review.compiled import TREE_RULES, Stated, allowances
from profiler.review.cubes import ARGUMENTS, OPERATORS, REGISTER, Cubes, TooHard, comparison, crossed
from profiler.review.rights import Allowance, Rights, Row, Test, Written
from profiler.trace.model import Trace

LIMIT_BYTES = 16 << 20
"""A larger file is not a profile: Docker's default has 14 KiB."""
DEPTH = 40
EVENTS = 400_000
CUBES_MAX = 200_000
"""The largest number of cubes of one file, over all its rules."""

DOCKER_DEFAULT = frozenset(
    f"CAP_{name}"
    for name in (
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "NET_RAW",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    )
)
"""What docker run gives without --cap-add and --cap-drop (moby, oci/caps/defaults.go)."""

GO_ARCHES = {"x86_64": "amd64", "aarch64": "arm64", "i386": "x86", "arm": "arm", "x32": "x32"}
"""ABI to its name in includes.arches."""

_ACTIONS = frozenset({"KILL", "KILL_PROCESS", "KILL_THREAD", "TRAP", "ERRNO", "TRACE", "ALLOW", "LOG", "NOTIFY"})
_ALLOWING = frozenset({"ALLOW", "LOG", "NOTIFY"})
_BY_SECCOMP = {abi.seccomp: abi.name for abi in ABIS.values()}
_SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")


@dataclass(frozen=True)
class Source:
    """A file that was read. ``arch`` is the native ABI that it is for, or None if it names none.

    ``rights(abi, capabilities)`` returns what it allows on a machine of that ABI, in a container that was given these
    capabilities (None: Docker's default). Both matter only to profiles with Docker's conditions.
    """

    name: str
    kind: str
    arch: str | None
    rights: Callable[[str, frozenset[str] | None], Rights]
    policy: Policy | None = None
    trace: Trace | None = None
    """The trace or the policy that was read."""
    outdated: bool = False
    """The head of the policy says something else than its entries."""


@dataclass(frozen=True)
class Machine:
    """What conditions are resolved for: a native ABI, and the capabilities of the container."""

    abi: str
    capabilities: frozenset[str] = DOCKER_DEFAULT


@dataclass
class _Filter:
    """A seccomp profile that was read. ``syscalls`` as in Rights."""

    default: str
    abis: tuple[str, ...]
    syscalls: dict[tuple[str, str], Allowance]
    notes: list[str] = field(default_factory=list)
    written: Written | None = None


class _Twice:
    """The value of a key that came in two spellings. Keys that are names (annotations, labels) are not examined."""


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {printable(twice)[:40]!r} is given twice")
    found: dict[str, Any] = {}
    for key, value in pairs:
        found[key.lower()] = _Twice() if key.lower() in found else value
    return found


def _json(data: bytes, name: str) -> dict[str, Any]:
    """Return a JSON object with all keys in lower case. Raises InputError."""
    if len(data) > LIMIT_BYTES:
        raise InputError(f"{name}: larger than {LIMIT_BYTES >> 20} MiB, so it is not a profile")
    try:
        value = json.loads(data, object_pairs_hook=_no_duplicates)
    except RecursionError as error:
        raise InputError(f"{name}: cannot be read as JSON: nested too deeply") from error
    except ValueError as error:
        raise InputError(f"{name}: cannot be read as JSON: {str(error)[:120]}") from error
    if not isinstance(value, dict):
        raise InputError(f"{name}: is not a trace, policy or profile: not a JSON object")
    return value


class _Reader:
    """Check the structure of a file; every error names the file and the place."""

    def __init__(self, name: str, machine: Machine, conditional: bool) -> None:
        self.name = name
        self.machine = machine
        self.conditional = conditional
        self.notes: list[str] = []
        self.cubes = 0
        self.known: dict[tuple[Test, ...], Cubes | None] = {}

    def fail(self, where: str, what: str) -> NoReturn:
        raise InputError(f"{self.name}: {where}: {what}")

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def typed(self, data: Mapping[str, Any], key: str, kind: type, where: str, default: Any) -> Any:
        """Return a member, or ``default`` if it is missing or null, as Go does."""
        value = data.get(key.lower())
        if value is None:
            return default
        if isinstance(value, _Twice):
            self.fail(f"{where}.{key}" if where else key, "is given twice")
        if type(value) is not kind:
            self.fail(f"{where}.{key}" if where else key, f"must be {_KINDS[kind]}")
        return value

    def texts(self, data: Mapping[str, Any], key: str, where: str) -> list[str]:
        values = self.typed(data, key, list, where, [])
        if not all(isinstance(value, str) for value in values):
            self.fail(f"{where}.{key}", "must hold text")
        return list(values)

    def number(self, data: Mapping[str, Any], key: str, where: str) -> int:
        value: int = self.typed(data, key, int, where, 0)
        if not 0 <= value <= REGISTER:
            self.fail(f"{where}.{key}", "is not an unsigned 64-bit number")
        return value

    def action(self, data: Mapping[str, Any], key: str, where: str) -> str:
        text = self.typed(data, key, str, where, None)
        if text is None:
            self.fail(where or "the profile", f"has no {key}")
        word: str = text.removeprefix("SCMP_ACT_")
        if text == word or word not in _ACTIONS:
            self.fail(f"{where}.{key}" if where else key, f"unknown action {printable(text)[:40]!r}")
        if word == "NOTIFY":
            self.note(
                f"{self.name}: SCMP_ACT_NOTIFY leaves calls to a program that is not in the file: counted as allowed"
            )
        return "KILL_THREAD" if word == "KILL" else word

    # The parts of a profile.

    def abis(self, data: Mapping[str, Any], where: str) -> tuple[str, ...]:
        listed = self.texts(data, "architectures", where)
        for index, row in enumerate(self.typed(data, "archMap", list, where, [])):
            at = f"{where}archMap[{index}]"
            if not isinstance(row, dict):
                self.fail(at, "must be an object")
            if self.typed(row, "architecture", str, at, "") == ABIS[self.machine.abi].seccomp:
                listed += [ABIS[self.machine.abi].seccomp, *self.texts(row, "subArchitectures", at)]
        found = {_BY_SECCOMP[arch] for arch in listed if arch in _BY_SECCOMP}
        for arch in listed:
            if not arch.startswith("SCMP_ARCH_"):
                self.note(f"{self.name}: unknown architecture {printable(arch)[:40]!r}")
        native = self.machine.abi
        return (native, *(abi for abi in SUB_ABIS.get(native, ()) if abi in found))

    def applies(self, rule: Mapping[str, Any], where: str) -> bool:
        """Return whether Docker's conditions hold: all of includes, none of excludes."""
        if not self.conditional:
            return True
        arch = GO_ARCHES[self.machine.abi]
        wanted = self.typed(rule, "includes", dict, where, {})
        unwanted = self.typed(rule, "excludes", dict, where, {})
        caps, arches = self.texts(wanted, "caps", where), self.texts(wanted, "arches", where)
        if not set(caps) <= self.machine.capabilities or (arches and arch not in arches):
            return False
        barred = self.typed(unwanted, "minKernel", str, where, "")
        return not (
            barred
            or arch in self.texts(unwanted, "arches", where)
            or self.machine.capabilities & set(self.texts(unwanted, "caps", where))
        )

    def tests(self, rule: Mapping[str, Any], where: str) -> tuple[tuple[Test, ...], ...]:
        """Return alternatives of conditions that must all hold; one empty alternative if there are no conditions."""
        found: list[Test] = []
        for index, row in enumerate(self.typed(rule, "args", list, where, [])):
            at = f"{where}.args[{index}]"
            if not isinstance(row, dict):
                self.fail(at, "must be an object")
            operator = self.typed(row, "op", str, at, "").removeprefix("SCMP_CMP_")
            if operator not in OPERATORS:
                self.fail(f"{at}.op", f"unknown comparison {printable(operator)[:40]!r}")
            position = self.number(row, "index", at)
            if position >= ARGUMENTS:
                self.fail(f"{at}.index", f"a syscall has {ARGUMENTS} arguments")
            found.append(Test(position, operator, self.number(row, "value", at), self.number(row, "valueTwo", at)))
        if len({test.position for test in found}) < len(found):
            self.note(
                f"{self.name}: {where} has two conditions on one argument: runtimes make each condition a "
                "rule of its own"
            )
            return tuple((test,) for test in found)
        return (tuple(found),)

    def cubes_of(self, tests: tuple[Test, ...]) -> Cubes | None:
        """Return the cubes of the tests, or None if there are too many."""
        if tests not in self.known:
            self.known[tests] = self._cubes(tests)
        return self.known[tests]

    def _cubes(self, tests: Sequence[Test]) -> Cubes | None:
        try:
            found = crossed([comparison(test.position, test.operator, test.value, test.value_two) for test in tests])
        except TooHard:
            return None
        self.cubes += len(found)
        if self.cubes > CUBES_MAX:
            self.fail("syscalls", "too many conditions to compare")
        return found

    def filter(self, data: Mapping[str, Any], where: str = "") -> _Filter:
        """Read a seccomp profile: Docker's, OCI's or the spec of a SeccompProfile."""
        default = self.action(data, "defaultAction", where)
        default_errno = self.number(data, "defaultErrnoRet", where) or EPERM
        abis = self.abis(data, where)
        rules: dict[str, list[Stated]] = {}
        rows: list[Row] = []
        for index, rule in enumerate(self.typed(data, "syscalls", list, where, [])):
            at = f"{where}syscalls[{index}]"
            if not isinstance(rule, dict):
                self.fail(at, "must be an object")
            names = self.texts(rule, "names", at)
            single = self.typed(rule, "name", str, at, "") if self.conditional else ""
            action = self.action(rule, "action", at)
            errno = self.number(rule, "errnoRet", at) if rule.get("errnoret") is not None else default_errno
            tests = self.tests(rule, at)
            applies = self.applies(rule, at)
            rows.append(
                Row(
                    at,
                    tuple(dict.fromkeys([*names, *([single] if single else [])])),
                    action,
                    errno if rule.get("errnoret") is not None else None,
                    tuple(test for part in tests for test in part),
                    applies,
                    bool(rule.get("includes") or rule.get("excludes")),
                )
            )
            if not applies or (action == default and (action != "ERRNO" or errno == default_errno)):
                continue
            stated = [Stated(action in _ALLOWING, part) for part in tests]
            for name in rows[-1].names:
                rules.setdefault(name, []).extend(stated)
        word = {"ALLOW": "allow", "LOG": "log", "NOTIFY": "allow"}.get(default, "refuse")
        small = sum(len(row.names) for row in rows if row.applies) <= TREE_RULES
        syscalls = allowances(rules, abis, word, small, self.cubes_of)
        listed = tuple(self.texts(data, "architectures", where))
        written = Written(default, default_errno, listed, bool(data.get("archmap")), tuple(rows))
        return _Filter(word, abis, syscalls, self.notes, written)


_KINDS: Mapping[type, str] = {str: "text", int: "a number", list: "a list", dict: "an object", bool: "true or false"}


def _native(data: Mapping[str, Any]) -> str | None:
    """Return the first native ABI that a profile lists itself (an archMap is for many machines)."""
    listed = data.get("architectures")
    found = [_BY_SECCOMP.get(arch) for arch in listed if isinstance(arch, str)] if isinstance(listed, list) else []
    natives = [abi for abi in found if abi in SUB_ABIS]
    return natives[0] if natives else None


def _rights(name: str, kind: str, machine: Machine, found: _Filter, **members: Any) -> Rights:
    return Rights(
        source=name,
        kind=kind,
        native=machine.abi,
        abis=found.abis,
        default=found.default,
        syscalls=found.syscalls,
        notes=tuple(found.notes),
        written=found.written,
        **members,
    )


def _seccomp(data: dict[str, Any], name: str) -> Source:
    def rights(abi: str, capabilities: frozenset[str] | None) -> Rights:
        machine = Machine(abi, DOCKER_DEFAULT if capabilities is None else capabilities)
        return _rights(name, "seccomp", machine, _Reader(name, machine, conditional=True).filter(data))

    return Source(name, "seccomp", _native(data), rights)


def _capabilities(reader: _Reader, process: Mapping[str, Any]) -> frozenset[str]:
    sets = reader.typed(process, "capabilities", dict, "process", {})
    found: set[str] = set()
    for key in _SETS:
        for name in reader.texts(sets, key, "process.capabilities"):
            if capability_number(name) is None:
                reader.note(f"{reader.name}: unknown capability {printable(name)[:40]!r}")
            else:
                found.add(name)
    return frozenset(found)


def _oci(data: dict[str, Any], name: str) -> Source:
    linux = data.get("linux")
    seccomp = linux.get("seccomp") if isinstance(linux, dict) else None

    def rights(abi: str, capabilities: frozenset[str] | None) -> Rights:
        machine = Machine(abi)
        reader = _Reader(name, machine, conditional=False)
        if linux is not None and not isinstance(linux, dict):
            reader.fail("linux", "must be an object")
        if seccomp is not None and not isinstance(seccomp, dict):
            reader.fail("linux.seccomp", "must be an object")
        if seccomp:
            found = reader.filter(seccomp, "linux.seccomp.")
        else:
            reader.note(f"{name}: no linux.seccomp, so every syscall is allowed")
            found = _Filter("allow", (abi, *SUB_ABIS.get(abi, ())), {}, reader.notes)
        process = reader.typed(data, "process", dict, "", None)
        held, no_new_privs = None, None
        if process is not None:
            held = _capabilities(reader, process)
            no_new_privs = reader.typed(process, "noNewPrivileges", bool, "process", False)
        return _rights(name, "oci", machine, found, capabilities=held, no_new_privs=no_new_privs)

    return Source(name, "oci", _native(seccomp) if isinstance(seccomp, dict) else None, rights)


def _spo(data: dict[str, Any], name: str) -> Source:
    spec = data.get("spec")
    if not isinstance(spec, dict):
        raise InputError(f"{name}: spec: must be a mapping")

    def rights(abi: str, capabilities: frozenset[str] | None) -> Rights:
        machine = Machine(abi)
        reader = _Reader(name, machine, conditional=False)
        base = reader.typed(spec, "baseProfileName", str, "spec", "")
        if base:
            reader.note(
                f"{name}: what its base profile {printable(base)[:80]} allows is not in the file and not compared"
            )
        if reader.typed(spec, "state", str, "spec", "Enabled") == "Disabled":
            reader.note(f"{name}: the profile is disabled, but compared as if it were enabled")
        return _rights(name, "spo", machine, reader.filter(spec, "spec."))

    return Source(name, "spo", _native(spec), rights)


# Recognising formats.

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _lowered(value: Any) -> Any:
    """Return YAML data with keys in lower case. Raises ValueError for a key that is not text, or comes twice."""
    if isinstance(value, list):
        return [_lowered(item) for item in value]
    if not isinstance(value, dict):
        return value
    return _no_duplicates([(_key(key), _lowered(item)) for key, item in value.items()])


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise ValueError(f"{str(key)[:40]!r} cannot be a key here")
    return key


def _yaml(data: bytes, name: str) -> list[Any]:
    """Return the documents of a YAML file. Raises InputError."""
    if len(data) > LIMIT_BYTES:
        raise InputError(f"{name}: larger than {LIMIT_BYTES >> 20} MiB, so it is not a profile")
    try:
        depth = 0
        for number, event in enumerate(yaml.parse(data, Loader=_Loader)):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError("aliases are not used in a profile")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEPTH or number > EVENTS:
                raise ValueError("nested too deeply" if depth > DEPTH else "too long")
        return [_lowered(document) for document in yaml.load_all(data, Loader=_Loader)]
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or "not YAML"
        raise InputError(f"{name}: cannot be read as YAML: {problem}") from error
    except (ValueError, RecursionError, TypeError) as error:
        raise InputError(f"{name}: cannot be read as YAML: {str(error)[:120]}") from error


def from_json(data: bytes, name: str) -> Source | None:
    """Return the profile in a JSON file; None when it is not one. Raises InputError."""
    document = _json(data, name)
    if document.get("kind") == "SeccompProfile":
        return _spo(document, name)
    if "defaultaction" in document:
        return _seccomp(document, name)
    if "ociversion" in document or any(isinstance(document.get(key), dict) for key in ("linux", "process")):
        return _oci(document, name)
    return None


def from_yaml(data: bytes, name: str) -> Source | None:
    """Return the SeccompProfile in a YAML file; None when there is none. Raises InputError."""
    documents = [item for item in _yaml(data, name) if isinstance(item, dict) and item.get("kind") == "SeccompProfile"]
    if len(documents) > 1:
        raise InputError(f"{name}: holds {len(documents)} SeccompProfiles: compare one at a time")
    return _spo(documents[0], name) if documents else None
