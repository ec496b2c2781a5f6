"""What one run keeps for the next ones: JSON documents in a folder that only the user who runs profgen can write to,
because what is loaded from it sees the kernel's memory, or confines programs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

KEPT = 64
"""Documents in the folder at most: for several kernels, with and without files, with other sizes of stores; for each
policy that programs are run under."""


def folder() -> Path:
    """Return where documents are kept: the system's cache for root, else the user's."""
    if os.geteuid() == 0:
        return Path("/var/cache/profgen")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "profgen")


def read(name: str) -> Any:
    """Return a document. None when it is missing, belongs to others or is not JSON."""
    with _directory() as directory:
        if directory is None:
            return None
        with contextlib.suppress(OSError, ValueError, RecursionError):
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
            with open(fd, "rb") as file:
                status = os.fstat(fd)
                if _own(status) and stat.S_ISREG(status.st_mode):
                    os.utime(fd)  # it is in use
                    return json.load(file)
    return None


def keep(name: str, document: Any) -> None:
    """Keep a document, and delete the oldest ones beyond KEPT. A folder that cannot be written to is not an error."""
    draft = f".{os.getpid()}.draft"
    with _directory() as directory, contextlib.suppress(OSError):
        if directory is None:
            return
        fd = os.open(
            draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory
        )
        try:
            with open(fd, "w") as file:
                json.dump(document, file)
            os.rename(draft, name, src_dir_fd=directory, dst_dir_fd=directory)
        except OSError:
            os.unlink(draft, dir_fd=directory)
        used = {each: os.stat(each, dir_fd=directory, follow_symlinks=False).st_mtime for each in os.listdir(directory)}
        for each in sorted(used, key=lambda each: used[each])[:-KEPT]:
            os.unlink(each, dir_fd=directory)


class Answers:
    """Answers about the running kernel, which are true as long as a file of it has the same content."""

    def __init__(self, path: str, kind: type) -> None:
        """Read the answers that were kept; all are of one ``kind``. Nothing is kept where there is no such file."""
        self.known: dict[str, Any] = {}
        """By question. Whoever finds more adds it."""
        self._name: str | None = None
        with contextlib.suppress(OSError), open(path, "rb") as file:
            if content := file.read():
                self._name = f"{hashlib.sha256(content).hexdigest()[:40]}.{kind.__name__}.json"
        document = read(self._name) if self._name else None
        if isinstance(document, dict) and all(type(answer) is kind for answer in document.values()):
            self.known = document
        self._before = len(self.known)

    def keep(self) -> None:
        """Keep the answers if there are new ones."""
        if self._name and len(self.known) > self._before:
            keep(self._name, self.known)


@contextlib.contextmanager
def _directory() -> Iterator[int | None]:
    """Open the folder, and make it if it is missing. None when it cannot be opened or others can write to it."""
    path = folder()
    directory = None
    try:
        if not path.exists():
            path.mkdir(mode=0o700)
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        pass
    try:
        yield directory if directory is not None and _own(os.fstat(directory)) else None
    finally:
        if directory is not None:
            os.close(directory)


def _own(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & (stat.S_IWGRP | stat.S_IWOTH)
