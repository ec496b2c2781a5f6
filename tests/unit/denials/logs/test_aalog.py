"""Lines of aa-log."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.denials.logs import aalog


def test_a_file_and_its_owner() -> None:
    line = b'DENIED  web open owner "/srv/a b" comm="a b" requested_mask=rw denied_mask=w error=-13'
    assert aalog.is_line(line)
    assert aalog.values_of(line) == {
        "apparmor": "DENIED", "profile": "web", "operation": "open", "name": "/srv/a b", "fsuid": "0", "ouid": "0",
        "comm": "a b", "requested_mask": "rw", "denied_mask": "w", "error": "-13",
    }  # fmt: skip


def test_no_file() -> None:
    line = (
        b'ALLOWED kmod file_inherit comm=modprobe family=unix sock_type=stream protocol=0 requested_mask="send receive"'
    )
    values = aalog.values_of(line)
    assert (values["apparmor"], values["family"], values["requested_mask"]) == ("ALLOWED", "unix", "send receive")
    assert "name" not in values


def test_a_target() -> None:
    values = aalog.values_of(b"DENIED man exec /usr/bin/preconv -> man_groff comm=man requested_mask=x denied_mask=x")
    assert (values["name"], values["target"], values["ouid"]) == ("/usr/bin/preconv", "man_groff", "1")


@pytest.mark.parametrize(
    "line",
    [
        b"DENIED  web open owner @{HOME}/x comm=web requested_mask=r denied_mask=r",
        b"DENIED  @{bin}/web open /x comm=web requested_mask=r denied_mask=r",
        b"DENIED  web open /srv/x /y comm=web requested_mask=r denied_mask=r",
        b"DENIED  web open /x comm=web comm=web",
    ],
)
def test_a_line_that_does_not_tell_what_was_refused(line: bytes) -> None:
    assert aalog.is_line(line)
    with pytest.raises(ValueError):
        aalog.values_of(line)


def test_other_lines() -> None:
    for line in (b"DENIED", b"ACCESS DENIED for x y=1", b"DENIED 5 times", b"[1.2] DENIED web open /x comm=web"):
        assert not aalog.is_line(line)


@given(st.binary(max_size=80))
def test_any_bytes(data: bytes) -> None:
    for line in (data, b"DENIED web open " + data, b"DENIED web open /x comm=" + data):
        if aalog.is_line(line):
            try:
                aalog.values_of(line)
            except ValueError:
                continue
