"""Find known holes and traps in a seccomp profile or a policy.

They allow something unintentionally, or break programs. A policy is judged by the seccomp profile that it produces.
Each rule has a function that yields its findings; CHECKS lists them all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from errno import ENOSYS, EPERM
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from profiler import wording
from profiler.errors import InputError
from profiler.kernel.abi import ABIS, SUB_ABIS, native_abi, seccomp_name
from profiler.kernel.arguments import INT, NAMESPACE_FLAGS, spec_for
from profiler.kernel.capabilities import CAPABILITIES
from profiler.kernel.cves import Tests, user_namespace, ways
from profiler.kernel.errno import name_of as errno_name
from profiler.kernel.fallbacks import fallbacks
from profiler.kernel.libseccomp import ACTIONS, OPERATORS, Library, TriedRule, installed, tried
from profiler.kernel.multiplexers import Multiplexer, implied, multiplexers
from profiler.kernel.risks import CHANGES, capability_risk
from profiler.kernel.syscalls import names_anywhere, names_of, number_of
from profiler.policy.caveats import caveats
from profiler.policy.covering import covers
from profiler.policy.model import FileRule, Policy, capability_order
from profiler.policy.patterns import Literal, is_literal, parse
from profiler.policy.reasons import sentences
from profiler.policy.tiers import tier_of
from profiler.quoting.shell import profgen
from profiler.quoting.text import printable
from profiler.review import image
from profiler.review.cubes import REGISTER
from profiler.review.findings import Finding, Report, Rule, at_least, by_level, located
from profiler.review.foreign import Source
from profiler.review.rights import Rights, Row, Test, Written
from profiler.review.score import PermissionsOf
from profiler.review.seccomp import by_argument
from profiler.review.sources import from_bytes, machine

if TYPE_CHECKING:
    from profiler.images.image import Image

KINDS = ("policy", "seccomp", "oci", "spo")
_LISTED = 8
_WRITES = frozenset({"write", "append", "create", "rename_to"})
"""Accesses that put content where it may be executed."""
_RUNS = frozenset({"execute", "map"})


@dataclass(frozen=True)
class Subject:
    """What is checked: a profile as it is written, and its rights. ``written`` is None if nothing filters syscalls."""

    rights: Rights
    written: Written | None
    policy: Policy | None = None
    library: Library | None = None
    outdated: bool = False
    """The head of the policy's file is."""

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """The rules that apply on this machine."""
        return tuple(row for row in self.written.rows if row.applies) if self.written else ()

    @cached_property
    def permissions(self) -> PermissionsOf:
        """The rights in the form that profiler.kernel.cves asks for."""
        return PermissionsOf(self.rights, self.rights.capabilities or frozenset())

    @property
    def native(self) -> str:
        """The native ABI of the machine."""
        return self.rights.native

    def allowed(self, abi: str, name: str) -> bool:
        """Return whether the ABI has such a syscall and it is allowed with some arguments."""
        return number_of(abi, name) is not None and not self.rights.allowance(abi, name).refused

    def filtered(self, abi: str, name: str) -> bool:
        """Return whether the file allows it only with some arguments."""
        return self.allowed(abi, name) and not self.rights.allowance(abi, name).unconditional

    def answer(self, name: str) -> tuple[str, int]:
        """Return what a refused call gets: the action, and the errno of ERRNO (otherwise 0)."""
        assert self.written is not None
        for row in self.rows:
            if name in row.names and not row.allows and not row.tests:
                errno = EPERM if row.errno is None else row.errno
                return row.action, errno if row.action == "ERRNO" else 0
        return self.written.default, self.written.default_errno if self.written.default == "ERRNO" else 0


Check = Callable[[Subject], Iterator[Finding]]


def listed(names: Iterable[str], most: int = _LISTED) -> str:
    """Return names for people, at most ``most`` of them."""
    return wording.listed([printable(name) for name in names], most)


def _they(number: int) -> str:
    return "it" if number == 1 else "them"


# The action for calls that are not listed.


def _default_allows(subject: Subject) -> Iterator[Finding]:
    rule = "default-allows"
    if subject.written is None:
        yield Finding(
            rule,
            "error",
            "",
            "no seccomp profile: every syscall is allowed",
            "add one: profgen generate -t oci --into FILE",
        )
    elif subject.written.default == "ALLOW":
        yield Finding(
            rule,
            "error",
            "defaultAction",
            "every syscall that is not listed is allowed, including those of future kernels",
            "list what is needed, and make SCMP_ACT_ERRNO the default action",
        )
    elif subject.written.default in ("LOG", "NOTIFY"):
        what = (
            "allowed and logged" if subject.written.default == "LOG" else "left to a supervisor that is not in the file"
        )
        yield Finding(
            rule,
            "warning",
            "defaultAction",
            f"every syscall that is not listed is {what}",
            "use SCMP_ACT_ERRNO once the profile is complete",
        )


def _kill_thread(subject: Subject) -> Iterator[Finding]:
    if subject.written is None:
        return
    fix = "use SCMP_ACT_KILL_PROCESS or SCMP_ACT_ERRNO"
    what = "kills only the thread that made the call: the process goes on without it, often with its locks held"
    if subject.written.default == "KILL_THREAD":
        yield Finding("kill-thread", "warning", "defaultAction", what, fix)
    for row in subject.rows:
        if row.action == "KILL_THREAD" and subject.written.default != "KILL_THREAD":
            yield Finding("kill-thread", "warning", row.where, f"{listed(row.names)}: {what}", fix, tuple(row.names))


def _errno_trap(subject: Subject) -> Iterator[Finding]:
    """Find calls that libc and language runtimes can do without only if the answer is ENOSYS."""
    if subject.written is None:
        return
    by_answer: dict[tuple[str, int], list[str]] = {}
    for name in fallbacks():
        if name == "clone3" or number_of(subject.native, name) is None or subject.allowed(subject.native, name):
            continue
        answer = subject.answer(name)
        if answer != ("ERRNO", ENOSYS):
            by_answer.setdefault(answer, []).append(name)
    for (action, errno), names in by_answer.items():
        kills = action in ("KILL_PROCESS", "KILL_THREAD", "TRAP")
        what = "end the program" if kills else f"are answered with {errno_name(errno) if errno else action}"
        then = "before it can fall back" if kills else "which programs treat as final instead of falling back"
        yield Finding(
            "errno-trap",
            "warning",
            "",
            f"{listed(names)} {what}, {then}",
            f'{{"names": [...], "action": "SCMP_ACT_ERRNO", "errnoRet": {ENOSYS}}} for {_they(len(names))}',
            tuple(names),
        )


def _enosys_for_all(subject: Subject) -> Iterator[Finding]:
    if subject.written is not None and subject.written.default == "ERRNO" and subject.written.default_errno == ENOSYS:
        yield Finding(
            "enosys-for-all",
            "note",
            "defaultErrnoRet",
            "every refused call seems not to exist, even one that is allowed with other arguments: programs "
            "report misleading errors",
            "use EPERM as the default, ENOSYS for calls with a fallback",
        )


def _errno_zero(subject: Subject) -> Iterator[Finding]:
    for row in subject.rows:
        if row.action == "ERRNO" and row.errno == 0:
            what = f"{listed(row.names)}: does nothing, and the program is told that it succeeded"
            fix = "set an errno that is an error, such as 1 (EPERM)"
            yield Finding("errno-zero", "error", row.where, what, fix, tuple(row.names))


def _errno_misplaced(subject: Subject) -> Iterator[Finding]:
    for row in subject.written.rows if subject.written else ():
        if row.errno is not None and row.action not in ("ERRNO", "TRACE"):
            what = f"errnoRet together with SCMP_ACT_{row.action}: crun does not start a container with it"
            yield Finding("errno-misplaced", "error", row.where, what, "remove errnoRet", tuple(row.names))


# Architectures.


def _architectures(subject: Subject) -> Iterator[Finding]:
    if subject.written is None or subject.written.arch_map:
        return
    native = seccomp_name(subject.native)
    if not subject.written.architectures:
        yield Finding(
            "no-architectures",
            "warning",
            "architectures",
            "none listed: runtimes filter the machine's own ABI and kill calls of others, and runc does not answer "
            "ENOSYS to calls newer than the profile",
            f'"architectures": ["{native}"]',
        )
    elif native not in subject.written.architectures:
        yield Finding(
            "no-architectures",
            "warning",
            "architectures",
            f"{native} is not listed, but runtimes filter it anyway: the profile may be for another machine",
            f"add {native}, or name the machine that it is for",
        )
    known = {abi.seccomp for abi in ABIS.values()}
    strange = [
        name for name in subject.written.architectures if name not in known and not name.startswith("SCMP_ARCH_")
    ]
    if strange:
        yield Finding(
            "unknown-architecture",
            "error",
            "architectures",
            f"runtimes reject {listed(strange)}",
            f"use names such as {native} (seccomp_arch_add(3))",
            tuple(strange),
        )


def _more_abis(subject: Subject) -> Iterator[Finding]:
    for abi in SUB_ABIS.get(subject.native, ()):
        if abi not in subject.rights.abis:
            continue
        number = sum(subject.allowed(abi, name) for name in names_of(abi))
        yield Finding(
            "more-abis",
            "warning",
            "architectures",
            f"{abi}: {number} syscalls are allowed a second time, through less tested code"
            if number
            else f"{abi} is listed, but nothing is allowed",
            f"remove {seccomp_name(abi)}, unless the workload runs programs of that ABI",
            (abi,),
        )


# Calls that do the work of others.

_OVERLOOKED: Mapping[str, tuple[str, ...]] = {
    "execve": ("execveat",),
    "fork": ("vfork",),
    "init_module": ("finit_module",),
    "kexec_load": ("kexec_file_load",),
    "mount": ("fsmount", "move_mount"),
    "umount2": ("umount",),
    "ptrace": ("process_vm_writev",),
    "open_by_handle_at": (),
    "chmod": ("fchmodat", "fchmodat2"),
    "chown": ("fchownat", "lchown"),
    "unlink": ("unlinkat",),
    "socket": ("socketpair",),
}
"""Calls, and others that do the same, which a profile that refuses the first may overlook."""


def _overlooked(subject: Subject) -> Iterator[Finding]:
    if subject.written is None:
        return
    denies = subject.rights.default != "refuse"
    for name, others in _OVERLOOKED.items():
        if number_of(subject.native, name) is None or subject.allowed(subject.native, name):
            continue
        found = [other for other in others if subject.allowed(subject.native, other)]
        # Allow-lists often contain only the newer of two calls; execveat alone is unusual.
        if found and (denies or name == "execve"):
            what = f"{name} is refused, {listed(found)} {'is' if len(found) == 1 else 'are'} not, and can do the same"
            fix = f"refuse {listed(found)} too, or allow {name}"
            yield Finding("twin-open", "warning", "", what, fix, tuple(found))


def _alternatives(tests: Tests) -> list[Tests]:
    return [(test,) for test in tests] if tests else [()]


def _multiplexed(subject: Subject, one: Multiplexer, abi: str) -> tuple[list[str], list[str]]:
    """Yield what a multiplexer does in spite of a refusal or an argument filter."""
    reached = []
    for name, tests in one.does.items():
        if number_of(abi, name) is None and number_of(subject.native, name) is None:
            continue
        if any(subject.permissions.allows(abi, one.name, wanted) for wanted in _alternatives(tests)):
            reached.append(name)
    refused = [name for name in reached if not any(subject.allowed(other, name) for other in (abi, subject.native))]
    filtered = [name for name in reached if subject.filtered(subject.native, name) or subject.filtered(abi, name)]
    return refused, filtered


def _multiplexers(subject: Subject) -> Iterator[Finding]:
    if subject.written is None:
        return
    for one in multiplexers():
        for abi in subject.rights.abis:
            if not subject.allowed(abi, one.name):
                continue
            refused, filtered = _multiplexed(subject, one, abi)
            if not refused and not filtered:
                continue
            parts = [f"the filter on {listed(filtered)}"] if filtered else []
            parts += [f"the refusal of {listed(refused)}"] if refused else []
            io_uring = one.name == "io_uring_setup"
            label = one.name if abi == subject.native else f"{one.name} ({abi})"
            fix = f"refuse {one.name}" + (
                " with ENOSYS: programs fall back"
                if io_uring
                else f", or remove {seccomp_name(abi)} from the architectures"
            )
            rule = "io-uring" if io_uring else "multiplexer"
            what = f"{label} bypasses {' and '.join(parts)}: {one.why}"
            yield Finding(rule, "warning", "", what, fix, (one.name,), (abi, one.name))
            if io_uring:
                break


def _masks_namespaces(subject: Subject, abi: str) -> bool:
    """Return whether clone is allowed, but not with every flag that creates a namespace."""
    return subject.allowed(abi, "clone") and not all(
        subject.permissions.allows(abi, "clone", ((0, 1 << bit, 1 << bit),))
        for bit in range(32)
        if NAMESPACE_FLAGS >> bit & 1
    )


def _clone3(subject: Subject) -> Iterator[Finding]:
    if subject.written is None or number_of(subject.native, "clone3") is None:
        return
    enosys = f'{{"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": {ENOSYS}}}'
    if subject.allowed(subject.native, "clone3"):
        if _masks_namespaces(subject, subject.native):
            yield Finding(
                "clone3-open",
                "error",
                "",
                "clone cannot create namespaces, but clone3 can: its flags are behind a pointer",
                f"refuse it: {enosys}",
                ("clone3",),
            )
    elif subject.allowed(subject.native, "clone") and (answer := subject.answer("clone3")) != ("ERRNO", ENOSYS):
        what = f"answered with {errno_name(answer[1])}" if answer[1] else f"answered with SCMP_ACT_{answer[0]}"
        yield Finding(
            "clone3-errno",
            "error",
            "",
            f"clone3 is {what}: with glibc 2.34 and later, programs cannot start threads or processes",
            enosys,
            ("clone3",),
        )


def _user_namespace(subject: Subject) -> Iterator[Finding]:
    if subject.written is None:
        return
    found = tuple(dict.fromkeys(way for call in user_namespace() for way in ways(subject.permissions, call)))
    if subject.policy is not None and subject.policy.user_namespaces:
        if found:
            what = (
                f"user namespaces can be created ({listed(found)}), as in the recording: "
                f"{listed(sentences(subject.policy.user_namespaces), 2)}"
            )
            yield Finding(
                "user-namespace",
                "note",
                "user_namespaces",
                what,
                "run that part outside the container, if possible",
                key=("user_namespaces",),
            )
    elif found:
        yield Finding(
            "user-namespace",
            "warning",
            "",
            f"user namespaces can be created ({listed(found)}), with every capability inside: most published exploits "
            "start there",
            "filter the flags of clone (0x7e020000 must be 0), answer clone3 with ENOSYS, refuse unshare",
        )


# Rules that do not do what they seem to do.


def _unknown_names(subject: Subject) -> Iterator[Finding]:
    library, version = subject.library, f" (libseccomp {subject.library.version})" if subject.library else ""
    denies = subject.rights.default != "refuse"
    unknown: dict[str, str] = {}
    newer: dict[str, str] = {}
    # A rule with the same effect as the default changes nothing when it is left out.
    for row in (row for row in subject.rows if row.allows != denies):
        for name in row.names:
            if library is not None and library.knows(name):
                continue
            if name not in names_anywhere():
                unknown.setdefault(name, row.where)
            elif library is not None and number_of(subject.native, name) is not None:
                newer.setdefault(name, row.where)
    for names, what in (
        (unknown, f"unknown syscall: {listed(unknown)}{version}"),
        (newer, f"{listed(newer)}{version}"),
    ):
        if not names:
            continue
        they, stay = ("it", "stays") if len(names) == 1 else ("them", "stay")
        effect = (
            f"runtimes ignore {they}, and {'it' if they == 'it' else 'they'} {stay} "
            f"{'allowed' if denies else 'refused'}"
        )
        where = next(iter(names.values()))
        if names is unknown:
            fix = "correct the name, or remove it"
            level = "error" if denies else "warning"
            yield Finding("unknown-name", level, where, f"{what}: {effect}", fix, tuple(names))
        else:
            fix = "list what is allowed instead" if denies else "install a newer libseccomp where it is needed"
            what = f"the libseccomp installed here does not know {what}: {effect}"
            yield Finding("unknown-name", "error" if denies else "note", where, what, fix, tuple(names))


def _swallowed(subject: Subject) -> Iterator[Finding]:
    whole = {(name, row.allows): row.where for row in reversed(subject.rows) if not row.tests for name in row.names}
    for row in subject.rows:
        names = [name for name in row.names if (name, row.allows) in whole] if row.tests else []
        if names:
            place = whole[names[0], row.allows]
            what = f"the conditions on {listed(names)} have no effect: {place} has the same action without conditions"
            fix = f"remove the name from {place}, or remove this rule"
            yield Finding("swallowed", "warning", row.where, what, fix, tuple(names))


def _contradicted(subject: Subject) -> Iterator[Finding]:
    first: dict[str, Row] = {}
    for row in subject.rows:
        for name in () if row.tests else row.names:
            before = first.setdefault(name, row)
            if before.allows != row.allows:
                here = "allowed" if row.allows else "refused"
                what = f"{printable(name)} is {here} here, but not in {before.where}, which comes first and applies"
                yield Finding("contradiction", "warning", row.where, what, "remove one of the two", (name,))


def _twice(subject: Subject) -> Iterator[Finding]:
    for row in subject.rows:
        positions = [test.position for test in row.tests]
        again = next((position for position in positions if positions.count(position) > 1), None)
        if again is not None:
            yield Finding(
                "one-argument-twice",
                "error",
                row.where,
                f"{listed(row.names)}: two conditions on argument {again}; runtimes treat them as alternatives, "
                "and do not require both",
                "use one condition for each argument: SCMP_CMP_MASKED_EQ, or a rule for each value",
                tuple(row.names),
            )


_ABOVE = ("GT", "GE", "NE")


def _is_int(name: str, abi: str, position: int) -> bool:
    spec = spec_for(name, abi)
    return (
        spec is not None
        and not spec.pointer
        and position in spec.positions
        and spec.masks[spec.positions.index(position)] <= INT
        and ABIS[abi].bits == 64
    )


def _passes_above(test: Test, allows: bool) -> bool:
    """Return whether a value that the test is meant to refuse passes with bits set in the upper half."""
    if test.operator == "MASKED_EQ":
        return not allows and bool(test.value & ~INT & REGISTER)
    if test.operator == "GE" and test.value == 0:
        return False
    return (test.operator in _ABOVE) == allows


def _unmasked(subject: Subject) -> Iterator[Finding]:
    narrow: list[str] = []
    for row in subject.rows:
        for test in row.tests:
            names = [name for name in row.names if _is_int(name, subject.native, test.position)]
            if names and _passes_above(test, row.allows):
                what = (
                    f"{listed(names)}: {test.operator} compares 64 bits of argument {test.position}, "
                    "but the kernel reads 32"
                )
                yield Finding(
                    "upper-half",
                    "error",
                    row.where,
                    f"{what}: every value passes if a bit in the upper half is set",
                    "use SCMP_CMP_MASKED_EQ with the mask 0xffffffff, one rule for each allowed value",
                    tuple(names),
                )
            elif names and test.operator != "MASKED_EQ" and row.allows:
                narrow += [name for name in names if name not in narrow]
    if narrow:
        yield Finding(
            "unmasked",
            "note",
            "",
            f"{listed(narrow)}: 64 bits of an int are compared; a program that sets bits in the upper half is refused",
            "use SCMP_CMP_MASKED_EQ with the mask 0xffffffff",
            tuple(narrow),
        )


def _docker_only(subject: Subject) -> Iterator[Finding]:
    if subject.written is None:
        return
    rows = [row for row in subject.written.rows if row.conditional]
    if not rows and not subject.written.arch_map:
        return
    what = f"{len(rows)} rules with includes or excludes" if rows else "archMap"
    docker = subject.rights.kind == "seccomp"
    yield Finding(
        "docker-only",
        "note" if docker else "error",
        rows[0].where if rows else "archMap",
        f"{what}: only Docker and Podman read them, other runtimes "
        + ("apply such rules unconditionally" if rows else "ignore them"),
        "keep it for Docker and Podman" if docker else "write rules without conditions",
    )


def _problems(subject: Subject) -> Iterator[Finding]:
    for row in subject.rights.problems:
        yield Finding(row.rule, "error", row.where, row.what, row.fix, key=(row.what,))


def _refused_rules(subject: Subject) -> Iterator[Finding]:
    """Find rules that the installed libseccomp does not accept: runc does not start a container with them."""
    written, native = subject.written, subject.native
    if subject.library is None or written is None or not _is_native(native):
        return
    default = _number(written.default, written.default_errno)
    listed_rules: list[tuple[Row, TriedRule]] = []
    for row in subject.rows:
        action = _number(row.action, EPERM if row.errno is None else row.errno)
        for name in row.names if action != default else ():
            for tests in by_argument(row.tests):
                conditions = [(one.position, OPERATORS[one.operator], one.value, one.value_two) for one in tests]
                listed_rules.append((row, (action, name, conditions)))
    rules = [rule for _, rule in listed_rules]
    if len({action for action, *_ in rules}) < 2 and not any("joined" in one.rule for one in subject.rights.problems):
        return  # rules with one action are all accepted
    arches = [ABIS[abi].audit_arch | (_X32 if abi == "x32" else 0) for abi in subject.rights.abis[1:]]
    trial = tried(default, arches, rules)
    if trial is not None and not trial.finished:
        what = "libseccomp does not come to an end with these rules, so runc does not start a container"
        yield Finding("refused-rule", "error", "syscalls", what, "use SCMP_CMP_EQ and SCMP_CMP_MASKED_EQ only")
    refused: dict[str, list[str]] = {}
    for position in trial.refused if trial is not None else ():
        row, (_, name, _) = listed_rules[position]
        refused.setdefault(row.where, []).append(name)
    for where, names in refused.items():
        what = f"{listed(names)}: contradicts an earlier rule with another action; runc does not start a container"
        if subject.rights.abis[1:] and any(implied(name) for name in names):
            what += " (for i386, rules of socket and IPC calls meet in socketcall and ipc)"
        fix = "give the rules of a call one action, or other conditions"
        yield Finding("refused-rule", "error", where, what, fix, tuple(names))


_X32 = 0x40000000
"""What libseccomp's number for x32 has besides the audit architecture (seccomp.h, SCMP_ARCH_X32)."""


def _is_native(abi: str) -> bool:
    try:
        return abi == native_abi()
    except ValueError:
        return False


def _number(action: str, errno: int) -> int:
    return ACTIONS[action] | (errno & 0xFFFF if action in ("ERRNO", "TRACE") else 0)


# Capabilities, paths, evidence.


def _capabilities(subject: Subject) -> Iterator[Finding]:
    for name in sorted(subject.rights.capabilities or (), key=capability_order):
        risk = capability_risk(name)
        if risk.level in ("critical", "high") and name in CAPABILITIES:
            level = "warning" if risk.level == "critical" else "note"
            fix = "check whether it works without"
            yield Finding("wide-capability", level, "capabilities", f"{name}: {risk.why}", fix, (name,))


def _base(rule: FileRule) -> tuple[str, str]:
    """Return the directory before the first class of a pattern that matches whole names, and the class; or nothing."""
    text = ""
    for token in parse(rule.pattern):
        if isinstance(token, Literal):
            text += token.text
        elif token.name in ("tree", "name"):
            return text.rpartition("/")[0] or "/", token.name
        else:
            text += "/home/user" if token.name == "home" else "0"
    return text, ""


def _wide_paths(subject: Subject) -> Iterator[Finding]:
    for rule in subject.rights.files or ():
        directory, sort = _base(rule)
        if not sort:
            continue
        tier, _ = tier_of(directory)
        top = directory.strip("/").count("/") == 0 and tier not in ("temporary", "data")
        # /proc and /sys have many numbered names, and one {name} below them does not match a whole tree.
        if not (sort == "tree" and (top or tier in ("guarded", "kernel"))) and directory != "/":
            continue
        level = "error" if directory == "/" or CHANGES & set(rule.access) else "warning"
        what = (
            f"{printable(rule.pattern)} ({', '.join(rule.access)}): everything below {printable(directory)}, "
            "existing and future"
        )
        fix = "name the paths, or a directory of the application itself"
        yield Finding("wide-path", level, "files", what, fix, (rule.pattern,))


def _write_execute(subject: Subject) -> Iterator[Finding]:
    rules = subject.rights.files or ()
    runs = [rule for rule in rules if _RUNS & set(rule.access)]
    writes = [rule for rule in rules if _WRITES & set(rule.access)]
    executed = {rule.pattern for rule in runs if "execute" in rule.access}
    for pattern in dict.fromkeys(_common([rule.pattern for rule in runs], [rule.pattern for rule in writes])):
        done = "executed" if any(covers(one, pattern) for one in executed) else "mapped as code"
        what = f"{printable(pattern)} can be written and {done}: whoever can write a file there can run it"
        fix = "keep code where the application cannot write"
        yield Finding("write-execute", "warning", "files", what, fix, (pattern,))


def _common(some: Sequence[str], others: Sequence[str]) -> Iterator[str]:
    """Yield the patterns of either list that contain one of the other. Only those with classes are compared."""
    for a, b in ((some, others), (others, some)):
        names = frozenset(b)
        wide = [pattern for pattern in dict.fromkeys(b) if not is_literal(pattern)]
        yield from (pattern for pattern in a if pattern in names or any(covers(one, pattern) for one in wide))


def _caveats(subject: Subject) -> Iterator[Finding]:
    for caveat in caveats(subject.policy) if subject.policy is not None else ():
        yield Finding(caveat.rule, caveat.level, caveat.where, printable(caveat.what), caveat.fix)


def _outdated_head(subject: Subject) -> Iterator[Finding]:
    if subject.outdated:
        file = Path(subject.rights.source)
        what = "the comments at the top were written for other entries: a reviewer would be misled"
        yield Finding("outdated-head", "note", "", what, f"renew them: {profgen('merge', file, '-o', file)}")


CHECKS: Mapping[str, tuple[Check, str, str]] = {
    "default-allows": (_default_allows, "error", "what is not listed is allowed"),
    "kill-thread": (_kill_thread, "warning", "a refused call kills one thread and leaves the rest"),
    "errno-trap": (_errno_trap, "warning", "calls with a fallback get an answer other than ENOSYS"),
    "enosys-for-all": (_enosys_for_all, "note", "ENOSYS for everything that is refused"),
    "errno-zero": (_errno_zero, "error", "a refused call seems to succeed"),
    "errno-misplaced": (_errno_misplaced, "error", "errnoRet with an action that does not use it"),
    "no-architectures": (_architectures, "warning", "the machine's own architecture is not listed"),
    "unknown-architecture": (_architectures, "error", "an unknown architecture"),
    "more-abis": (_more_abis, "warning", "x32 or 32-bit calls are allowed as well"),
    "twin-open": (
        _overlooked,
        "warning",
        "a call is refused, but another that does the same is not, such as execveat",
    ),
    "multiplexer": (_multiplexers, "warning", "socketcall or ipc bypasses rules for the calls whose work it does"),
    "io-uring": (_multiplexers, "warning", "io_uring bypasses rules for the calls whose work it does"),
    "clone3-open": (_clone3, "error", "clone cannot create namespaces, but clone3 can"),
    "clone3-errno": (_clone3, "error", "clone3 is refused with an answer other than ENOSYS"),
    "user-namespace": (_user_namespace, "warning", "a program can create a user namespace"),
    "unknown-name": (_unknown_names, "warning", "a name that profgen or the installed libseccomp does not know"),
    "swallowed": (_swallowed, "warning", "conditions on a call that another rule allows (or refuses) unconditionally"),
    "contradiction": (_contradicted, "warning", "a call is both allowed and refused"),
    "one-argument-twice": (_twice, "error", "two conditions on one argument in one rule"),
    "joined-wrongly": (_problems, "error", "rules that libseccomp compiles to something else"),
    "refused-rule": (
        _refused_rules,
        "error",
        "a rule that libseccomp refuses: runtimes do not start a container",
    ),
    "not-started": (_problems, "error", "runtimes do not start a container with the file"),
    "unknown-key": (_problems, "error", "a key that runtimes ignore, such as arg for args"),
    "upper-half": (_unmasked, "error", "a comparison of 64 bits that an int can pass with bits set in its upper half"),
    "unmasked": (_unmasked, "note", "a comparison of 64 bits that refuses more than intended"),
    "docker-only": (_docker_only, "note", "conditions that only Docker and Podman apply"),
    "wide-capability": (_capabilities, "warning", "a capability that gives access to the host"),
    "wide-path": (_wide_paths, "warning", "a whole tree below / or below a directory that many programs share"),
    "write-execute": (_write_execute, "warning", "a path that can be written and executed"),
    "incomplete": (_caveats, "error", "the policy comes from a recording that lost something"),
    "denials-only": (_caveats, "warning", "the policy comes from denials alone"),
    "joined": (_caveats, "warning", "the policy comes from a recording that began while the workload ran"),
    "idle": (_caveats, "warning", "the policy comes from a recording that joined something idle"),
    "own-filter": (_caveats, "warning", "the workload has a seccomp filter of its own, so calls may be missing"),
    "read-implies-exec": (_caveats, "warning", "the workload makes what it reads executable"),
    "io-uring-files": (_caveats, "warning", "files used through io_uring are in no policy"),
    "unknown-number": (_caveats, "warning", "syscalls without a name"),
    "unknown-capability": (_caveats, "warning", "capabilities without a name"),
    "outdated-head": (_outdated_head, "note", "the head of a policy does not say what its entries say"),
}
"""Rule name to the function that finds it, its usual level, and its one-line description."""

RULES: Mapping[str, Rule] = {name: Rule(level, text) for name, (_, level, text) in CHECKS.items()} | dict(image.RULES)


def lint(
    source: Source, abi: str, capabilities: frozenset[str] | None = None, library: Library | None = None
) -> tuple[Finding, ...]:
    """Return the findings on a policy or profile, errors first.

    ``capabilities``: as for Source.rights. ``library``: the installed one by default. Raises InputError for a trace,
    which is evidence and allows nothing.
    """
    if source.kind not in KINDS:
        raise InputError(f"{source.name} is a trace: generate a policy from it (profgen generate) and lint that")
    rights = source.rights(abi, capabilities)
    if source.policy is not None:
        profile = _profile_of(source.policy, abi)
        rights = replace(rights, written=profile.written, problems=profile.problems)
    subject = Subject(rights, rights.written, source.policy, library or installed(), source.outdated)
    checks = dict.fromkeys(check for check, *_ in CHECKS.values())
    return by_level(finding for check in checks for finding in check(subject))


def report(source: Source, fail_on: str = "warning", of_image: Image | None = None) -> Report:
    """Return the findings on a file as a report. ``fail_on``: the least level that makes the command fail, or
    ``never``. ``of_image``: the image that the file is for. Raises InputError as ``lint`` does."""
    library = installed()
    found = lint(source, machine(source), library=library)
    if of_image is not None:
        found = by_level((*found, *image.findings(source, machine(source), of_image)))
    version = library.version if library else None
    findings = located(found, source.content)
    data = {"libseccomp": version, **({} if of_image is None else {"image": of_image.name})}
    return Report("lint", source.name, RULES, findings, failing=at_least(fail_on), data=data)


def _profile_of(policy: Policy, abi: str) -> Rights:
    from profiler.targets.seccomp import profile

    return from_bytes(json.dumps(profile(policy, "errno")).encode(), "seccomp.json").rights(abi, None)
