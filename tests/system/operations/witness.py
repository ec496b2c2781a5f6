"""A witness that shares nothing with profgen: the paths that strace(1) shows as used.

``strace -y`` prints the path of every descriptor as /proc names it, that of the working directory too. One log for each
process (``-ff``), so no call is printed in two pieces.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

_OPEN = ("open", "openat", "openat2", "creat")
_NAMES: Mapping[str, tuple[str, ...]] = {
    "mkdir": ("make",),
    "mkdirat": ("make",),
    "mknod": ("make",),
    "mknodat": ("make",),
    "symlink": ("", "make"),
    "symlinkat": ("", "make"),
    "unlink": ("remove",),
    "unlinkat": ("remove",),
    "rmdir": ("remove",),
    "rename": ("rename_from", "rename_to"),
    "renameat": ("rename_from", "rename_to"),
    "renameat2": ("rename_from", "rename_to"),
    "link": ("", "link"),
    "linkat": ("", "link"),
    "chmod": ("mode",),
    "fchmodat": ("mode",),
    "chown": ("owner",),
    "lchown": ("owner",),
    "fchownat": ("owner",),
    "readlink": ("readlink",),
    "readlinkat": ("readlink",),
    "execve": ("execute",),
}
"""Calls to the accesses of the paths they name, in order; symbolic links at the end of these are not met in the
tests."""

_ON_DESCRIPTORS = {"getdents64": "list", "fchmod": "mode", "fchown": "owner", "ftruncate": "truncate"}
_CALL = re.compile(r"^(\w+)\((.*)\) += (-?\d+|\?)(?:<(.*)>(\(deleted\))?)?(?: (E\w+) .*)?$")
_PATH = re.compile(r'(?:(?:AT_FDCWD|\d+)<([^>]*)>, )?"((?:[^"\\]|\\.)*)"')
_DESCRIPTOR = re.compile(r"^\d+<([^>]*)>")


def used(
    command: Sequence[str],
    *,
    before: Sequence[str] = (),
    cwd: Path,
    env: Mapping[str, str],
    log: Path,
    timeout: float,
) -> tuple[frozenset[tuple[str, str, str]], int]:
    """Run a command under strace; return (path, access, result) of its calls, and its exit status.

    ``opened`` stands for all accesses that an open asks for. ``before``: words that start strace.
    """
    log.mkdir()
    calls = ",".join((*_OPEN, *_NAMES, *_ON_DESCRIPTORS))
    strace = [
        *before,
        "strace",
        "-ff",
        "-y",
        "-qq",
        "-v",
        "-s",
        "5000",
        "-e",
        f"trace=?{calls.replace(',', ',?')}",
        "-e",
        "signal=none",
    ]
    done = subprocess.run(
        [*strace, "-o", log / "log", "--", *command],
        cwd=cwd,
        env=env,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        start_new_session=True,
    )
    found = set()
    for part in log.iterdir():
        for line in part.read_text(errors="surrogateescape").splitlines():
            found |= set(_line(line, cwd))
    assert found, f"strace saw nothing: {done.stderr.decode(errors='replace')}"
    return frozenset(found), done.returncode


def _line(line: str, cwd: Path) -> Iterator[tuple[str, str, str]]:
    match = _CALL.match(line)
    if match is None:
        assert line.startswith(("+++", "---")) or line.endswith("<unfinished ...>"), f"what is this: {line!r}"
        return
    call, arguments, _, descriptor, _, error = match.groups()
    result = error or "ok"
    if call in _OPEN:
        if "O_PATH" in arguments and result == "ok":
            return
        if result == "ok":
            if descriptor.startswith("/"):
                yield descriptor, "opened", "ok"
        else:
            ((path, _),) = _paths(arguments, cwd, 1)
            yield path, "opened", result
    elif call in _ON_DESCRIPTORS:
        path = _DESCRIPTOR.match(arguments)
        if path is not None and result == "ok" and path[1].startswith("/"):
            yield path[1], _ON_DESCRIPTORS[call], "ok"
    else:
        for (path, _), access in zip(_paths(arguments, cwd, len(_NAMES[call])), _NAMES[call], strict=True):
            if access:
                yield os.path.realpath(path) if access == "execute" else path, access, result


def _paths(arguments: str, cwd: Path, count: int) -> list[tuple[str, str]]:
    """The first ``count`` paths, absolute and with the directories they are in resolved."""
    found = []
    for at, text in _PATH.findall(arguments)[:count]:
        text = (
            text.encode("latin-1", "surrogateescape")
            .decode("unicode_escape")
            .encode("latin-1")
            .decode(errors="surrogateescape")
        )
        path = os.path.normpath(os.path.join(at or cwd, text))
        found.append((os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path)), text))
    return found
