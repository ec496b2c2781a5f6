"""Sorts and addresses of sockets."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from profiler.tracers import sockets
from profiler.tracers.sockets import family_name, inherited_sockets, parse_address, socket_sort, type_name


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


def test_sockets_tell_their_sort() -> None:
    for family, kind, protocol, expected in (
        (socket.AF_INET, socket.SOCK_STREAM, 0, (2, 1, 6)),
        (socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, (1, 5, 0)),
        (socket.AF_NETLINK, socket.SOCK_RAW, 9, (16, 3, 9)),
    ):
        with socket.socket(family, kind, protocol) as made:
            assert socket_sort(os.getpid(), made.fileno()) == expected
    assert socket_sort(os.getpid(), 999) is None
    assert socket_sort(1 << 30, 0) is None


def test_threads_have_descriptors_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a kernel cannot ask a thread, its process is asked, if that has the same socket under the number."""
    tid = []
    ready, done = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: (tid.append(threading.get_native_id()), ready.set(), done.wait()))
    thread.start()
    ready.wait()
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
            assert socket_sort(tid[0], made.fileno(), os.getpid()) == (2, 2, 17)
            monkeypatch.setattr(sockets, "_PIDFD_THREAD", 1 << 20)
            assert socket_sort(tid[0], made.fileno(), os.getpid()) == (2, 2, 17)
            monkeypatch.setattr(sockets, "_same", lambda *_: False)
            with pytest.raises(PermissionError):
                socket_sort(tid[0], made.fileno(), os.getpid())
    finally:
        done.set()
        thread.join()


def test_inherited_sockets() -> None:
    """Those that an execution leaves open, and no other; without descriptors named, among all."""
    before = inherited_sockets(os.getpid())
    with (
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as closed,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as kept,
    ):
        kept.set_inheritable(True)
        assert inherited_sockets(os.getpid()) - before == {("unix", "seqpacket", 0)}
        assert inherited_sockets(os.getpid(), (closed.fileno(), kept.fileno(), 999)) == {("unix", "seqpacket", 0)}
        assert inherited_sockets(os.getpid(), (closed.fileno(),)) == set()
    assert inherited_sockets(1 << 30) == set()


@pytest.mark.parametrize(("number", "family"), [(1, "unix"), (2, "inet"), (10, "inet6"), (16, "netlink"), (200, "200")])
def test_families(number: int, family: str) -> None:
    assert family_name(number) == family
    assert (type_name(1), type_name(5), type_name(99)) == ("stream", "seqpacket", "99")
