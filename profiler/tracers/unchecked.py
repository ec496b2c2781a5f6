"""Capabilities that a call needs although the kernel checks none of them.

capset(2), PR_CAP_AMBIENT_RAISE and execve(2) of a file with capabilities compare sets, and fail without one of their
members (security/commoncap.c cap_capset, cap_task_prctl, bprm_caps_from_vfs_caps). A program that is executed may also
gain privileges by its file, which no_new_privs prevents.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from profiler.kernel.capabilities import CAPABILITIES
from profiler.kernel.file_capabilities import FileCapabilities, parse_file_capabilities


@dataclass(frozen=True)
class Sets:
    """Three sets of a thread, or of a capset(2), as bits."""

    effective: int
    permitted: int
    inheritable: int


def bits_of(*capabilities: str) -> int:
    """Return a set of capabilities by their names."""
    return sum(1 << CAPABILITIES.index(name) for name in capabilities)


def _named(asked: int) -> int:
    """Return the set if a program names its members; 0 if it must be a copy of a set that the program has.

    No program names more than half of all capabilities: it would fail in every container.
    """
    return asked if asked.bit_count() * 2 <= len(CAPABILITIES) else 0


@dataclass(frozen=True)
class Claim:
    """Capabilities, as bits, that a call needs in a set of its thread: ``needed`` when it succeeds, ``missing`` when it
    fails with EPERM: those that its thread does not have because they are not in its bounding set."""

    needed: int
    missing: int = 0


def claim_of_capset(asked: Sets, had: Sets, bounding: int, *, looked: bool) -> Claim:
    """Return what a capset(2) needs.

    ``looked``: the program had read its sets (capget(2)). Then it may keep permitted what it has, and needs only what
    it makes effective or inheritable.
    """
    more = _named(asked.inheritable & ~had.inheritable)
    wanted = _named(asked.effective) | more | (0 if looked else _named(asked.permitted))
    needed = wanted | (bits_of("CAP_SETPCAP") if more & ~had.permitted else 0)
    return Claim(needed, asked.permitted & ~(had.permitted | bounding))


def claim_of_ambient(asked: int, had: Sets, bounding: int) -> Claim:
    """Return what PR_CAP_AMBIENT_RAISE needs; nothing when the thread raises all that it has."""
    return Claim(asked if _named(had.inheritable) else 0, asked & ~(had.permitted | bounding))


def file_capabilities(path: str) -> FileCapabilities | None:
    """Return the capabilities that executing a file gives; None without any, also on a mount with nosuid."""
    try:
        data = os.getxattr(path, "security.capability")
        return None if os.statvfs(path).f_flag & os.ST_NOSUID else parse_file_capabilities(data)
    except OSError:
        return None


def gained_by_ids(status: os.stat_result, uids: tuple[int, ...], gids: tuple[int, ...]) -> list[str]:
    """Return which of the words GAINED (trace/model.py) the ids of a program after its execution tell.

    ``uids``, ``gids``: real and effective id first.
    """
    mode, group = status.st_mode, stat.S_ISGID | stat.S_IXGRP
    found = []
    if mode & stat.S_ISUID and uids[1] == status.st_uid != uids[0]:
        found.append("setuid")
    if mode & group == group and gids[1] == status.st_gid != gids[0]:
        found.append("setgid")
    return found
