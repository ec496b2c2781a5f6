"""Configurations of ``key = value`` lines, edited in place."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.rewriting.assignments import Unreadable, append, assignments, dumps, insert, loads, put

KEYS = ("lxc.cap.keep", "lxc.cap.drop")
LINES = (("lxc.cap.drop", ""), ("lxc.cap.keep", "chown kill"))
INCLUDE = ("lxc.include",)

WILD = st.lists(
    st.sampled_from(
        [
            "# lxc.cap.keep = no",
            "  lxc.cap.keep=all",
            "lxc.cap.drop\t=\tsys_admin",
            "lxc.cap.keep = 'x'",
            "lxc.include = /a",
            "lxc.uts.name = é",
            "nonsense",
            "",
            " \t",
            "lxc.cap.keeper = 1",
            "lxc.mount.entry = a=b",
            "lxc.cap.keep",
        ]
    )
)
ENDS = st.sampled_from(["\n", "\r\n", "\r"])


@given(WILD, ENDS, st.booleans())
def test_other_lines_stay_and_twice_is_once(lines: list[str], end: str, last: bool) -> None:
    text = end.join(lines) + (end if last and lines else "")
    made = put(text, LINES, KEYS, INCLUDE)
    assert put(made, LINES, KEYS, INCLUDE) == made
    found = assignments(made)
    assert [row for row in found if row[0] in KEYS] == list(LINES)
    assert [row for row in found if row[0] not in KEYS] == [row for row in assignments(text) if row[0] not in KEYS]
    includes = [index for index, row in enumerate(found) if row[0] == "lxc.include"]
    assert max(includes, default=-1) < found.index(LINES[0]), "an included file comes before"
    left = [line for line in made.splitlines() if not any(row[0] in KEYS for row in assignments(line))]
    assert left == [line for line in text.splitlines() if not any(row[0] in KEYS for row in assignments(line))]


def test_in_place_where_nothing_is_included_later() -> None:
    text = "lxc.include = /a\n# mine\nlxc.cap.keep = all\n# more\nlxc.cap.keep = some\nlxc.uts.name = x"
    assert put(text, LINES, KEYS, INCLUDE) == (
        "lxc.include = /a\n# mine\nlxc.cap.drop =\nlxc.cap.keep = chown kill\n# more\nlxc.uts.name = x"
    )
    assert put("", LINES, KEYS) == "lxc.cap.drop =\nlxc.cap.keep = chown kill\n"
    assert put("lxc.cap.keep = all\r\nx", (), KEYS) == "x"


def test_lines_at_the_end() -> None:
    assert append("a = b", [("c", "d")]) == "a = b\nc = d\n"
    assert append("a = b\r\n", [("c", "")]) == "a = b\r\nc =\r\n"
    assert append("a", []) == "a"


@pytest.mark.parametrize("path", sorted(Path("/usr/share/lxc/config").glob("*")), ids=lambda path: path.name)
def test_files_of_lxc(path: Path) -> None:
    if not path.is_file():
        return
    text = loads(path.read_bytes())
    made = put(text, LINES, KEYS, INCLUDE)
    assert put(made, LINES, KEYS, INCLUDE) == made
    assert dumps(put(text, [row for row in assignments(text) if row[0] in KEYS], KEYS)) == path.read_bytes()


def test_bytes() -> None:
    assert dumps(loads(b"a = \xff\n")) == b"a = \xff\n"
    with pytest.raises(Unreadable, match="NUL"):
        loads(b"a\0")


def test_a_line_in_front_of_another() -> None:
    assert insert("a = b\n c=d", ("e", "f"), ("c", "d")) == "a = b\ne = f\n c=d"
    assert insert("a = b", ("e", "f"), ("c", "d")) == "a = b\ne = f\n"
