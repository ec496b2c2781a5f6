"""Rules for programs, signals, other processes, sockets, mounts, user namespaces and io_uring."""

from __future__ import annotations

from typing import Any

import pytest
from unit.policy.making import call, file, touching, trace, uses

from profiler.policy.derive import derive
from profiler.policy.model import Options, Policy, SocketRule
from profiler.policy.patterns import literal, matches
from profiler.policy.reasons import Reason
from profiler.trace.model import Exec, Inspection, Mount, Signal, Socket

NONE = Options(runtime="none")
OK = {"ok": 1}
ZERO = frozenset({0})
OBSERVED = (Reason("observed", ("app",)),)


def policy_of(*files: Any, **more: Any) -> Policy:
    return derive(touching(*files, **more), NONE)


def socket(operation: str, results: dict[str, int] | None = None, **fields: Any) -> Socket:
    members: dict[str, Any] = {
        "family": "inet",
        "type": "stream",
        "protocol": 6,
        "port": None,
        "address": None,
        **fields,
    }
    return Socket(operation=operation, results=results or OK, programs=ZERO, first=0.0, last=1.0, **members)


def sockets(*rows: Socket, files: tuple[Any, ...] = ()) -> dict[tuple[str, str, int], SocketRule]:
    return {(rule.family, rule.type, rule.protocol): rule for rule in policy_of(*files, sockets=rows).sockets}


# Programs.


def test_transitions() -> None:
    policy = policy_of(execs=[Exec(0, None, 1), Exec(1, 0, 2), Exec(2, 1, 1)])
    assert [(row.program, row.by) for row in policy.transitions] == [
        ("/bin/sh", "/usr/sbin/app"),
        ("/usr/bin/tool", "/bin/sh"),
        ("/usr/sbin/app", None),
    ]


def test_programs_are_named_by_the_pattern_of_their_rule() -> None:
    made = uses("/tmp/build.aB3dE9", "create write execute", own=True)
    recording = touching(*made, file("/etc/x", programs=frozenset({3})), execs=[Exec(3, 0, 1), Exec(0, 3, 1)])
    recording = type(recording)(
        **{
            **vars(recording),
            "programs": (*recording.programs, type(recording.programs[0])("/tmp/build.aB3dE9", executions=1)),
        }
    )
    policy = derive(recording, NONE)
    assert [(row.program, row.by) for row in policy.transitions] == [
        ("/tmp/build.{random:6}", "/usr/sbin/app"),
        ("/usr/sbin/app", "/tmp/build.{random:6}"),
    ]
    assert [rule.programs for rule in policy.files if rule.pattern == "/etc/x"] == [("/tmp/build.{random:6}",)]


def test_a_recording_that_watched_no_files_says_nothing_of_these() -> None:
    rows = {"sockets": [socket("create")], "signals": [Signal("TERM", "self", OK, ZERO)], "execs": [Exec(0, None, 1)]}
    policy = derive(touching(file("/x"), features=(), **rows), NONE)
    assert (policy.files, policy.sockets, policy.signals, policy.transitions) == ((), (), (), ())


# Signals and looks at others.


def test_signals_that_were_delivered() -> None:
    rows = [
        Signal("TERM", "workload", {"ok": 2, "ESRCH": 1}, ZERO),
        Signal("KILL", "outside", {"EPERM": 1}, ZERO),
        Signal("0", "self", OK, ZERO),
    ]
    policy = policy_of(signals=rows)
    assert [(row.signal, row.whom, row.because) for row in policy.signals] == [
        ("0", "self", OBSERVED),
        ("TERM", "workload", OBSERVED),
    ]


@pytest.mark.parametrize(
    ("path", "whose", "expected"),
    [
        ("/proc/7/environ", "outside", ("read", "outside")),
        ("/proc/7/task/8/maps", "workload", ("read", "workload")),
        ("/proc/7/fd", "outside", ("read", "outside")),
        ("/proc/7/fd/3", "outside", ("read", "outside")),
        ("/proc/7/ns/net", "outside", ("read", "outside")),
        ("/proc/7/exe", "outside", ("read", "outside")),
        ("/proc/7/mem", "workload", ("trace", "workload")),
        ("/proc/7/stack", "outside", ("trace", "outside")),
        ("/proc/7/environ", "self", None),
        ("/proc/7/status", "outside", None),
        ("/proc/7/task", "outside", None),
        ("/proc/7", "outside", None),
        ("/proc/maps", None, None),
    ],
)
def test_files_of_other_processes(path: str, whose: str | None, expected: tuple[str, str] | None) -> None:
    policy = policy_of(file(path, whose=whose))
    assert [(row.operation, row.whom) for row in policy.inspections] == ([expected] if expected else [])


def test_inspections() -> None:
    policy = policy_of(
        file("/proc/7/environ", whose="outside"),
        file("/proc/8/maps", "read", "EACCES", whose="workload"),
        inspections=[
            Inspection("read", "outside", {"ok": 4}, ZERO),
            Inspection("trace", "workload", {"EPERM": 1}, ZERO),
            Inspection("traceme", "workload", OK, ZERO),
        ],
    )
    assert [(row.operation, row.whom) for row in policy.inspections] == [("read", "outside"), ("traceme", "workload")]
    assert policy.inspections[0].because == (*OBSERVED, Reason("through", ("/proc/PID/environ",)))


# Sockets.


def test_sockets_of_one_sort_are_one_rule() -> None:
    rows = [
        socket("create"),
        socket("send", {"ok": 5}, port=53),
        socket("send", port=40000),
        socket("connect", {"EINPROGRESS": 1}, port=443),
        socket("connect", port=80),
        socket("bind", port=40000),
        socket("bind", port=0),
        socket("listen", {"EACCES": 1}),
    ]
    rule = sockets(*rows)["inet", "stream", 6]
    assert rule.operations == ("create", "bind", "connect", "send")
    assert rule.ports == (("bind", (0, 40000)), ("connect", (80, 443)), ("send", (53,)))
    assert rule.addresses == ()
    assert rule.because == OBSERVED


def test_sockets_that_were_not_to_be_had_are_left_out() -> None:
    found = sockets(
        socket("create", {"EAFNOSUPPORT": 1}, family="inet6"),
        socket("create", {"EPERM": 1}, family="packet", type="raw"),
        socket("connect", {"ECONNREFUSED": 1}),
    )
    assert set(found) == {("inet", "stream", 6)}


def bound(*addresses: str, operation: str = "bind", **fields: Any) -> set[str]:
    """The patterns of addresses that were bound, or used otherwise."""
    rows = [socket(operation, family="unix", protocol=0, address=address) for address in addresses]
    (rule,) = derive(touching(sockets=rows, **fields), NONE).sockets
    return set(dict(rule.addresses)[operation])


@pytest.mark.parametrize(
    ("address", "pattern"),
    [
        ("@app", "@app"),
        ("@/tmp/.X11-unix/X0", "@/tmp/.X11-unix/X{digits}"),
        ("@app-7", "@app-{digits}"),
        ("@/tmp/dbus-aB3dE9xY1z", "@/tmp/dbus-{random:10}"),
        ("@/containerd-shim/" + "0f" * 32 + ".sock", "@/containerd-shim/{hex}.sock"),
        ("@00012", "@{hex:5}"),
        ("@0a1f3", "@{hex:5}"),
        ("@app-1234\0\0\0", "@app-{digits}\\x00\\x00\\x00"),
        ("@\0app\0aB3dE9", "@\\x00app\\x00{random:6}"),
        ("@app-\x03\udc93/\0\udca1", "@app-{tree}"),
        ("@\x03\udc93/\0\udca1", "@{tree}"),
        ("@", "@"),
    ],
)
def test_abstract_names(address: str, pattern: str) -> None:
    assert bound(address) == {pattern}
    assert matches(pattern, address)


def test_abstract_names_of_others() -> None:
    peers = ("@/tmp/.X11-unix/X0", "@app", "@00012", "@/tmp/dbus-aB3dE9xY1z", "@\x03\udc93")
    assert bound(*peers, operation="connect") == {
        *("@/tmp/.X11-unix/X0", "@app", "@{hex:5}", "@/tmp/dbus-{random:10}", literal("@\x03\udc93"))
    }


def test_addresses_follow_the_files() -> None:
    rows = [
        socket("bind", family="unix", protocol=0, address="/tmp/app.aB3dE9"),
        socket("bind", family="unix", protocol=0, address="@a\0{b"),
        socket("connect", family="unix", protocol=0, address="/run/x.sock"),
    ]
    rule = sockets(*rows, files=tuple(uses("/tmp/app.aB3dE9", "bind remove", own=True, kind="socket")))[
        "unix", "stream", 0
    ]
    assert rule.addresses == (("bind", ("/tmp/app.{random:6}", "@a\\x00\\{b")), ("connect", ("/run/x.sock",)))


# Mounts.


def test_mounts() -> None:
    rows = [
        Mount("mount", "tmpfs", "/srv/m", "tmpfs", ("nodev", "nosuid"), {"ok": 2}, ZERO),
        Mount("bind", "/srv/{a}", "/srv/b", None, ("bind",), OK, ZERO),
        Mount("umount", None, "/srv/m", None, (), {"EPERM": 1}, ZERO),
    ]
    policy = policy_of(mounts=rows)
    assert [(row.operation, row.source, row.target, row.filesystem, row.flags) for row in policy.mounts] == [
        ("bind", "/srv/\\{a\\}", "/srv/b", None, ("bind",)),
        ("mount", "tmpfs", "/srv/m", "tmpfs", ("nodev", "nosuid")),
    ]


def test_mounts_in_directories_of_changing_names() -> None:
    made = [file("/tmp/root.aB3dE9", word, kind="directory", own=True) for word in ("make", "remove")]
    policy = policy_of(*made, mounts=[Mount("mount", "none", "/tmp/root.aB3dE9", "tmpfs", (), OK, ZERO)])
    assert [row.target for row in policy.mounts] == ["/tmp/root.{random:6}"]


def test_mounts_of_processes() -> None:
    policy = policy_of(mounts=[Mount("bind", "/proc/812/ns/uts", "/proc/812/mem", None, ("bind",), OK, ZERO)])
    assert [(row.source, row.target) for row in policy.mounts] == [("/proc/{pid}/ns/uts", "/proc/{pid}/mem")]


# What follows from syscalls.


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("unshare", [(0x10000000,)], True),
        ("unshare", [(0x20000,)], False),
        ("clone", [(0x10000000 | 0x20000,), (0,)], True),
        ("clone3", [(0x10000000,)], True),
        ("setns", [(0x10000000,)], True),
        ("setns", [(0,)], False),
    ],
)
def test_user_namespaces(name: str, values: list[tuple[int, ...]], expected: bool) -> None:
    policy = derive(trace(call(name, values)), NONE)
    assert bool(policy.user_namespaces) is expected
    assert policy.user_namespaces == ((*OBSERVED, Reason("in", (name,))) if expected else ())
    assert derive(trace(call(name, values, ok=0, errors={"EPERM": 1})), NONE).user_namespaces == ()


def test_io_uring() -> None:
    assert derive(trace(call("read")), NONE).io_uring == ()
    assert derive(trace(call("io_uring_setup")), NONE).io_uring == (*OBSERVED, Reason("in", ("io_uring_setup",)))
    assert derive(trace(call("io_uring_setup", ok=0, errors={"ENOSYS": 2})), NONE).io_uring == ()
