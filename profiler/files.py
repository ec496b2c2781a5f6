"""Write results: whole or not at all, owned by the invoking user, and never through a planted link. Read files of the
kernel."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

from profiler import links
from profiler.errors import InputError, OutputError
from profiler.wording import cause

RESERVE_BYTES = 1 << 20
"""Space reserved before a workload starts, so that a full disk is noticed then. A trace usually takes 50 to 200 KiB."""


STANDARD_OUTPUT = Path("-")
"""The place of a result that goes to standard output."""

_CHUNK_BYTES = 1 << 24
_output: BinaryIO | None = None
"""Where results for standard output go when that is not descriptor 1."""


def invoking_user() -> tuple[int, int] | None:
    """Return (uid, gid) of the user who called sudo(8), from SUDO_UID and SUDO_GID; None when not root under sudo.

    Raises InputError when they do not hold ids: neither staying root nor guessing a user would be right.
    """
    if os.geteuid() != 0 or "SUDO_UID" not in os.environ:
        return None
    uid, gid = _id("SUDO_UID"), _id("SUDO_GID")
    return (uid, gid) if uid != 0 else None


def _id(variable: str) -> int:
    text = os.environ.get(variable, "")
    # 2**32 - 1 is not an id: it means "leave unchanged" (setresuid(2)).
    if not (text.isascii() and text.isdigit()) or int(text[:11]) >= (1 << 32) - 1:
        raise InputError(f"{variable} is {text!r}, which is not an id: unset it, or run profgen with sudo")
    return int(text)


def kernel_text(path: str) -> TextIO:
    """Open a file of procfs, sysfs or a cgroup as text.

    Strangers choose the names in it, which are bytes: what is not UTF-8 becomes a lone surrogate (PEP 383), and a
    carriage return does not end a line.
    """
    return open(path, encoding="utf-8", errors="surrogateescape", newline="\n")


def process_stat(thread: int | str) -> list[bytes]:
    """Return the fields of proc_pid_stat(5) from the state on. The name before them may hold spaces and brackets.

    ``thread``: a number, or PID/task/TID. Raises OSError when the thread is gone.
    """
    with open(f"/proc/{thread}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()


def process_status(thread: int | str) -> dict[str, list[str]]:
    """Return the words behind each key of proc_pid_status(5). Raises OSError when the thread is gone."""
    with kernel_text(f"/proc/{thread}/status") as file:
        return {key: words.split() for key, _, words in (line.partition(":") for line in file)}


@contextlib.contextmanager
def as_invoking_user() -> Iterator[None]:
    """Work on files with the invoking user's rights.

    Under sudo, links planted in a user's directory could lead a root process to any file. With that user's effective
    ids the kernel refuses to follow them there, and new files belong to the right owner.
    """
    user = invoking_user()
    if user is None:
        yield
        return
    groups = os.getgroups()
    uid, gid = user
    os.setgroups([gid])
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def read_start(path: str | Path, size: int, *, own_links: bool = False) -> bytes:
    """Return the first ``size`` bytes of a file that the user named. Raises OSError, for a FIFO without a writer too.

    ``own_links``: through symbolic links of our own only, for a file whose content becomes a result. Opening a FIFO
    would wait for a writer. A pipe that has one, such as a shell's ``<(command)``, is read to its end.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    fd = _open_own(Path(path), flags) if own_links else os.open(path, flags)
    with open(fd, "rb", buffering=0) as file:  # raises IsADirectoryError
        first = b""
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            with contextlib.suppress(BlockingIOError):  # there is a writer
                first = os.read(fd, size)
                if not first:
                    raise OSError(errno.ENXIO, "it is a FIFO that no program writes to")
        os.set_blocking(fd, True)
        parts = [first]
        left = size - len(first)
        while left > 0 and (part := file.read(min(left, _CHUNK_BYTES))):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)


def _owners() -> frozenset[int]:
    """Return the users whose symbolic links are our own: root, this process's user, and the one who called sudo."""
    user = invoking_user()
    return frozenset({0, os.geteuid()} | ({user[0]} if user else set()))


def open_directory(path: str | Path) -> int:
    """Open a directory as O_PATH, through symbolic links of our own only. Raises OSError."""
    return links.open_directory(Path(path), _owners())


def _open_own(path: Path, flags: int) -> int:
    directory, name = links.find(path, _owners())
    try:
        # The last name is not a link, unless the machine put it there, such as /dev/stdin.
        kept = 0 if links.is_the_machines(directory) else os.O_NOFOLLOW
        return os.open(name, flags | kept, dir_fd=directory)
    finally:
        os.close(directory)


_NO_NAMELESS = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL})
"""Errors of O_TMPFILE where the file system or the kernel does not have it (open(2))."""


def open_nameless(directory: int) -> int:
    """Open a new file without a name in an open directory, to write; -1 where that cannot get a name later.

    Raises OSError when no file can be made there.
    """
    if not os.path.exists("/proc/self/fd"):
        return -1  # linkat(2) takes the file from there
    try:
        return os.open(".", os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o666, dir_fd=directory)
    except OSError as error:
        if error.errno in _NO_NAMELESS:
            return -1
        raise


def _unwritable(path: Path, error: OSError) -> str:
    """Return why a result cannot be written. An error of ``links`` names the part of the path that it is about."""
    where = f": {error.filename}" if error.filename not in (None, str(path)) else ""
    return f"cannot write {path}: {cause(error)}{where}; choose another place with -o"


class PendingFile:
    """A new file that is opened now, in the directory of its destination, and gets its name by :meth:`commit`.

    A directory that is missing, read-only or full is noticed when it is opened. Until ``commit`` the old file is
    unchanged, and the new one has no name where the file system allows that: nothing is left if profgen is killed. Use
    as a context manager: leaving it discards what was not committed. STANDARD_OUTPUT stands for standard output. A
    symbolic link of our own is followed; the other names of a file with several (hard links) keep the old content.
    Raises OutputError.
    """

    def __init__(self, path: str | Path, *, reserve: int = 0) -> None:
        self.path = Path(path)
        self._name = self.path.name
        self._temporary: str | None = None
        """The name that the new file has for now, if it has one."""
        self._fd = self._dirfd = -1
        if self.path == STANDARD_OUTPUT:
            return
        with as_invoking_user():
            try:
                self._dirfd, self._name = links.find(self.path, _owners())
            except OSError as error:
                raise OutputError(_unwritable(self.path, error)) from error
            try:
                self._refuse_what_is_no_file()
            except OutputError:
                self.discard()
                raise
            try:
                self._fd = open_nameless(self._dirfd)
                if self._fd < 0:
                    name = self._random_name()
                    # O_EXCL with a random name: a planted link is never followed (open(2)).
                    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                    self._fd = os.open(name, flags, 0o666, dir_fd=self._dirfd)
                    self._temporary = name
                if reserve:
                    os.posix_fallocate(self._fd, 0, reserve)
            except OSError as error:
                self.discard()
                error.filename = None  # a temporary name says nothing
                raise OutputError(_unwritable(self.path, error)) from error

    def _refuse_what_is_no_file(self) -> None:
        """Raise OutputError for a directory, and for a device or a pipe, which a rename would destroy."""
        try:
            kind = stat.S_IFMT(os.stat(self._name, dir_fd=self._dirfd, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            kind = stat.S_IFREG
        if kind == stat.S_IFDIR:
            raise OutputError(f"cannot write {self.path}: it is a directory; give a file name with -o")
        if kind != stat.S_IFREG or links.is_the_machines(self._dirfd):
            raise OutputError(f"cannot write {self.path}: it is a special file; give a regular file with -o")

    def __enter__(self) -> PendingFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def commit(self, data: bytes, *, executable: bool = False, replace: bool = True) -> None:
        """Write ``data``, make it durable, and replace the old file with it. Its owner stays if we may give files away,
        its group if we are in it, and its mode is not wider than the old one.

        Raises OutputError; without ``replace`` FileExistsError when there is an old file.
        """
        if self.path == STANDARD_OUTPUT:
            print_result(data)
            return
        assert self._fd >= 0
        with as_invoking_user():
            try:
                os.ftruncate(self._fd, 0)
                view = memoryview(data)
                offset = 0
                while offset < len(view):
                    offset += os.pwrite(self._fd, view[offset:], offset)
                self._set_owner_and_mode(executable)
                os.fsync(self._fd)
                self._publish(replace)
            except OSError as error:
                if isinstance(error, FileExistsError) and not replace:
                    raise
                raise OutputError(
                    f"cannot write {self.path}: {cause(error)}; the older file, if any, is unchanged"
                ) from error
            finally:
                self.discard()

    def _set_owner_and_mode(self, executable: bool) -> None:
        """Make the file executable, keep the owner and the group of the old one, and let nobody read or write it who
        could not with that. Raises OSError."""
        mode = stat.S_IMODE(os.fstat(self._fd).st_mode) | (0o111 if executable else 0)
        with contextlib.suppress(FileNotFoundError):
            old = os.stat(self._name, dir_fd=self._dirfd, follow_symlinks=False)
            if stat.S_ISREG(old.st_mode):
                mode &= old.st_mode | ((old.st_mode & 0o444) >> 2 if executable else 0)
                for owner, group in ((-1, old.st_gid), (old.st_uid, -1)):
                    with contextlib.suppress(PermissionError):
                        os.fchown(self._fd, owner, group)
                if os.fstat(self._fd).st_gid != old.st_gid:
                    mode &= ~0o070 | (mode & 0o007) << 3  # another group: others until now
        os.fchmod(self._fd, mode)

    def _publish(self, replace: bool) -> None:
        """Give the new file its name. Raises OSError."""
        name, directory = self._name, self._dirfd
        if self._temporary is None:
            try:
                self._link(name)
                return
            except FileExistsError:
                if not replace:
                    raise
            # Only rename(2) replaces a file, and it needs a name to rename.
            temporary = self._random_name()
            self._link(temporary)
            self._temporary = temporary
        if replace:
            os.rename(self._temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
            self._temporary = None
        else:  # discard() removes the temporary name
            os.link(self._temporary, name, src_dir_fd=directory, dst_dir_fd=directory)

    def _link(self, name: str) -> None:
        """Give the nameless file a name that does not exist yet. linkat(2) follows the link in procfs."""
        os.link(f"/proc/self/fd/{self._fd}", name, dst_dir_fd=self._dirfd, follow_symlinks=True)

    def _random_name(self) -> str:
        # A name may have 255 bytes, and this one gets a prefix and a suffix.
        start = os.fsdecode(os.fsencode(self._name)[:64])
        return f".{start}.{os.urandom(8).hex()}.tmp"

    def discard(self) -> None:
        """Remove the temporary file. Safe to call twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._dirfd >= 0:
            with as_invoking_user(), contextlib.suppress(OSError):
                if self._temporary is not None:
                    os.unlink(self._temporary, dir_fd=self._dirfd)
            os.close(self._dirfd)
            self._dirfd = -1
        self._temporary = None


def keep_standard_output() -> None:
    """Keep standard output for results: what anything else writes there, such as a workload, goes to standard error."""
    global _output
    _output = open(os.dup(1), "wb", buffering=0)  # noqa: SIM115 - until profgen ends; no workload inherits it
    os.dup2(2, 1)


def print_result(data: bytes) -> None:
    """Write a result to standard output. Raises OutputError, and BrokenPipeError when its reader has gone."""
    sys.stdout.flush()
    stream: BinaryIO = _output or sys.stdout.buffer
    view = memoryview(data)
    try:
        while view:
            view = view[stream.write(view) :]
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write to standard output: {cause(error)}") from error


def write_atomic(path: str | Path, data: bytes, *, executable: bool = False, replace: bool = True) -> None:
    """Replace the file ``path`` with ``data``, whole or not at all.

    Raises OutputError; without ``replace`` FileExistsError when there is such a file.
    """
    PendingFile(path).commit(data, executable=executable, replace=replace)


def refuse_to_replace(path: str | Path, inputs: Iterable[str | Path]) -> None:
    """Raise OutputError when a result would replace one of the files that it is made from."""
    for given in inputs:
        with contextlib.suppress(OSError):
            if os.path.samefile(path, given):
                raise OutputError(f"cannot write {path}: it is an input of this command; choose another place with -o")


def check_writable(path: str | Path) -> None:
    """Raise OutputError when a result could not be written to ``path`` now; change nothing."""
    PendingFile(path, reserve=RESERVE_BYTES).discard()


def make_directory(path: Path) -> Path:
    """Make a directory for results unless it exists, and return it. Raises OutputError."""
    try:
        with as_invoking_user():
            os.close(links.open_directory(path, _owners(), make=True))
    except OSError as error:
        raise OutputError(_unwritable(path, error)) from error
    return path
