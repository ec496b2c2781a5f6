"""Sorts of other processes' sockets."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from profiler.tracers import sockets
from profiler.tracers.sockets import inherited_sockets, is_socket, socket_sort


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


def test_links_of_sockets() -> None:
    assert is_socket("socket:[123]")
    assert not is_socket("pipe:[123]")
    assert not is_socket("/tmp/socket:[123]")
    assert not is_socket("socket:[123]\n")
