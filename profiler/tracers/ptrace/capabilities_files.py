"""Which capabilities calls on files need: fs/namei.c, fs/attr.c, fs/xattr.c, fs/locks.c."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from profiler.kernel.files import AT_EMPTY_PATH, AT_SYMLINK_FOLLOW, AT_SYMLINK_NOFOLLOW
from profiler.tracers.host import read_memory, read_string
from profiler.tracers.ptrace.capabilities_rules import KEEP, U32, Rule, always, kernel, sysctl, unique
from profiler.tracers.ptrace.threads import EXECUTE, READ, WRITE, Credentials, lacking, signed

if TYPE_CHECKING:
    from profiler.tracers.ptrace.capabilities import Inference


def _lookup(dirfd: int | None, path: int, want: int = 0, *, follow: bool = True, flags: int | None = None) -> Rule:
    """Calls that look a path up and want ``want`` on it."""

    def rule(inference: Inference, tid: int, args: tuple[int, ...], credentials: Credentials) -> tuple[str, ...]:
        through = follow and not (flags is not None and args[flags] & AT_SYMLINK_NOFOLLOW)
        found = inference.walk(tid, None if dirfd is None else args[dirfd], args[path], credentials, follow=through)
        if found is None:
            return ()
        resolved, needs = found
        if want:
            needs += lacking(credentials, os.stat(resolved), want)
        return unique(needs)

    return rule


def _open(dirfd: int | None, path: int, flags: int, how: bool = False) -> Rule:
    def rule(inference: Inference, tid: int, args: tuple[int, ...], credentials: Credentials) -> tuple[str, ...]:
        word = args[flags]
        if how:  # openat2: struct open_how begins with the flags
            data = read_memory(tid, args[flags], 8)
            if data is None:
                return ()
            word = int.from_bytes(data, "little")
        found = inference.walk(
            tid, None if dirfd is None else args[dirfd], args[path], credentials, follow=not word & os.O_NOFOLLOW
        )
        if found is None:
            return ()
        resolved, needs = found
        if word & os.O_PATH:
            return unique(needs)
        try:
            status = os.stat(resolved)
        except FileNotFoundError:
            if word & os.O_CREAT:
                needs += lacking(credentials, os.stat(os.path.dirname(resolved)), WRITE | EXECUTE)
            return unique(needs)
        want = {os.O_RDONLY: READ, os.O_WRONLY: WRITE}.get(word & os.O_ACCMODE, READ | WRITE)
        if word & os.O_TRUNC:
            want |= WRITE
        if word & os.O_NOATIME and status.st_uid != credentials.uids[3]:
            needs.append("CAP_FOWNER")  # fs/namei.c may_open
        return unique(needs + lacking(credentials, status, want))

    return rule


def _entry(*names: tuple[int | None, int], removes: bool = False) -> Rule:
    """Calls that make or remove directory entries, each given by (descriptor, path) positions."""

    def rule(inference: Inference, tid: int, args: tuple[int, ...], credentials: Credentials) -> tuple[str, ...]:
        needs: list[str] = []
        for dirfd, path in names:
            found = inference.walk(tid, None if dirfd is None else args[dirfd], args[path], credentials, follow=False)
            if found is None:
                continue
            resolved, searched = found
            directory = os.stat(os.path.dirname(resolved))
            needs += searched + lacking(credentials, directory, WRITE | EXECUTE)
            if removes and directory.st_mode & stat.S_ISVTX and os.path.lexists(resolved):
                # fs/namei.c __check_sticky
                owners = {directory.st_uid, os.lstat(resolved).st_uid}
                needs += [] if credentials.uids[3] in owners else ["CAP_FOWNER"]
        return unique(needs)

    return rule


def _hard_link(old: tuple[int | None, int], new: tuple[int | None, int], flags: int | None = None) -> Rule:
    """link(2), with the protection of files one could not write (fs/namei.c may_linkat, proc_sys_fs(5))."""
    make = _entry(new)

    def rule(inference: Inference, tid: int, args: tuple[int, ...], credentials: Credentials) -> tuple[str, ...]:
        needs = list(make(inference, tid, args, credentials))
        word = 0 if flags is None else args[flags]
        follow = bool(word & AT_SYMLINK_FOLLOW)
        found = inference.walk(tid, None if old[0] is None else args[old[0]], args[old[1]], credentials, follow=follow)
        if found is None:
            return unique(needs)
        needs += found[1]
        if word & AT_EMPTY_PATH and found[0].startswith(f"/proc/{tid}/fd/"):
            follow = True
            # Since Linux 6.10 not for whoever opened the descriptor (fs/namei.c path_init), which is not to be seen
            # from here.
            needs += ["CAP_DAC_READ_SEARCH"] if kernel() < (6, 10) else []
        if not sysctl("fs/protected_hardlinks"):
            return unique(needs)
        status = os.stat(found[0], follow_symlinks=follow)
        special = not stat.S_ISREG(status.st_mode) or status.st_mode & stat.S_ISUID or status.st_mode & 0o2010 == 0o2010
        if status.st_uid != credentials.uids[3]:
            needs += ["CAP_FOWNER"] if special else lacking(credentials, status, READ | WRITE)
        return unique(needs)

    return rule


def _mknod(dirfd: int | None, path: int, mode: int) -> Rule:
    make = _entry((dirfd, path))

    def rule(inference: Inference, tid: int, args: tuple[int, ...], credentials: Credentials) -> tuple[str, ...]:
        kind = stat.S_IFMT(args[mode])
        # A character device 0:0 is a whiteout, which anybody may make (fs/namei.c vfs_mknod).
        device = kind == stat.S_IFBLK or (kind == stat.S_IFCHR and args[mode + 1] & U32 != 0)
        return (*make(inference, tid, args, credentials), *(("CAP_MKNOD",) if device else ()))

    return rule


def _target(
    inference: Inference, tid: int, dirfd: int | None, address: int | None, credentials: Credentials, follow: bool
) -> tuple[os.stat_result, list[str]] | None:
    """The file an attribute call works on, by descriptor alone or by path, and what the way to it needs."""
    if address is None:
        assert dirfd is not None
        return os.stat(f"/proc/{tid}/fd/{signed(dirfd)}"), []
    found = inference.walk(tid, dirfd, address, credentials, follow=follow)
    # procfs's own links lead straight to a file; no other link is left at the end of a path that was to be followed.
    return None if found is None else (os.stat(found[0], follow_symlinks=follow), found[1])


def _chown(dirfd: int | None, path: int | None, uid: int, gid: int, follow: bool = True) -> Rule:
    def rule(inference: Inference, tid: int, args: tuple[int, ...], credentials: Credentials) -> tuple[str, ...]:
        found = _target(
            inference,
            tid,
            None if dirfd is None else args[dirfd],
            None if path is None else args[path],
            credentials,
            follow,
        )
        if found is None:
            return ()
        status, needs = found
        # fs/attr.c chown_ok, chgrp_ok
        fsuid, owner, group = credentials.uids[3], args[uid] & U32, args[gid] & U32
        mine = fsuid == status.st_uid
        in_group = group in (status.st_gid, credentials.gids[3]) or group in credentials.groups
        needed = (owner != KEEP and not (mine and owner == status.st_uid)) or (
            group != KEEP and not (mine and in_group)
        )
        return unique([*needs, "CAP_CHOWN"] if needed else needs)

    return rule


def _chmod(dirfd: int | None, path: int | None, mode: int) -> Rule:
    """For the owner, or CAP_FOWNER; the set-group-ID bit for members of the group, or CAP_FSETID (fs/attr.c
    setattr_prepare)."""

    def rule(inference: Inference, tid: int, args: tuple[int, ...], credentials: Credentials) -> tuple[str, ...]:
        found = _target(
            inference,
            tid,
            None if dirfd is None else args[dirfd],
            None if path is None else args[path],
            credentials,
            True,
        )
        if found is None:
            return ()
        status, needs = found
        if status.st_uid != credentials.uids[3]:
            needs.append("CAP_FOWNER")
        if (
            args[mode] & stat.S_ISGID
            and status.st_gid != credentials.gids[3]
            and status.st_gid not in credentials.groups
        ):
            needs.append("CAP_FSETID")
        return unique(needs)

    return rule


_UTIME_NOW, _UTIME_OMIT = 0x3FFFFFFF, 0x3FFFFFFE  # include/linux/stat.h


def _utimensat(inference: Inference, tid: int, args: tuple[int, ...], credentials: Credentials) -> tuple[str, ...]:
    """Explicit times are for the owner, "now" also for those who may write (fs/attr.c may_setattr); CAP_FOWNER stands
    in for both."""
    found = _target(inference, tid, args[0], args[1] or None, credentials, True)
    times = read_memory(tid, args[2], 32) if args[2] else None
    if found is None:
        return ()
    status, needs = found
    asked = {_UTIME_NOW} if times is None else {int.from_bytes(times[at : at + 8], "little") for at in (8, 24)}
    if (
        status.st_uid != credentials.uids[3]
        and asked != {_UTIME_OMIT}
        and not (asked == {_UTIME_NOW} and credentials.grants(status, WRITE))
    ):
        needs.append("CAP_FOWNER")
    return unique(needs)


def _access(dirfd: int | None, path: int, mode: int) -> Rule:
    def rule(inference: Inference, tid: int, args: tuple[int, ...], credentials: Credentials) -> tuple[str, ...]:
        # access(2) asks for the real ids
        real = Credentials(
            (*credentials.uids[:3], credentials.uids[0]),
            (*credentials.gids[:3], credentials.gids[0]),
            credentials.groups,
            credentials.effective,
            credentials.namespace,
        )
        return _lookup(dirfd, path, args[mode] & 7)(inference, tid, args, real)

    return rule


def _xattr(position: int) -> Rule:
    def rule(_inference: Inference, tid: int, args: tuple[int, ...], _credentials: Credentials) -> tuple[str, ...]:
        name = read_string(tid, args[position], 256) or b""
        if name == b"security.capability":
            return ("CAP_SETFCAP",)
        return ("CAP_SYS_ADMIN",) if name.startswith((b"security.", b"trusted.")) else ()

    return rule


def _lease(_inference: Inference, tid: int, args: tuple[int, ...], credentials: Credentials) -> tuple[str, ...]:
    if args[1] & U32 != 1024:  # F_SETLEASE; fs/locks.c generic_setlease
        return ()
    return () if os.stat(f"/proc/{tid}/fd/{signed(args[0])}").st_uid == credentials.uids[3] else ("CAP_LEASE",)


FILES: dict[str, Rule] = {
    "open": _open(None, 0, 1),
    "openat": _open(0, 1, 2),
    "openat2": _open(0, 1, 2, how=True),
    "creat": _lookup(None, 0),
    "stat": _lookup(None, 0),
    "lstat": _lookup(None, 0, follow=False),
    "newfstatat": _lookup(0, 1, flags=3),
    "statx": _lookup(0, 1, flags=2),
    "readlink": _lookup(None, 0, follow=False),
    "readlinkat": _lookup(0, 1, follow=False),
    "access": _access(None, 0, 1),
    "faccessat": _access(0, 1, 2),
    "faccessat2": _access(0, 1, 2),
    "chdir": _lookup(None, 0, EXECUTE),
    "execve": _lookup(None, 0, EXECUTE),
    "truncate": _lookup(None, 0, WRITE),
    "mkdir": _entry((None, 0)),
    "mkdirat": _entry((0, 1)),
    "rmdir": _entry((None, 0), removes=True),
    "unlink": _entry((None, 0), removes=True),
    "unlinkat": _entry((0, 1), removes=True),
    "symlink": _entry((None, 1)),
    "symlinkat": _entry((1, 2)),
    "link": _hard_link((None, 0), (None, 1)),
    "linkat": _hard_link((0, 1), (2, 3), flags=4),
    "rename": _entry((None, 0), (None, 1), removes=True),
    "renameat": _entry((0, 1), (2, 3), removes=True),
    "renameat2": _entry((0, 1), (2, 3), removes=True),
    "mknod": _mknod(None, 0, 1),
    "mknodat": _mknod(0, 1, 2),
    "chown": _chown(None, 0, 1, 2),
    "lchown": _chown(None, 0, 1, 2, follow=False),
    "fchown": _chown(0, None, 1, 2),
    "fchownat": _chown(0, 1, 2, 3),
    "chmod": _chmod(None, 0, 1),
    "fchmod": _chmod(0, None, 1),
    "fchmodat": _chmod(0, 1, 2),
    "fchmodat2": _chmod(0, 1, 2),
    "utimensat": _utimensat,
    "setxattr": _xattr(1),
    "lsetxattr": _xattr(1),
    "fsetxattr": _xattr(1),
    "fcntl": _lease,
    "open_by_handle_at": always("CAP_DAC_READ_SEARCH"),
}

PATH_CALLS = frozenset(
    name for name, rule in FILES.items() if rule.__qualname__.split(".")[0] in {"_open", "_lookup", "_entry", "_access"}
)
"""Those that need nothing but the way to a path, and what its end allows."""
