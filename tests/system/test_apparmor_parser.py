"""Hostile file names against the real apparmor_parser: profiles load, and mean the named file and no other."""

from __future__ import annotations

import os
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from system.apparmor_dfa import Compiled, compiled

from profiler import quoting

pytestmark = pytest.mark.skipif(shutil.which("apparmor_parser") is None, reason="needs Debian's package apparmor (tests/packages.sh)")

AWKWARD = [
    b" ", b'"', b"'", b"\\", b"[", b"]", b"{", b"}", b"*", b"**", b"?", b"^", b",", b"#", b"!", b"@", b"@{", b"@{HOME}", b"@{PROC}",
    b"${x}", b"$", b"|", b"(", b")", b"+", b".", b"-", b"->", b"=", b"&", b":", b";", b"<", b">", b"~", b"\n", b"\r", b"\t", b"\x01",
    b"\x1b", b"\x7f", b"\x80", b"\xff", b"\xc3\xa9", b"\xe2\x80\xa8", b"\xf0\x9f\x98\x80", b" (deleted)", b"deleted", b"\\012", b"\\x41",
    b"\\d65", b"\\*", b'\\"', b'"\\', b"a", b"1", b"0", b" r,\n  /** rw,\n", b'" rw,\n  "/**', b"{a,b}", b"[a-z]", b"include <x>",
    b"#include", b"/", b"//deleted",
]  # fmt: skip
NAMES = st.lists(st.sampled_from(AWKWARD) | st.binary(min_size=1, max_size=3), min_size=1, max_size=6).map(b"".join)
PATHS = NAMES.map(lambda raw: b"/" + b"/".join(part for part in raw.replace(b"\0", b"\n").split(b"/") if part)).filter(
    lambda path: path != b"/"
)
"""Paths as the kernel names files: any bytes but NUL, no two slashes in a row, none at the end."""
PROBES = (
    b"/",
    b"/x",
    b"/etc/shadow",
    b"/etc/passwd",
    b"/root/.ssh/id_rsa",
    b"/proc/1/mem",
    b"/home/user/file",
    b"/bin/sh",
    b"/tmp/",
    b"/ ",
    b"/\n",
)


def profile(paths: list[bytes]) -> bytes:
    rules = "".join(f"  {quoting.apparmor(os.fsdecode(path))} r,\n" for path in paths)
    text = f"abi <abi/3.0>,\ninclude <tunables/global>\nprofile t {{\n  /the/last/rule w,\n{rules}  /after/all/of/them w,\n}}\n"
    return text.encode("utf-8")


def siblings(path: bytes, place: int, byte: int) -> set[bytes]:
    """The same name with one byte more, one less, one changed; and what a reader who did not unescape, or did so twice, would match."""
    at = 1 + place % (len(path) - 1)
    changed = path[:at] + bytes([byte]) + path[at + 1 :]
    more = {path + b"x", path + b"/", path + b"\n", path + bytes([byte]), path[:-1], path[:at] + path[at + 1 :], changed, b"/" + path}
    more |= {
        path.replace(b"\\", b""),
        path.replace(b"\\", b"\\\\"),
        path[:at] + b"\\" + path[at:],
        path + b" (deleted)",
        path + b"//deleted",
    }
    return more


def check(paths: list[bytes], others: set[bytes]) -> Compiled:
    found = compiled(profile(paths))["t"]
    for path in paths:
        assert found.allows(path) == "r", path
        assert found.allows(path, owner=True) == "r", path
    for path in others - set(paths):
        assert found.allows(path) == "", path
    assert found.allows(b"/the/last/rule") == found.allows(b"/after/all/of/them") == "aw"
    assert found.others is None or not found.other(b"\x0a\x0funconfined")  # no rule of another class came from a name
    return found


@given(st.lists(st.tuples(PATHS, st.integers(0, 200), st.integers(1, 255)), min_size=1, max_size=40))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example])
def test_any_name_means_itself(drawn: list[tuple[bytes, int, int]]) -> None:
    paths = list(dict.fromkeys(path for path, _, _ in drawn))
    check(paths, {sibling for path, place, byte in drawn for sibling in siblings(path, place, byte)} | set(PROBES))


@pytest.mark.parametrize(
    "form", [b"/%s", b"/a%sb", b"/a%s", b"/%s%s", b"/a%s1", b"/a\\%s", b"/@%s", b"/@{%s}", b'/%s"', b"/[%s]", b"/{%s,b}", b"/%s (deleted)"]
)
def test_every_byte(form: bytes) -> None:
    paths = list(dict.fromkeys(form.replace(b"%s", bytes([byte])) for byte in range(1, 256) if byte != ord("/")))
    check(paths, {path + b"x" for path in paths} | {path[:-1] for path in paths} | set(PROBES))


def test_the_awkward_in_pairs() -> None:
    clean = [piece for piece in AWKWARD if b"/" not in piece]
    paths = list(dict.fromkeys(b"/d/" + one + two for one in clean for two in clean))
    check(paths, {path + b"." for path in paths} | set(PROBES))


@pytest.mark.parametrize("byte", [b"a", b"*", b"\n", b"\xff", b'"'])
def test_the_longest_path(byte: bytes) -> None:
    """4,095 bytes are the longest path a call can name (PATH_MAX, limits.h, with the NUL); the parser's buffer is what bounds it."""
    path = (b"/" + byte * 255) * 15 + b"/" + byte * 254
    assert len(path) == 4095
    check([path], {path[:-1], path + b"x", path[:-1] + b"b"})


def test_what_cannot_be_said() -> None:
    for text in ("/a//b", "//deleted", "/a\0b", "/" + "\n" * 4096):
        with pytest.raises(quoting.Inexpressible):
            quoting.apparmor(text)


def test_two_readings_of_one_pattern() -> None:
    """Text beside a piece of pattern stays text."""
    path = quoting.apparmor(["/d/[", quoting.Glob("[0-9]"), "]{", quoting.Glob("?*"), "}"])
    found = compiled(f"abi <abi/3.0>,\nprofile t {{\n  {path} r,\n}}\n".encode())["t"]
    assert found.allows(b"/d/[7]{name}") == "r"
    assert [found.allows(other) for other in (b"/d/7name", b"/d/[x]{name}", b"/d/[7]{}", b"/d/[7]{a/b}")] == ["", "", "", ""]
