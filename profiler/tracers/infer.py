"""Capabilities inferred from calls, for the tracer that cannot see the kernel's checks.

A call that succeeded though its arguments, the caller's ids and the modes of the files it named would not have allowed
it, was allowed by a capability; one that failed with EPERM or EACCES where a capability would have let it through was
refused one. The rules follow capabilities(7) and the kernel's order of checks (fs/namei.c generic_permission,
kernel/sys.c, net/ipv4/af_inet.c). Not seen: POSIX ACLs, checks below ioctl(2) and device drivers, xattr and quota
subtleties (docs/limits.md). Rows are marked ``inferred``.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import signal
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from profiler.kernel.arguments import NAMESPACE_FLAGS
from profiler.kernel.files import AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_FOLLOW, AT_SYMLINK_NOFOLLOW
from profiler.tracers.host import read_memory, read_string
from profiler.tracers.paths import Way
from profiler.tracers.recording import Recording
from profiler.tracers.stopped import EXECUTE, READ, WRITE, Credentials, Threads, lacking, signed

CLONE_NEWUSER = 0x10000000
CLONE_NAMESPACES = NAMESPACE_FLAGS & ~CLONE_NEWUSER
"""Namespaces whose making needs CAP_SYS_ADMIN: mount, cgroup, UTS, IPC, PID, network (clone(2))."""

_U32 = 0xFFFFFFFF
_KEEP = _U32
"""-1 as an id: leave it unchanged (chown(2), setresuid(2))."""


@dataclass(frozen=True)
class Call:
    """A call in flight: the capabilities that it needs if it succeeds, the one that it lacked if it fails."""

    name: str
    credentials: Credentials
    needs: tuple[str, ...]
    searched: tuple[str, ...]
    """Those of them that the directories on the way ask for: used even when the file at the end is missing."""


Rule = Callable[["Inference", int, tuple[int, ...], Credentials], "tuple[str, ...]"]


class Inference:
    """Watches calls at entry and exit and adds capability rows to a recording."""

    def __init__(self, recording: Recording, threads: Threads) -> None:
        self._recording = recording
        self._threads = threads
        self._namespace = os.readlink("/proc/self/ns/user")
        self._searched: list[str] = []

    def wants(self, name: str) -> bool:
        """Whether calls of this name are worth an exit stop."""
        return name in RULES

    def enter(self, tid: int, name: str, args: tuple[int, ...]) -> Call | None:
        """Look at a call about to be made; None when its result cannot tell of a capability."""
        credentials = self._threads.credentials(tid)
        if credentials is None:
            return None
        self._threads.changes(tid, name)
        if name in ("clone", "clone3"):
            self._threads.clones(tid, name, args)
        if name in PATH_CALLS and self._everyday(credentials):
            return None
        self._searched = []
        try:
            needs = RULES[name](self, tid, args, credentials)
        except (OSError, ValueError):
            needs = ()
        searched = _unique(self._searched)
        return Call(name, credentials, needs, searched) if needs or searched else None

    def _everyday(self, credentials: Credentials) -> bool:
        """Without any capability mode bits decide, and their refusals are everyday life."""
        return not credentials.effective

    def leave(self, tid: int, call: Call, result: int, code: int, program: int) -> None:
        """The call has returned ``result``, or failed with errno ``code``."""
        self._threads.changes(tid, call.name)
        refused = code in (errno.EPERM, errno.EACCES)
        if code and not refused and code not in _PAST_SEARCH:
            return
        namespace = "initial" if call.credentials.namespace == self._namespace else "child"
        for capability in call.searched if code and not refused else call.needs:
            if call.credentials.has(capability) is refused:
                continue  # it had the capability, and something else refused; or it had not, and something else allowed
            verdict = "refused" if refused else "granted"
            self._recording.check((capability, namespace, verdict, None, True, True), program, call.name)

    # -- files ---------------------------------------------------------------------------------------------------

    def walk(
        self, tid: int, dirfd: int | None, address: int, credentials: Credentials, *, follow: bool = True
    ) -> tuple[str, list[str]] | None:
        """Go the way of a path argument as the kernel does (path_resolution(7)).

        Gives the end of it, as this process can open it, and what the directories on the way need; None for an
        unreadable argument. The end need not exist; FileNotFoundError when something on the way does not.
        """
        text = self._threads.text(tid, address) if address else ""
        if text is None:
            return None
        if not text:
            return f"/proc/{tid}/cwd" if dirfd is None or signed(dirfd) == AT_FDCWD else f"/proc/{tid}/fd/{signed(dirfd)}", []
        ways: list[Way] = []
        found = self._threads.find(tid, dirfd, text, follow=follow, ways=ways)
        for way in ways:
            self._searched += self._threads.needs(credentials, way)
        if found is None or not found.reached or found.look is None:
            raise FileNotFoundError
        return found.look, list(self._searched)


_PAST_SEARCH = frozenset(
    {
        errno.ENOENT,
        errno.EEXIST,
        errno.EISDIR,
        errno.ENOTDIR,
        errno.ENOTEMPTY,
        errno.EXDEV,
        errno.EBUSY,
        errno.ETXTBSY,
        errno.EINVAL,
        errno.ERANGE,
    }
)
"""Errors that a lookup ends with after its directories let it through."""


def _unique(names: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


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
        return _unique(needs)

    return rule


def _open(dirfd: int | None, path: int, flags: int, how: bool = False) -> Rule:
    def rule(inference: Inference, tid: int, args: tuple[int, ...], credentials: Credentials) -> tuple[str, ...]:
        word = args[flags]
        if how:  # openat2: struct open_how begins with the flags
            data = read_memory(tid, args[flags], 8)
            if data is None:
                return ()
            word = int.from_bytes(data, "little")
        found = inference.walk(tid, None if dirfd is None else args[dirfd], args[path], credentials, follow=not word & os.O_NOFOLLOW)
        if found is None:
            return ()
        resolved, needs = found
        if word & os.O_PATH:
            return _unique(needs)
        try:
            status = os.stat(resolved)
        except FileNotFoundError:
            if word & os.O_CREAT:
                needs += lacking(credentials, os.stat(os.path.dirname(resolved)), WRITE | EXECUTE)
            return _unique(needs)
        want = {os.O_RDONLY: READ, os.O_WRONLY: WRITE}.get(word & os.O_ACCMODE, READ | WRITE)
        if word & os.O_TRUNC:
            want |= WRITE
        if word & os.O_NOATIME and status.st_uid != credentials.uids[3]:
            needs.append("CAP_FOWNER")  # fs/namei.c may_open
        return _unique(needs + lacking(credentials, status, want))

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
        return _unique(needs)

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
            return _unique(needs)
        needs += found[1]
        if word & AT_EMPTY_PATH and found[0].startswith(f"/proc/{tid}/fd/"):
            follow = True
            # Since Linux 6.10 not for whoever opened the descriptor (fs/namei.c path_init), which is not to be seen from here.
            needs += ["CAP_DAC_READ_SEARCH"] if _kernel() < (6, 10) else []
        if not _sysctl("fs/protected_hardlinks"):
            return _unique(needs)
        status = os.stat(found[0], follow_symlinks=follow)
        special = not stat.S_ISREG(status.st_mode) or status.st_mode & stat.S_ISUID or status.st_mode & 0o2010 == 0o2010
        if status.st_uid != credentials.uids[3]:
            needs += ["CAP_FOWNER"] if special else lacking(credentials, status, READ | WRITE)
        return _unique(needs)

    return rule


def _sysctl(name: str) -> int:
    with open(f"/proc/sys/{name}") as file:
        return int(file.read())


def _mknod(dirfd: int | None, path: int, mode: int) -> Rule:
    make = _entry((dirfd, path))

    def rule(inference: Inference, tid: int, args: tuple[int, ...], credentials: Credentials) -> tuple[str, ...]:
        kind = stat.S_IFMT(args[mode])
        # A character device 0:0 is a whiteout, which anybody may make (fs/namei.c vfs_mknod).
        device = kind == stat.S_IFBLK or (kind == stat.S_IFCHR and args[mode + 1] & _U32 != 0)
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
        found = _target(inference, tid, None if dirfd is None else args[dirfd], None if path is None else args[path], credentials, follow)
        if found is None:
            return ()
        status, needs = found
        # fs/attr.c chown_ok, chgrp_ok
        fsuid, owner, group = credentials.uids[3], args[uid] & _U32, args[gid] & _U32
        mine = fsuid == status.st_uid
        in_group = group in (status.st_gid, credentials.gids[3]) or group in credentials.groups
        needed = (owner != _KEEP and not (mine and owner == status.st_uid)) or (group != _KEEP and not (mine and in_group))
        return _unique([*needs, "CAP_CHOWN"] if needed else needs)

    return rule


def _chmod(dirfd: int | None, path: int | None, mode: int) -> Rule:
    """For the owner, or CAP_FOWNER; the set-group-ID bit for members of the group, or CAP_FSETID (fs/attr.c setattr_prepare)."""

    def rule(inference: Inference, tid: int, args: tuple[int, ...], credentials: Credentials) -> tuple[str, ...]:
        found = _target(inference, tid, None if dirfd is None else args[dirfd], None if path is None else args[path], credentials, True)
        if found is None:
            return ()
        status, needs = found
        if status.st_uid != credentials.uids[3]:
            needs.append("CAP_FOWNER")
        if args[mode] & stat.S_ISGID and status.st_gid != credentials.gids[3] and status.st_gid not in credentials.groups:
            needs.append("CAP_FSETID")
        return _unique(needs)

    return rule


_UTIME_NOW, _UTIME_OMIT = 0x3FFFFFFF, 0x3FFFFFFE  # include/linux/stat.h


def _utimensat(inference: Inference, tid: int, args: tuple[int, ...], credentials: Credentials) -> tuple[str, ...]:
    """Explicit times are for the owner, "now" also for those who may write (fs/attr.c may_setattr); CAP_FOWNER stands in for both."""
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
    return _unique(needs)


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


# -- ids -----------------------------------------------------------------------------------------------------------


def _ids(which: str, capability: str, positions: tuple[int, ...], *, filesystem: bool = False) -> Rule:
    """set*id calls: a new id that is none of the caller's real, effective and saved ones (kernel/sys.c).

    setuid and setgid by a privileged caller set all three ids (setuid(2)), which a plain caller could not do.
    """

    def rule(_inference: Inference, _tid: int, args: tuple[int, ...], credentials: Credentials) -> tuple[str, ...]:
        own = (credentials.uids if which == "uid" else credentials.gids)[: 4 if filesystem else 3]
        new = [args[position] & _U32 for position in positions]
        changes = any(value != _KEEP and value not in own for value in new)
        return (capability,) if changes else ()

    return rule


def _always(*capabilities: str) -> Rule:
    return lambda _inference, _tid, _args, _credentials: capabilities


def _when(test: Callable[[tuple[int, ...]], bool], *capabilities: str) -> Rule:
    return lambda _inference, _tid, args, _credentials: capabilities if test(args) else ()


def _setgroups(_inference: Inference, _tid: int, _args: tuple[int, ...], _credentials: Credentials) -> tuple[str, ...]:
    return ("CAP_SETGID",)


def _bind(_inference: Inference, tid: int, args: tuple[int, ...], _credentials: Credentials) -> tuple[str, ...]:
    address = read_memory(tid, args[1], 4)
    if address is None or len(address) < 4 or int.from_bytes(address[:2], "little") not in (2, 10):
        return ()
    port = int.from_bytes(address[2:4], "big")
    return ("CAP_NET_BIND_SERVICE",) if 0 < port < _first_free_port(tid) else ()


def _first_free_port(tid: int) -> int:
    """net.ipv4.ip_unprivileged_port_start of this network namespace (ip(7)); the default when it cannot be read."""
    try:
        if os.readlink(f"/proc/{tid}/ns/net") != os.readlink("/proc/self/ns/net"):
            return 1024
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 1024


def _socket(_inference: Inference, _tid: int, args: tuple[int, ...], _credentials: Credentials) -> tuple[str, ...]:
    raw = args[0] == 17 or (args[0] in (2, 10) and args[1] & 0xF == 3)  # AF_PACKET; AF_INET(6) with SOCK_RAW
    return ("CAP_NET_RAW",) if raw else ()


def _kill(target: int, number: int, *, pidfd: bool = False) -> Rule:
    """Signals to others (kernel/signal.c check_kill_permission), by the positions of the process or thread and of the signal."""

    def rule(_inference: Inference, tid: int, args: tuple[int, ...], credentials: Credentials) -> tuple[str, ...]:
        pid = signed(args[target])
        if pidfd:
            with open(f"/proc/{tid}/fdinfo/{pid}") as file:
                pid = next(int(line.split()[1]) for line in file if line.startswith("Pid:"))
        pids = [pid] if pid > 0 else [] if pid == -1 else _group(-pid or os.getpgid(tid))
        for each in pids:
            uids = _uids_of(each, tid)
            if uids is None or {credentials.uids[0], credentials.uids[1]} & {uids[0], uids[2]}:
                continue
            if args[number] & _U32 == signal.SIGCONT and os.getsid(each) == os.getsid(tid):
                continue
            return ("CAP_KILL",)
        return ()

    return rule


def _group(number: int) -> list[int]:
    """The processes of a process group."""
    found = []
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if entry.isdigit() and os.getpgid(int(entry)) == number:
                found.append(int(entry))
    return found


def _uids_of(pid: int, tid: int) -> tuple[int, int, int, int] | None:
    """Of another process by a number that the tracee uses; None when it is gone or the number means something else here."""
    try:
        if os.readlink(f"/proc/{tid}/ns/pid") != os.readlink("/proc/self/ns/pid"):
            return None
        with open(f"/proc/{pid}/status") as file:
            words = next(line.split()[1:5] for line in file if line.startswith("Uid:"))
    except OSError:
        return None
    return int(words[0]), int(words[1]), int(words[2]), int(words[3])


def _other_process(position: int) -> Rule:
    """Calls that look into another process (kernel/ptrace.c __ptrace_may_access)."""

    def rule(_inference: Inference, tid: int, args: tuple[int, ...], credentials: Credentials) -> tuple[str, ...]:
        uids = _uids_of(signed(args[position]), tid)
        if uids is None or set(uids[:3]) == {credentials.uids[0]}:
            return ()
        return ("CAP_SYS_PTRACE",)

    return rule


def _namespaces(position: int) -> Rule:
    def rule(_inference: Inference, _tid: int, args: tuple[int, ...], _credentials: Credentials) -> tuple[str, ...]:
        return _for_flags(args[position])

    return rule


def _for_flags(flags: int) -> tuple[str, ...]:
    # With CLONE_NEWUSER the new user namespace gives the right to make the others (user_namespaces(7)).
    return ("CAP_SYS_ADMIN",) if flags & CLONE_NAMESPACES and not flags & CLONE_NEWUSER else ()


def _clone3(_inference: Inference, tid: int, args: tuple[int, ...], _credentials: Credentials) -> tuple[str, ...]:
    data = read_memory(tid, args[0], 8)
    return () if data is None else _for_flags(int.from_bytes(data, "little"))


def _prlimit(inference: Inference, tid: int, args: tuple[int, ...], credentials: Credentials) -> tuple[str, ...]:
    """Raising a hard limit (kernel/sys.c do_prlimit)."""
    if not args[2]:
        return ()
    return _raises(inference, tid, args[1], args[2], credentials)


def _setrlimit(inference: Inference, tid: int, args: tuple[int, ...], credentials: Credentials) -> tuple[str, ...]:
    return _raises(inference, tid, args[0], args[1], credentials)


def _raises(_inference: Inference, tid: int, resource: int, address: int, _credentials: Credentials) -> tuple[str, ...]:
    data = read_memory(tid, address, 16)
    if data is None or len(data) < 16 or not 0 <= resource < 16:
        return ()
    return ("CAP_SYS_RESOURCE",) if int.from_bytes(data[8:16], "little") > _limits(tid, resource)[1] else ()


_UNLIMITED = (1 << 64) - 1
_MEMLOCK, _RTPRIO = 8, 14  # include/uapi/asm-generic/resource.h


def _limits(tid: int, resource: int) -> tuple[int, int]:
    """Soft and hard limit, from proc_pid_limits(5): prlimit(2) would itself need a capability for another user's process."""
    # The order of the file is that of the numbers (fs/proc/base.c lnames).
    with open(f"/proc/{tid}/limits") as file:
        words = file.readlines()[1 + resource][26:].split()
    soft, hard = (_UNLIMITED if word == "unlimited" else int(word) for word in words[:2])
    return soft, hard


def _nice(_inference: Inference, tid: int, args: tuple[int, ...], credentials: Credentials) -> tuple[str, ...]:
    if args[0] != os.PRIO_PROCESS:
        return ()
    if _others(tid, args[1], credentials):
        return ("CAP_SYS_NICE",)
    return ("CAP_SYS_NICE",) if signed(args[2]) < os.getpriority(os.PRIO_PROCESS, signed(args[1]) or tid) else ()


def _others(tid: int, pid: int, credentials: Credentials) -> bool:
    """Whether a process (0: the caller) is another user's (kernel/sched/syscalls.c check_same_owner)."""
    uids = _uids_of(signed(pid), tid) if signed(pid) else None
    return uids is not None and credentials.uids[1] not in uids[:2]


def _schedule(attributes: bool = False) -> Rule:
    """Real-time policies above RLIMIT_RTPRIO, and other users' processes (kernel/sched/syscalls.c user_check_sched_setscheduler)."""

    def rule(_inference: Inference, tid: int, args: tuple[int, ...], credentials: Credentials) -> tuple[str, ...]:
        data = read_memory(tid, args[1] if attributes else args[2], 24 if attributes else 4)
        if data is None:
            return ()
        policy = int.from_bytes(data[4:8], "little") if attributes else args[1] & 0xFF
        priority = int.from_bytes(data[20:24] if attributes else data[:4], "little")
        real_time = policy == 6 or (policy in (1, 2) and priority > _limits(tid, _RTPRIO)[0])  # SCHED_DEADLINE; FIFO, RR
        return ("CAP_SYS_NICE",) if real_time or _others(tid, args[0], credentials) else ()

    return rule


def _affinity(_inference: Inference, tid: int, args: tuple[int, ...], credentials: Credentials) -> tuple[str, ...]:
    return ("CAP_SYS_NICE",) if _others(tid, args[0], credentials) else ()


def _lock(_inference: Inference, tid: int, args: tuple[int, ...], _credentials: Credentials) -> tuple[str, ...]:
    """Locking more memory than RLIMIT_MEMLOCK (mm/mlock.c do_mlock). Pages locked already may be counted twice."""
    limit = _limits(tid, _MEMLOCK)[0]
    with open(f"/proc/{tid}/status") as file:
        locked = next((int(line.split()[1]) << 10 for line in file if line.startswith("VmLck:")), 0)
    page = os.sysconf("SC_PAGE_SIZE")
    wanted = -(-(args[0] % page + args[1]) // page) * page
    return ("CAP_IPC_LOCK",) if locked + wanted > limit else ()


def _lease(_inference: Inference, tid: int, args: tuple[int, ...], credentials: Credentials) -> tuple[str, ...]:
    if args[1] & _U32 != 1024:  # F_SETLEASE; fs/locks.c generic_setlease
        return ()
    return () if os.stat(f"/proc/{tid}/fd/{signed(args[0])}").st_uid == credentials.uids[3] else ("CAP_LEASE",)


def _log(_inference: Inference, _tid: int, args: tuple[int, ...], _credentials: Credentials) -> tuple[str, ...]:
    """kernel/printk/printk.c syslog_action_restricted."""
    return ("CAP_SYSLOG",) if args[0] & _U32 not in (3, 10) or _sysctl("kernel/dmesg_restrict") else ()


def _xattr(position: int) -> Rule:
    def rule(_inference: Inference, tid: int, args: tuple[int, ...], _credentials: Credentials) -> tuple[str, ...]:
        name = read_string(tid, args[position], 256) or b""
        if name == b"security.capability":
            return ("CAP_SETFCAP",)
        return ("CAP_SYS_ADMIN",) if name.startswith((b"security.", b"trusted.")) else ()

    return rule


def _setsockopt(_inference: Inference, tid: int, args: tuple[int, ...], credentials: Credentials) -> tuple[str, ...]:
    """net/core/sock.c, net/ipv4/ip_sockglue.c, net/ipv6/ipv6_sockglue.c."""
    level, option = args[1] & _U32, args[2] & _U32
    value = signed(int.from_bytes(read_memory(tid, args[3], 4) or b"", "little"))
    if level == 1 and option in (32, 33):  # SOL_SOCKET: SO_SNDBUFFORCE, SO_RCVBUFFORCE
        return ("CAP_NET_ADMIN",)
    if level == 1 and option == 1 and value:  # SO_DEBUG
        return ("CAP_NET_ADMIN",)
    # SO_MARK, SO_PRIORITY; IP_TRANSPARENT, IPV6_TRANSPARENT: either of two capabilities, asked for in this order
    either = (level, option) == (1, 36) or ((level, option) == (1, 12) and not 0 <= value <= 6)
    either = either or ((level, option) in ((0, 19), (41, 75)) and value != 0)
    if not either:
        return ()
    # CAP_NET_RAW was not enough for the first two before Linux 5.17.
    raw = credentials.has("CAP_NET_RAW") and (level != 1 or _kernel() >= (5, 17))
    return ("CAP_NET_RAW",) if raw else ("CAP_NET_ADMIN",)


@functools.cache
def _kernel() -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2])


RULES: dict[str, Rule] = {
    # files
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
    # ids and capabilities
    "setuid": _ids("uid", "CAP_SETUID", (0,)),
    "setreuid": _ids("uid", "CAP_SETUID", (0, 1)),
    "setresuid": _ids("uid", "CAP_SETUID", (0, 1, 2)),
    "setfsuid": _ids("uid", "CAP_SETUID", (0,), filesystem=True),
    "setfsgid": _ids("gid", "CAP_SETGID", (0,), filesystem=True),
    "setgid": _ids("gid", "CAP_SETGID", (0,)),
    "setregid": _ids("gid", "CAP_SETGID", (0, 1)),
    "setresgid": _ids("gid", "CAP_SETGID", (0, 1, 2)),
    "setgroups": _setgroups,
    "prctl": _when(lambda args: args[0] in (24, 28), "CAP_SETPCAP"),  # PR_CAPBSET_DROP, PR_SET_SECUREBITS
    # processes and namespaces
    "kill": _kill(0, 1),
    "tkill": _kill(0, 1),
    "tgkill": _kill(1, 2),
    "rt_sigqueueinfo": _kill(0, 1),
    "rt_tgsigqueueinfo": _kill(1, 2),
    "pidfd_send_signal": _kill(0, 1, pidfd=True),
    "process_vm_readv": _other_process(0),
    "process_vm_writev": _other_process(0),
    "clone": _namespaces(0),
    "clone3": _clone3,
    "unshare": _namespaces(0),
    "setns": _always("CAP_SYS_ADMIN"),
    "setpriority": _nice,
    "sched_setscheduler": _schedule(),
    "sched_setattr": _schedule(attributes=True),
    "sched_setaffinity": _affinity,
    "mlock": _lock,
    "mlock2": _lock,
    "fcntl": _lease,
    "prlimit64": _prlimit,
    "setrlimit": _setrlimit,
    # network
    "bind": _bind,
    "socket": _socket,
    "setsockopt": _setsockopt,
    # the machine
    "chroot": _always("CAP_SYS_CHROOT"),
    "acct": _always("CAP_SYS_PACCT"),
    "reboot": _always("CAP_SYS_BOOT"),
    "init_module": _always("CAP_SYS_MODULE"),
    "finit_module": _always("CAP_SYS_MODULE"),
    "delete_module": _always("CAP_SYS_MODULE"),
    "settimeofday": _always("CAP_SYS_TIME"),
    "clock_settime": _always("CAP_SYS_TIME"),
    "iopl": _always("CAP_SYS_RAWIO"),
    "ioperm": _when(lambda args: bool(args[2]), "CAP_SYS_RAWIO"),
    "vhangup": _always("CAP_SYS_TTY_CONFIG"),
    "open_by_handle_at": _always("CAP_DAC_READ_SEARCH"),
    "syslog": _log,
} | dict.fromkeys(
    (
        "mount",
        "umount2",
        "pivot_root",
        "sethostname",
        "setdomainname",
        "swapon",
        "swapoff",
        "open_tree",
        "move_mount",
        "fsopen",
        "fsmount",
        "mount_setattr",
        "fanotify_init",
    ),
    _always("CAP_SYS_ADMIN"),
)

PATH_CALLS = frozenset(name for name, rule in RULES.items() if rule.__qualname__.split(".")[0] in {"_open", "_lookup", "_entry", "_access"})


def rules() -> Iterator[str]:
    """The names of the calls inference looks at, for the documentation's test."""
    return iter(sorted(RULES))
