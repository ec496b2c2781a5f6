"""SELinux's classes, permissions, and the types of the reference policy."""

from __future__ import annotations

import re

import pytest

from profiler.kernel.capabilities import CAPABILITIES
from profiler.kernel.selinux import (
    FILE_CLASSES,
    capability,
    classes_of,
    holder,
    own,
    port_type,
    signal_permission,
    socket_class,
    socket_permissions,
    table,
)
from profiler.kernel.syscalls import names_of
from profiler.trace.model import FILE_ACCESSES, FILE_KINDS, SOCKET_OPERATIONS

TYPE = re.compile(r"[a-z][a-z0-9_]*")


def test_every_access_has_permissions() -> None:
    assert table("accesses").keys() == set(FILE_ACCESSES)
    assert table("socket_operations").keys() == set(SOCKET_OPERATIONS)
    assert set(table("records").values()) <= set(FILE_ACCESSES)
    assert table("kinds").keys() == set(FILE_KINDS) - {"unknown"}
    assert set(table("kinds").values()) == set(FILE_CLASSES)


def test_names_exist() -> None:
    assert table("calls").keys() <= names_of("x86_64")
    for name in ("kernel_paths", "paths"):
        assert all(place.startswith("/") and TYPE.fullmatch(kind) for place, kind in table(name).items())
    assert set(table("shared")) <= table("paths").keys()


@pytest.mark.parametrize("access", FILE_ACCESSES)
def test_a_class_has_its_permissions_only(access: str) -> None:
    for kind in FILE_CLASSES:
        rights = own(access, kind)
        assert kind == "dir" or not {"add_name", "search", "rmdir", "reparent"} & set(rights)
        assert kind == "file" or "execute_no_trans" not in rights
    assert set(holder(access)) <= {"add_name", "remove_name", "search", "write"}


def test_directories() -> None:
    assert {"rmdir"} < set(own("remove", "dir"))
    assert "unlink" not in own("remove", "dir")
    assert "map" not in own("read", "dir")
    assert classes_of(("directory", "symlink")) == ("dir", "lnk_file")
    assert classes_of(("unknown",)) == classes_of(()) == ("dir", "file")


@pytest.mark.parametrize(
    ("sort", "kind"),
    [
        (("inet", "stream", 6), "tcp_socket"),
        (("inet6", "stream", 0), "tcp_socket"),
        (("inet", "dgram", 17), "udp_socket"),
        (("inet", "dgram", 1), "icmp_socket"),
        (("inet", "raw", 1), "rawip_socket"),
        (("inet", "seqpacket", 132), "sctp_socket"),
        (("unix", "seqpacket", 0), "unix_stream_socket"),
        (("unix", "dgram", 0), "unix_dgram_socket"),
        (("unix", "9", 0), "socket"),
        (("netlink", "raw", 0), "netlink_route_socket"),
        (("netlink", "dgram", 99), "netlink_socket"),
        (("packet", "raw", 768), "packet_socket"),
        (("77", "raw", 0), "socket"),
    ],
)
def test_sockets(sort: tuple[str, str, int], kind: str) -> None:
    assert socket_class(*sort) == kind


def test_socket_permissions() -> None:
    assert {"create", "bind", "listen", "accept"} <= socket_permissions(
        "tcp_socket", ("create", "bind", "listen", "accept")
    )
    assert "bind" not in socket_permissions("tcp_socket", ("create",))
    assert "nlmsg_write" in socket_permissions("netlink_route_socket", ("create",))
    assert "nlmsg_write" not in socket_permissions("netlink_generic_socket", ("create",))


def test_ports() -> None:
    assert port_type("tcp", 443) == "http_port_t"
    assert port_type("udp", 443) == "reserved_port_t"
    assert port_type("sctp", 700) == "hi_reserved_port_t"
    assert port_type("tcp", 40000) == "unreserved_port_t"
    assert port_type("tcp", 0) is None


def test_capabilities() -> None:
    assert capability("CAP_CHOWN") == ("capability", "chown")
    assert capability("CAP_BPF") == ("capability2", "bpf")
    assert capability("CAP_BPF", userns=True) == ("cap2_userns", "bpf")
    assert len({capability(name) for name in CAPABILITIES}) == len(CAPABILITIES)


def test_signals() -> None:
    assert [signal_permission(name) for name in ("KILL", "0", "TERM", "CHLD")] == [
        "sigkill",
        "signull",
        "signal",
        "sigchld",
    ]
