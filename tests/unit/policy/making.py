"""Small traces for tests, and independent judges of what a seccomp profile allows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyseccomp
from hypothesis import strategies as st

from profiler.kernel.arguments import recorded_names, spec_for
from profiler.kernel.syscalls import names_of, number_of
from profiler.policy.derive import derive
from profiler.policy.model import Allowed, Options, Policy
from profiler.trace.model import (
    FILES_FEATURE,
    Arguments,
    Capability,
    Exec,
    File,
    Inspection,
    Meta,
    Mount,
    Program,
    Results,
    Signal,
    Socket,
    Syscall,
    Trace,
)

Values = Iterable[tuple[int, ...]]


def call(
    name: str,
    values: Values | None = None,
    *,
    abi: str = "x86_64",
    calls: int | None = None,
    ok: int = 1,
    errors: Mapping[str, int] | None = None,
    overflow: bool = False,
) -> Syscall:
    """A row for a known syscall; ``values`` are its recorded arguments."""
    number = number_of(abi, name)
    assert number is not None, (abi, name)
    arguments = None
    if values is not None or overflow:
        spec = spec_for(name)
        assert spec is not None
        arguments = Arguments(spec.fields, {value: frozenset({0}) for value in values or ()}, overflow)
    times = calls or (sum((errors or {}).values()) if errors and not ok else 10)
    return Syscall(abi, number, name, times, Results(ok, dict(errors or {})), 0.0, 1.0, {0: times}, arguments)


def unknown(number: int, abi: str = "x86_64") -> Syscall:
    return Syscall(abi, number, None, 1, Results(0, {"ENOSYS": 1}), 0.0, 1.0, {0: 1})


def check(name: str, **fields: Any) -> Capability:
    defaults: dict[str, Any] = {
        "namespace": "initial",
        "verdict": "granted",
        "audited": True,
        "decisive": True,
        "inferred": False,
        "count": 1,
        "first": 0.0,
        "last": 0.0,
        "programs": frozenset({0}),
        "syscalls": {"bind": 1},
    }
    return Capability(capability=name, **{**defaults, **fields})


def trace(*syscalls: Syscall, capabilities: Sequence[Capability] = (), **meta: Any) -> Trace:
    defaults: dict[str, Any] = {
        "tool": "profgen",
        "tracer": "ebpf",
        "features": (),
        "kernel": "6.18",
        "arch": "x86_64",
        "distribution": None,
        "libc": None,
        "argv": ("/usr/sbin/app", "-d"),
        "cwd": "/",
        "uid": 0,
        "gid": 0,
        "groups": (),
        "no_new_privs": False,
        "start": "2026-01-01T00:00:00+00:00",
        "duration": 1.0,
        "exit_status": 0,
        "complete": True,
        "losses": {},
        "last_new": 0.5,
    }
    return Trace(Meta(**{**defaults, **meta}), (Program("/usr/sbin/app", executions=1),), syscalls, tuple(capabilities))


NONE = Options(runtime="none")


def derived(*syscalls: Syscall, options: Options = NONE, **meta: object) -> Policy:
    return derive(trace(*syscalls, **meta), options)


def entry(policy: Policy, name: str, section: str | None = None, abi: str = "x86_64") -> Allowed:
    found = [row for row in policy.syscalls if row.name == name and row.abi == abi and section in (None, row.section)]
    assert len(found) == 1, (name, found)
    return found[0]


def names(policy: Policy, section: str | None = None) -> set[str]:
    return {row.name for row in policy.syscalls if section in (None, row.section)}


def permits(policy: Policy, name: str, **arguments: int) -> bool:
    registers = [0] * 6
    for key, value in arguments.items():
        registers[int(key[1:])] = value
    return policy.permits("x86_64", name, registers)


PROGRAMS = (
    Program("/usr/sbin/app", executions=1),
    Program("/bin/sh", executions=1),
    Program("/usr/bin/tool", "/usr/bin/python3.11", executions=1),
)


def file(path: str, access: str = "read", results: Mapping[str, int] | str = "ok", **fields: Any) -> File:
    """A use of a path that is not the user's own, unless ``own`` says so."""
    own = fields.pop("own", access in ("create", "make"))
    defaults: dict[str, Any] = {
        "kind": "file",
        "state": "linked",
        "results": {results: 1} if isinstance(results, str) else dict(results),
        "owner": frozenset({"self" if own else "other"}),
        "programs": frozenset({0}),
        "first": 0.0,
        "last": 1.0,
    }
    return File(path=path, access=access, **{**defaults, **fields})


def uses(path: str, words: str, **fields: Any) -> list[File]:
    """Several uses of one path, each word an access."""
    return [file(path, word, **fields) for word in words.split()]


def touching(
    *files: File,
    sockets: Sequence[Socket] = (),
    signals: Sequence[Signal] = (),
    inspections: Sequence[Inspection] = (),
    mounts: Sequence[Mount] = (),
    execs: Sequence[Exec] = (),
    syscalls: Sequence[Syscall] = (),
    **meta: Any,
) -> Trace:
    """A trace of a recording that watched files."""
    plain = trace(*syscalls, **{"features": (FILES_FEATURE,), **meta})
    return Trace(
        plain.meta,
        PROGRAMS,
        plain.syscalls,
        (),
        tuple(execs),
        files,
        tuple(sockets),
        tuple(signals),
        tuple(inspections),
        tuple(mounts),
    )


PLAIN = sorted(names_of("x86_64") - recorded_names())
FILTERED = sorted(name for name in recorded_names() & names_of("x86_64") if name != "clone3")
FLAGS = st.integers(0, (1 << 32) - 1) | st.sampled_from([0, 0x20000, 0x10000000, 0x7E020000, 0x20020000, 0x80000000])


@st.composite
def rows(draw: st.DrawFn) -> list[Syscall]:
    """Rows of known x86-64 syscalls, some with argument values, some that only failed."""
    names = draw(st.lists(st.sampled_from(PLAIN), unique=True, max_size=12))
    found = [
        call(
            name,
            ok=draw(st.sampled_from([0, 1])),
            errors=draw(st.sampled_from([{}, {"ENOENT": 1}, {"EPERM": 1, "EINTR": 2}])),
        )
        for name in names
    ]
    for name in draw(
        st.lists(st.sampled_from([*FILTERED, "clone3", "socket", "clone", "mmap"]), unique=True, max_size=6)
    ):
        spec = spec_for(name)
        assert spec is not None
        value = st.tuples(*(FLAGS.map(lambda number, mask=mask: number & mask) for mask in spec.masks))
        small = st.tuples(*(st.integers(0, 7).map(lambda number, mask=mask: number & mask) for mask in spec.masks))
        values = draw(st.lists(value | small, unique=True, max_size=draw(st.sampled_from([3, 100]))))
        found.append(call(name, values, overflow=draw(st.integers(0, 9)) == 0))
    return found


# Judge 1: the OCI profile, read as the runtime specification words it.


def oci_verdict(profile: Mapping[str, Any], name: str, arguments: Sequence[int]) -> str:
    """``allow``, ``errno N`` or ``default``. An unconditional rule wins over conditional ones, as in libseccomp."""
    found = []
    for rule in profile["syscalls"]:
        if name not in rule["names"]:
            continue
        conditions = rule.get("args", [])
        assert len({condition["index"] for condition in conditions}) == len(conditions)
        assert all(condition["op"] == "SCMP_CMP_MASKED_EQ" for condition in conditions)
        if all(arguments[c["index"]] & c["value"] == c["valueTwo"] & c["value"] for c in conditions):
            found.append("allow" if rule["action"] == "SCMP_ACT_ALLOW" else f"errno {rule['errnoRet']}")
    assert len(set(found)) <= 1, "rules of one call contradict each other"
    return found[0] if found else "default"


# Judge 2: libseccomp's own program for the profile, run by a tiny interpreter.

DEFAULT_ERRNO = 133
"""Chosen because no call of these tests fails with it by itself."""


def seccomp_filter(profile: Mapping[str, Any], only: Iterable[str] | None = None) -> pyseccomp.SyscallFilter:
    """A libseccomp filter of the profile. With ``only``, every other syscall is allowed."""
    built = pyseccomp.SyscallFilter(pyseccomp.ERRNO(DEFAULT_ERRNO))
    kept = None if only is None else set(only)
    if kept is not None:
        for name in sorted(names_of("x86_64") - kept):
            try:
                built.add_rule(pyseccomp.ALLOW, name)
            except (OSError, ValueError):
                built.add_rule(pyseccomp.ALLOW, number_of("x86_64", name))
    for rule in profile["syscalls"]:
        action = pyseccomp.ALLOW if rule["action"] == "SCMP_ACT_ALLOW" else pyseccomp.ERRNO(rule["errnoRet"])
        args = [pyseccomp.Arg(c["index"], pyseccomp.MASKED_EQ, c["value"], c["valueTwo"]) for c in rule.get("args", [])]
        for name in rule["names"]:
            if kept is not None and name not in kept:
                continue
            try:
                built.add_rule(action, name, *args)
            except (OSError, ValueError):
                number = number_of("x86_64", name)
                if number is not None:
                    built.add_rule(action, number, *args)
    return built
