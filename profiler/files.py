"""Write results: whole or not at all, owned by the invoking user, and never through a planted link. Read files of the
kernel."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

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


def read_start(path: str | Path, size: int) -> bytes:
    """Return the first ``size`` bytes of a file that the user named. Raises OSError, for a FIFO without a writer too.

    Opening a FIFO would wait for a writer. A pipe that has one, such as a shell's ``<(command)``, is read to its end.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
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


def _is_the_machines(directory: Path) -> bool:
    """Return whether the directory is /dev or below /proc, where a rename would replace a link such as /dev/stdout."""
    where = os.path.realpath(directory)
    return where == "/dev" or (where + "/").startswith("/proc/")


_LINKS = 40
"""The number of links that path_resolution(7) follows."""


def _destination(path: Path) -> Path:
    """Return where a result for ``path`` goes: through symbolic links of our own, as a shell would follow them.

    A link is our own if we, or root, own it and the directory that it is in: nobody else can have planted it.
    Raises OutputError for another one, and OSError.
    """
    for _ in range(_LINKS):
        if _is_the_machines(path.parent):
            return path
        try:
            link = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return path
        try:
            status = os.fstat(link)
            if not stat.S_ISLNK(status.st_mode):
                return path
            target = os.readlink("", dir_fd=link)
        finally:
            os.close(link)
        if not {status.st_uid, os.stat(path.parent).st_uid} <= {os.geteuid(), 0}:
            raise OutputError(
                f"cannot write {path}: it is a symbolic link of another user, or in another user's directory; name the "
                "file itself, or remove the link"
            )
        path = path.parent / target
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


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
                destination = _destination(self.path)
                directory, self._name = destination.parent, destination.name
                kind = stat.S_IFMT(os.stat(destination).st_mode)
            except FileNotFoundError:
                kind = stat.S_IFREG
            except OSError as error:
                raise OutputError(f"cannot write {self.path}: {cause(error)}; choose another place with -o") from error
            if kind == stat.S_IFDIR:
                raise OutputError(f"cannot write {self.path}: it is a directory; give a file name with -o")
            if kind != stat.S_IFREG or _is_the_machines(directory):
                # Renaming a file over it would destroy a device or a pipe of the machine.
                raise OutputError(f"cannot write {self.path}: it is a special file; give a regular file with -o")
            try:
                self._dirfd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError as error:
                raise OutputError(
                    f"cannot write {self.path}: {cause(error)}: {directory}; choose another place with -o"
                ) from error
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
                raise OutputError(f"cannot write {self.path}: {cause(error)}; choose another place with -o") from error

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


def check_writable(path: str | Path) -> None:
    """Raise OutputError when a result could not be written to ``path`` now; change nothing."""
    PendingFile(path, reserve=RESERVE_BYTES).discard()


def make_directory(path: Path) -> Path:
    """Make a directory for results unless it exists, and return it. Raises OutputError."""
    try:
        with as_invoking_user():
            path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make directory {path}: {cause(error)}; choose another place with -o") from error
    return path
