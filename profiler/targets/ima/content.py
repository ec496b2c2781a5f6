"""The files of a machine or an image that a policy lets the workload execute or map, and their hashes."""

from __future__ import annotations

import errno
import hashlib
import os
import posixpath
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from profiler.errors import InputError
from profiler.policy import patterns
from profiler.policy.model import Policy
from profiler.policy.writable import within
from profiler.quoting.text import printable
from profiler.wording import cause

ENTRIES_MAX = 100_000
"""Names of a directory, and of all below it, that are looked at for one pattern."""
_KERNEL = ("/dev", "/proc", "/sys")
"""File systems of the kernel, whose files have no hashes."""
_HOME = "{home}"
_LINKS_MAX = 40
"""Symbolic links in a path: the kernel's own limit (MAXSYMLINKS, include/linux/namei.h)."""
_CHANGES = frozenset({"write", "append", "truncate", "create", "make", "rename_to", "link"})
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True)
class Hashed:
    """A regular file: its absolute path inside the root, and the SHA-256 of its content in hexadecimal digits."""

    path: str
    digest: str


@dataclass(frozen=True)
class Content:
    """What was found. ``without``: patterns that have no hash, each with the reason."""

    files: tuple[Hashed, ...]
    without: tuple[tuple[str, str], ...]


class _Without(Exception):
    """A file that gets no hash; ``str()`` says why."""


def read(policy: Policy, root: str) -> Content:
    """Hash what the policy lets the workload execute or map, as it is below ``root`` now. A symbolic link gets no hash:
    a policy names what it leads to as well. Raises InputError when the root cannot be read."""
    found: dict[str, str] = {}
    without: dict[str, str] = {}
    changing = tuple(rule.pattern for rule in policy.files if _CHANGES & set(rule.access))
    try:
        top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        why = cause(error) if isinstance(error, OSError) else "not a path"
        raise InputError(f"{printable(root)} cannot be read: {why}") from error
    try:
        for pattern in (wanted := executed(policy)):
            paths = tuple(_fitting(top, pattern))
            if not paths:
                without[pattern] = "there is no such file"
            for path in paths:
                real = _real(top, path)
                if real != path and any(patterns.matches(other, real) for other in wanted):
                    continue
                try:
                    found[path] = found.get(path) or _digest(top, path, changing)
                except _Without as error:
                    without[patterns.literal(path)] = str(error)
    finally:
        os.close(top)
    files = tuple(Hashed(path, digest) for path, digest in sorted(found.items()))
    return Content(files, tuple(sorted(without.items())))


def executed(policy: Policy) -> tuple[str, ...]:
    """Return the patterns of the files that the workload executes or maps executable, sorted."""
    rules = (rule.pattern for rule in policy.files if {"execute", "map"} & set(rule.access) and "linked" in rule.states)
    return tuple(sorted({*rules, *policy.programs}))


def unnamed(policy: Policy) -> tuple[str, ...]:
    """Return the patterns of executed or mapped files that had no name at that time: a memfd, a deleted file."""
    rules = (rule for rule in policy.files if {"execute", "map"} & set(rule.access))
    return tuple(sorted({rule.pattern for rule in rules if set(rule.states) != {"linked"}}))


def _fitting(top: int, pattern: str) -> Iterator[str]:
    """Yield the paths that fit a pattern: its only one, or those of files that are there. Raises InputError for too
    many files."""
    path = patterns.path_of(pattern)
    if path is not None:
        yield path
        return
    if pattern.startswith(_HOME):
        for home in _homes(top):
            below = _fitting(top, patterns.literal(home) + pattern.removeprefix(_HOME))
            yield from (path for path in below if _there(top, path))
        return
    start = posixpath.dirname(patterns.start_of(pattern))
    if not start.startswith("/") or within(start, _KERNEL):
        return
    try:
        place = _open(top, start, os.O_DIRECTORY)
    except OSError:
        return
    looked = 0
    try:
        for directory, names, files, _ in os.fwalk(".", dir_fd=place, follow_symlinks=False):
            looked += len(names) + len(files)
            if looked > ENTRIES_MAX:
                raise InputError(
                    f"{printable(start)} has more than {ENTRIES_MAX} files: name those of {pattern} in the policy"
                )
            yield from (each for name in files if patterns.matches(pattern, each := _joined(start, directory, name)))
    finally:
        os.close(place)


def _homes(top: int) -> Iterator[str]:
    """Yield the home directories."""
    yield "/root"
    try:
        place = _open(top, "/home", os.O_DIRECTORY)
    except OSError:
        return
    try:
        yield from (f"/home/{name}" for name in sorted(os.listdir(place)))
    finally:
        os.close(place)


def _there(top: int, path: str) -> bool:
    try:
        os.close(_open(top, path, os.O_PATH))
    except OSError:
        return False
    return True


def _joined(*parts: str) -> str:
    return posixpath.normpath(posixpath.join(*parts))


def _real(top: int, path: str) -> str:
    """Return where a path leads to below ``top``, through symbolic links; the path itself when that is not known."""
    ahead, real = path.split("/")[::-1], "/"
    for _ in range(_LINKS_MAX):
        while ahead:
            word = ahead.pop()
            here = _joined(real, word) if word else real
            try:
                target = os.readlink(f".{here}", dir_fd=top)
            except (OSError, ValueError):
                real = here
                continue
            ahead += target.split("/")[::-1]
            real = "/" if target.startswith("/") else real
            break
        else:
            return real
    return path


def _open(top: int, path: str, flags: int = 0) -> int:
    """Open a path below ``top``, through no link. Raises OSError."""
    words = [word for word in path.split("/") if word]
    if not path.startswith("/") or ".." in words or "\0" in path:
        raise OSError("not an absolute path")
    at = os.dup(top)
    try:
        for position, word in enumerate(words, 1):
            last = position == len(words)
            below = os.open(word, _FLAGS | (flags if last else os.O_DIRECTORY), dir_fd=at)
            os.close(at)
            at = below
    except OSError:
        os.close(at)
        raise
    return at


def _digest(top: int, path: str, changing: Collection[str]) -> str:
    """Return the SHA-256 of a file. ``changing``: patterns of what the workload changes. Raises _Without."""
    if within(path, _KERNEL):
        raise _Without("it belongs to the kernel")
    if any(patterns.matches(pattern, path) for pattern in changing):
        raise _Without("the workload may write to it, so its content is not known")
    try:
        with open(_open(top, path), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise _Without("it is not a regular file")
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise _Without("there is no such file") from None
    except OSError as error:
        links = error.errno in (errno.ELOOP, errno.ENOTDIR)
        raise _Without("a symbolic link is in its path" if links else cause(error)) from error
