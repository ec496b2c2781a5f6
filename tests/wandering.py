"""Random changes of a tree of files, each followed by look-ups by a process that remembers directories and by one that
does not.

As a program, ``python wandering.py DIRECTORY STEPS``, with the steps as JSON, it prints what differed.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from profiler.kernel.abi import native_abi
from profiler.kernel.files import AT_FDCWD, AT_REMOVEDIR, RENAME_EXCHANGE
from profiler.kernel.syscalls import number_of
from profiler.tracers.paths import Way
from profiler.tracers.ptrace.threads import CHANGES, Threads

ME = os.getpid()
MS_BIND, MNT_DETACH = 0x1000, 2  # include/uapi/linux/mount.h, include/linux/fs.h

Step = tuple[str, str, str]
"""An operation and two texts."""

CALLS: dict[str, tuple[str, tuple[int | str, ...]]] = {
    "make a directory": ("mkdirat", (AT_FDCWD, "first", 0o755)),
    "make a file": ("mknodat", (AT_FDCWD, "first", 0o100644, 0)),
    "make a link": ("symlinkat", ("second", AT_FDCWD, "first")),
    "link": ("linkat", (AT_FDCWD, "first", AT_FDCWD, "second", 0)),
    "remove": ("unlinkat", (AT_FDCWD, "first", 0)),
    "remove a directory": ("unlinkat", (AT_FDCWD, "first", AT_REMOVEDIR)),
    "rename": ("renameat2", (AT_FDCWD, "first", AT_FDCWD, "second", 0)),
    "exchange": ("renameat2", (AT_FDCWD, "first", AT_FDCWD, "second", RENAME_EXCHANGE)),
    "close to others": ("fchmodat", (AT_FDCWD, "first", 0o700)),
    "open to others": ("fchmodat", (AT_FDCWD, "first", 0o755)),
    "go": ("chdir", ("first",)),
}
"""Operation to a call and its arguments, with ``first`` and ``second`` for the texts."""

MOUNTS: dict[str, tuple[str, tuple[int | str, ...]]] = {
    "bind": ("mount", ("first", "second", 0, MS_BIND, 0)),
    "unmount": ("umount2", ("first", MNT_DETACH)),
}
"""The same for a process with a mount namespace of its own."""

NAMES = ["a", "b", "a/b", "b/a", "a/b/a", "b/a/b", "a/../b", "../a", "a/b/../../b", "./b/./a"]


def texts(base: Path) -> Iterator[str]:
    """Iterate over the texts that are looked up."""
    for start in ("", f"{base}/"):
        for name in NAMES:
            yield from (start + name, f"{start}{name}/", f"{start}{name}/a")


def call(threads: Threads, name: str, args: Iterable[int | str]) -> None:
    """Make a call as a traced thread makes it: the calls of CHANGES are announced."""
    buffers = [ctypes.create_string_buffer(os.fsencode(each)) if isinstance(each, str) else each for each in args]
    values = [each if isinstance(each, int) else ctypes.addressof(each) for each in buffers]
    registers = tuple(value & (1 << 64) - 1 for value in [*values, 0, 0, 0, 0, 0][:6])
    threads.stopped()
    changes = name in CHANGES and threads.before(ME, name, registers)
    ctypes.CDLL(None).syscall(*(ctypes.c_long(value) for value in [number_of(native_abi(), name) or 0, *values]))
    if changes:
        threads.after(ME, name)


def seen(threads: Threads, text: str, follow: bool) -> tuple[object, ...]:
    """Return all that is known of a text's file, and of the directories on the way."""
    threads.stopped()
    ways: list[Way] = []
    found = threads.find(ME, None, text, follow=follow, ways=ways)
    assert found is not None
    return replace(found, status=None), _facts(found.status), [[_facts(each) for each in way] for way in ways]


def _facts(status: os.stat_result | None) -> tuple[int, ...] | None:
    return None if status is None else (status.st_dev, status.st_ino, status.st_mode, status.st_uid)


def wander(base: Path, steps: Iterable[Step]) -> list[str]:
    """Change the tree below the working directory ``base`` step by step, and return what was seen differently."""
    remembering, different = Threads(), []
    for number, (operation, first, second) in enumerate(steps):
        name, pattern = (CALLS | MOUNTS)[operation]
        call(remembering, name, ({"first": first, "second": second}.get(str(each), each) for each in pattern))
        for text in texts(base):
            for follow in (True, False):
                known, new = (seen(each, text, follow) for each in (remembering, Threads()))
                if known != new:
                    different.append(f"step {number}, {operation}, {text}, {follow}: {known} is {new}")
    return different


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    print("\n".join(wander(Path(sys.argv[1]), json.loads(sys.argv[2]))), end="")
