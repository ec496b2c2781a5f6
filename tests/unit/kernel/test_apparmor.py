"""AppArmor's letters, and what it cannot tell apart."""

from __future__ import annotations

import pytest

from profiler.kernel.apparmor import LETTERS, coarse, has_one_access, letters, reported
from profiler.kernel.data import load
from profiler.trace.model import FILE_ACCESSES

TABLES = load("apparmor.yaml")


def test_every_access_has_letters() -> None:
    assert TABLES["letters"].keys() == set(FILE_ACCESSES)
    assert set("".join(TABLES["letters"].values())) == set(LETTERS)


def test_every_record_tells_of_an_access() -> None:
    assert {*TABLES["masks"].values(), *TABLES["operations"].values()} <= set(FILE_ACCESSES)


@pytest.mark.parametrize(
    ("accesses", "wanted", "apart"),
    [
        ("", "", ""),
        ("read list", "r", "read"),
        ("write remove mode", "w", "write"),
        ("lock_exclusive", "wk", "write lock"),
        ("rename_from execute map", "mrwx", "map read write execute"),
        ("times xattr readlink chroot look", "", ""),
    ],
)
def test_letters(accesses: str, wanted: str, apart: str) -> None:
    assert letters(accesses.split()) == wanted
    assert coarse(accesses.split()) == tuple(apart.split())


def test_one_access_for_a_letter() -> None:
    """The accesses chosen for the letters need no other letters."""
    for access in FILE_ACCESSES:
        assert letters(coarse([access])) == letters([access])


@pytest.mark.parametrize(
    ("operation", "mask", "wanted"),
    [
        ("open", "wr", {"read", "write"}),
        ("open", "ac", {"append", "create"}),
        ("mkdir", "c", {"make"}),
        ("rename_src", "wrd", {"rename_from"}),
        ("file_lock", "k", {"lock"}),
        ("file_lock", "wk", {"lock_exclusive"}),
        ("open", "z", set()),
    ],
)
def test_records(operation: str, mask: str, wanted: set[str]) -> None:
    assert set(reported(operation, mask)) == wanted
    assert has_one_access(operation) is (operation in ("mkdir", "rename_src"))
