"""Records of TOMOYO's own log."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.denials.logs.reading import Reader
from profiler.denials.model import Denial

HEAD = (
    "#2026/12/01 04:21:15# profile=1 mode=enforcing granted=no (global-pid=229) task={ pid=229 ppid=223 uid=0 gid=0 "
    "euid=0 egid=0 suid=0 sgid=0 fsuid=0 fsgid=0 }"
)
FILE = (
    " path1={ uid=0 gid=42 ino=23 major=0 minor=39 perm=0640 type=file } path1.parent={ uid=0 gid=0 ino=28 perm=0755 }"
)
EXEC = ' exec={ realpath="/usr/bin/bash" argc=2 envc=0 argv[]={ "sh" "a\\040b" } envp[]={ } }'
DOMAIN = "<profgen_app> /usr/sbin/app /usr/bin/dash"


def read(data: bytes) -> Reader:
    class Raw(io.RawIOBase):
        source = io.BytesIO(data)

        def readinto(self, buffer: Any) -> int:
            return self.source.readinto(buffer)

    reader = Reader()
    reader.read(Raw())
    return reader


def record(request: str, head: str = HEAD, domain: str = DOMAIN) -> bytes:
    return f"{head}\n{domain}\n{request}\n\0".encode()


def of(request: str, rest: str = "") -> list[Denial]:
    reader = read(record(request, HEAD + rest))
    assert not reader.reading.unread, reader.reading.samples
    return list(reader.reading.denials)


@pytest.mark.parametrize(
    ("request_", "rest", "members"),
    [
        (
            "file read /etc/shadow",
            FILE,
            {"path": "/etc/shadow", "access": ("read",), "owner": True, "file_kind": "file"},
        ),
        ("file read /root/", "", {"path": "/root", "access": ("list",), "directory": True}),
        ("file create /etc/a\\040b 0666", "", {"path": "/etc/a b", "access": ("create",)}),
        ("file unlink /x", FILE, {"access": ("remove",)}),
        ("file mkdir /x/ 0755", "", {"access": ("make",), "directory": True}),
        ("file symlink /x", "", {"access": ("make",), "file_kind": "symlink"}),
        ("file chmod /x 0777", FILE, {"access": ("mode",)}),
        ("file chgrp /x 5", FILE, {"access": ("owner",)}),
        ("file execute /usr/bin/sh", EXEC, {"access": ("execute",), "path": "/usr/bin/bash"}),
        ("file link /a /b", "", {"access": ("link",), "path": "/b", "existing": "/a"}),
        ("file read proc:/self/status", FILE, {"path": "/proc/229/status", "whose": "self"}),
        ("file read proc:/1/environ", FILE, {"path": "/proc/1/environ", "whose": None}),
        ("file write devpts:/3", "", {"path": "/dev/pts/3"}),
        ("file mount tmpfs /mnt/ tmpfs 0x0", "", {"kind": "mount", "operation": "mount", "target": "/mnt"}),
        ("file mount /a/ /b/ --bind 0x0", "", {"kind": "mount", "operation": "bind", "source": "/a", "target": "/b"}),
        ("file unmount /mnt/", "", {"kind": "mount", "operation": "umount", "target": "/mnt"}),
        (
            "network inet stream connect 10.0.0.1 443",
            "",
            {"family": "inet", "port": 443, "operations": ("connect",), "address": None},
        ),
        ("network inet dgram bind ::1 53", "", {"family": "inet6", "type": "dgram", "protocol": 17, "port": 53}),
        ("network inet raw send 10.0.0.1 1", "", {"type": "raw", "protocol": 1, "port": None}),
        ("network unix stream bind \\000x", "", {"family": "unix", "address": "@x"}),
        ("network unix dgram send /run/x", "", {"family": "unix", "address": "/run/x", "operations": ("send",)}),
        ("misc env LD_PRELOAD", "", {"kind": "other", "operation": "misc env"}),
        ("file ioctl /x 0x1", FILE, {"kind": "other", "operation": "file ioctl"}),
    ],
)
def test_one(request_: str, rest: str, members: dict[str, Any]) -> None:
    (denial,) = of(request_, rest)
    found = {name: getattr(denial, name) for name in members}
    assert found == members
    assert (denial.by, denial.refused, denial.profile, denial.exe) == ("tomoyo", True, "profgen_app", "/usr/bin/dash")
    assert (denial.pid, denial.first, denial.unproven) == (229, 1796098875.0, False)


def test_a_rename_has_two_names() -> None:
    old, new = of("file rename /a/ /b/", FILE)
    assert (old.path, old.access, old.directory) == ("/a", ("rename_from",), True)
    assert (new.path, new.access, new.directory) == ("/b", ("rename_to",), True)


def test_repetitions_granted_ones_and_other_modes() -> None:
    later = HEAD.replace("04:21:15", "04:22:15")
    data = (
        record("file read /a") + record("file read /a", later) + record("file read /b", HEAD.replace("=no (", "=yes ("))
    )
    data += record("file read /c", HEAD.replace("enforcing", "permissive"))
    reading = read(data).reading
    assert [(row.path, row.count, row.refused) for row in reading.denials] == [("/a", 2, True), ("/c", 1, False)]
    assert reading.denials[0].last == 1796098935.0
    assert reading.records == 3


def test_other_domains_have_their_whole_name() -> None:
    (denial,) = read(record("file read /a", domain="<kernel> /usr/sbin/sshd")).reading.denials
    assert (denial.profile, denial.exe) == ("<kernel> /usr/sbin/sshd", "/usr/sbin/sshd")


@pytest.mark.parametrize("cut", [1, 2])
def test_a_record_that_was_cut_off_is_counted(cut: int) -> None:
    whole = record("file read /a").split(b"\n")
    reading = read(b"\n".join(whole[:cut]) + b"\n" + record("file read /b")).reading
    assert [row.path for row in reading.denials] == ["/b"]
    assert reading.unread == 1


@given(st.binary(max_size=200), st.binary(max_size=80), st.binary(max_size=80))
def test_any_bytes(rest: bytes, domain: bytes, request_: bytes) -> None:
    """Whatever is in a log, it is read to its end."""
    data = HEAD.encode() + rest + b"\n" + domain + b"\n" + request_ + b"\n\0" + record("file read /last")
    assert "/last" in {row.path for row in read(data).reading.denials}
