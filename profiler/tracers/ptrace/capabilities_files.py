"""Which capabilities calls on files need: fs/namei.c, fs/attr.c, fs/xattr.c, fs/locks.c.

The positions of paths and descriptors come from profiler/kernel/files.yaml. Ids, modes and times follow the path or,
without one, the descriptor.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import replace

from profiler.kernel.files import AT_EMPTY_PATH, UMODE_MASK, FileUse
from profiler.tracers.memory import read_memory
from profiler.tracers.ptrace.capabilities_rules import KEEP, Rule, Stop, always, kernel, sysctl
from profiler.tracers.ptrace.capabilities_writes import CHECKED_FILES, WRITES
from profiler.tracers.ptrace.threads import EXECUTE, READ, U32, WRITE, lacking
from profiler.tracers.unchecked import Claim, file_capabilities

_F_SETLEASE = 1024  # include/uapi/linux/fcntl.h
_UTIME_NOW, _UTIME_OMIT = 0x3FFFFFFF, 0x3FFFFFFE  # include/linux/stat.h


def _after(use: FileUse) -> int:
    """The position of the argument that follows the path, or the descriptor of a call without a path."""
    place = use.fd if use.path is None else use.path
    assert place is not None
    return place + 1


def _lookup(stop: Stop, want: int = 0) -> tuple[str, ...]:
    """Calls that look a path up and want ``want`` (rwx as 4, 2, 1) on the file."""
    walked = stop.walk(stop.uses[0])
    return tuple(lacking(stop.credentials, walked.status, want)) if walked is not None and want else ()


def _execute(stop: Stop) -> tuple[str, ...]:
    """A file with capabilities is executed only if the bounding set holds them (Inference.executed notes that)."""
    use = stop.uses[0]
    walked = stop.walk(use)
    if walked is None:
        return ()
    has = stop.threads.read(stop.tid, walked.found, "capabilities", file_capabilities)
    if has is not None:
        stop.claims.append((Claim(0, has.needed & ~stop.credentials.bounding), None))
    return tuple(lacking(stop.credentials, walked.status, EXECUTE))


def _access(stop: Stop) -> tuple[str, ...]:
    """access(2) uses the real ids in place of the filesystem ids."""
    own = stop.credentials
    if (own.uids[0], own.gids[0]) != (own.uids[3], own.gids[3]):
        real = replace(own, uids=(*own.uids[:3], own.uids[0]), gids=(*own.gids[:3], own.gids[0]))
        stop = replace(stop, credentials=real)
    return _lookup(stop, stop.args[_after(stop.uses[0])] & 7)


def _open(stop: Stop) -> tuple[str, ...]:
    """fs/namei.c do_open, may_open."""
    use = stop.uses[0]
    flags = use.flags_of(stop.args)
    if use.only == "how":
        how = read_memory(stop.tid, flags, 8)
        if how is None:
            return ()
        flags = int.from_bytes(how, "little")
    walked = stop.walk(use, follow=not flags & os.O_NOFOLLOW)
    if walked is None or flags & os.O_PATH:
        return ()
    found, status = walked.found, walked.found.status
    if status is None:
        if flags & os.O_CREAT and walked.directory is not None:
            return tuple(lacking(stop.credentials, walked.directory, WRITE | EXECUTE))
        return ()
    if flags & os.O_ACCMODE != os.O_RDONLY and (found.look or "").endswith(CHECKED_FILES):
        stop.more.update(WRITES)
    want = {os.O_RDONLY: READ, os.O_WRONLY: WRITE}.get(flags & os.O_ACCMODE, READ | WRITE)
    if flags & os.O_TRUNC:
        want |= WRITE
    others = flags & os.O_NOATIME and status.st_uid != stop.credentials.uids[3]
    return (*(["CAP_FOWNER"] if others else []), *lacking(stop.credentials, status, want))


def _entry(stop: Stop, uses: tuple[FileUse, ...] | None = None) -> tuple[str, ...]:
    """Calls that make, rename or remove directory entries (fs/namei.c may_create, may_delete)."""
    needs: list[str] = []
    for use in uses or stop.uses:
        walked = stop.walk(use, follow=False)
        if walked is None:
            continue
        directory, status = walked.directory, walked.found.status
        if directory is None:
            raise FileNotFoundError
        needs += lacking(stop.credentials, directory, WRITE | EXECUTE)
        removes = use.access in ("remove", "rename_from", "rename_to")
        if removes and directory.st_mode & stat.S_ISVTX and status is not None:
            # fs/namei.c __check_sticky
            owners = {directory.st_uid, status.st_uid}
            needs += [] if stop.credentials.uids[3] in owners else ["CAP_FOWNER"]
    return tuple(needs)


def _hard_link(stop: Stop) -> tuple[str, ...]:
    """link(2), with the protection of files that the caller could not write (fs/namei.c may_linkat, proc_sys_fs(5))."""
    old, new = stop.uses
    needs = list(_entry(stop, (new,)))
    walked = stop.walk(old)
    if walked is None:
        return tuple(needs)
    if old.flags_of(stop.args) & AT_EMPTY_PATH and (walked.found.look or "").startswith(f"/proc/{stop.tid}/fd/"):
        # Since Linux 6.10 the process that opened the descriptor needs nothing (fs/namei.c path_init). Which process
        # opened it cannot be seen here.
        needs += ["CAP_DAC_READ_SEARCH"] if kernel() < (6, 10) else []
    if not sysctl("fs/protected_hardlinks"):
        return tuple(needs)
    status = walked.status
    special = not stat.S_ISREG(status.st_mode) or status.st_mode & stat.S_ISUID or status.st_mode & 0o2010 == 0o2010
    if status.st_uid != stop.credentials.uids[3]:
        needs += ["CAP_FOWNER"] if special else lacking(stop.credentials, status, READ | WRITE)
    return tuple(needs)


def _mknod(stop: Stop) -> tuple[str, ...]:
    use = stop.uses[0]
    assert use.mode is not None
    kind = stat.S_IFMT(stop.args[use.mode] & UMODE_MASK)
    # A character device 0:0 is a whiteout, which anybody may make (fs/namei.c vfs_mknod).
    device = kind == stat.S_IFBLK or (kind == stat.S_IFCHR and stop.args[use.mode + 1] & U32 != 0)
    return (*_entry(stop), *(("CAP_MKNOD",) if device else ()))


def _chown(stop: Stop) -> tuple[str, ...]:
    """fs/attr.c chown_ok, chgrp_ok."""
    use = stop.uses[0]
    status = stop.status(use)
    if status is None:
        return ()
    owner, group = (stop.args[_after(use) + offset] & U32 for offset in (0, 1))
    mine = stop.credentials.uids[3] == status.st_uid
    in_group = group in (status.st_gid, stop.credentials.gids[3]) or group in stop.credentials.groups
    needed = (owner != KEEP and not (mine and owner == status.st_uid)) or (group != KEEP and not (mine and in_group))
    return ("CAP_CHOWN",) if needed else ()


def _chmod(stop: Stop) -> tuple[str, ...]:
    """For the owner, or CAP_FOWNER; the set-group-ID bit for members of the group, or CAP_FSETID (fs/attr.c
    setattr_prepare)."""
    use, own = stop.uses[0], stop.credentials
    status = stop.status(use)
    if status is None:
        return ()
    needs = ["CAP_FOWNER"] if status.st_uid != own.uids[3] else []
    member = status.st_gid == own.gids[3] or status.st_gid in own.groups
    if stop.args[_after(use)] & stat.S_ISGID and not member:
        needs.append("CAP_FSETID")
    return tuple(needs)


def _utimensat(stop: Stop) -> tuple[str, ...]:
    """Explicit times are for the owner, "now" also for a user who may write (fs/attr.c may_setattr); or CAP_FOWNER."""
    use = stop.uses[0]
    status, address = stop.status(use), stop.args[_after(use)]
    times = read_memory(stop.tid, address, 32) if address else None
    if status is None:
        return ()
    asked = {_UTIME_NOW} if times is None else {int.from_bytes(times[at : at + 8], "little") for at in (8, 24)}
    now = asked == {_UTIME_NOW} and stop.credentials.grants(status, WRITE)
    mine = status.st_uid == stop.credentials.uids[3]
    return () if mine or now or asked == {_UTIME_OMIT} else ("CAP_FOWNER",)


def _xattr(stop: Stop) -> tuple[str, ...]:
    name = stop.threads.text(stop.tid, stop.args[_after(stop.uses[0])]) or ""
    if name == "security.capability":
        return ("CAP_SETFCAP",)
    return ("CAP_SYS_ADMIN",) if name.startswith(("security.", "trusted.")) else ()


def _lease(stop: Stop) -> tuple[str, ...]:
    """fs/locks.c generic_setlease."""
    if stop.args[1] & U32 != _F_SETLEASE:
        return ()
    owner = stop.status_of(stop.args[0]).st_uid
    return () if owner == stop.credentials.uids[3] else ("CAP_LEASE",)


def _named(rules: Mapping[Rule, str]) -> dict[str, Rule]:
    return {name: rule for rule, names in rules.items() for name in names.split()}


_PATHS = _named(
    {
        _lookup: "creat lstat newfstatat readlink readlinkat stat statx",
        _execute: "execve execveat",
        _access: "access faccessat faccessat2",
        lambda stop: _lookup(stop, EXECUTE): "chdir",
        lambda stop: _lookup(stop, WRITE): "truncate",
        _open: "open openat openat2",
        _entry: "mkdir mkdirat rename renameat renameat2 rmdir symlink symlinkat unlink unlinkat",
    }
)

PATH_CALLS = frozenset(_PATHS)
"""Calls that need nothing but access to the directories of a path and to the file at its end."""

LOOKS = frozenset(name for name, rule in _PATHS.items() if rule is _lookup)
"""Those that need nothing of the file at its end."""

FILES: dict[str, Rule] = _PATHS | _named(
    {
        _hard_link: "link linkat",
        _mknod: "mknod mknodat",
        _chown: "chown fchown fchownat lchown",
        _chmod: "chmod fchmod fchmodat fchmodat2",
        _utimensat: "utimensat",
        _xattr: "fsetxattr lsetxattr setxattr",
        _lease: "fcntl",
        always("CAP_DAC_READ_SEARCH"): "open_by_handle_at",
    }
)
