"""What a reviewer sees first, and whether a file was edited."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.policy.making import file, touching
from unit.policy.test_document import example, whole

from profiler.policy.derive import derive
from profiler.policy.document import dumps, loads
from profiler.policy.head import head, is_edited, is_own, sealed
from profiler.policy.model import Options, SocketRule, Workload

TEXT = sealed(dumps(whole()))


def head_of(text: str) -> list[str]:
    return text[: text.index("schema:")].splitlines()


def test_says_at_once_what_matters() -> None:
    web = SocketRule("inet", "stream", 6, ("bind", "connect"), (), (("bind", (80, 443)), ("connect", (5432,))))
    log = SocketRule("unix", "dgram", 0, ("connect",), (), (), (("connect", ("/run/log",)),))
    policy = replace(whole(), sockets=(web, log), workload=Workload(("app",), 0, incomplete=True, joined=("/bin/app",)))
    lines = head_of(sealed(dumps(policy)))
    assert len(lines) <= 11
    assert "# writes:       /srv/b, /tmp/x.{random:6}" in lines
    assert "# connects to:  inet stream 5432, unix dgram /run/log" in lines
    assert "# listens on:   inet stream 80, inet stream 443" in lines
    assert "# capabilities: nothing" in lines
    assert any(
        line.startswith("# also allows:  signals to others, looking at other processes, mounts") for line in lines
    )
    assert "# notes:        the recording is incomplete; joined while it ran: /bin/app" in lines
    assert all(map(is_own, lines))
    assert "# capabilities: CAP_KILL, CAP_NET_BIND_SERVICE, CAP_63" in head_of(dumps(example()))
    assert "# writes:       not known: the recording did not watch files, programs and sockets" in head_of(
        dumps(example())
    )


def test_calls_that_were_added_are_not_seen() -> None:
    text = dumps(example())
    (line,) = (line for line in head_of(text) if line.startswith("# syscalls"))
    total = sum(int(number) for number in re.findall(r"(\d+) (?:seen|added|equivalents|for)", line))
    assert line.endswith(f" of {total}")
    assert " added" not in line
    added = loads(
        text.replace("  observed:\n", "  observed:\n    reboot:\n    sync: {because: {denied: [x]}}\n").encode(), "x"
    )
    assert " seen, 2 added, " in dumps(added)


def test_the_line_about_syscalls_is_whole_whatever_the_numbers() -> None:
    entry = example().syscalls[0]
    sections = {"observed": 999, "equivalent": 999, "base": 99}
    rows = [replace(entry, section=section) for section, number in sections.items() for _ in range(number)]
    added = [replace(entry, section="observed", because=()) for _ in range(99)]
    (line,) = (line for line in head(replace(example(), syscalls=(*rows, *added))).splitlines() if "syscalls:" in line)
    assert " more" not in line
    assert line.endswith(" of 2196")


def test_long_lists_are_cut() -> None:
    policy = derive(touching(*(file(f"/srv/{name * 20}", "write") for name in "abcdefghij")), Options(generalise=False))
    (line,) = (line for line in head_of(dumps(policy)) if line.startswith("# writes"))
    assert line.endswith(" and 7 more")
    assert len(line) <= 118


@given(st.lists(st.text(min_size=1, max_size=40).filter(lambda name: "/" not in name and "\0" not in name), max_size=4))
def test_a_name_cannot_leave_its_line(names: list[str]) -> None:
    names = [name for name in names if name not in (".", "..")]
    try:
        policy = derive(touching(*(file(f"/srv/{name}", "write") for name in names)), Options(generalise=False))
    except ValueError:
        return
    text = dumps(policy)
    assert all(line.startswith("# ") and line.isprintable() for line in head_of(text))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("no_new_privs: true", "no_new_privs: false"),
        ("  /etc/passwd: {access: [read], programs: [app]}\n", ""),
        ("\nfiles:\n", "\nfiles:  # mine\n"),
        ("schema:", "# mine\nschema:"),
        ("# writes: ", "# writes:"),
        ("access: [read]", "access: [read, write]"),
        ("\nfiles:\n", "\nfiles:\n  /etc/hosts: {access: [read]}\n"),
        ("# digest:       sha256:", "# digest:       sha256:0"),
        ("# digest: ", "# digests: "),
        ("\n\n", "\n"),
    ],
)
def test_any_edit_is_noticed(old: str, new: str) -> None:
    assert not is_edited(TEXT.encode())
    assert old in TEXT
    assert is_edited(TEXT.replace(old, new, 1).encode())


def test_what_was_never_sealed_is_edited() -> None:
    assert is_edited(dumps(whole()).encode())
    assert is_edited(b"")
    assert is_edited(b"\xff\xfe")
    assert is_edited(TEXT.encode() + b"\xff")


@given(st.data())
def test_any_byte_counts(data: st.DataObject) -> None:
    raw = bytearray(TEXT.encode())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != raw[at]))
    assert is_edited(bytes(raw))
