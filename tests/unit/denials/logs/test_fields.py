"""Records taken apart."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.denials.logs.fields import values_of


def test_the_forms_of_values() -> None:
    values = values_of(
        b'apparmor="DENIED" name=2F6574632F7820FF0A pid=7 comm="a b" info="no words" capability=21  capname="sys_admin"'
        b' flags="rw, mand" laddr=192.168.1.2 lport=80 protocol=0',
        kmsg=False,
    )
    assert values == {
        "apparmor": "DENIED", "name": "/etc/x \udcff\n", "pid": "7", "comm": "a b", "info": "no words",
        "capability": "21", "capname": "sys_admin", "flags": "rw, mand", "laddr": "192.168.1.2", "lport": "80",
        "protocol": "0",
    }  # fmt: skip


@pytest.mark.parametrize("between", [b"\x1d", b"#035", b"\\x1d", b"^]", b" ", b""])
def test_what_auditd_appends(between: bytes) -> None:
    assert values_of(b"fsuid=33 ouid=0" + between + b'FSUID="www-data" OUID="root"', False) == {
        "fsuid": "33",
        "ouid": "0",
    }


def test_the_text_of_a_program_in_user_space() -> None:
    body = (
        b'pid=1780 uid=102 auid=4294967295 ses=4294967295 subj=? msg=\'apparmor="DENIED" operation="dbus_bind"  '
        b'bus="system" pid=1794 label="app"  exe="/usr/bin/dbus-daemon" hostname=? terminal=?\''
    )
    for tail in (b"", b'\x1dUID="messagebus" AUID="unset"'):
        values = values_of(body + tail, False)
        assert (values["operation"], values["label"], values["pid"]) == ("dbus_bind", "app", "1794")


@pytest.mark.parametrize(
    ("raw", "address"),
    [
        (b'"@my_socket"', "@my_socket"),
        (b'"@2F746D702F612E73000000"', "@/tmp/a.s\0\0\0"),
        (b'"@ABCD"', "@\udcab\udccd"),
        (b'"@4142"', "@4142"),
        (b'"@cafe"', "@cafe"),
        (b"none", "none"),
        (b"2F72756E2F6120622E73", "/run/a b.s"),
    ],
)
def test_addresses_of_sockets(raw: bytes, address: str) -> None:
    """An abstract name is hexadecimal only if it holds what is not plain text."""
    assert values_of(b"peer_addr=" + raw, False) == {"peer_addr": address}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"x",
        b"a=1 x",
        b"a=1 [3,7f11aa2c4000+1000] likely on CPU 1",
        b'a="1',
        b'a="1"b="2"',
        b'a="1\n2"',
        b"a=1   b=2",
        b" a=1",
        b"=1",
        b"a=b=c",
    ],
)
def test_a_record_has_nothing_but_fields(body: bytes) -> None:
    with pytest.raises(ValueError, match="not a field"):
        values_of(body, False)


NAME = st.from_regex(r"[a-z][a-z_]{0,9}", fullmatch=True).filter(lambda name: name != "msg")
VALUE = st.from_regex(r"[0-9a-z/.]{0,20}", fullmatch=True)


@given(st.dictionaries(NAME, VALUE, min_size=1))
def test_what_is_written_is_read(fields: dict[str, str]) -> None:
    for quote in ("", '"'):
        body = " ".join(f"{name}={quote}{value}{quote}" for name, value in fields.items())
        assert values_of(body.encode(), False) == fields


@settings(deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes(body: bytes, kmsg: bool) -> None:
    try:
        values_of(body, kmsg)
    except ValueError:
        return


@pytest.mark.parametrize("piece", [b"a=1 ", b"AB=AB=", b"AB=1 ", b'AB="1" ', b"a=", b" ", b"\x1d", b"AB=1#035"])
def test_no_record_takes_long(piece: bytes) -> None:
    start = time.process_time()
    for body in (piece * (16384 // len(piece)), b"a=1 " + piece * (16384 // len(piece)) + b"!"):
        try:
            values_of(body, False)
        except ValueError:
            continue
    assert time.process_time() - start < 1
