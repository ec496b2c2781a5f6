"""A denial in one line."""

from __future__ import annotations

from dataclasses import replace

import pytest

from profiler.denials.describe import alike, described
from profiler.denials.model import Denial

SOCKET = Denial(
    "syscall", "seccomp", True, "errno", comm="app", exe="/bin/app", abi="x86_64", number=41, name="socket",
    arguments=(2, 1, 0, 99, 99, 99), errno="EPERM", pid=7,
)  # fmt: skip


@pytest.mark.parametrize(
    ("denial", "text"),
    [
        (
            SOCKET,
            "syscall socket(domain=AF_INET, type=SOCK_STREAM, protocol=IPPROTO_IP) = EPERM: app (/bin/app), pid 7",
        ),
        (replace(SOCKET, refused=False, errno=None, arguments=None), "syscall socket: app (/bin/app), pid 7"),
        (replace(SOCKET, name=None, number=999, arguments=None), "syscall number 999 = EPERM: app (/bin/app), pid 7"),
        (replace(SOCKET, abi="i386", arguments=None), "syscall i386:socket = EPERM: app (/bin/app), pid 7"),
        (replace(SOCKET, comm=None, exe=None, pid=None, arguments=None, count=3), "syscall socket = EPERM, 3 times: ?"),
        (
            Denial("capability", "kernel", True, capability="CAP_CHOWN", name="chown", comm="app"),
            "capability CAP_CHOWN in chown: app",
        ),
        (Denial("file", "policy", True, path="/x", access=("read", "write"), comm="app"), "file /x: read, write: app"),
        (Denial("signal", "policy", True, signal="TERM", whom="other", comm="app"), "signal TERM to other: app"),
        (Denial("signal", "policy", True, signal="TERM", comm="app"), "signal TERM to ?: app"),
        (
            Denial("file", "policy", True, path="/a: read", access=("map",), comm="x), pid 1, y", exe="/x (ls)", pid=7),
            'file "/a: read": map: "x), pid 1, y" ("/x (ls)"), pid 7',
        ),
    ],
)
def test_described(denial: Denial, text: str) -> None:
    assert described(denial) == text


def test_what_reads_the_same_is_one() -> None:
    other = replace(SOCKET, arguments=(2, 1, 0, 1, 2, 3), count=2)
    assert alike([SOCKET, other]) == [replace(SOCKET, count=3)]
    assert len(alike([SOCKET, replace(SOCKET, arguments=(1, 1, 0, 0, 0, 0))])) == 2
    assert len(alike([SOCKET, replace(SOCKET, refused=False)])) == 2
    assert alike([]) == []
