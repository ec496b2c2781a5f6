"""The line of an entry in policies and profiles."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from profiler.review.places import EVENTS, LIMIT_BYTES, Lines

POLICY = b"""\
schema: profgen.policy/1
capabilities:
  CAP_CHOWN: {because: {observed: [app]}}
syscalls:
  observed:
    read: {}
    "i386:open":
      because: {}
files:
  /etc/passwd: {access: [read]}
  read: {access: [read]}
"""
PROFILE = b"""\
{
 "defaultAction": "SCMP_ACT_ERRNO",
 "syscalls": [
  {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
  {"names": ["socket"], "action": "SCMP_ACT_ALLOW",
   "args": [
     {"index": 0, "value": 2},
     {"index": 1, "value": 1}]}
 ]
}
"""


@pytest.mark.parametrize(
    ("content", "where", "about", "line"),
    [
        (POLICY, "", (), 1),
        (POLICY, "capabilities", (), 2),
        (POLICY, "capabilities", ("CAP_CHOWN",), 3),
        (POLICY, "capabilities", ("CAP_KILL",), 2),
        (POLICY, "syscalls", ("read",), 6),
        (POLICY, "files", ("read",), 11),
        (POLICY, "syscalls.observed", (), 5),
        (POLICY, "syscalls[3]", (), 4),
        (POLICY, "syscalls", ("i386:open",), 7),
        (POLICY, "nowhere", ("/etc/passwd",), 10),
        (PROFILE, "defaultAction", (), 2),
        (PROFILE, "syscalls[1]", (), 5),
        (PROFILE, "syscalls[1].args[1]", (), 8),
        (PROFILE, "syscalls", ("x32:write",), 4),
        (PROFILE, "", ("socket",), 5),
        (b'{\n\t"a": 1,\n\t"b": [\n\t\t2\n\t]\n}', "b", (), 3),
        (b"a: &x [1]\nb: *x\nc: 1\n", "c", (), 3),
        (b"[1,\n [2,\n 3]]", "1.1", (), 3),
        (b"", "x", ("y",), 1),
        (b"\xff\xfe\x00", "x", (), 1),
        (b"a: 1\nb: 2\n}{", "b", (), 2),
        (b"? [a]\n: 1\nb: 2\n", "x", (), 1),
        (b"[" * 100_000, "x", (), 1),
        (b"x: 1\n" + b" " * LIMIT_BYTES, "x", (), 1),
    ],
)
def test_lines(content: bytes, where: str, about: tuple[str, ...], line: int) -> None:
    assert Lines(content).find(where, about) == line


def test_a_long_file_is_read_in_part() -> None:
    many = b"".join(b"a%d: 1\n" % number for number in range(EVENTS // 2 + 10))
    assert Lines(many).find("a7", ()) == 8


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)


@given(st.dictionaries(NAMES, st.lists(NAMES, max_size=3), max_size=5))
def test_every_key_is_found(data: dict[str, list[str]]) -> None:
    for content in (yaml.safe_dump(data, allow_unicode=True).encode(), json.dumps(data, ensure_ascii=False).encode()):
        lines = Lines(content)
        assert all(1 <= lines.find("", (name,)) <= content.count(b"\n") + 1 for name in data)
