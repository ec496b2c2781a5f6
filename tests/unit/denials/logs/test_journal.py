"""Entries of the journal in forms of several lines. test_forms.py has an entry of each form as journalctl prints it."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.denials.logs import journal


def entries(data: bytes, kind: str) -> list[tuple[Any, int]]:
    assert journal.form(data) == kind
    return list(journal.entries(io.BufferedReader(io.BytesIO(data)), kind))  # type: ignore[arg-type]


def export(fields: dict[str, bytes]) -> bytes:
    """Return an entry as the export form has it: with a size where the text is not plain."""
    lines = [b"__CURSOR=s=1\n"]
    for name, value in fields.items():
        if b"\n" in value or not value.isascii():
            lines.append(name.encode() + b"\n" + len(value).to_bytes(8, "little") + value + b"\n")
        else:
            lines.append(name.encode() + b"=" + value + b"\n")
    return b"".join(lines) + b"\n"


@given(
    st.lists(
        st.fixed_dictionaries(
            {"MESSAGE": st.binary(max_size=80), "_TRANSPORT": st.sampled_from([b"kernel", b"syslog"])},
            optional={"SYSLOG_IDENTIFIER": st.binary(max_size=20)},
        ),
        min_size=1,
        max_size=4,
    )
)
def test_the_export_form(rows: list[dict[str, bytes]]) -> None:
    data = b"".join(map(export, rows))
    found = entries(data, "export")
    assert [fields["MESSAGE"] for fields, _ in found] == [row["MESSAGE"] for row in rows]
    assert [fields["_TRANSPORT"] for fields, _ in found] == [row["_TRANSPORT"].decode() for row in rows]
    assert found[0][1] == 1
    assert found[-1][1] == 1 + b"".join(map(export, rows[:-1])).count(b"\n")


def test_the_export_form_cut_off_and_too_long() -> None:
    whole = export({"MESSAGE": b"one", "_TRANSPORT": b"kernel"})
    cut = b"__CURSOR=s=1\nMESSAGE\n" + (1 << 40).to_bytes(8, "little") + b"x"
    assert [fields and fields["MESSAGE"] for fields, _ in entries(whole + cut, "export")] == [b"one", None]
    long = b"__CURSOR=s=1\nMESSAGE=" + b"x" * (journal.ENTRY_MAX + 5) + b"\n\n"
    assert [fields and fields["MESSAGE"] for fields, _ in entries(whole + long + whole, "export")] == [
        b"one",
        None,
        b"one",
    ]


def test_the_verbose_form() -> None:
    data = b"""\
-- Journal begins at Sun 2026-11-22 13:26:10 UTC, ends at Sun 2026-11-22 13:26:10 UTC. --
Sun 2026-11-22 13:26:10.253111 UTC [s=cf0cc5afccea4332941e5da8e6a9a30c;i=15f;b=98;m=46;t=66;x=1c]
    _TRANSPORT=kernel
    MESSAGE=one
            two
            _TRANSPORT=syslog
    PRIORITY=5
d\xc3\xa9c. 2026-11-22 13:26:10.253111 UTC [s=cf0cc5afccea4332941e5da8e6a9a30c;i=160;b=98;m=46;t=66;x=1c]
    MESSAGE=three
"""
    assert entries(data, "verbose") == [
        ({"_TRANSPORT": "kernel", "MESSAGE": b"one\ntwo\n_TRANSPORT=syslog", "PRIORITY": "5"}, 2),
        ({"MESSAGE": b"three"}, 8),
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(st.dictionaries(st.text(max_size=9), JSON, min_size=1), min_size=1, max_size=4), st.integers(1, 4))
def test_the_pretty_form(rows: list[dict[str, Any]], indent: int) -> None:
    data = "".join(json.dumps(row, indent=indent) + "\n" for row in rows).encode()
    assert [fields for fields, _ in entries(data, "pretty")] == rows
    data = (json.dumps(rows, indent=indent) + "\n").encode()
    assert [fields for fields, _ in entries(data, "pretty")] == rows


def test_the_pretty_form_cut_off() -> None:
    assert entries(b'{\n  "a": "b"\n}\n{\n  "a": ', "pretty") == [({"a": "b"}, 1), (None, 4)]


@settings(deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["export", "verbose", "pretty"]))
def test_any_bytes(data: bytes, kind: str) -> None:
    for text in (data, b"__CURSOR=s\nMESSAGE\n" + data, b"{\n" + data, b"x [s=]\n    MESSAGE=" + data):
        for fields, number in journal.entries(io.BufferedReader(io.BytesIO(text)), kind):  # type: ignore[arg-type]
            assert number >= 1
            if fields is not None:
                journal.entry(fields)


@pytest.mark.parametrize(
    ("fields", "genuine"),
    [
        ({"_TRANSPORT": "kernel"}, True),
        ({"_TRANSPORT": "kernel", "PRIORITY": "5", "SYSLOG_FACILITY": "0"}, True),
        ({"_TRANSPORT": "kernel", "PRIORITY": "6"}, False),
        ({"_TRANSPORT": "kernel", "PRIORITY": ["5", "6"]}, False),
        ({"_TRANSPORT": "kernel", "SYSLOG_FACILITY": "1"}, False),
        ({"_TRANSPORT": "audit"}, True),
        ({"_TRANSPORT": "audit", "_AUDIT_TYPE": "1400", "PRIORITY": "6"}, True),
        ({"_TRANSPORT": "audit", "_AUDIT_TYPE": "1105"}, False),
        ({"_TRANSPORT": "syslog"}, False),
        ({"_TRANSPORT": ["kernel"]}, False),
        ({"TRANSPORT": "kernel"}, False),
        ({}, False),
    ],
)
def test_what_is_genuine(fields: dict[str, object], genuine: bool) -> None:
    assert journal.entry(fields).genuine is genuine
