"""What calls do with sockets, names and addresses."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from profiler.kernel.sockets import (
    SocketCall,
    family_name,
    parse_address,
    socket_calls,
    socketcalls,
    type_name,
    unix_address,
    with_default,
)
from profiler.kernel.syscalls import known_names
from profiler.trace.model import SOCKET_OPERATIONS


@pytest.mark.parametrize(("name", "call"), socket_calls().items())
def test_calls_are_whole(name: str, call: SocketCall) -> None:
    assert name in known_names() | set(socketcalls().values())
    assert call.operation in SOCKET_OPERATIONS
    assert (call.address is None) == (call.length is None)
    assert call.count is None or call.message is not None
    assert call.pair is None or call.fd is None
    positions = (call.fd, call.pair, call.address, call.length, call.message, call.count)
    assert all(0 <= position <= 5 for position in positions if position is not None)


def test_every_operation_has_a_call() -> None:
    assert {call.operation for call in socket_calls().values()} == set(SOCKET_OPERATIONS) - {"inherit"}


def test_socketcalls_are_socket_calls() -> None:
    assert set(socketcalls().values()) <= set(socket_calls())


def test_socketcall_numbers(tmp_path: Path) -> None:
    shown = "\n".join(f'printf("%d ", SYS_{name.upper()} == {number});' for number, name in socketcalls().items())
    (tmp_path / "x.c").write_text(f"#include <stdio.h>\n#include <linux/net.h>\nint main(void) {{ {shown} return 0; }}")
    subprocess.run(["gcc", "-o", tmp_path / "x", tmp_path / "x.c"], check=True, timeout=60)
    assert set(
        subprocess.run([tmp_path / "x"], capture_output=True, text=True, timeout=60, check=True).stdout.split()
    ) == {"1"}


@pytest.mark.parametrize(
    ("family", "data", "expected"),
    [
        (2, b"\2\0\0\x50\x7f\0\0\1" + bytes(8), (80, None)),
        (10, b"\x0a\0\x01\xbb" + bytes(24), (443, None)),
        (10, b"\2\0\0\x50" + bytes(12), (80, None)),
        (2, b"\0\0" + bytes(14), (None, None)),  # AF_UNSPEC: disconnect
        (2, b"\2\0\0", (None, None)),
        (1, b"\1\0/run/x\0garbage", (None, "/run/x")),
        (1, b"\1\0/run/x", (None, "/run/x")),
        (1, b"\1\0\0name\0with", (None, "@name\0with")),
        (1, b"\1\0@name\0", (None, "./@name")),
        (1, b"\1\0\0\xff", (None, "@\udcff")),
        (1, b"\1\0", (None, None)),
        (16, b"\x10\0" + bytes(10), (None, None)),
        (1, b"\2\0\0\x50", (None, None)),
        (2, b"", (None, None)),
    ],
)
def test_addresses(family: int, data: bytes, expected: tuple[int | None, str | None]) -> None:
    assert parse_address(family, data) == expected


@pytest.mark.parametrize(("number", "family"), [(1, "unix"), (2, "inet"), (10, "inet6"), (16, "netlink"), (200, "200")])
def test_families(number: int, family: str) -> None:
    assert family_name(number) == family
    assert (type_name(1), type_name(5), type_name(99)) == ("stream", "seqpacket", "99")


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ((2, 1, 0), (2, 1, 6)),
        ((10, 2, 0), (10, 2, 17)),
        ((2, 3, 0), (2, 3, 0)),
        ((1, 1, 0), (1, 1, 0)),
        ((2, 1, 132), (2, 1, 132)),
    ],
)
def test_default_protocols(sort: tuple[int, int, int], expected: tuple[int, int, int]) -> None:
    assert with_default(sort) == expected


@pytest.mark.parametrize(
    ("data", "address"),
    [(b"/run/x\0rest", "/run/x"), (b"\0name\0x", "@name\0x"), (b"@x", "./@x"), (b"", ""), (b"\0", "@")],
)
def test_unix_addresses(data: bytes, address: str) -> None:
    assert unix_address(data) == address
