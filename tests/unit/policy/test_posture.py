"""What follows from a policy about the set-up of a container."""

from __future__ import annotations

from dataclasses import replace

import pytest
from unit.policy.making import call, trace

from profiler.policy.derive import derive
from profiler.policy.model import Capability, FileRule, Launch, Options, Policy, SocketRule
from profiler.policy.posture import Device, Posture, Temporary, Written, listened, posture, written
from profiler.policy.writable import within
from profiler.trace.model import ContainerMount

NOTHING = Launch()


def made(*files: FileRule, sockets: tuple[SocketRule, ...] = (), launch: Launch = NOTHING) -> Policy:
    policy = derive(trace(call("read")), Options())
    work = replace(policy.workload, launch=launch)
    return replace(policy, has_files=True, files=files, sockets=sockets, workload=work)


def rule(pattern: str, *access: str, kinds: tuple[str, ...] = ("file",)) -> FileRule:
    return FileRule(pattern, access, kinds)


def test_ports_that_others_reach() -> None:
    def socket(kind: str, operations: tuple[str, ...], *ports: int, family: str = "inet") -> SocketRule:
        return SocketRule(family, kind, 0, operations, (), ports=(("bind", ports),))

    sockets = (
        socket("stream", ("bind", "listen"), 443, 50051),
        socket("stream", ("bind", "listen"), 443, family="inet6"),
        socket("stream", ("bind", "connect"), 600),
        socket("dgram", ("bind",), 0, 53, 40000),
        socket("stream", ("bind", "listen"), 1, family="vsock"),
    )
    launch = Launch(ports=("80/tcp", "99999/tcp", "5/sctp", "x"))
    assert listened(made(sockets=sockets, launch=launch)) == (
        (53, "udp"),
        (80, "tcp"),
        (443, "tcp"),
        (50051, "tcp"),
    )


@pytest.mark.parametrize(
    ("rules", "found"),
    [
        ([], Written()),
        ([rule("/etc/app", "read"), rule("/var/x", "execute", "map")], Written()),
        ([rule("/run/app.pid", "create", "write")], Written(temporary=(Temporary("/run"),))),
        ([rule("/run/app", "make", kinds=("directory",))], Written(temporary=(Temporary("/run"),))),
        ([rule("/run/app", "mode", kinds=("directory",))], Written(temporary=(Temporary("/run/app"),))),
        ([rule("/tmp/{random}", "create", "write", "map")], Written(temporary=(Temporary("/tmp", executed=True),))),
        (
            [FileRule("/tmp/#{digits}", ("read", "write"), states=("deleted",))],
            Written(temporary=(Temporary("/tmp"),)),
        ),
        ([rule("/tmp/a/b", "create"), rule("/tmp/c", "create")], Written(temporary=(Temporary("/tmp"),))),
        ([rule("/tmp/a/b", "create"), rule("/tmp/a/old", "read")], Written(kept=("/tmp/a",))),
        ([rule("/var/lib/db/{name}", "write", "create")], Written(kept=("/var/lib/db",))),
        ([rule("/etc/passwd", "write")], Written(elsewhere=("/etc/passwd",))),
        ([rule("/file", "create")], Written(elsewhere=("/file",))),
        ([rule("{home}/.cache", "create")], Written(elsewhere=("{home}/.cache",))),
        ([rule("/dev/null", "write", kinds=("char",)), rule("/proc/{pid}/oom_score_adj", "write")], Written()),
        ([rule("/srv/fifo", "write", kinds=("fifo",))], Written()),
        ([rule("/srv/fifo", "create", "write", kinds=("fifo",))], Written(kept=("/srv",))),
        ([rule("/data/x", "create"), rule("/data", "owner", kinds=("directory",))], Written()),
        ([rule("/database/x", "create")], Written(kept=("/database",))),
        ([rule("/etc/resolv.conf", "write")], Written()),
    ],
)
def test_places_that_must_be_writable(rules: list[FileRule], found: Written) -> None:
    launch = Launch(mounts=(ContainerMount("volume", "data", "/data", False),))
    assert written(made(*rules, launch=launch)) == found


def test_without_evidence_of_files_nothing_is_known() -> None:
    assert written(derive(trace(call("read")), Options())) is None


def test_within() -> None:
    assert within("/a/b", ["/a"])
    assert within("/a", ["/a"])
    assert within("/a", ["/"])
    assert not within("/ab", ["/a"])


@pytest.mark.parametrize(
    ("rules", "devices", "patterns"),
    [
        ([rule("/dev/fuse", "read", "write", kinds=("char",))], (Device("/dev/fuse", "rw"),), ()),
        (
            [rule("/dev/sda", "read", kinds=("block",)), rule("/dev/kvm", "read", kinds=("char",))],
            (Device("/dev/kvm", "r"), Device("/dev/sda", "r", "block")),
            (),
        ),
        (
            [rule("/dev/x", "read", kinds=("char",)), rule("/dev/x", "write", kinds=("char",))],
            (Device("/dev/x", "rw"),),
            (),
        ),
        ([rule("/srv/node", "make", kinds=("char",))], (Device("/srv/node", "m"),), ()),
        ([rule("/dev/input/event{digits}", "read", kinds=("char",))], (), ("/dev/input/event{digits}",)),
        # What every runtime gives, and what is not the use of a device.
        ([rule(f"/dev/{name}", "read", "write", kinds=("char",)) for name in ("null", "tty", "ptmx", "pts/0")], (), ()),
        ([rule("/dev/pts/{digits}", "write", kinds=("char",)), rule("/dev/shm/x", "create")], (), ()),
        ([rule("/dev/fuse", "mode", "owner", kinds=("char",)), rule("/dev/log", "write")], (), ()),
    ],
)
def test_devices(rules: list[FileRule], devices: tuple[Device, ...], patterns: tuple[str, ...]) -> None:
    found = posture(made(*rules))
    assert (found.devices, found.device_patterns) == (devices, patterns)


def test_the_root_is_read_only_where_the_recording_shows_that_it_does() -> None:
    def decided(*rules: FileRule, image: str | None = "web:1", launch: Launch = NOTHING, **work: bool) -> bool:
        policy = made(*rules, launch=launch)
        return posture(replace(policy, workload=replace(policy.workload, image=image, **work))).read_only

    temporary, kept, inside = (rule(path, "create") for path in ("/run/x", "/var/lib/x", "/etc/x"))
    assert decided(temporary)
    assert not decided(temporary, image=None), "not in a container"
    assert not decided(temporary, incomplete=True)
    assert not decided(kept)
    assert not decided(inside)
    assert decided(kept, inside, launch=Launch(read_only=True))


def test_a_tmpfs_of_the_recording_is_temporary() -> None:
    launch = Launch(
        mounts=(
            ContainerMount("tmpfs", "", "/cache", False),
            ContainerMount("tmpfs", "", "/fixed", True),
            ContainerMount("volume", "db", "/data", False),
        )
    )
    found = posture(made(rule("/run/x", "create"), rule("/cache/lib.so", "map"), launch=launch))
    assert found.temporary == (Temporary("/run"), Temporary("/cache", executed=True))
    assert found.mounts == launch.mounts[2:]
    unknown = posture(replace(made(launch=launch), has_files=False))
    assert unknown.temporary == (Temporary("/cache", executed=True),), "nothing is known about files"
    assert unknown.elsewhere is None


def test_the_lowest_port_that_needs_the_capability() -> None:
    def lowest(*ports: int, network: str | None = None, capability: str = "CAP_NET_BIND_SERVICE") -> int | None:
        sockets = (SocketRule("inet", "stream", 6, ("bind", "listen"), (), ports=(("bind", ports),)),)
        policy = made(sockets=sockets, launch=Launch(network=network))
        return posture(replace(policy, capabilities=(Capability(capability),))).unprivileged_port

    assert lowest(0, 443, 80, 8080) == 80
    assert lowest(0, 8080) is None
    assert lowest(80, network="host") is None
    assert lowest(80, capability="CAP_CHOWN") is None


@pytest.mark.parametrize(
    ("launch", "gid"),
    [
        (Launch(user="33:34"), 34),
        (Launch(user="33", gid=5), 5),
        (Launch(user="www:www", gid=5), 5),
        (Launch(user="www:www"), None),
        (Launch(), None),
    ],
)
def test_the_group(launch: Launch, gid: int | None) -> None:
    assert posture(made(launch=launch)).gid == gid


def test_what_is_copied_from_the_recording() -> None:
    launch = Launch(user="5:6", directory="/srv", network="none", command=("a\nb",), tasks=64, ports=("80/tcp",))
    found = posture(made(launch=launch))
    assert found == Posture(
        uid=0,
        gid=6,
        user="5:6",
        elsewhere=(),
        tasks=64,
        ports=((80, "tcp"),),
        network="none",
        directory="/srv",
        command=("a\nb",),
    )
