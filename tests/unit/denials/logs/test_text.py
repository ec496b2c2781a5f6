"""The text before a record, and what a line is about."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.denials.logs import text

BODY = b"auid=0 uid=0 gid=0 ses=1 pid=7 "


@pytest.mark.parametrize(
    ("before", "trusted"),
    [
        (b"", True),
        (b"audit: ", True),
        (b"node=web1 ", True),
        (b"[  1.2] audit: ", True),
        (b"<5>[  1.2] audit: ", True),
        (b"<4>[  1.2] audit: ", False),
        (b"5,1,2,-;audit: ", True),
        (b"6,1,2,-;audit: ", False),
        (b"13,1,2,-;audit: ", False),
        (b"Nov 22 13:26:10 web1 kernel: audit: ", True),
        (b"Nov 22 13:26:10 web1 mykernel: audit: ", False),
        (b"kernel: ", True),
        (b"no time here kernel: ", False),
        (b"a b c d e f g h i j k l m 1 kernel: ", False),
        (b"1" * 500 + b" kernel: ", False),
        (b"Nov 22 13:26:10 web1 audit[7]: ", True),
        (b"Nov 22 13:26:10 web1 audit: ", False),
        (b"Nov 22 13:26:10 web1 sudo[7]: audit[7]: ", False),
        (b"GET /?x=", False),
    ],
)
def test_who_wrote_a_line(before: bytes, trusted: bool) -> None:
    found = text.find(before + b"type=1326 audit(1.0:1): " + BODY)
    assert found is not None
    assert (found.trusted, found.at, found.body) == (trusted, len(before), BODY)


@pytest.mark.parametrize(
    ("line", "shape"),
    [
        (b"type=AVC msg=audit(11/22/26 13:26:10.253:17) : x", None),
        (b"node=web1 type=AVC msg=audit(1.2:3)", None),
        (b"audit: type=1326", None),
        (b"[  1.2] x", "brackets"),
        (b"<5>[  1.2] x", "priority"),
        (b"5,1,2,-;x", "kmsg"),
        (b"Nov 22 13:26:10 web1 x", "time"),
        ("déc. 22 13:26:10 web1 x".encode(), "time"),
        (b"1795353970.25 web1 x", "time"),
        (b"@400000006921b3021b4d3c4c x", "time"),
    ],
)
def test_how_a_line_begins(line: bytes, shape: str | None) -> None:
    assert text.shape(line) == shape


@pytest.mark.parametrize(
    ("line", "suspect"),
    [
        (b"type=1326", True),
        (b",SECCOMP,11/22/26", True),
        (b'"AVC":{"apparmor":"DENIED","operation":"open"}', True),
        (b'apparmor=\\"ALLOWED\\"', True),
        (b'apparmor="STATUS" operation="profile_load"', False),
        (b"Command line: apparmor=1 security=apparmor", False),
        (b"CONFIG_SECCOMP=y", False),
        (b"systemd 252 running in system mode (+PAM +AUDIT +SELINUX +APPARMOR +SECCOMP +GCRYPT)", False),
        (b"SECCOMP enabled", False),
        (b'{"ID":"1.2:3","SECCOMP":{"auid":0}}', True),
        (b'{"messages":[{"type":1326,"data":"auid=0 compat=0 ip=0x7f code=0x0"}]}', True),
        (b'"audit" logger="log-enricher" type="seccomp" syscallID=3 syscallName="close"', True),
        (b"seccomp: ACCESS DENIED", False),
    ],
)
def test_what_looks_like_a_denial(line: bytes, suspect: bool) -> None:
    assert text.suspect(line) is suspect


@settings(deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"type=1326 audit(", b"SECCOMP auid=", b"kernel: ", b"[1] "]))
def test_any_bytes(data: bytes, word: bytes) -> None:
    for line in (data, data + word, word + data, data + word + data):
        text.plain(line)
        text.find(line)
        text.suspect(line)
        text.shape(line)


@pytest.mark.parametrize(
    "line",
    [
        b"[1]" * 5000 + b"type=1326 audit(1.0:1): ",
        b"[1] " * 4000 + b"x type=1326 audit(1.0:1): ",
        b" " * 15000 + b"type=1326 audit(1.0:1): ",
        b"kernel a b " * 1400 + b"type=1326 audit(1.0:1): ",
        b"type=1326 audit(" * 1000,
        b"SECCOMP " * 2000,
        b"apparmor" * 2000,
    ],
)
def test_no_line_takes_long(line: bytes) -> None:
    start = time.process_time()
    text.find(line[: text.RECORD_MAX])
    text.suspect(line)
    assert time.process_time() - start < 0.5
