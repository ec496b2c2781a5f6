"""Follow paths through symbolic links of our own only: nobody else can lead a file of ours to another place."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Set
from pathlib import Path

_LINKS = 40
"""The number of links that path_resolution(7) follows."""


class PlantedLink(OSError):
    """A symbolic link that is not our own."""

    def __init__(self) -> None:
        super().__init__(
            errno.ELOOP, "it leads through a symbolic link of another user, or in another user's directory"
        )


def find(path: Path, owners: Set[int]) -> tuple[int, str]:
    """Return the directory of a file, open as O_PATH, and the file's name there. The file may not exist.

    Symbolic links are followed, on the way and at the end, if they are our own: ``owners`` has the owner of the link
    and of the directory that it is in, so nobody else can have planted it. The kernel's protected_symlinks (proc(5))
    looks at sticky directories only. In /dev and /proc the name may be a link, which is the machine's. The caller
    closes the directory. Raises OSError, PlantedLink for a link that is not our own; ``filename`` says where.
    """
    return _walk(path, owners, make=False, last=True)


def open_directory(path: Path, owners: Set[int], *, make: bool = False) -> int:
    """Open a directory as O_PATH, through links as ``find`` follows them; with ``make``, make what is missing.

    Raises OSError as ``find`` does.
    """
    return _walk(path, owners, make=make, last=False)[0]


def is_the_machines(directory: int) -> bool:
    """Return whether an open directory is /dev or in /proc, where a rename would replace a link such as /dev/stdout."""
    found = os.fstat(directory)
    return _in_proc(found) or (os.path.exists("/dev") and os.path.samestat(found, os.stat("/dev")))


def _in_proc(found: os.stat_result) -> bool:
    return os.path.ismount("/proc") and found.st_dev == os.stat("/proc").st_dev


def _walk(path: Path, owners: Set[int], *, make: bool, last: bool) -> tuple[int, str]:
    """Return the directory that a path leads to, and no name; with ``last``, the directory of the last name, and it."""
    todo = list(reversed(path.parts))
    here = Path()
    links = 0
    at = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        while todo:
            name = todo.pop()
            at_end = last and not todo
            if at_end and is_the_machines(at):
                return at, name
            try:
                step = _step(at, name, owners, make)
                if isinstance(step, Path):
                    links += 1
                    if links > _LINKS:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                    todo.extend(reversed(step.parts))
                elif at_end:
                    os.close(step)
                    return at, name
                else:
                    os.close(at)
                    at, here = step, here / name
                    if not stat.S_ISDIR(os.fstat(at).st_mode):
                        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            except OSError as error:
                if at_end and isinstance(error, FileNotFoundError):
                    return at, name
                error.filename = os.fspath(here / name)
                raise
        return at, "."
    except BaseException:
        os.close(at)
        raise


def _step(at: int, name: str, owners: Set[int], make: bool) -> int | Path:
    """Return what a directory has under a name, open as O_PATH; for a link of our own, the path in it. With ``make``, a
    missing name becomes a directory. Raises OSError."""
    flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        found = os.open(name, flags, dir_fd=at)
    except FileNotFoundError:
        if not make:
            raise
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, dir_fd=at)
        found = os.open(name, flags, dir_fd=at)
    if not stat.S_ISLNK(os.fstat(found).st_mode):
        return found
    try:
        around = os.fstat(at)
        if _in_proc(around):  # such a link may lead where no path does
            return os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=at)
        if not {os.fstat(found).st_uid, around.st_uid} <= owners:
            raise PlantedLink
        return Path(os.readlink("", dir_fd=found))
    finally:
        os.close(found)
