"""Which calls use files, and what their flags and results say."""

from __future__ import annotations

import errno
import fcntl
import os

import pytest

from profiler.kernel.abi import ABIS
from profiler.kernel.errno import number_of
from profiler.kernel.files import (
    _ALLOWED_ERRORS,
    CONDITIONS,
    NO_USE,
    O_NOFOLLOW,
    FileUse,
    allowed,
    file_uses,
    flock_access,
    late_looks,
    looked,
    open_accesses,
    open_follows,
)
from profiler.kernel.syscalls import known_names
from profiler.trace.model import FILE_ACCESSES, FILE_KINDS, SOCKET_OPERATIONS

EVERY = [(name, use) for name, uses in file_uses().items() for use in uses]


@pytest.mark.parametrize(("name", "use"), EVERY, ids=lambda value: value if isinstance(value, str) else value.access)
def test_uses_are_whole(name: str, use: FileUse) -> None:
    assert name in known_names()
    assert use.access in {*FILE_ACCESSES, "open", "existing"}
    assert use.only is None or use.only in CONDITIONS
    assert use.make is None or use.make == "mode" or use.make in FILE_KINDS
    assert use.path is not None or use.fd is not None or use.only == "protected"
    positions = [value for value in (use.path, use.at, use.fd, use.flags, use.mode) if value is not None]
    assert all(0 <= value <= 5 for value in positions)
    assert (use.make == "mode") == (use.mode is not None and use.access == "make")
    assert use.mode is None or use.make == "mode" or use.only == "found"
    assert use.in_memory is None or use.in_memory in ABIS
    if use.at is not None:
        assert use.path == use.at + 1


def test_every_access_has_a_call() -> None:
    by_flags_or_addresses = {"read", "write", "append", "create", "bind", "connect", "lock_exclusive"}
    assert {use.access for _, use in EVERY} >= set(FILE_ACCESSES) - by_flags_or_addresses


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (os.O_RDONLY, "read"),
        (os.O_WRONLY, "write"),
        (os.O_RDWR, "read write"),
        (os.O_ACCMODE, "read write"),
        (os.O_WRONLY | os.O_APPEND, "append"),
        (os.O_RDONLY | os.O_APPEND, "read"),
        (os.O_RDWR | os.O_APPEND | os.O_CREAT, "read append create"),
        (os.O_WRONLY | os.O_CREAT | os.O_TRUNC, "write create truncate"),
        (os.O_RDONLY | os.O_TRUNC, "read truncate"),
        (os.O_TMPFILE | os.O_RDWR, "read write"),
        (os.O_DIRECTORY, "read"),
        (os.O_PATH | os.O_RDWR | os.O_CREAT, ""),
    ],
)
def test_open_accesses(flags: int, words: str) -> None:
    assert " ".join(open_accesses(flags)) == words


@pytest.mark.parametrize(
    ("flags", "follows"),
    [(0, True), (0o400000, False), (os.O_CREAT, True), (os.O_EXCL, True), (os.O_CREAT | os.O_EXCL, False)],
)
def test_links_at_the_end_of_an_open(flags: int, follows: bool) -> None:
    assert open_follows(flags, "x86_64") is follows


@pytest.mark.parametrize(
    ("name", "flags", "follows"),
    [
        ("stat", 0, True),
        ("lstat", 0, False),
        ("newfstatat", 0x100, False),
        ("fchownat", 0x100, False),
        ("linkat", 0, False),
        ("linkat", 0x400, True),
    ],
)
def test_links_at_the_end(name: str, flags: int, follows: bool) -> None:
    assert file_uses()[name][0].follows(flags) is follows


@pytest.mark.parametrize(
    ("operation", "access"),
    [
        (fcntl.LOCK_SH, "lock"),
        (fcntl.LOCK_EX, "lock_exclusive"),
        (fcntl.LOCK_EX | fcntl.LOCK_NB, "lock_exclusive"),
        (fcntl.LOCK_UN, "lock"),
        (64, None),
    ],
)
def test_flock(operation: int, access: str | None) -> None:
    assert flock_access(operation) == access


def test_flags_of_this_machine() -> None:
    assert set(O_NOFOLLOW) == set(ABIS)
    assert os.O_NOFOLLOW in O_NOFOLLOW.values()


def test_allowed() -> None:
    assert allowed("read", "ok")
    assert allowed("connect", "EINPROGRESS")
    assert allowed("lock", "EAGAIN")
    assert allowed("receive", "EAGAIN")
    assert allowed("look", "ENODATA")
    assert not allowed("look", "ENOENT")
    assert not allowed("connect", "ECONNREFUSED")
    assert not allowed("read", "EINPROGRESS")
    assert not allowed("lock", "EACCES")


def test_words_of_allowed_exist() -> None:
    assert set(_ALLOWED_ERRORS) <= {*FILE_ACCESSES, *SOCKET_OPERATIONS}
    assert all(number_of(name) for names in _ALLOWED_ERRORS.values() for name in names)
    assert all(number_of(name) for name in NO_USE)


def test_looks_that_are_noted_after_the_call() -> None:
    assert {"getxattr", "lgetxattr", "chdir", "statfs"} <= late_looks()
    assert late_looks().isdisjoint({"stat", "statx", "access", "open", "unlink", "rename"})
    assert {0, errno.ENODATA, errno.EFAULT} <= looked()
    assert looked().isdisjoint({errno.ENOENT, errno.EACCES, errno.ENOTDIR})
