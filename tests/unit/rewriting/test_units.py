"""Units edited in place, as systemd reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.rewriting.units import Assignment, Entry, Unreadable, assignments, lines_of, put

KEYS = {"PrivateTmp", "ReadWritePaths", "TasksMax"}
TMP = Entry("PrivateTmp", ("yes",), "nothing of others")
PATHS = Entry("ReadWritePaths", ("", "-/srv"), "what changed")

WILD = {
    "crlf": b"[Unit]\r\nDescription=x\r\n\r\n[Service]\r\nExecStart=/bin/a\r\nPrivateTmp=no\r\n",
    "continuation": b"[Service]\nExecStart=/bin/a \\\n  -b \\\n# a comment\n  -c\n"
    b"ReadWritePaths=/a \\\n; another\n /b\nType=exec\n",
    "no final newline": b"[Service]\nExecStart=/bin/a",
    "tabs": b"[Service]\n\tExecStart\t=\t/bin/a\n\tPrivateTmp = no\n",
    "twice": b"[Service]\nPrivateTmp=no\n[Install]\nWantedBy=a\n"
    b"[Service]\nPrivateTmp=no\nExecStart=/bin/a\n[X-Own]\nPrivateTmp=no\n",
    "dangling": b"[Service]\nExecStart=/bin/a \\\n",
    "dangling at the end": b"[Service]\nExecStart=/bin/a \\",
    "byte order mark": b"\xef\xbb\xbf[Service]\nExecStart=/bin/a\n\n# the end\n",
    "not UTF-8": b"[Service]\nExecStart=/bin/\xff\nPrivateTmp=no\nPrivateTmp=no\n",
    "no equals sign": b"PrivateTmp=no\n[Service]\nPrivateTmp\nExecStart=/bin/a\\\\\nPrivateTmp=no\n",
    "mac": b"[Service]\rExecStart=/bin/a\rPrivateTmp=no\r",
}


def read(data: bytes) -> list[tuple[str, str, str]]:
    found = assignments(lines_of(data.decode("utf-8", "surrogateescape")))
    return [(row.section, row.key, " ".join(row.value.split())) for row in found]


def rest(data: bytes, *keys: str) -> list[tuple[str, str, str]]:
    return [row for row in read(data) if row[0] != "Service" or row[1] not in keys]


def kept(before: bytes, after: bytes) -> None:
    """Everything else says what it said, in its order, and what was put is there once."""
    assert rest(before, TMP.key, PATHS.key) == rest(after, TMP.key, PATHS.key)
    assert [row[2] for row in read(after) if row[:2] == ("Service", TMP.key)] == ["yes"]
    assert [row[2] for row in read(after) if row[:2] == ("Service", PATHS.key)] == ["", "-/srv"]
    assert put(after, "Service", [TMP, PATHS], KEYS) == after
    gone = put(after, "Service", [], KEYS)
    assert rest(gone) == rest(before, TMP.key, PATHS.key), "an edit can be taken back"
    assert b"# profgen" not in gone


@pytest.mark.parametrize("data", WILD.values(), ids=WILD)
def test_wild_units(data: bytes) -> None:
    kept(data, put(data, "Service", [TMP, PATHS], KEYS))


def test_units_of_this_machine() -> None:
    found = 0
    for path in sorted(Path("/lib/systemd/system").rglob("*.service")):
        data = path.read_bytes() if path.is_file() else b""
        if b"[Service]" not in data:
            continue
        found += 1
        after = put(data, "Service", [TMP, PATHS], KEYS)
        kept(data, after)
        left = set(data.splitlines()) - set(after.splitlines())
        assert all(line.split(b"=")[0].strip() in (b"PrivateTmp", b"ReadWritePaths") for line in left)
    assert found > 10


PIECES = st.sampled_from(
    [
        "[Service]",
        "[Unit]",
        "PrivateTmp=no",
        "ReadWritePaths=/x",
        "A=b",
        " \\",
        "\\",
        "\\\\",
        "# c",
        ";",
        "\n",
        "\r\n",
        "\t",
        "=",
        "x",
    ]
)


@given(st.lists(PIECES | st.just("\n"), max_size=30).map(lambda found: "[Service]\n" + "".join(found)))
def test_any_unit(text: str) -> None:
    data = text.encode()
    try:
        after = put(data, "Service", [TMP, PATHS], KEYS)
    except Unreadable:
        return
    kept(data, after)


def test_where_things_go() -> None:
    before = b"[Service]\n# why\nPrivateTmp=no\nExecStart=/bin/a\n\n[Install]\nWantedBy=x\n"
    assert put(before, "Service", [PATHS, TMP], KEYS) == (
        b"[Service]\n# why\n# profgen: nothing of others\nPrivateTmp=yes\nExecStart=/bin/a\n"
        b"# profgen: what changed\nReadWritePaths=\nReadWritePaths=-/srv\n\n[Install]\nWantedBy=x\n"
    )
    users = b"[Service]\nTasksMax=9\n"
    assert put(users, "Service", [], KEYS) == users, "a key that no entry has, and that a user wrote, stays"


def test_lines_are_read_as_systemd_reads_them() -> None:
    text = "[A]\nx = 1 \\\n# no\n 2\\\\\ny=3\\\n"
    assert list(assignments(lines_of(text))) == [
        Assignment("A", "x", "1   2\\\\", 1, 4),
        Assignment("A", "y", "3", 4, 6),
    ]


@pytest.mark.parametrize("data", [b"", b"[Unit]\nA=b\n", b"[Service\nA=b\n", b"[Service]\nA=" + b"b" * (1 << 20)])
def test_what_cannot_be_edited(data: bytes) -> None:
    with pytest.raises(Unreadable):
        put(data, "Service", [TMP], KEYS)
