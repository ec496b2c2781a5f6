"""The journal: each run and its result, written at once, so that a search continues after any interruption.

It has a JSON object on each line. The first names the search (digest.py), each further one is a run. A last line that
is cut off is ignored. A crash of the machine loses the runs of the last second.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from profiler.errors import InputError, OutputError
from profiler.files import as_invoking_user, open_directory
from profiler.wording import cause

SCHEMA = "profgen.minimise/1"
SYNC_SECONDS = 1.0
"""Seconds between calls of fsync(2), which may take as long as many runs."""
LIMIT_BYTES = 256 << 20
"""Largest journal that is read; a run takes about 200 bytes."""


@dataclass(frozen=True)
class Run:
    """A run of the test with one set of entries. ``key``: what was enforced (entries.fingerprint). ``seconds``: its
    duration. ``status``: of the command, as a shell shows it; None when it was killed. ``why``: how it ended, in
    words."""

    key: str
    passed: bool
    seconds: float
    status: int | None = None
    why: str = ""


class Journal:
    """A journal, open for one search at a time. ``runs``: earlier ones. Use as a context manager."""

    def __init__(self, path: Path, digest: str) -> None:
        """Open or make the journal of the search with this digest.

        Raises InputError when the file is not a journal, belongs to another search, or is open in another profgen;
        OutputError when it cannot be written.
        """
        self.path = path
        self._synced = time.monotonic()
        self._good = 0
        with as_invoking_user():
            try:
                # Never through a link; readable only for the user, as it has output of the test.
                directory = open_directory(path.parent)
                flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
                try:
                    self._fd = os.open(path.name, flags, 0o600, dir_fd=directory)
                finally:
                    os.close(directory)
            except OSError as error:
                reason = cause(error)
                raise OutputError(f"cannot write the journal {path}: {reason}; choose another place with -o") from error
        try:
            self.runs = self._begin(digest)
        except BaseException:
            os.close(self._fd)
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            os.fsync(self._fd)
        os.close(self._fd)

    def _begin(self, digest: str) -> list[Run]:
        found = os.fstat(self._fd)
        if not stat.S_ISREG(found.st_mode) or found.st_size > LIMIT_BYTES:
            raise InputError(f"{self.path}: not a journal of minimise; move it away, or choose another place with -o")
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(f"{self.path}: another profgen is running this search") from error
        data = os.pread(self._fd, found.st_size, 0)
        whole, _, cut = data.rpartition(b"\n")
        lines = whole.split(b"\n") if whole else []
        if not lines:
            os.ftruncate(self._fd, 0)
            self._append({"schema": SCHEMA, "search": digest})
            self._good = os.lseek(self._fd, 0, os.SEEK_END)
            return []
        header = _object(lines[0])
        if header.get("schema") != SCHEMA:
            raise InputError(f"{self.path}: not a journal of minimise; move it away, or choose another place with -o")
        if header.get("search") != digest:
            raise InputError(
                f"{self.path} is the journal of a search with another policy, test or options: remove it to start "
                "again, or choose another place with -o"
            )
        if cut:
            os.ftruncate(self._fd, len(whole) + 1)
        self._good = os.lseek(self._fd, 0, os.SEEK_END)
        return list(self._runs(lines[1:]))

    def _runs(self, lines: list[bytes]) -> Iterator[Run]:
        for number, line in enumerate(lines, 2):
            row = _object(line)
            key, passed, seconds, status, why = (
                row.get(name) for name in ("key", "passed", "seconds", "status", "why")
            )
            if (
                not isinstance(key, str)
                or not isinstance(passed, bool)
                or not isinstance(seconds, int | float)
                or not (status is None or isinstance(status, int))
                or not isinstance(why, str)
            ):
                raise InputError(f"{self.path}: line {number} is not a run: remove the journal to start again")
            yield Run(key, passed, float(seconds), status, why)

    def add(self, run: Run) -> None:
        """Append a run. Raises OutputError."""
        self._append(asdict(run))
        if run.passed:
            self._good = os.lseek(self._fd, 0, os.SEEK_END)

    def forget_failures(self) -> None:
        """Drop the runs since the last one that passed: they mean nothing."""
        os.ftruncate(self._fd, self._good)

    def _append(self, row: dict[str, object]) -> None:
        line = json.dumps(row, sort_keys=True).encode() + b"\n"
        try:
            if os.write(self._fd, line) != len(line):
                raise OSError(None, "the file system is full")
            if time.monotonic() > self._synced + SYNC_SECONDS:
                os.fsync(self._fd)
                self._synced = time.monotonic()
        except OSError as error:
            raise OutputError(f"cannot write the journal {self.path}: {cause(error)}") from error

    def remove(self) -> None:
        """Remove the file, once the result is written."""
        with as_invoking_user(), contextlib.suppress(OSError):
            os.unlink(self.path)


def _object(line: bytes) -> dict[str, object]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}
