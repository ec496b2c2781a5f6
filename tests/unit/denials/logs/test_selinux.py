"""Records of SELinux."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.denials.logs.reading import Reader
from profiler.denials.logs.selinux import split
from profiler.denials.model import Denial
from profiler.denials.uses import whom_of

WHO = "scontext=system_u:system_r:web.process:s0:c1,c2 "


def of(record: str, head: str = "type=AVC msg=audit(1795359961.305:1094): ") -> list[Denial]:
    reader = Reader()
    reader.line((head + record).encode())
    assert not reader.reading.unread, reader.reading.samples
    return list(reader.reading.denials)


def avc(rights: str, rest: str, target: str, kind: str, end: str = " permissive=0") -> str:
    return f'avc:  denied  {{ {rights} }} for  pid=7 comm="web" {rest}{WHO}tcontext={target} tclass={kind}{end}'


FILE = "system_u:object_r:shadow_t:s0"
OWN = "system_u:system_r:web.process:s0:c1,c2"


@pytest.mark.parametrize(
    ("record", "members"),
    [
        (avc("read", 'name="shadow" dev="vda1" ino=3 ', FILE, "file"), {"path": "shadow", "access": ("read",)}),
        (avc("read open", 'path="/etc/shadow" dev="vda1" ino=3 ', FILE, "file"), {"path": "/etc/shadow"}),
        (avc("write", "path=2F6120622F63 dev=tmpfs ino=3 ", FILE, "file"), {"path": "/a b/c", "access": ("write",)}),
        (avc("read", 'name="etc" dev="vda1" ino=3 ', FILE, "dir"), {"directory": True, "access": ("list",)}),
        (avc("getattr", 'path="/etc/shadow" dev="vda1" ino=3 ', FILE, "file"), {"kind": "file", "access": ()}),
        (avc("execute", 'path="/usr/lib/x.so" dev="vda1" ino=3 ', FILE, "file"), {"access": ("map",)}),
        (avc("execute_no_trans", 'path="/usr/bin/x" dev="vda1" ino=3 ', FILE, "file"), {"access": ("execute",)}),
        (
            avc("unlink", 'name="p" dev="vda1" ino=3 ', FILE, "sock_file"),
            {"file_kind": "socket", "access": ("remove",)},
        ),
        (avc("net_raw", "capability=13  ", OWN, "capability"), {"kind": "capability", "capability": "CAP_NET_RAW"}),
        (avc("bpf", "capability=39  ", OWN, "capability2"), {"kind": "capability", "capability": "CAP_BPF"}),
        (
            avc("name_bind", "src=81 ", "system_u:object_r:reserved_port_t:s0", "tcp_socket"),
            {"kind": "socket", "family": "inet", "type": "stream", "protocol": 6, "operations": ("bind",), "port": 81},
        ),
        (
            avc("name_connect", "dest=443 ", "system_u:object_r:http_port_t:s0", "tcp_socket"),
            {"operations": ("connect",), "port": 443},
        ),
        (avc("create", " ", OWN, "rawip_socket"), {"kind": "socket", "type": "raw", "operations": ("create",)}),
        (avc("sigkill", " ", OWN, "process"), {"kind": "signal", "signal": "KILL"}),
        (avc("ptrace", " ", OWN, "process"), {"kind": "inspection", "operations": ("trace",)}),
        (avc("execmem", " ", OWN, "process"), {"kind": "other", "info": "process web.process"}),
        (avc("signal", " ", OWN, "process"), {"kind": "other", "operation": "signal"}),
        (avc("create", " ", OWN, "user_namespace"), {"kind": "user_namespace"}),
        (avc("sqpoll", " ", OWN, "io_uring"), {"kind": "io_uring"}),
        (avc("read", 'name="x" dev="vda1" ino=3 ', FILE, "file", " permissive=1"), {"refused": False}),
        (avc("read", 'name="x" dev="vda1" ino=3 ', FILE, "file", ""), {"refused": True}),
    ],
)
def test_records(record: str, members: dict[str, Any]) -> None:
    (found,) = of(record)
    assert (found.by, found.profile, found.comm, found.pid) == ("selinux", "web.process", "web", 7)
    assert {name: getattr(found, name) for name in members} == members


def test_own_processes_are_the_workloads() -> None:
    (own,) = of(avc("sigkill", " ", OWN, "process"))
    (other,) = of(avc("sigkill", " ", "system_u:system_r:init_t:s0", "process"))
    assert (whom_of(own), whom_of(other)) == ("workload", "outside")


@pytest.mark.parametrize(
    "head",
    [
        "audit: type=1400 audit(1796078554.080:12): ",
        "[   12.5] audit: type=1400 audit(1796078554.080:12): ",
        "Nov 22 13:26:10 web1 kernel: audit: type=1400 audit(1796078554.080:12): ",
        "node=web1 type=AVC msg=audit(1796078554.080:12): ",
    ],
)
def test_forms_of_logs(head: str) -> None:
    (found,) = of(avc("net_raw", "capability=13  ", OWN, "capability"), head)
    assert found.events == ("1796078554.080:12",)


@pytest.mark.parametrize(
    "record",
    [
        "avc:  granted  { read } for  pid=7 " + WHO + f"tcontext={FILE} tclass=file permissive=0",
        "avc:  received setenforce notice (enforcing=1)",
    ],
)
def test_what_is_not_a_denial(record: str) -> None:
    assert of(record) == []


@pytest.mark.parametrize(
    "record",
    [
        avc("net_raw", "", OWN, "capability"),
        avc("net_raw", "capability=99 ", OWN, "capability"),
        avc("read", "", "nothing", "file"),
        "avc:  denied  { read } for  pid=7 " + WHO + f"tcontext={FILE}",
        avc("read", 'name="x" junk ', FILE, "file"),
    ],
)
def test_broken_records(record: str) -> None:
    reader = Reader()
    reader.line(f"type=AVC msg=audit(1.0:1): {record}".encode())
    assert reader.reading.broken == 1
    assert not reader.reading.denials


@given(st.binary(max_size=80))
def test_any_text(text: bytes) -> None:
    split(text)
    reader = Reader()
    reader.line(b"type=AVC msg=audit(1.0:1): avc:  denied  { read } for  " + text)
    assert reader.reading.records in (0, 1)
