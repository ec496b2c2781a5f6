"""The lists of an AppArmorProfile: nothing that the policy allows is taken by a rule of another list."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from inputs import examples
from unit.targets.policies import file, policies, policy, transition
from unit.targets.spo.samples import allows_what_the_policy_does

from profiler.policy.model import (
    Capability,
    FileRule,
    InspectionRule,
    MountRule,
    Policy,
    SignalRule,
    SocketRule,
)
from profiler.targets.spo.abstract import Abstract, abstract


def as_spec(made: Abstract) -> dict[str, Any]:
    return {
        "executable": {"allowedExecutables": made.executables, "allowedLibraries": made.libraries},
        "filesystem": {
            "readOnlyPaths": made.read_only,
            "writeOnlyPaths": made.write_only,
            "readWritePaths": made.read_write,
        },
    }


def of(*files: FileRule, **fields: Any) -> Abstract:
    return abstract(policy(*files, **fields))


STREAMS = ("/dev/null", "/dev/pts/*")


def test_lists() -> None:
    made = of(
        file("/etc/app.conf", "read"),
        file("/lib/x.so", "read", "map"),
        file("/var/log/app", "append"),
        file("/run/app.pid", "read", "write"),
        file("/srv", "list", kinds=("directory",)),
        file("/never", "look"),
        transitions=(transition("/usr/sbin/app", None), transition("/bin/sh", "/usr/sbin/app")),
    )
    assert made.executables == ("/bin/sh", "/usr/sbin/app")
    assert made.libraries == ("/bin/sh", "/lib/x.so", "/usr/sbin/app")
    assert made.read_only == ("/etc/app.conf", "/srv/")
    assert made.write_only == ("/var/log/app",)
    assert made.read_write == (*STREAMS, "/run/app.pid")


@pytest.mark.parametrize(
    ("files", "read_only", "libraries", "write_only", "read_write"),
    [
        # A path that is both read and written, in one rule or in two that fit it.
        ([("/a", "read"), ("/a", "write")], (), (), (), ("/a",)),
        ([("/d/{name}", "read"), ("/d/log", "write")], (), ("/d/*",), (), ("/d/log",)),
        ([("/d/{name}", "write"), ("/d/conf", "read")], (), ("/d/conf",), (), ("/d/*",)),
        ([("/d/{name}", "write"), ("/e/conf", "read")], ("/e/conf",), (), ("/d/*",), ()),
        # An executed or mapped file is read.
        ([("/d/{name}", "write"), ("/d/x.so", "map")], (), ("/d/x.so",), (), ("/d/*",)),
        # The only list with the right to lock has the right to write.
        ([("/a", "read", "lock")], (), (), (), ("/a",)),
        ([("/a", "lock")], (), (), ("/a",), ()),
        # The streams of a container are read and written.
        ([("/dev/{name}", "read")], (), ("/dev/*",), (), ()),
    ],
)
def test_overlapping_rules_are_never_denied(
    files: list[tuple[str, ...]],
    read_only: tuple[str, ...],
    libraries: tuple[str, ...],
    write_only: tuple[str, ...],
    read_write: tuple[str, ...],
) -> None:
    made = of(*(file(*words) for words in files))
    assert (made.read_only, made.libraries, made.write_only) == (read_only, libraries, write_only)
    assert made.read_write == tuple(sorted((*STREAMS, *read_write)))


def lost(made: Abstract, effect: str) -> set[tuple[str, str]]:
    return {(loss.section, loss.item) for loss in made.losses if loss.effect == effect}


@given(policies())
@settings(max_examples=examples(60), deadline=None)
def test_what_the_policy_allows_is_allowed_or_declared_as_refused(any_policy: Policy) -> None:
    made = abstract(any_policy)
    allows_what_the_policy_does(as_spec(made), any_policy, made.losses)


@given(policies())
@settings(max_examples=20, deadline=None)
def test_the_same_whatever_the_order(any_policy: Policy) -> None:
    assert abstract(any_policy) == replace(
        abstract(replace(any_policy, files=any_policy.files[::-1])), losses=abstract(any_policy).losses
    )


def test_losses_of_paths() -> None:
    made = of(
        file("/a b", "read"),
        file("/t/{random}", "write"),
        file("/mine", "read", owner=True),
        file("/new", "link", existing=("/old",)),
        file("/x//y", "read"),
        file("/proc/sys/kernel/hostname", "write"),
        file("/proc/kcore", "read"),
        file("/proc/{pid}/oom_score_adj", "write"),
    )
    wider = lost(made, "wider")
    for item in ("/a b", "/t/{random}", "/mine", "/old", "/new"):
        assert ("files", item) in wider, wider
    assert lost(made, "refused") == {
        ("files", "/x//y"),
        ("files", "/proc/sys/kernel/hostname"),
        ("files", "/proc/kcore"),
    }
    assert "/old" in made.read_write


def test_sockets_and_the_rest() -> None:
    def socket(family: str, sort: str, **fields: Any) -> SocketRule:
        return SocketRule(family, sort, 0, ("create",), **fields)

    made = of(
        sockets=(
            socket("inet", "stream", ports=(("bind", (80,)),)),
            socket("inet", "dgram"),
            socket("inet6", "dgram"),
            socket("netlink", "raw"),
            socket("netlink", "dgram"),
            socket("unix", "stream", addresses=(("bind", ("@name", "@", "/run/x")),)),
        ),
        signals=(SignalRule("TERM", "outside"), SignalRule("HUP", "workload"), SignalRule("0", "outside")),
        inspections=(InspectionRule("read", "workload"), InspectionRule("trace", "outside")),
        mounts=(
            MountRule("mount", "tmpfs", "/x", "tmpfs", ()),
            MountRule("fsopen", None, None, None, ()),
        ),
        capabilities=(Capability("CAP_NET_RAW"), Capability("CAP_63")),
    )
    assert (made.raw, made.tcp, made.udp) == (True, True, True)
    assert made.capabilities == ("net_raw",)
    assert lost(made, "refused") == {
        ("sockets", "sockets netlink dgram"),
        ("sockets", "unix sockets @name"),
        ("signals", "signals TERM to others"),
        ("inspections", "ptrace trace of others"),
        ("mounts", "mount"),
    }
    assert {("sockets", "raw sockets"), ("sockets", "TCP"), ("sockets", "ports 80")} <= lost(made, "wider")


def test_mounts_come_with_a_capability() -> None:
    rows = (MountRule("mount", None, "/x", None, ()), MountRule("pivot_root", "/x", "/y", None, ()))
    made = of(mounts=rows, capabilities=(Capability("CAP_SYS_RAWIO"),))
    assert lost(made, "refused") == {("mounts", "pivot_root")}
    assert ("mounts", "all mounts") in lost(made, "wider")
