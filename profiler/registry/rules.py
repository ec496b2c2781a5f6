"""The rules for a seccomp profile that a runtime pulls as an OCI artifact.

Sources: KEP-6061 (kubernetes/enhancements, keps/sig-node/6061-oci-artifact-security-profiles), what CRI-O refuses
(internal/securityprofile), and the checks of the library behind both (sigs.k8s.io/security-profiles-merger,
seccomp/validate.go, UnmarshalStrict and ValidateArtifact).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from profiler.quoting.text import printable
from profiler.registry.clauses import (
    WITH_ERRNO,
    Answer,
    Clause,
    Comparison,
    Entry,
    Filter,
    answer,
    dependable,
    expanded,
    filter_of,
)

SIZE_MAX = 1 << 20
ENTRIES_MAX = 128
"""Entries that name one syscall."""
CLAUSES_MAX = 256
"""Rules that one syscall loads."""
NAMES_MAX = 1024
"""Names of one entry."""
ALL_CLAUSES_MAX = 16384
"""Rules that the whole profile loads."""
ERRNO_MAX = 4095

RULES: Mapping[str, str] = {
    "artifact-size": "a profile of more than 1 MiB",
    "artifact-json": "not one strict JSON object with the members of the OCI runtime specification alone",
    "artifact-value": "an action, architecture, flag, operator, argument or errno that runtimes do not accept",
    "artifact-listener": "SCMP_ACT_NOTIFY or listener settings, which belong to the node",
    "artifact-limit": "more entries, names or rules than runtimes accept",
    "artifact-conflict": "rules of one syscall with different answers that libseccomp does not keep apart",
}
"""What makes a runtime refuse an artifact."""

ACTIONS = frozenset(
    f"SCMP_ACT_{word}"
    for word in ("KILL", "KILL_PROCESS", "KILL_THREAD", "TRAP", "ERRNO", "TRACE", "ALLOW", "LOG", "NOTIFY")
)
OPERATORS = frozenset(f"SCMP_CMP_{word}" for word in ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"))
FLAGS = frozenset(f"SECCOMP_FILTER_FLAG_{word}" for word in ("TSYNC", "LOG", "SPEC_ALLOW", "WAIT_KILLABLE_RECV"))
ARCHITECTURES = frozenset(
    f"SCMP_ARCH_{word}"
    for word in (
        "X86", "X86_64", "X32", "ARM", "AARCH64", "MIPS", "MIPS64", "MIPS64N32", "MIPSEL", "MIPSEL64", "MIPSEL64N32",
        "PPC", "PPC64", "PPC64LE", "S390", "S390X", "PARISC", "PARISC64", "RISCV64", "LOONGARCH64", "M68K", "SH",
        "SHEB",
    )
)  # fmt: skip
"""What the OCI runtime specification names (1.3)."""
_NARROW = frozenset(
    f"SCMP_ARCH_{word}"
    for word in (
        "X86",
        "X32",
        "ARM",
        "MIPS",
        "MIPS64N32",
        "MIPSEL",
        "MIPSEL64N32",
        "PPC",
        "S390",
        "PARISC",
        "M68K",
        "SH",
    )
)
"""Architectures of which libseccomp compares the lower 32 bits of an argument alone."""
_ARCHIVES = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")

_UINT = (1 << 64) - 1
_PROFILE = {
    "defaultAction": "text", "defaultErrnoRet": "number", "architectures": "texts", "flags": "texts",
    "listenerPath": "text", "listenerMetadata": "text", "syscalls": "objects",
}  # fmt: skip
_SYSCALL = {"names": "texts", "action": "text", "errnoRet": "number", "args": "objects"}
_ARGUMENT = {"index": "number", "value": "number", "valueTwo": "number", "op": "text"}
_KINDS = {
    "text": lambda value: isinstance(value, str),
    "number": lambda value: isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _UINT,
    "texts": lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
    "objects": lambda value: isinstance(value, list) and all(isinstance(item, dict) for item in value),
}
_WORDS = {
    "text": "a string",
    "number": "an integer that is not negative",
    "texts": "a list of strings",
    "objects": "a list of objects",
}


@dataclass(frozen=True)
class Broken:
    """A rule that a profile breaks: a key of RULES, the place in the profile, and what is wrong. ``names``: the
    syscalls."""

    rule: str
    where: str
    what: str
    names: tuple[str, ...] = ()


def broken(data: bytes) -> tuple[Broken, ...]:
    """Return everything for which a runtime refuses a profile with these bytes."""
    if len(data) > SIZE_MAX:
        return (Broken("artifact-size", "", f"{len(data)} bytes, where runtimes accept {SIZE_MAX}"),)
    if data.startswith(_ARCHIVES) or data[257:262] == b"ustar":
        return (Broken("artifact-json", "", "the layer is an archive, where runtimes expect the profile itself"),)
    try:
        profile = _strict(data)
    except ValueError as error:
        return (Broken("artifact-json", "", str(error)),)
    wrong = tuple(_members(profile))
    return wrong or tuple(_checks(profile))


def entries(profile: Mapping[str, Any]) -> Iterator[Entry]:
    """Yield the entries of a profile that breaks no rule."""
    for row in profile.get("syscalls") or ():
        yield Entry(
            tuple(row.get("names") or ()),
            answer(row["action"], row.get("errnoRet")),
            tuple(
                Comparison(one.get("index") or 0, one.get("value") or 0, one.get("valueTwo") or 0, one["op"][9:])
                for one in row.get("args") or ()
            ),
        )


def loaded(profile: Mapping[str, Any]) -> Filter:
    """Return what runtimes load from a profile that breaks no rule."""
    return filter_of(_default(profile), entries(profile))


def _default(profile: Mapping[str, Any]) -> Answer:
    return answer(profile["defaultAction"], profile.get("defaultErrnoRet"))


def _strict(data: bytes) -> dict[str, Any]:
    """Return the JSON object. Raises ValueError."""

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        twice = next((key for key, number in Counter(key for key, _ in pairs).items() if number > 1), None)
        if twice is not None:
            raise ValueError(f"member {printable(twice)[:40]!r} is given twice")
        return dict(pairs)

    def constant(word: str) -> None:
        raise ValueError(f"{word} is not JSON")

    try:
        found = json.loads(data.decode("utf-8"), object_pairs_hook=members, parse_constant=constant)
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 (byte {error.start})") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} (line {error.lineno})") from error
    if not isinstance(found, dict):
        raise ValueError("it is not a JSON object")
    return found


def _members(profile: dict[str, Any]) -> Iterator[Broken]:
    """Yield members that the specification does not have, and values of another type."""
    yield from _object(profile, _PROFILE, "")
    for number, row in enumerate(_rows(profile.get("syscalls"))):
        yield from _object(row, _SYSCALL, f"syscalls[{number}]")
        for position, test in enumerate(_rows(row.get("args"))):
            yield from _object(test, _ARGUMENT, f"syscalls[{number}].args[{position}]")


def _rows(value: Any) -> list[dict[str, Any]]:
    return value if _KINDS["objects"](value) else []


def _object(value: dict[str, Any], known: Mapping[str, str], where: str) -> Iterator[Broken]:
    for key, item in value.items():
        place = f"{where}.{key}".lstrip(".")
        if key not in known:
            what = f"{printable(key)[:40]!r} is not a member of the OCI runtime specification"
            yield Broken("artifact-json", printable(place)[:80], what)
        elif item is not None and not _KINDS[known[key]](item):
            yield Broken("artifact-json", place, f"it is not {_WORDS[known[key]]}")


def _checks(profile: Mapping[str, Any]) -> Iterator[Broken]:
    rows = profile.get("syscalls") or ()
    values = [
        *_action(profile.get("defaultAction"), "defaultAction"),
        *_errno(profile.get("defaultAction"), profile.get("defaultErrnoRet"), "defaultErrnoRet"),
        *_words(profile, "architectures", ARCHITECTURES),
        *_words(profile, "flags", FLAGS),
        *(wrong for number, row in enumerate(rows) for wrong in _entry(row, f"syscalls[{number}]")),
        *_wide(profile),
    ]
    yield from values
    yield from _listener(profile)
    yield from _limits(rows)
    if not values:  # the rules can be read
        yield from _conflicts(profile)


def _action(word: Any, where: str) -> Iterator[Broken]:
    if word is None:
        yield Broken("artifact-value", where, "there is no action")
    elif word not in ACTIONS:
        yield Broken("artifact-value", where, f"unknown action {printable(word)[:40]!r}")


def _errno(action: Any, errno: int | None, where: str) -> Iterator[Broken]:
    if errno is None:
        return
    if str(action).removeprefix("SCMP_ACT_") not in WITH_ERRNO:
        yield Broken(
            "artifact-value", where, f"{printable(str(action))[:40]} returns no errno: crun refuses the profile"
        )
    elif errno > ERRNO_MAX:
        yield Broken("artifact-value", where, f"{errno} is above {ERRNO_MAX}, the largest errno of the kernel")


def _words(profile: Mapping[str, Any], key: str, known: frozenset[str]) -> Iterator[Broken]:
    for word, number in Counter(profile.get(key) or ()).items():
        if word not in known:
            yield Broken("artifact-value", key, f"unknown: {printable(word)[:40]!r}")
        elif number > 1:
            yield Broken("artifact-value", key, f"{word} is given {number} times")


def _entry(row: Mapping[str, Any], where: str) -> Iterator[Broken]:
    yield from _action(row.get("action"), f"{where}.action")
    yield from _errno(row.get("action"), row.get("errnoRet"), f"{where}.errnoRet")
    if not row.get("names") or "" in row["names"]:
        yield Broken("artifact-value", f"{where}.names", "a syscall without a name")
    for position, test in enumerate(row.get("args") or ()):
        place = f"{where}.args[{position}]"
        if (test.get("index") or 0) > 5:
            yield Broken("artifact-value", place, f"argument {test['index']}: a syscall has the arguments 0 to 5")
        if test.get("op") not in OPERATORS:
            yield Broken("artifact-value", place, f"unknown operator {printable(str(test.get('op')))[:40]!r}")


def _wide(profile: Mapping[str, Any]) -> Iterator[Broken]:
    narrow = sorted(_NARROW.intersection(profile.get("architectures") or ()))
    for number, row in enumerate(profile.get("syscalls") or ()):
        for position, test in enumerate(row.get("args") or ()):
            if narrow and max(test.get("value") or 0, test.get("valueTwo") or 0) >> 32:
                what = f"a value of more than 32 bits, of which libseccomp compares the lower half on {narrow[0]}"
                yield Broken("artifact-value", f"syscalls[{number}].args[{position}]", what)


def _listener(profile: Mapping[str, Any]) -> Iterator[Broken]:
    actions = [("defaultAction", profile.get("defaultAction"), ())]
    actions += [
        (f"syscalls[{number}].action", row.get("action"), tuple(row.get("names") or ()))
        for number, row in enumerate(profile.get("syscalls") or ())
    ]
    for where, action, names in actions:
        if action == "SCMP_ACT_NOTIFY":
            yield Broken(
                "artifact-listener", where, "SCMP_ACT_NOTIFY needs a supervisor, which only the node has", names
            )
    for key in ("listenerPath", "listenerMetadata"):
        if profile.get(key):
            yield Broken("artifact-listener", key, "the listener belongs to the node")
    if "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" in (profile.get("flags") or ()):
        yield Broken(
            "artifact-listener", "flags", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV belongs to the node's listener"
        )


def _limits(rows: Sequence[Mapping[str, Any]]) -> Iterator[Broken]:
    for number, row in enumerate(rows):
        if len(row.get("names") or ()) > NAMES_MAX:
            what = f"{len(row['names'])} names, where runtimes accept {NAMES_MAX}"
            yield Broken("artifact-limit", f"syscalls[{number}].names", what)
    for name, number in Counter(name for row in rows for name in row.get("names") or ()).items():
        if number > ENTRIES_MAX:
            what = f"{printable(name)[:40]} is in {number} entries, where runtimes accept {ENTRIES_MAX}"
            yield Broken("artifact-limit", "syscalls", what, (name,))


def _conflicts(profile: Mapping[str, Any]) -> Iterator[Broken]:
    default = _default(profile)
    numbers: Counter[str] = Counter()
    every: dict[str, list[Clause]] = {}
    for entry in entries(profile):
        loads = len(expanded(entry)) if entry.answer != default else 0
        for name in entry.names:
            numbers[name] += loads
    total = sum(numbers.values())
    if total > ALL_CLAUSES_MAX:
        yield Broken("artifact-limit", "syscalls", f"{total} rules, where runtimes accept {ALL_CLAUSES_MAX}")
        return
    for entry in entries(profile):
        for name in entry.names if entry.answer != default else ():
            if numbers[name] <= CLAUSES_MAX:
                every.setdefault(name, []).extend(expanded(entry))
    for name, number in numbers.items():
        if number > CLAUSES_MAX:
            what = f"{printable(name)[:40]} has {number} rules, where runtimes accept {CLAUSES_MAX}"
            yield Broken("artifact-limit", "syscalls", what, (name,))
    for name, clauses in every.items():
        if len({clause.answer for clause in clauses}) > 1 and _conflict(clauses):
            what = f"{printable(name)[:40]}: rules with different answers overlap, and libseccomp chooses between them"
            yield Broken("artifact-conflict", "syscalls", what, (name,))


def _conflict(clauses: Sequence[Clause]) -> bool:
    """Return whether one of two clauses with different answers holds wherever the other does, or libseccomp compiles
    all of them to something else than they say."""
    for tests in (
        {clause: frozenset(clause.tests) for clause in clauses},
        {clause: _halved(clause) for clause in clauses},
    ):
        pairs = ((a, b) for a in clauses for b in clauses if a.answer != b.answer)
        if any(tests[a] <= tests[b] for a, b in pairs):
            return True
    return not dependable(list(dict.fromkeys(clause for clause in clauses if clause.tests)))


def _halved(clause: Clause) -> frozenset[Comparison]:
    """Return the tests as libseccomp has them for 32 bits."""
    half = 0xFFFFFFFF
    tests = (test._replace(value=test.value & half, two=test.two & half) for test in clause.tests)
    return frozenset(test for test in tests if test.operator != "MASKED_EQ" or test.value)
