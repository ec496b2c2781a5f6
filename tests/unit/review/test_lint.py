"""Every rule of lint: a profile that has the fault, and one that has not; and that what profgen itself writes has
none."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pyseccomp
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from inputs import examples
from unit.policy.making import call, check, trace

from profiler.errors import InputError
from profiler.kernel.data import load
from profiler.kernel.libseccomp import Library
from profiler.policy.derive import derive
from profiler.policy.document import dumps
from profiler.policy.model import FileRule, Options, Policy, Unknown
from profiler.review import image
from profiler.review.findings import LEVELS, Finding, Report
from profiler.review.lint import RULES, lint
from profiler.review.score import score
from profiler.review.sources import from_bytes
from profiler.targets.seccomp import profile
from profiler.trace.store import dumps as trace_dumps

ENOSYS_FOR = ["clone3", *sorted(set(load("fallbacks.yaml")) - {"clone3"})]
X86_64, X86, X32 = "SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"


class Anything:
    """A libseccomp that knows every name except these."""

    version = "2.99.0"

    def __init__(self, *unknown: str) -> None:
        self.unknown = unknown

    def knows(self, name: str) -> bool:
        return name not in self.unknown


def rule(*names: str, action: str = "ALLOW", **members: Any) -> dict[str, Any]:
    return {"names": list(names), "action": f"SCMP_ACT_{action}", **members}


def arg(index: int, value: int, op: str = "EQ", two: int = 0) -> dict[str, Any]:
    return {"index": index, "value": value, "valueTwo": two, "op": f"SCMP_CMP_{op}"}


def seccomp(*rules: Mapping[str, Any], **members: Any) -> dict[str, Any]:
    """Return a profile without faults, plus these rules."""
    named = {name for one in rules for name in one.get("names", ())}
    enosys = rule(*[name for name in ENOSYS_FOR if name not in named], action="ERRNO", errnoRet=38)
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": [X86_64],
        "syscalls": [rule("read", "execve"), enosys, *rules],
        **members,
    }


def found(document: Mapping[str, Any], library: object = None) -> dict[str, Finding]:
    source = from_bytes(json.dumps(document).encode(), "p.json")
    chosen: Any = library or Anything("rwead")
    rows = lint(source, "x86_64", library=chosen)
    assert all(row.level in LEVELS and row.rule in RULES and row.what and row.fix for row in rows)
    return {row.rule: row for row in reversed(rows)}


NO_NAMESPACES = rule("clone", args=[arg(0, 0x7E020000, "MASKED_EQ")])
CLONE3 = rule("clone3", action="ERRNO", errnoRet=38)
FREE = {"includes": {"caps": ["CAP_SYS_ADMIN"]}}

CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    # rule: level, a profile that has it, the nearest one that has not
    "default-allows": ("error", seccomp(defaultAction="SCMP_ACT_ALLOW"), seccomp()),
    "kill-thread": ("warning", seccomp(defaultAction="SCMP_ACT_KILL"), seccomp(defaultAction="SCMP_ACT_KILL_PROCESS")),
    "errno-trap": ("warning", {**seccomp(), "syscalls": [rule("read", "execve"), CLONE3]}, seccomp()),
    "enosys-for-all": ("note", seccomp(defaultErrnoRet=38), seccomp(defaultErrnoRet=1)),
    "errno-zero": (
        "error",
        seccomp(rule("chmod", action="ERRNO", errnoRet=0)),
        seccomp(rule("chmod", action="ERRNO", errnoRet=13)),
    ),
    "errno-misplaced": (
        "error",
        seccomp(rule("chmod", errnoRet=1)),
        seccomp(rule("chmod", action="ERRNO", errnoRet=13)),
    ),
    "no-architectures": ("warning", seccomp(architectures=[]), seccomp()),
    "unknown-architecture": (
        "error",
        seccomp(architectures=[X86_64, "amd64"]),
        seccomp(architectures=[X86_64, "SCMP_ARCH_S390X"]),
    ),
    "more-abis": ("warning", seccomp(architectures=[X86_64, X32]), seccomp(architectures=[X86_64])),
    "twin-open": (
        "warning",
        {**seccomp(rule("execveat")), "syscalls": [rule("read"), *seccomp(rule("execveat"))["syscalls"][1:]]},
        seccomp(rule("execveat")),
    ),
    "multiplexer": (
        "warning",
        seccomp(
            rule("socket", args=[arg(0, 2**32 - 1, "MASKED_EQ", 2)]), rule("socketcall"), architectures=[X86_64, X86]
        ),
        seccomp(rule("socket", args=[arg(0, 2**32 - 1, "MASKED_EQ", 2)]), rule("socketcall")),
    ),
    "io-uring": ("warning", seccomp(rule("io_uring_setup", "io_uring_enter")), seccomp(rule("io_uring_enter"))),
    "clone3-open": ("error", seccomp(NO_NAMESPACES, rule("clone3")), seccomp(NO_NAMESPACES, CLONE3)),
    "clone3-errno": (
        "error",
        seccomp(NO_NAMESPACES, rule("clone3", action="ERRNO", errnoRet=1)),
        seccomp(NO_NAMESPACES, CLONE3),
    ),
    "user-namespace": ("warning", seccomp(rule("clone")), seccomp(NO_NAMESPACES)),
    "unknown-name": ("warning", seccomp(rule("rwead")), seccomp(rule("riscv_hwprobe", "socketcall"))),
    "swallowed": (
        "warning",
        seccomp(rule("socket", args=[arg(0, 2**32 - 1, "MASKED_EQ", 2)]), rule("socket")),
        seccomp(rule("socket", args=[arg(0, 2**32 - 1, "MASKED_EQ", 2)]), rule("socketpair")),
    ),
    "joined-wrongly": (
        "error",
        seccomp(rule("personality", args=[arg(0, 5, "LT")]), rule("personality", args=[arg(1, 9, "NE")])),
        seccomp(rule("personality", args=[arg(0, 5, "LT")]), rule("personality", args=[arg(0, 9, "GT")])),
    ),
    "refused-rule": (
        "error",
        seccomp(rule("personality", args=[arg(0, 5)]), rule("personality", action="TRAP", args=[arg(0, 5)])),
        seccomp(rule("personality", args=[arg(0, 5)]), rule("personality", action="TRAP", args=[arg(0, 6)])),
    ),
    "not-started": (
        "error",
        seccomp(rule("chmod", action="NOTIFY")),
        seccomp(rule("chmod", action="NOTIFY"), listenerPath="/run/agent"),
    ),
    "unknown-key": (
        "error",
        seccomp(rule("personality", arg=[arg(0, 5)])),
        seccomp(rule("personality", args=[arg(0, 5)], comment="a person's")),
    ),
    "contradiction": (
        "warning",
        seccomp(rule("read", action="ERRNO", errnoRet=13)),
        seccomp(rule("write", action="ERRNO", errnoRet=13)),
    ),
    "one-argument-twice": (
        "error",
        seccomp(rule("lseek", args=[arg(1, 5, "GT"), arg(1, 9, "LT")])),
        seccomp(rule("lseek", args=[arg(1, 5, "GT"), arg(2, 9, "LT")])),
    ),
    "upper-half": (
        "error",
        seccomp(rule("socket", args=[arg(0, 40, "GT")])),
        seccomp(rule("lseek", args=[arg(1, 40, "GT")])),
    ),
    "unmasked": (
        "note",
        seccomp(rule("socket", args=[arg(0, 2)])),
        seccomp(rule("socket", args=[arg(0, 2**32 - 1, "MASKED_EQ", 2)])),
    ),
    "docker-only": ("note", seccomp(rule("mount", **FREE)), seccomp(rule("mount"))),
}


@pytest.mark.parametrize("name", CASES)
def test_a_rule_finds_its_fault_and_nothing_else_does(name: str) -> None:
    level, bad, good = CASES[name]
    rows = found(bad)
    assert name in rows, rows
    assert rows[name].level == level
    assert name not in found(good)


POLICY_RULES = {"wide-capability", "wide-path", "write-execute", "outdated-head"}
CAVEATS = {
    "incomplete", "denials-only", "joined", "idle", "own-filter", "read-implies-exec", "io-uring-files",
    "unknown-number", "unknown-capability",
}  # fmt: skip
"""tests/unit/policy/test_caveats.py has a case of each, and tests/unit/review/test_image.py of the rules of images."""


def test_every_rule_has_a_case() -> None:
    assert set(CASES) | POLICY_RULES | CAVEATS | set(image.RULES) == set(RULES)


def test_a_profile_with_nothing_wrong() -> None:
    assert found(seccomp()) == {}


# What the rules say in particular.


@pytest.mark.parametrize(
    ("row", "finds"),
    [
        (rule("socket", args=[arg(0, 40, "GT")]), True),
        (rule("socket", args=[arg(0, 41, "GE")]), True),
        (rule("socket", args=[arg(0, 0, "GE")]), False),
        (rule("socket", args=[arg(0, 38, "NE")]), True),
        (rule("socket", args=[arg(0, 38, "LT")]), False),
        (rule("socket", args=[arg(0, 38)]), False),
        (rule("socket", action="ERRNO", args=[arg(0, 38)]), True),
        (rule("socket", action="ERRNO", args=[arg(0, 38, "LE")]), True),
        (rule("socket", action="ERRNO", args=[arg(0, 38, "GT")]), False),
        (rule("socket", action="ERRNO", args=[arg(0, 2**32 - 1, "MASKED_EQ", 38)]), False),
        (rule("socket", action="ERRNO", args=[arg(0, 2**64 - 1, "MASKED_EQ", 38)]), True),
        (rule("lseek", args=[arg(1, 40, "GT")]), False),
        (rule("clone3", args=[arg(0, 40, "GT")]), False),
    ],
)
def test_comparisons_an_int_gets_past(row: dict[str, Any], finds: bool) -> None:
    assert ("upper-half" in found(seccomp(row))) == finds


def test_the_kernel_looks_at_32_bits_of_what_the_filter_compares_whole() -> None:
    """Load a filter like that of Docker's default profile, to show why upper-half is an error."""
    import ctypes

    child = os.fork()
    if child == 0:
        status = 9
        try:
            gate = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
            gate.add_rule(pyseccomp.ERRNO(1), "socket", pyseccomp.Arg(0, pyseccomp.LE, 40))
            gate.load()
            libc = ctypes.CDLL(None, use_errno=True)
            libc.syscall.restype = ctypes.c_long
            number = pyseccomp.resolve_syscall(pyseccomp.system_arch(), "socket")
            plain, raised = (
                libc.syscall(ctypes.c_long(number), ctypes.c_long(domain), ctypes.c_long(1), ctypes.c_long(0))
                for domain in (1, 1 | 1 << 32)
            )
            status = (plain >= 0) * 2 + (raised < 0)
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, (
        "AF_UNIX was refused, and with something in the upper half it was not"
    )


def test_a_deny_list_with_a_twin() -> None:
    denied = {
        **seccomp(defaultAction="SCMP_ACT_ALLOW"),
        "syscalls": [rule("execve", "finit_module", "mount", action="ERRNO", errnoRet=1)],
    }
    rows = lint(from_bytes(json.dumps(denied).encode(), "p.json"), "x86_64")
    twins = {row.what.split(" ")[0] for row in rows if row.rule == "twin-open"}
    assert twins == {"execve", "mount"}, "init_module is allowed, so finit_module is no surprise"


def test_a_twin_in_an_allow_list_is_only_execveat() -> None:
    assert "twin-open" not in found(seccomp(rule("finit_module", "unlinkat", "fchmodat")))


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (seccomp(rule("write", action="NOTIFY"), listenerPath="/run/agent"), "for write"),
        (seccomp(defaultAction="SCMP_ACT_NOTIFY", listenerPath="/run/agent"), "as the default action"),
        (seccomp(rule("chmod", action="ERRNO", errnoRet=4096)), "go up to 4095; libseccomp refuses it"),
        (seccomp(rule("chmod", action="ERRNO", errnoRet=65537)), "which leaves 1"),
        (seccomp(defaultErrnoRet=5000), "go up to 4095"),
        (seccomp(rule("chmod", action="ERRNO", errno="EWHAT")), "unknown errno 'EWHAT'"),
        (seccomp(rule("chmod", name="chown")), "both name and names"),
        (seccomp(architectures=[X86_64, "SCMP_ARCH_S390X"]), "another byte order"),
        (seccomp(archMap=[{"architecture": X86_64}]), "architectures and archMap"),
        (seccomp(rule("")), "an empty name"),
    ],
)
def test_files_that_no_container_starts_with(document: dict[str, Any], words: str) -> None:
    assert words in found(document)["not-started"].what


def test_a_byte_order_mark() -> None:
    data = json.dumps(seccomp()).encode()
    for mark, expected in ((b"", False), (b"\xef\xbb\xbf", True)):
        rules = {row.rule for row in lint(from_bytes(mark + data, "p.json"), "x86_64")}
        assert ("not-started" in rules) == expected


def test_rules_of_socket_calls_meet_in_socketcall() -> None:
    """Each is accepted on x86-64, where the unconditional one wins."""
    rules = [rule("socket"), rule("socket", action="ERRNO", errnoRet=97, args=[arg(0, 16)])]
    assert "refused-rule" not in found(seccomp(*rules))
    assert "socketcall" in found(seccomp(*rules, architectures=[X86_64, X86]))["refused-rule"].what


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (seccomp(rule("personality", args=[arg(0, 1 << 32)]), architectures=[X86_64, X86]), "i386 compares only"),
        (
            {
                "defaultAction": "SCMP_ACT_ALLOW",
                "architectures": [X86_64, X86],
                "syscalls": [rule("accept", action="ERRNO")],
            },
            "leave out every rule for i386",
        ),
    ],
)
def test_what_libseccomp_compiles_to_something_else(document: dict[str, Any], words: str) -> None:
    assert words in found(document)["joined-wrongly"].what


@pytest.mark.parametrize(("names", "where"), [(["socketcall"], "socket"), (["ipc"], "shmget")])
def test_multiplexers_name_what_they_pass(names: list[str], where: str) -> None:
    row = found(seccomp(rule(*names), architectures=[X86_64, X86]))["multiplexer"]
    assert names[0] in row.what
    assert "i386" in row.what
    everything = seccomp(rule(*names, *json.loads(json.dumps(list(_done_by(names[0]))))), architectures=[X86_64, X86])
    assert "multiplexer" not in found(everything), f"{where} and the rest are allowed anyway"


def _done_by(name: str) -> list[str]:
    return list(load("multiplexers.yaml")[name]["does"])


def test_a_multiplexer_filtered_to_harmless_calls_passes_nothing() -> None:
    listen = seccomp(rule("socketcall", args=[arg(0, 4)]), rule("listen"), architectures=[X86_64, X86])
    assert "multiplexer" not in found(listen)
    any_socket = seccomp(rule("socketcall", args=[arg(0, 1)]), rule("listen"), architectures=[X86_64, X86])
    assert "socket" in found(any_socket)["multiplexer"].what


def test_io_uring_beside_everything_it_does_is_no_finding() -> None:
    assert "io-uring" not in found(seccomp(rule("io_uring_setup", *_done_by("io_uring_setup"))))
    assert (
        "the filter on socket"
        in found(seccomp(rule("io_uring_setup"), rule("socket", args=[arg(0, 2)])))["io-uring"].what
    )


def test_names_the_library_does_not_know() -> None:
    row = found(seccomp(rule("mseal")), Anything("mseal"))["unknown-name"]
    assert (row.level, "2.99.0" in row.what) == ("note", True)
    assert "unknown-name" not in found(seccomp(rule("mseal")), Anything())
    denied = seccomp(rule("mseal", action="ERRNO", errnoRet=1), defaultAction="SCMP_ACT_ALLOW")
    assert found(denied, Anything("mseal"))["unknown-name"].level == "error", "it stays allowed"
    refused = seccomp(rule("rwead", action="ERRNO", errnoRet=13))
    assert "unknown-name" not in found(refused, Anything("rwead")), "it stays refused"
    assert "unknown-name" not in found(seccomp(rule("socketcall")), Anything("socketcall")), "no call of this machine's"


def test_a_call_that_kills_where_programs_fall_back() -> None:
    document = seccomp(defaultAction="SCMP_ACT_KILL_PROCESS")
    document["syscalls"] = [rule("read", "clone", "execve")]
    rows = found(document)
    assert "end the program" in rows["errno-trap"].what
    assert "SCMP_ACT_KILL_PROCESS" in rows["clone3-errno"].what


def test_what_logs_is_a_warning() -> None:
    assert found(seccomp(defaultAction="SCMP_ACT_LOG"))["default-allows"].level == "warning"


def test_conditions_count_for_this_machine_only() -> None:
    # without CAP_SYS_ADMIN, which docker run does not give, clone3 stays refused
    guarded = seccomp(NO_NAMESPACES, {**rule("clone3"), **FREE}, {**CLONE3, "excludes": {"caps": ["CAP_SYS_ADMIN"]}})
    assert "clone3-open" not in found(guarded)
    source = from_bytes(json.dumps(guarded).encode(), "p.json")
    assert "clone3-open" in {row.rule for row in lint(source, "x86_64", frozenset({"CAP_SYS_ADMIN"}))}


def test_conditions_in_a_config_are_an_error() -> None:
    config = {
        "ociVersion": "1.0.2",
        "process": {"noNewPrivileges": True},
        "linux": {"seccomp": seccomp(rule("mount", **FREE))},
    }
    rows = found(config)
    assert rows["docker-only"].level == "error"
    assert "default-allows" not in rows
    bare = found({"ociVersion": "1.0.2", "process": {}, "linux": {}})
    assert bare["default-allows"].level == "error"


def test_capabilities_of_a_config() -> None:
    names = ["CAP_SYS_ADMIN", "CAP_NET_RAW", "CAP_CHOWN"]
    config = {"ociVersion": "1.0.2", "process": {"capabilities": {"bounding": names}}, "linux": {"seccomp": seccomp()}}
    rows = lint(from_bytes(json.dumps(config).encode(), "config.json"), "x86_64")
    assert {row.what.split(":")[0]: row.level for row in rows if row.rule == "wide-capability"} == {
        "CAP_SYS_ADMIN": "warning",
        "CAP_NET_RAW": "note",
    }


def test_dockers_default_profile() -> None:
    rows = found(load("docker_default.yaml")["profile"])
    assert {"upper-half", "more-abis", "multiplexer", "errno-trap", "docker-only"} <= set(rows)
    assert not {
        "clone3-open",
        "clone3-errno",
        "default-allows",
        "user-namespace",
        "swallowed",
        "one-argument-twice",
        "no-architectures",
    } & set(rows)


def test_a_security_profile_of_the_operator() -> None:
    document = {
        "apiVersion": "v1beta1",
        "kind": "SeccompProfile",
        "metadata": {"name": "x"},
        "spec": seccomp(NO_NAMESPACES, rule("clone3")),
    }
    rows = lint(from_bytes(yaml.safe_dump(document).encode(), "p.yaml"), "x86_64")
    assert "clone3-open" in {row.rule for row in rows}


# Policies.


def policy(*rows: Any, options: Options | None = None, **meta: Any) -> Policy:
    calls = rows or (call("read"), call("execve"), call("clone", [(0x1200000,)]), call("socket", [(2, 1, 0)]))
    return derive(trace(*calls, capabilities=[check("CAP_NET_BIND_SERVICE")], **meta), options or Options())


def of(subject: Policy) -> dict[str, Finding]:
    library: Any = Anything()
    rows = lint(from_bytes(dumps(subject).encode(), "policy.yaml"), "x86_64", library=library)
    return {row.rule: row for row in reversed(rows)}


def test_a_head_that_was_written_for_other_entries() -> None:
    text = dumps(policy())
    edited = text.replace("no_new_privs: true", "no_new_privs: false")
    (row,) = (row for row in lint(from_bytes(edited.encode(), "-p.yaml"), "x86_64") if row.rule == "outdated-head")
    assert row.fix == "renew them: profgen merge ./-p.yaml -o ./-p.yaml"
    for fine in (text, edited[edited.index("schema:") :], text.replace("# writes", "# mine\n# writes")):
        assert not [row for row in lint(from_bytes(fine.encode(), "p"), "x86_64") if row.rule == "outdated-head"]


def with_files(*rules: FileRule) -> Policy:
    return replace(policy(), has_files=True, files=rules)


def file(pattern: str, *access: str) -> FileRule:
    return FileRule(pattern, access)


def test_what_profgen_writes_has_nothing_wrong() -> None:
    assert of(policy()) == {}
    library: Any = Anything()
    rendered = json.dumps(profile(policy(), "errno")).encode()
    assert lint(from_bytes(rendered, "seccomp.json"), "x86_64", library=library) == ()


def test_names_alone_leave_namespaces_open() -> None:
    assert of(policy(options=Options(arguments=False)))["user-namespace"].level == "warning"


def test_a_policy_from_a_recording_that_lost_something() -> None:
    assert of(policy(complete=False, losses={"ring": 3}))["incomplete"].level == "error"
    assert "incomplete" not in of(policy())


def test_numbers_without_a_name() -> None:
    assert "999 (x86_64)" in of(replace(policy(), unknown=(Unknown("x86_64", 999),)))["unknown-number"].what


def test_a_capability_that_opens_the_host() -> None:
    wide = derive(
        trace(call("read"), call("mount"), capabilities=[check("CAP_SYS_ADMIN", syscalls={"mount": 1})]), Options()
    )
    assert of(wide)["wide-capability"].level == "warning"
    assert "wide-capability" not in of(policy())


@pytest.mark.parametrize(
    ("pattern", "access", "level"),
    [
        ("/{tree}", ("read",), "error"),
        ("/{name}", ("read",), "error"),
        ("/etc/{tree}", ("read",), "warning"),
        ("/etc/{tree}", ("write",), "error"),
        ("/etc/nginx/{tree}", ("read",), "warning"),
        ("/usr/{tree}", ("read",), "warning"),
        ("{home}/{tree}", ("read",), "warning"),
        ("/proc/{pid}/{tree}", ("read",), "warning"),
        ("/srv/www/{tree}", ("read", "write"), None),
        ("/var/lib/app/{tree}", ("write",), None),
        ("/tmp/{tree}", ("write",), None),
        ("/proc/{pid}/status", ("read",), None),
        ("/etc/passwd", ("write",), None),
        ("/etc/ssl/{hex}.pem", ("read",), None),
    ],
)
def test_wide_paths(pattern: str, access: tuple[str, ...], level: str | None) -> None:
    row = of(with_files(file(pattern, *access))).get("wide-path")
    assert (row.level if row else None) == level


@pytest.mark.parametrize(
    ("rules", "finds"),
    [
        ([file("/srv/app/plugin.so", "read", "write", "map")], True),
        ([file("/srv/app/run", "execute"), file("/srv/app/{name}", "create", "write")], True),
        ([file("/srv/app/{tree}", "map"), file("/srv/app/cache/x", "append")], True),
        ([file("/usr/bin/tool", "execute", "map"), file("/srv/app/{tree}", "write")], False),
        ([file("/srv/app/data", "read", "write")], False),
    ],
)
def test_paths_that_are_written_and_executed(rules: list[FileRule], finds: bool) -> None:
    assert ("write-execute" in of(with_files(*rules))) == finds


def test_a_trace_is_no_profile() -> None:
    source = from_bytes(trace_dumps(trace(call("read"))).encode(), "x.trace.json")
    with pytest.raises(InputError, match="is a trace"):
        lint(source, "x86_64")


def test_counts_and_order() -> None:
    rows = lint(from_bytes(json.dumps(load("docker_default.yaml")["profile"]).encode(), "docker.json"), "x86_64")
    levels = [LEVELS.index(row.level) for row in rows]
    assert levels == sorted(levels)
    assert sum(Report("lint", "p.json", RULES, rows).counts.values()) == len(rows)


def test_a_library_is_what_lint_takes_it_for() -> None:
    assert {"version", "knows"} <= set(dir(Anything())) & (set(dir(Library)) | {"version"})


_ROWS = st.fixed_dictionaries(
    {
        "names": st.lists(
            st.sampled_from(
                [*_done_by("socketcall"), "clone", "clone3", "io_uring_setup", "socketcall", "ipc", "x\n", ""]
            ),
            max_size=4,
        ),
        "action": st.sampled_from(
            ["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRAP"]
        ),
    },
    optional={
        "errnoRet": st.sampled_from([0, 1, 38, 4095, 2**40]),
        "args": st.lists(
            st.builds(
                arg,
                st.integers(0, 5),
                st.integers(0, 2**64 - 1),
                st.sampled_from(["EQ", "NE", "LT", "GE", "MASKED_EQ"]),
            ),
            max_size=3,
        ),
        "includes": st.just({"caps": ["CAP_SYS_ADMIN"]}),
        "excludes": st.just({"arches": ["amd64"]}),
    },
)


@settings(max_examples=examples(100), deadline=None)
@given(
    st.lists(_ROWS, max_size=6),
    st.sampled_from(["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_LOG"]),
    st.sampled_from([0, 1, 38, 2**40]),
    st.lists(st.sampled_from([X86_64, X86, X32, "", "amd64"]), max_size=3),
)
def test_whatever_can_be_read_can_be_judged(
    rows: list[dict[str, Any]], default: str, errno: int, architectures: list[str]
) -> None:
    document = {"defaultAction": default, "defaultErrnoRet": errno, "architectures": architectures, "syscalls": rows}
    source = from_bytes(json.dumps(document).encode(), "p.json")
    for finding in lint(source, "x86_64"):
        assert (finding.what + finding.fix + finding.where).isprintable()
    assert 0 <= score(source.rights("x86_64", None), frozenset()).points <= 100
