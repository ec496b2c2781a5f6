"""The rules of capability inference, on calls that this process could make."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from pathlib import Path

import pytest

from profiler.kernel.capabilities import ALL, number_of
from profiler.kernel.syscalls import names_of
from profiler.tracers.ptrace.capabilities import RULES, Call, Inference
from profiler.tracers.ptrace.capabilities_rules import Stop, unique
from profiler.tracers.ptrace.sockets import Sorts
from profiler.tracers.ptrace.threads import EXECUTE, Credentials, Threads, lacking
from profiler.tracers.recording import Recording
from profiler.tracers.unchecked import Claim, Sets, bits_of

ME = os.getpid()
OTHER = os.geteuid() + 1
CWD = -100 & 0xFFFFFFFF
KEPT: list[object] = []
"""Memory that arguments point to."""


def user(uid: int = OTHER, *capabilities: str) -> Credentials:
    effective = sum(1 << (number_of(name) or 0) for name in capabilities)
    sets = Sets(effective, effective, 0)
    return Credentials((uid,) * 4, (uid,) * 4, frozenset(), sets, 0, ALL, os.readlink("/proc/self/ns/user"))


def pointer(data: bytes | str | Path) -> int:
    buffer = ctypes.create_string_buffer(data if isinstance(data, bytes) else os.fsencode(data))
    KEPT.append(buffer)
    return ctypes.addressof(buffer)


def needs(name: str, *args: int | bytes | str | Path, who: Credentials | None = None) -> set[str]:
    """What a call needs of a user who owns nothing here: for its directories, and besides."""
    words = [each if isinstance(each, int) else pointer(each) for each in args]
    threads = Threads()
    stop = Stop(threads, ME, name, (*words, *[0] * (6 - len(words))), who or user(), Sorts(threads, []))
    try:
        return {*RULES[name](stop), *stop.searched}
    except FileNotFoundError:
        return set(stop.searched)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory that everyone may search, with a file that only its owner may read."""
    for parent in (tmp_path, *tmp_path.parents):
        if parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o055)
    (tmp_path / "file").write_text("")
    (tmp_path / "file").chmod(0o600)
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "shut").mkdir(mode=0o700)
    return tmp_path.resolve()


def test_rules_are_for_native_calls() -> None:
    assert set(RULES) <= names_of("x86_64")


@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [
        ("open", ("file", os.O_RDONLY), {"CAP_DAC_READ_SEARCH"}),
        ("open", ("file", os.O_WRONLY), {"CAP_DAC_OVERRIDE"}),
        ("open", ("file", os.O_PATH), set()),
        ("open", ("link", os.O_RDONLY), {"CAP_DAC_READ_SEARCH"}),
        ("open", ("new", os.O_WRONLY | os.O_CREAT), {"CAP_DAC_OVERRIDE"}),
        ("open", ("new", os.O_RDONLY), set()),
        ("stat", ("file",), set()),
        ("stat", ("shut/x",), {"CAP_DAC_READ_SEARCH"}),
        ("access", ("file", os.R_OK), {"CAP_DAC_READ_SEARCH"}),
        ("access", ("file", os.F_OK), set()),
        ("truncate", ("file", 0), {"CAP_DAC_OVERRIDE"}),
        ("chdir", ("shut",), {"CAP_DAC_READ_SEARCH"}),
        ("mkdir", ("new", 0o755), {"CAP_DAC_OVERRIDE"}),
        ("unlink", ("link",), {"CAP_DAC_OVERRIDE"}),
        ("rename", ("file", "new"), {"CAP_DAC_OVERRIDE"}),
        ("mknod", ("new", stat.S_IFCHR | 0o600, 0x103), {"CAP_DAC_OVERRIDE", "CAP_MKNOD"}),
        ("mknod", ("new", stat.S_IFCHR | 0o600, 0), {"CAP_DAC_OVERRIDE"}),
        ("chown", ("file", OTHER, OTHER), {"CAP_CHOWN"}),
        ("chown", ("file", 0xFFFFFFFF, 0xFFFFFFFF), set()),
        ("chmod", ("file", 0o2600), {"CAP_FOWNER", "CAP_FSETID"}),
        ("chmod", ("file", 0o600), {"CAP_FOWNER"}),
    ],
)
def test_paths(
    name: str, args: tuple[str | int, ...], expected: set[str], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    assert needs(name, *args) == expected


@pytest.mark.parametrize("name", ["fchownat", "utimensat"])
@pytest.mark.parametrize(("flags", "follows"), [(0, True), (0x100, False)])
def test_flags_say_which_file_is_changed(name: str, flags: int, follows: bool, tmp_path: Path) -> None:
    """Of a link that belongs to the caller and a file that does not."""
    (tmp_path / "link").symlink_to("/proc/1/status" if os.geteuid() else "/etc/passwd")
    mine = os.lstat(tmp_path / "link").st_uid
    own = user(mine) if os.geteuid() else user(OTHER)
    if not os.geteuid():
        os.lchown(tmp_path / "link", OTHER, OTHER)
    ids = (own.uids[3], own.gids[3])
    last: tuple[int | bytes, ...] = (*ids, flags) if name == "fchownat" else (struct.pack("4q", 1, 0, 1, 0), flags)
    found = needs(name, CWD, tmp_path / "link", *last, who=own)
    assert bool(found & {"CAP_CHOWN", "CAP_FOWNER"}) is follows


@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [
        ("setuid", (OTHER,), set()),
        ("setuid", (OTHER + 1,), {"CAP_SETUID"}),
        ("setresgid", (0xFFFFFFFF, OTHER, OTHER + 1), {"CAP_SETGID"}),
        ("setgroups", (0,), {"CAP_SETGID"}),
        ("prctl", (24, 1), {"CAP_SETPCAP"}),
        ("prctl", (15,), set()),
        ("unshare", (0x20000,), {"CAP_SYS_ADMIN"}),
        ("unshare", (0x10020000,), set()),
        ("clone", (17,), set()),
        ("clone3", (struct.pack("Q", 0x40000000), 8), {"CAP_SYS_ADMIN"}),
        ("kill", (ME, 15), {"CAP_KILL"}),
        ("kill", (1 << 30, 15), set()),
        ("process_vm_readv", (ME,), {"CAP_SYS_PTRACE"}),
        ("socket", (2, 3, 1), {"CAP_NET_RAW"}),
        ("socket", (2, 1, 0), set()),
        ("socket", (17, 2, 0), {"CAP_NET_RAW"}),
        ("bind", (3, struct.pack("=H", 2) + b"\0\x50" + bytes(12), 16), {"CAP_NET_BIND_SERVICE"}),
        ("bind", (3, struct.pack("=H", 2) + b"\xff\xff" + bytes(12), 16), set()),
        ("bind", (3, struct.pack("=H", 1) + b"path\0", 7), set()),
        ("setsockopt", (3, 1, 1, struct.pack("i", 1), 4), {"CAP_NET_ADMIN"}),
        ("setsockopt", (3, 1, 32, struct.pack("i", 1), 4), set()),
        ("setsockopt", (3, 6, 13, b"no such", 7), {"CAP_NET_ADMIN"}),
        ("mq_open", (b"name", os.O_CREAT, 0o600, struct.pack("8q", 0, 1 << 20, 1, *[0] * 5)), {"CAP_SYS_RESOURCE"}),
        ("mq_open", (b"name", os.O_CREAT, 0o600, struct.pack("8q", 0, 1, 1, *[0] * 5)), set()),
        ("clock_adjtime", (0, struct.pack("I", 0x10)), {"CAP_SYS_TIME"}),
        ("adjtimex", (struct.pack("I", 0xA001),), set()),
        ("adjtimex", (struct.pack("I", 0x8001),), {"CAP_SYS_TIME"}),
        ("unshare", (0x80,), {"CAP_SYS_ADMIN"}),
        ("clone", (0x80,), set()),
        ("setsockopt", (3, 1, 2, struct.pack("i", 1), 4), set()),
        ("sched_setscheduler", (0, 6, struct.pack("i", 0)), {"CAP_SYS_NICE"}),
        ("setxattr", ("file", b"trusted.x"), {"CAP_SYS_ADMIN"}),
        ("setxattr", ("file", b"security.capability"), {"CAP_SETFCAP"}),
        ("setxattr", ("file", b"user.x"), set()),
        ("mount", (), {"CAP_SYS_ADMIN"}),
        ("ioperm", (0, 1, 0), set()),
        ("ioperm", (0, 1, 1), {"CAP_SYS_RAWIO"}),
        ("syslog", (5,), {"CAP_SYSLOG"}),
    ],
)
def test_other_calls(name: str, args: tuple[int | bytes | str, ...], expected: set[str]) -> None:
    assert needs(name, *args) == expected


def test_pidfds() -> None:
    pidfd = os.pidfd_open(ME)
    try:
        assert needs("pidfd_send_signal", pidfd, 15) == {"CAP_KILL"}
        with open("/dev/null", "rb") as file:
            assert needs("pidfd_send_signal", file.fileno(), 15) == set(), "not a pidfd"
    finally:
        os.close(pidfd)


def checked(credentials: Credentials, code: int, *needs: str, name: str = "open") -> set[tuple[str, str]]:
    recording = Recording("x86_64")
    call = Call(name, credentials, needs or ("CAP_DAC_OVERRIDE",), ("CAP_DAC_READ_SEARCH",), ())
    Inference(recording, Threads()).leave(ME, call, -1 if code else 0, code, 0)
    return {(key[0], key[2]) for key in recording._checks}


def test_verdicts() -> None:
    everything = user(OTHER, "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH")
    assert checked(everything, 0) == {("CAP_DAC_OVERRIDE", "granted")}
    assert checked(everything, errno.ENOENT) == {("CAP_DAC_READ_SEARCH", "granted")}, "the directories were passed"
    assert checked(everything, errno.EACCES) == set(), "something else refused"
    assert checked(user(), errno.EACCES) == {("CAP_DAC_OVERRIDE", "refused")}
    assert checked(user(), 0) == set(), "something else allowed"
    assert checked(everything, errno.EIO) == set()


@pytest.mark.parametrize(
    ("name", "capability", "code", "helps"),
    [
        ("chroot", "CAP_SYS_CHROOT", errno.EPERM, True),
        ("chroot", "CAP_SYS_CHROOT", errno.EACCES, False),  # the path
        ("openat", "CAP_DAC_OVERRIDE", errno.EPERM, False),  # an immutable file
        ("linkat", "CAP_DAC_OVERRIDE", errno.EPERM, True),  # fs.protected_hardlinks
        ("bind", "CAP_NET_BIND_SERVICE", errno.EACCES, True),
        ("bind", "CAP_NET_BIND_SERVICE", errno.EPERM, False),
        ("setpriority", "CAP_SYS_NICE", errno.EACCES, True),
        ("setpriority", "CAP_SYS_NICE", errno.EPERM, True),  # another user's process
        ("unlink", "CAP_FOWNER", errno.EACCES, False),
    ],
)
def test_a_capability_that_would_not_help_is_not_named(name: str, capability: str, code: int, helps: bool) -> None:
    assert checked(user(), code, capability, name=name) == ({(capability, "refused")} if helps else set())


@pytest.mark.parametrize(("mode", "expected"), [(0o644, []), (0o744, ["CAP_DAC_OVERRIDE"]), (0o755, [])])
def test_nothing_executes_a_file_without_the_bit(mode: int, expected: list[str], place: Path) -> None:
    (place / "file").chmod(mode)
    assert lacking(user(), (place / "file").stat(), EXECUTE) == expected


def test_claims() -> None:
    """What a call needs in other sets than the effective one."""
    for code, where, expected in (
        (0, None, {("CAP_CHOWN", "initial", "granted")}),
        (0, "user:[1]", {("CAP_CHOWN", "child", "granted")}),
        (errno.EPERM, None, {("CAP_KILL", "initial", "refused")}),
        (errno.EINVAL, None, set()),
    ):
        recording = Recording("x86_64")
        claim = Claim(bits_of("CAP_CHOWN"), bits_of("CAP_KILL"))
        call = Call("capset", user(), (), (), ((claim, where),))
        Inference(recording, Threads()).leave(ME, call, -1 if code else 0, code, 0)
        assert {key[:3] for key in recording._checks} == expected


def test_repeated_names() -> None:
    assert unique(["B", "A", "B"]) == ("B", "A")
