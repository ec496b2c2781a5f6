"""Which options a policy leads to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from unit.policy.making import call, check, trace
from unit.targets.policies import file

from profiler.policy.derive import derive
from profiler.policy.model import FileRule, MountRule, Options, Policy, SocketRule
from profiler.targets.systemd.facts import Facts
from profiler.targets.systemd.options import KEYS, OPTIONS, chosen
from profiler.trace.model import Container, Syscall

BASE = (call("read"), call("exit_group"))


def made(*calls: Syscall, files: tuple[FileRule, ...] = (), **fields: Any) -> Policy:
    needs = fields.pop("needs", ())
    seen = trace(*BASE, *calls, capabilities=[check(name) for name in needs], uid=fields.pop("uid", 0))
    return replace(derive(seen, Options(runtime="none")), has_files=True, files=files, **fields)


def options(policy: Policy, loopback: bool = False) -> dict[str, list[str]]:
    return {row.key: list(row.values) for row in chosen(Facts(policy, loopback))}


def test_a_program_that_does_nothing_gets_everything() -> None:
    found = options(made())
    assert found.keys() == {option.key for option in OPTIONS} - {"TasksMax"}
    assert found["ProtectSystem"] == ["strict"]
    assert found["RestrictAddressFamilies"] == ["", "none"]
    assert found["RestrictNamespaces"] == ["", "yes"]
    assert found["CapabilityBoundingSet"] == found["SocketBindAllow"] == found["IPAddressAllow"] == [""]


@pytest.mark.parametrize(
    ("key", "policy"),
    [
        ("LockPersonality", made(call("personality", [(0x0008,)]))),
        ("LockPersonality", made(call("personality", [(0xFFFFFFFF,)]))),
        ("MemoryDenyWriteExecute", made(call("mmap", [(7,)]))),
        ("MemoryDenyWriteExecute", made(call("mprotect", [(1,), (5,)]))),
        ("MemoryDenyWriteExecute", made(call("shmat"))),
        ("RestrictRealtime", made(call("sched_setscheduler"))),
        ("RestrictSUIDSGID", made(call("fchmodat"))),
        ("RestrictNamespaces", made(call("setns", [(0,)]))),
        ("RestrictNamespaces", made(call("clone3", [(0x10000000,)]))),
        ("NoNewPrivileges", made(no_new_privs=False)),
        ("PrivateUsers", made(needs=("CAP_KILL",))),
        ("PrivateUsers", made(call("setuid"))),
        ("PrivateUsers", made(sockets=(SocketRule("unix", "stream", 0, ("listen",)),))),
        ("ProtectSystem", made(files=(file("{home}/x", "create"), file("/usr/x", "create"), file("/etc/x", "create")))),
        ("ProtectHome", made(files=(file("{home}/x", "create"),))),
        ("PrivateTmp", made(files=(file("/tmp/x", "read"),))),
        ("PrivateTmp", made(files=(file("/tmp/x/y", "create"),))),
        ("PrivateTmp", made(files=(file("/{name}/x", "create"),))),
        ("PrivateTmp", made(sockets=(SocketRule("unix", "stream", 0, ("bind",), addresses=(("bind", ("/tmp/s",)),)),))),
        ("PrivateMounts", made(mounts=(MountRule("mount", None, "/x", "tmpfs", ()),))),
        ("UMask", made(files=(file("/srv/x", "create"),))),
        ("UMask", made(files=(file("/srv/#{digits}", "create", states=("deleted",)),))),
        ("UMask", made(sockets=(SocketRule("unix", "stream", 0, ("bind",), addresses=(("bind", ("/run/s",)),)),))),
        ("UMask", made(call("mq_open"))),
        ("ProtectProc", made(files=(file("/proc/{pid}/stat", "read", whose=("outside",)),))),
        ("ProcSubset", made(files=(file("/proc/meminfo", "read"),))),
        ("ProcSubset", made(files=(file("/proc/{pid}/mounts", "read", whose=("self",)),))),
        ("ProcSubset", made(files=(file("/proc/{pid}/net/tcp", "read", whose=("self",)),))),
        ("ProcSubset", made(files=(file("/proc/sys/vm/overcommit_memory", "read"),))),
        ("ProcSubset", made(files=(file("/proc/{pid}/{name}", "read", whose=("self",)),))),
        ("PrivateNetwork", made(files=(file("/proc/{pid}/net/tcp", "read", whose=("self",)),))),
        ("PrivateNetwork", made(files=(file("/proc/{pid}/task/{tid}/net/tcp", "read", whose=("self",)),))),
        ("PrivateNetwork", made(files=(file("/proc/sys/net/core/somaxconn", "read"),))),
        ("PrivateNetwork", made(files=(file("/sys/devices/pci0000:00/0000:00:04.0/net/eth0/mtu", "read"),))),
        ("PrivateIPC", made(files=(file("/proc/sysvipc/shm", "read"),))),
        ("PrivateIPC", made(files=(file("/proc/sys/kernel/shmmax", "read"),))),
        ("PrivateIPC", made(files=(file("/dev/mqueue", "list", kinds=("directory",)),))),
        ("PrivateDevices", made(files=(file("/dev/fuse", "read", kinds=("char",)),))),
        ("PrivateDevices", made(needs=("CAP_MKNOD",))),
        ("DevicePolicy", made(files=(file("/dev/tun{digits}", "read", kinds=("char",)),))),
        ("RestrictAddressFamilies", made(call("socket", overflow=True))),
        ("SocketBindDeny", made(sockets=(SocketRule("inet", "raw", 1, ("bind",)),))),
        ("IPAddressDeny", made(sockets=(SocketRule("inet", "stream", 6, ("inherit",)),))),
        ("IPAddressAllow", made(call("socket", [(2, 1, 6)]))),
        ("PrivateNetwork", made(call("socket", [(16, 3, 0)]))),
        (
            "PrivateNetwork",
            made(sockets=(SocketRule("unix", "stream", 0, ("connect",), addresses=(("connect", ("@x",)),)),)),
        ),
        ("ProtectKernelTunables", made(files=(file("/proc/sys/vm/x", "write"),))),
        ("ProtectKernelModules", made(call("finit_module"))),
        ("ProtectKernelLogs", made(needs=("CAP_SYSLOG",))),
        ("ProtectKernelTunables", made(files=(file("/{tree}", "write"),))),
        ("ProtectControlGroups", made(files=(file("/sys/fs/cgroup/x", "create"),))),
        ("ProtectClock", made(call("adjtimex"))),
        ("ProtectClock", made(files=(file("/dev/tun{digits}", "read", kinds=("char",)),))),
        ("ProtectHostname", made(call("sethostname"))),
        ("PrivateIPC", made(call("shmget"))),
    ],
)
def test_an_option_that_would_cost_something_is_left_out(key: str, policy: Policy) -> None:
    assert key in options(made())
    assert key not in options(policy)
    assert key in KEYS


def test_what_every_process_reads_about_itself_costs_nothing() -> None:
    names = ("status", "maps", "mountinfo", "fd/{digits}", "task/{tid}/comm")
    own = tuple(file(f"/proc/{{pid}}/{name}", "read", "write", whose=("self",)) for name in names)
    found = options(made(files=(*own, file("/sys/devices/system/cpu/cpu{digits}/online", "read"))))
    assert found["ProcSubset"] == ["pid"]
    assert found["ProtectKernelTunables"] == ["yes"]
    assert found["PrivateNetwork"] == found["PrivateIPC"] == ["yes"]


def test_directories_between_which_files_are_moved_are_one() -> None:
    moved = (file("/srv/a/x", "rename_from"), file("/srv/b/x", "rename_to"))
    assert options(made(files=moved))["ReadWritePaths"] == ["", "-/srv"]


def test_without_a_directory_for_both_less_is_read_only() -> None:
    """Each directory of ReadWritePaths=, and each that PrivateTmp= or ProtectHome= mounts, is a mount of its own."""

    def between(old: str, new: str) -> dict[str, list[str]]:
        return options(made(files=(file(old, "make", "rename_from"), file(new, "rename_to"))))

    far = between("/var/lib/a/x", "/var/cache/b/x")
    assert far["ProtectSystem"] == ["full"]
    assert "ReadWritePaths" not in far
    assert far["PrivateTmp"] == ["yes"]
    assert "PrivateTmp" not in between("/tmp/x", "/srv/x")
    assert "ProtectSystem" not in between("/var/lib/a/x", "/usr/lib/b/x")
    linked = options(made(files=(file("/srv/x", "link", existing=("/home/u/x",)),)))
    assert "ProtectHome" not in linked
    assert options(made(files=(file("/var/lib/x", "link", existing=("/etc/x",)),)))["ProtectSystem"] == ["yes"]


def test_values() -> None:
    found = options(
        made(
            call("socket", [(1, 1, 0), (10, 1, 6)]),
            call("unshare", [(0x10000000 | 0x20000,)]),
            call("mmap", [(3,), (5,)]),
            files=(
                file("/srv/a b/x", "create"),
                file("/srv/a b/c/y", "append"),
                file("/srv/bad\nname/x", "create"),
                file("/home/u/x", "read"),
                file("/dev/fuse", "read", "write", kinds=("char",)),
                file("/dev/console", "write", kinds=("char",)),
            ),
            needs=("CAP_KILL", "CAP_CHOWN"),
            uid=7,
            sockets=(
                SocketRule("inet6", "stream", 6, ("bind", "listen"), ports=(("bind", (80, 443)),)),
                SocketRule("inet", "dgram", 17, ("bind",), ports=(("bind", (0, 53)),)),
            ),
        )
    )
    assert found["RestrictAddressFamilies"] == ["", "AF_UNIX AF_INET6"]
    assert found["RestrictNamespaces"] == ["", "mnt user"]
    assert found["MemoryDenyWriteExecute"] == ["yes"]
    assert found["ReadWritePaths"] == ["", "-/srv"], "a unit cannot name the directory with a line in it"
    assert found["ProtectHome"] == ["read-only"]
    assert found["DeviceAllow"] == ["", "/dev/console rw", "/dev/fuse rw"]
    assert found["CapabilityBoundingSet"] == found["AmbientCapabilities"] == ["", "CAP_CHOWN CAP_KILL"]
    assert found["SocketBindAllow"] == ["", "ipv4:udp", "ipv6:tcp:443", "ipv6:tcp:80"]


def test_a_private_place_for_temporary_files() -> None:
    own = made(files=(file("/tmp/a{random}", "make", kinds=("directory",)), file("/tmp/a{random}/b", "read")))
    assert options(own)["PrivateTmp"] == ["yes"]
    assert options(own)["ReadWritePaths"] == [""]
    nameless = options(made(files=(file("/tmp/#{digits}", "read", "write", states=("deleted",)),)))
    assert nameless["PrivateTmp"] == ["yes"]


@pytest.mark.parametrize(
    ("path", "value"),
    [("/opt/x/y", "strict"), ("/x", "full"), ("/{name}/x", None), ("/boot/{name}", "strict")],
)
def test_how_much_of_the_system_is_read_only(path: str, value: str | None) -> None:
    assert options(made(files=(file(path, "create"),))).get("ProtectSystem") == ([value] if value else None)


def test_paths_of_a_container_are_not_those_of_the_host() -> None:
    policy = made(files=(file("/srv/x", "create"),))
    found = options(replace(policy, workload=replace(policy.workload, image="web:1")))
    assert not {"ProtectSystem", "ReadWritePaths", "PrivateDevices", "PrivateTmp", "ProtectHome"} & found.keys()
    assert {"SystemCallFilter", "CapabilityBoundingSet", "ProtectHostname"} <= found.keys()


def test_without_files_nothing_is_concluded_from_their_absence() -> None:
    found = options(replace(made(), has_files=False))
    by_files = {"ProtectSystem", "PrivateNetwork", "IPAddressDeny", "SocketBindDeny", "PrivateMounts", "UMask"}
    assert not by_files & found.keys()
    assert options(replace(made(), has_files=False), loopback=True)["IPAddressAllow"] == ["", "localhost"]


def test_base_sets_are_for_other_runtimes() -> None:
    seen = trace(*BASE, container=Container("docker", "runc", None, None))
    values = options(derive(seen, Options(runtime="runc")))["SystemCallFilter"]
    allowed = " ".join(value for value in values if not value.startswith("~")).split()
    assert {"execve", "read", "write"} <= set(allowed)
    assert not {"epoll_ctl", "fstatfs", "getdents64"} & set(allowed)
