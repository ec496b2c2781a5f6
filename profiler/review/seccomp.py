"""Read a seccomp profile's rules: Docker's and Podman's, those of an OCI config.json, and the spec of a SeccompProfile.

They are read as the runtimes read them (runc's libcontainer/seccomp, moby's profiles/seccomp, Podman's
containers/common pkg/seccomp); profiler/review/compiled.py says what libseccomp makes of them then.

- The conditions of one rule must all hold, on different arguments. If an argument comes twice, runc and crun make each
  condition a rule, and so does this reader. A rule with the default action is ignored.
- SCMP_ACT_LOG allows. SCMP_ACT_NOTIFY leaves the call to a program that is not in the file; it counts as allowed, with
  a note. TRACE is refused if no tracer is attached, so it counts as refused. ERRNO with 0 does nothing and returns
  success: refused.
- The native ABI is always filtered, listed or not. Calls of ABIs that are not listed are killed, whatever the default
  action.
- `includes` and `excludes` are Docker's. In a seccomp JSON they are resolved for one machine: `arches` for its native
  ABI; `minKernel` as on a kernel newer than any named; `caps` against the given capabilities, or against Docker's
  default set if none are given. Of `archMap`, the entry of the native ABI applies. In a config.json the runtimes ignore
  them. The same holds for `errno` and `defaultErrno`, which are Podman's: an error by name or number.
- What a runtime refuses to start with is kept as problems, for `lint`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from errno import EPERM
from typing import Any, NoReturn

from profiler.errors import InputError
from profiler.kernel.abi import ABIS, SUB_ABIS, native_abi
from profiler.kernel.errno import FIRST_INTERNAL
from profiler.kernel.errno import number_of as errno_number
from profiler.quoting.text import printable
from profiler.review.compiled import TREE_RULES, Stated, allowances, joined_wrongly, on_abi, too_wide, voiding
from profiler.review.cubes import ARGUMENTS, OPERATORS, REGISTER, Cubes, TooHard, comparison, crossed
from profiler.review.documents import Twice
from profiler.review.rights import Allowance, Problem, Row, Test, Written
from profiler.wording import listed

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

ERRNO_MAX = 4095
"""The largest error number (include/linux/err.h MAX_ERRNO); libseccomp accepts no other."""

_PROFILE_KEYS = frozenset(
    [
        "defaultaction",
        "defaulterrnoret",
        "architectures",
        "archmap",
        "flags",
        "listenerpath",
        "listenermetadata",
        "syscalls",
        "baseprofilename",
        "state",
        "disabled",
    ]
)
_DOCKER_PROFILE_KEYS = frozenset({"defaulterrno"})
_RULE_KEYS = frozenset({"names", "action", "errnoret", "args", "includes", "excludes"})
_DOCKER_RULE_KEYS = frozenset({"name", "errno"})
_TEST_KEYS = frozenset({"index", "value", "valuetwo", "op"})
_COMMENTS = frozenset({"comment", "comments", "description"})
"""Keys, folded. `includes`, `excludes` and archMap elsewhere are the rule docker-only."""

_BIG_ENDIAN = frozenset(
    f"SCMP_ARCH_{name}" for name in ["MIPS", "MIPS64", "MIPS64N32", "PPC", "PPC64", "S390", "S390X", "PARISC"]
)

_ACTIONS = frozenset({"KILL", "KILL_PROCESS", "KILL_THREAD", "TRAP", "ERRNO", "TRACE", "ALLOW", "LOG", "NOTIFY"})
_ALLOWING = frozenset({"ALLOW", "LOG", "NOTIFY"})
_BY_SECCOMP = {abi.seccomp: abi.name for abi in ABIS.values()}


@dataclass(frozen=True)
class Machine:
    """What conditions are resolved for: a native ABI, and the capabilities of the container."""

    abi: str
    capabilities: frozenset[str] = DOCKER_DEFAULT


@dataclass
class Filter:
    """A seccomp profile that was read. ``syscalls`` as in Rights."""

    default: str
    abis: tuple[str, ...]
    syscalls: dict[tuple[str, str], Allowance]
    written: Written | None = None


class Reader:
    """Check the structure of a file; every error names the file and the place."""

    def __init__(self, name: str, machine: Machine, conditional: bool) -> None:
        self.name = name
        self.machine = machine
        self.conditional = conditional
        self.notes: list[str] = []
        self.problems: list[Problem] = []
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
        if isinstance(value, Twice):
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
        if data.get("architectures") and data.get("archmap"):
            what = "architectures and archMap together: Docker and Podman do not start a container with them"
            self.problem("not-started", f"{where}archMap", what, "keep one of the two")
        for arch in listed:
            if arch in _BIG_ENDIAN:
                what = f"runc does not start: {arch} has another byte order than {ABIS[self.machine.abi].seccomp}"
                self.problem("not-started", f"{where}architectures", what, f"remove {arch}")
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
            self.unknown(row, _TEST_KEYS, at)
            found.append(Test(position, operator, self.number(row, "value", at), self.number(row, "valueTwo", at)))
        alternatives = by_argument(found)
        if len(alternatives) > 1:
            self.note(
                f"{self.name}: {where} has two conditions on one argument: runtimes make each condition a "
                "rule of its own"
            )
        return alternatives

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

    def errno(self, data: Mapping[str, Any], key: str, by_name: str, where: str) -> int | None:
        """Return an error number; None if there is none, which means EPERM. Podman's name or number comes first."""
        number = self.number(data, key, where) if data.get(key.lower()) is not None else None
        text = self.typed(data, by_name, str, where, "") if self.conditional else ""
        if text:
            digits = text.isascii() and text.isdigit() and len(text) <= 10
            number = int(text) if digits else errno_number(text)
            if number is None or (number >= FIRST_INTERNAL and not digits):
                what = f"unknown errno {printable(text)[:40]!r}: Podman does not start a container with it"
                self.problem("not-started", where, what, "use a name of errno(3), such as EPERM")
                return None
        if number is not None and number > ERRNO_MAX:
            cut = number & 0xFFFF
            effect = "libseccomp refuses it" if cut > ERRNO_MAX else f"runc cuts it to 16 bits, which leaves {cut}"
            what = f"{key} {number}: error numbers go up to {ERRNO_MAX}; {effect}"
            self.problem("not-started", where, what, "use the number of an error, such as 1 (EPERM)")
        return number

    def row(self, rule: Any, at: str) -> tuple[Row, tuple[tuple[Test, ...], ...]]:
        """Return a rule as it is written, and its alternatives of conditions."""
        if not isinstance(rule, dict):
            self.fail(at, "must be an object")
        self.unknown(rule, _RULE_KEYS | (_DOCKER_RULE_KEYS if self.conditional else frozenset()), at)
        names = self.texts(rule, "names", at)
        single = self.typed(rule, "name", str, at, "") if self.conditional else ""
        if single and names:
            what = "has both name and names: Docker and Podman do not start a container with it"
            self.problem("not-started", at, what, "use names only")
        tests = self.tests(rule, at)
        row = Row(
            at,
            tuple(dict.fromkeys([*names, *([single] if single else [])])),
            self.action(rule, "action", at),
            self.errno(rule, "errnoRet", "errno", at),
            tuple(test for part in tests for test in part),
            self.applies(rule, at),
            bool(rule.get("includes") or rule.get("excludes")),
        )
        return row, tests

    def filter(self, data: Mapping[str, Any], where: str = "") -> Filter:
        """Read a seccomp profile: Docker's, OCI's or the spec of a SeccompProfile."""
        self.unknown(
            data, _PROFILE_KEYS | (_DOCKER_PROFILE_KEYS if self.conditional else frozenset()), where.rstrip(".")
        )
        default = self.action(data, "defaultAction", where)
        default_errno = self.errno(data, "defaultErrnoRet", "defaultErrno", where.rstrip("."))
        abis = self.abis(data, where)
        rules: dict[str, list[Stated]] = {}
        rows: list[Row] = []
        for index, rule in enumerate(self.typed(data, "syscalls", list, where, [])):
            row, tests = self.row(rule, f"{where}syscalls[{index}]")
            rows.append(row)
            if not row.applies or returned(row.action, row.errno) == returned(default, default_errno):
                continue
            stated = [Stated(row.allows, part) for part in tests]
            for name in row.names:
                rules.setdefault(name, []).extend(stated)
        word = {"ALLOW": "allow", "LOG": "log", "NOTIFY": "allow"}.get(default, "refuse")
        small = sum(len(row.names) for row in rows if row.applies) <= TREE_RULES
        syscalls = allowances(rules, abis, word, small, self.cubes_of)
        self.compiled(rules, abis, small and word != "refuse", where)
        self.notifies(data, default, rows, where)
        written = Written(
            default,
            EPERM if default_errno is None else default_errno,
            tuple(self.texts(data, "architectures", where)),
            bool(data.get("archmap")),
            tuple(rows),
        )
        return Filter(word, abis, syscalls, written)

    # Problems.

    def problem(self, rule: str, where: str, what: str, fix: str) -> None:
        """Keep what lint should say."""
        self.problems.append(Problem(rule, where, what, fix))

    def unknown(self, data: Mapping[str, Any], known: frozenset[str], where: str) -> None:
        """Keep keys that the runtimes ignore."""
        for key in data:
            if key not in known and not key.startswith(("$", "_", "x-")) and key not in _COMMENTS:
                near = {"arg": "args", "syscall": "syscalls", "operator": "op", "value_two": "valueTwo"}.get(key)
                fix = f"write {near}" if near else "remove it, or correct its name"
                self.problem("unknown-key", where, f"{printable(key)[:40]} is not a key here: runtimes ignore it", fix)

    def compiled(self, rules: Mapping[str, Sequence[Stated]], abis: Sequence[str], fragile: bool, where: str) -> None:
        """Keep rules that libseccomp compiles to something else than they say."""
        at = f"{where}syscalls"
        wide: dict[str, list[str]] = {}
        joined: list[str] = []
        for abi in abis:
            for name, stated in on_abi(rules, abi, abi == abis[0]).items():
                if not joined_wrongly(stated, abi):
                    continue
                if ABIS[abi].bits == 32 and any(too_wide(test) for one in stated for test in one.tests):
                    wide.setdefault(abi, []).append(name)
                elif name not in joined:
                    joined.append(name)
        if joined:
            what = "libseccomp joins several rules that compare by order (NE, LT, LE, GT, GE) into something else"
            fix = "write one rule for the call, or use SCMP_CMP_EQ and SCMP_CMP_MASKED_EQ only"
            self.problem("joined-wrongly", at, f"{_names(joined)}: {what}: any arguments may pass", fix)
        for abi, names in wide.items():
            what = f"a value has more than 32 bits, but {abi} compares only the lower 32: other arguments pass"
            fix = f"use values of 32 bits, or remove {ABIS[abi].seccomp} from the architectures"
            self.problem("joined-wrongly", at, f"{_names(names)}: {what}", fix)
        if fragile and "i386" in abis and (names := voiding(rules)):
            what = "i386 has no call of this name; libseccomp may then leave out every rule for i386 in a small profile"
            self.problem("joined-wrongly", at, f"{_names(names)}: {what}", "list what is allowed instead")

    def notifies(self, data: Mapping[str, Any], default: str, rows: Iterable[Row], where: str) -> None:
        """Keep uses of SCMP_ACT_NOTIFY that runc does not start with (libcontainer/seccomp, process_linux.go)."""
        listening = bool(self.typed(data, "listenerPath", str, where, ""))
        if default == "NOTIFY":
            what = "runc does not start a container with SCMP_ACT_NOTIFY as the default action"
            self.problem("not-started", f"{where}defaultAction", what, "use SCMP_ACT_ERRNO")
        for row in rows:
            if row.action == "NOTIFY" and row.applies and "write" in row.names:
                what = "runc does not start a container with SCMP_ACT_NOTIFY for write, which it needs itself"
                self.problem("not-started", row.where, what, "allow write")
            if row.action == "NOTIFY" and row.applies and not listening:
                what = "SCMP_ACT_NOTIFY without listenerPath: runc does not start the container"
                self.problem("not-started", row.where, what, "set listenerPath to the socket of the supervisor")
                listening = True
            if row.applies and "" in row.names:
                self.problem("not-started", row.where, "runc does not start with an empty name", "remove the name")


def by_argument(tests: Sequence[Test]) -> tuple[tuple[Test, ...], ...]:
    """Return the rules that runtimes make of one with these conditions."""
    apart = len({test.position for test in tests}) < len(tests)
    return tuple((test,) for test in tests) if apart else (tuple(tests),)


def returned(action: str, errno: int | None) -> tuple[str, int]:
    """Return an action with the number that it returns, as runc makes it."""
    return action, (EPERM if errno is None else errno) & 0xFFFF if action in ("ERRNO", "TRACE") else 0


def _names(names: Sequence[str]) -> str:
    return listed([printable(name) for name in names], 8)


_KINDS: Mapping[type, str] = {str: "text", int: "a number", list: "a list", dict: "an object", bool: "true or false"}


def native_of(data: Mapping[str, Any]) -> str | None:
    """Return the native ABI of a profile's own list: this machine's if it is listed, else the first (an archMap is for
    many machines)."""
    listed = data.get("architectures")
    found = [_BY_SECCOMP.get(arch) for arch in listed if isinstance(arch, str)] if isinstance(listed, list) else []
    natives = [abi for abi in found if abi in SUB_ABIS]
    try:
        own = native_abi()
    except ValueError:
        own = ""
    return own if own in natives else natives[0] if natives else None
