"""Capabilities that a call needs although the kernel checks none of them.

capset(2), PR_CAP_AMBIENT_RAISE and execve(2) of a file with capabilities compare sets, and fail without one of their
members (security/commoncap.c cap_capset, cap_task_prctl, bprm_caps_from_vfs_caps). A program that is executed may also
gain privileges by its file, which no_new_privs prevents.
"""

from __future__ import annotations

import os
import stat
import struct
from dataclasses import dataclass

from profiler.kernel.capabilities import CAPABILITIES, name_of

ALL = (1 << len(CAPABILITIES)) - 1

_VERSION_1, _VERSIONS = 0x01000000, (0x02000000, 0x03000000)  # include/uapi/linux/capability.h
_EFFECTIVE = 1


@dataclass(frozen=True)
class Sets:
    """Three sets of a thread, or of a capset(2), as bits."""

    effective: int
    permitted: int
    inheritable: int


def bits_of(*capabilities: str) -> int:
    """Return a set of capabilities by their names."""
    return sum(1 << CAPABILITIES.index(name) for name in capabilities)


def names_in(mask: int) -> tuple[str, ...]:
    """Return the names of the capabilities in a set."""
    return tuple(name_of(number) for number in range(mask.bit_length()) if mask >> number & 1)


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


@dataclass(frozen=True)
class FileCapabilities:
    """The capabilities of a file (capabilities(7)). ``effective``: execve(2) fails unless it can give all permitted."""

    permitted: int
    effective: bool

    @property
    def needed(self) -> int:
        """The capabilities that must be in the bounding set for the file to be executed."""
        return self.permitted if self.effective else 0


def parse_file_capabilities(data: bytes) -> FileCapabilities | None:
    """Parse security.capability (struct vfs_ns_cap_data); None for another format, and for the root of another user
    namespace, for which the file has no capabilities here."""
    if len(data) not in (12, 20, 24):
        return None
    magic, low = struct.unpack_from("<II", data)
    version = magic & 0xFF000000
    if version != (_VERSION_1 if len(data) == 12 else _VERSIONS[len(data) == 24]):
        return None
    if len(data) == 24 and struct.unpack_from("<I", data, 20)[0]:
        return None
    high = 0 if len(data) == 12 else struct.unpack_from("<I", data, 12)[0]
    return FileCapabilities((low | high << 32) & ALL, bool(magic & _EFFECTIVE))


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
