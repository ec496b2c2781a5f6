"""Capabilities inferred from calls, for the tracer that cannot see the kernel's checks.

A call that succeeded though its arguments, the caller's ids and the modes of the files it named would not have allowed
it, was allowed by a capability; one that failed with EPERM or EACCES where a capability would have let it through was
refused one. The rules follow capabilities(7) and the kernel's order of checks (fs/namei.c generic_permission,
kernel/sys.c, net/ipv4/af_inet.c). Not seen: POSIX ACLs, checks below ioctl(2) and device drivers, xattr and quota
subtleties (docs/limits.md). Rows are marked ``inferred``.
"""

from __future__ import annotations

import errno
import os
import signal
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from profiler.kernel.capabilities import number_of
from profiler.tracers.host import read_memory, read_string
from profiler.tracers.recording import Recording

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_SYMLINK_NOFOLLOW = 0x100
AT_EACCESS = 0x200

CLONE_NEWUSER = 0x10000000
CLONE_NAMESPACES = 0x7E020000 & ~CLONE_NEWUSER
"""Namespaces whose making needs CAP_SYS_ADMIN: mount, cgroup, UTS, IPC, PID, network (clone(2))."""

READ, WRITE, EXECUTE = 4, 2, 1

_U32 = 0xFFFFFFFF
_KEEP = _U32
"""-1 as an id: leave it unchanged (chown(2), setresuid(2))."""


@dataclass(frozen=True)
class Credentials:
    """Of one thread, from proc_pid_status(5): real, effective, saved and filesystem ids, groups, effective capabilities."""

    uids: tuple[int, int, int, int]
    gids: tuple[int, int, int, int]
    groups: frozenset[int]
    effective: int
    namespace: str
    """The user namespace's link text, ``user:[inode]``."""

    def has(self, capability: str) -> bool:
        return bool(self.effective >> (number_of(capability) or 0) & 1)

    def grants(self, status: os.stat_result, want: int) -> bool:
        """Whether mode bits alone allow ``want`` (rwx as 4, 2, 1): fs/namei.c acl_permission_check."""
        mode = status.st_mode
        if self.uids[3] == status.st_uid:
            mode >>= 6
        elif self.gids[3] == status.st_gid or status.st_gid in self.groups:
            mode >>= 3
        return mode & want == want


@dataclass(frozen=True)
class Call:
    """A call in flight: the capabilities that it needs if it succeeds, the one that it lacked if it fails."""

    name: str
    credentials: Credentials
    needs: tuple[str, ...]
    after: Callable[[int, int], tuple[str, ...]] | None = None
    """For needs that only the result shows: (thread id, result) to capabilities."""


Rule = Callable[["Inference", int, tuple[int, ...], Credentials], "tuple[str, ...]"]


def read_credentials(tid: int) -> Credentials | None:
    """The credentials of a thread; None when it is gone."""
    fields: dict[str, str] = {}
    try:
        with open(f"/proc/{tid}/status") as file:
            for line in file:
                key, _, value = line.partition(":")
                fields[key] = value
        namespace = os.readlink(f"/proc/{tid}/ns/user")
    except OSError:
        return None
    uids = tuple(int(word) for word in fields["Uid"].split())
    gids = tuple(int(word) for word in fields["Gid"].split())
    groups = frozenset(int(word) for word in fields["Groups"].split())
    return Credentials(uids, gids, groups, int(fields["CapEff"], 16), namespace)  # type: ignore[arg-type]


class Inference:
    """Watches calls at entry and exit and adds capability rows to a recording."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._credentials: dict[int, Credentials] = {}
        self._namespace = os.readlink("/proc/self/ns/user")

    def wants(self, name: str) -> bool:
        """Whether calls of this name are worth an exit stop."""
        return name in RULES

    def executed(self, tid: int) -> None:
        """A thread's credentials may have changed: it executed, or called something that changes them."""
        self._credentials.pop(tid, None)

    gone = executed

    def enter(self, tid: int, name: str, args: tuple[int, ...]) -> Call | None:
        """Look at a call about to be made; None when its result cannot tell of a capability."""
        credentials = self._credentials.get(tid)
        if credentials is None:
            credentials = read_credentials(tid)
            if credentials is None:
                return None
            self._credentials[tid] = credentials
        if name in CHANGES_CREDENTIALS:
            self._credentials.pop(tid, None)
        if not credentials.effective and name in PATH_CALLS:
            return None  # no capability at all: mode bits decide, and their refusals are everyday life
        try:
            needs = RULES[name](self, tid, args, credentials)
        except (OSError, ValueError):
            return None
        return Call(name, credentials, needs) if needs else None

    def leave(self, tid: int, call: Call, result: int, code: int, program: int) -> None:
        """The call has returned ``result``, or failed with errno ``code``."""
        if call.name in CHANGES_CREDENTIALS:
            self._credentials.pop(tid, None)
        if code and code not in (errno.EPERM, errno.EACCES):
            return
        namespace = "initial" if call.credentials.namespace == self._namespace else "child"
        for capability in call.needs:
            if code and call.credentials.has(capability):
                continue  # it had the capability: something else refused
            verdict = "refused" if code else "granted"
            self._recording.check((capability, namespace, verdict, None, True, True), program, call.name)

    # -- files ---------------------------------------------------------------------------------------------------

    def path(self, tid: int, dirfd: int | None, address: int) -> str | None:
        """A path argument as this process can open it: through the tracee's root, descriptor or working directory."""
        text = read_string(tid, address) if address else b""
        if text is None:
            return None
        name = os.fsdecode(text)
        if name.startswith("/"):
            root = os.readlink(f"/proc/{tid}/root")
            return name if root == "/" else root + name
        signed = AT_FDCWD if dirfd is None else _signed(dirfd)
        base = f"/proc/{tid}/cwd" if signed == AT_FDCWD else f"/proc/{tid}/fd/{signed}"
        return f"{base}/{name}" if name else base

    def search(self, credentials: Credentials, path: str, *, follow: bool = True) -> tuple[str, list[str]]:
        """The resolved path and what its directories need."""
        head, tail = os.path.split(path)
        resolved = os.path.realpath(path) if follow else os.path.join(os.path.realpath(head), tail)
        needs = []
        directory = os.path.dirname(resolved)
        while True:
            needs += lacking(credentials, os.stat(directory), EXECUTE)
            if directory == "/":
                break
            directory = os.path.dirname(directory)
        return resolved, needs


def lacking(credentials: Credentials, status: os.stat_result, want: int) -> list[str]:
    """The capability that stands in for mode bits that do not allow ``want``: fs/namei.c generic_permission."""
    if not want or credentials.grants(status, want):
        return []
    if stat.S_ISDIR(status.st_mode):
        return ["CAP_DAC_OVERRIDE" if want & WRITE else "CAP_DAC_READ_SEARCH"]
    return ["CAP_DAC_READ_SEARCH" if want == READ else "CAP_DAC_OVERRIDE"]


def _signed(value: int) -> int:
    value &= _U32
    return value - (1 << 32) if value >> 31 else value


def _unique(names: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _lookup(dirfd: int | None, path: int, want: int = 0, *, follow: bool = True) -> Rule:
    """Calls that look a path up and want ``want`` on it."""

    def rule(inference: Inference, tid: int, args: tuple[int, ...], credentials: Credentials) -> tuple[str, ...]:
        name = inference.path(tid, None if dirfd is None else args[dirfd], args[path])
        if name is None:
            return ()
        resolved, needs = inference.search(credentials, name, follow=follow)
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
        name = inference.path(tid, None if dirfd is None else args[dirfd], args[path])
        if name is None:
            return ()
        resolved, needs = inference.search(credentials, name, follow=not word & os.O_NOFOLLOW)
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
        return _unique(needs + lacking(credentials, status, want))

    return rule


def _entry(*names: tuple[int | None, int], removes: bool = False) -> Rule:
    """Calls that make or remove directory entries, each given by (descriptor, path) positions."""

    def rule(inference: Inference, tid: int, args: tuple[int, ...], credentials: Credentials) -> tuple[str, ...]:
        needs: list[str] = []
        for dirfd, path in names:
            name = inference.path(tid, None if dirfd is None else args[dirfd], args[path])
            if name is None:
                continue
            resolved, found = inference.search(credentials, name.rstrip("/"), follow=False)
            directory = os.stat(os.path.dirname(resolved))
            needs += found + lacking(credentials, directory, WRITE | EXECUTE)
            if removes and directory.st_mode & stat.S_ISVTX and os.path.lexists(resolved):
                # fs/namei.c __check_sticky
                owners = {directory.st_uid, os.lstat(resolved).st_uid}
                needs += [] if credentials.uids[3] in owners else ["CAP_FOWNER"]
        return _unique(needs)

    return rule


def _mknod(dirfd: int | None, path: int, mode: int) -> Rule:
    make = _entry((dirfd, path))

    def rule(inference: Inference, tid: int, args: tuple[int, ...], credentials: Credentials) -> tuple[str, ...]:
        kind = stat.S_IFMT(args[mode])
        device = kind in (stat.S_IFCHR, stat.S_IFBLK)
        return (*make(inference, tid, args, credentials), *(("CAP_MKNOD",) if device else ()))

    return rule


def _target(inference: Inference, tid: int, dirfd: int | None, address: int | None, follow: bool) -> os.stat_result | None:
    """The file an attribute call works on: by descriptor alone, or by path."""
    if address is None:
        assert dirfd is not None
        return os.stat(f"/proc/{tid}/fd/{_signed(dirfd)}")
    name = inference.path(tid, dirfd, address)
    return None if name is None else os.stat(name, follow_symlinks=follow)


def _chown(dirfd: int | None, path: int | None, uid: int, gid: int, follow: bool = True) -> Rule:
    def rule(inference: Inference, tid: int, args: tuple[int, ...], credentials: Credentials) -> tuple[str, ...]:
        status = _target(inference, tid, None if dirfd is None else args[dirfd], None if path is None else args[path], follow)
        if status is None:
            return ()
        # fs/attr.c chown_ok, chgrp_ok
        fsuid, owner, group = credentials.uids[3], args[uid] & _U32, args[gid] & _U32
        mine = fsuid == status.st_uid
        in_group = group in (status.st_gid, credentials.gids[3]) or group in credentials.groups
        needed = (owner != _KEEP and not (mine and owner == status.st_uid)) or (group != _KEEP and not (mine and in_group))
        return ("CAP_CHOWN",) if needed else ()

    return rule


def _owner_only(dirfd: int | None, path: int | None, follow: bool = True, unless: int | None = None) -> Rule:
    """chmod(2) and setting of explicit times: for the owner, or CAP_FOWNER. ``unless``: a pointer that may be 0: times are then "now"."""

    def rule(inference: Inference, tid: int, args: tuple[int, ...], credentials: Credentials) -> tuple[str, ...]:
        if unless is not None and not args[unless]:
            return ()
        status = _target(inference, tid, None if dirfd is None else args[dirfd], None if path is None else args[path], follow)
        return () if status is None or status.st_uid == credentials.uids[3] else ("CAP_FOWNER",)

    return rule


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


def _ids(which: str, capability: str, positions: tuple[int, ...]) -> Rule:
    """set*id calls: a new id that is none of the caller's real, effective and saved ones (kernel/sys.c).

    setuid and setgid by a privileged caller set all three ids (setuid(2)), which a plain caller could not do.
    """

    def rule(_inference: Inference, _tid: int, args: tuple[int, ...], credentials: Credentials) -> tuple[str, ...]:
        own = (credentials.uids if which == "uid" else credentials.gids)[:3]
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


def _kill(_inference: Inference, tid: int, args: tuple[int, ...], credentials: Credentials) -> tuple[str, ...]:
    target = _signed(args[0])
    if target <= 0:
        return ()
    status = _uids_of(target, tid)
    if status is None or args[1] & _U32 == signal.SIGCONT:
        return ()
    # kernel/signal.c kill_ok_by_cred: real or effective uid equals the target's real or saved one
    return () if {credentials.uids[0], credentials.uids[1]} & {status[0], status[2]} else ("CAP_KILL",)


def _uids_of(pid: int, tid: int) -> tuple[int, int, int, int] | None:
    try:
        if os.readlink(f"/proc/{tid}/ns/pid") != os.readlink("/proc/self/ns/pid"):
            return None
    except OSError:
        return None
    credentials = read_credentials(pid)
    return None if credentials is None else credentials.uids


def _other_process(position: int) -> Rule:
    """Calls that look into another process (kernel/ptrace.c __ptrace_may_access)."""

    def rule(_inference: Inference, tid: int, args: tuple[int, ...], credentials: Credentials) -> tuple[str, ...]:
        uids = _uids_of(_signed(args[position]), tid)
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
    import resource as limits

    data = read_memory(tid, address, 16)
    if data is None or len(data) < 16:
        return ()
    hard = int.from_bytes(data[8:16], "little")
    current = limits.prlimit(tid, resource)[1] if 0 <= resource < 16 else -1
    maximum = (1 << 64) - 1 if current == limits.RLIM_INFINITY else current
    return ("CAP_SYS_RESOURCE",) if hard > maximum else ()


def _nice(_inference: Inference, _tid: int, args: tuple[int, ...], _credentials: Credentials) -> tuple[str, ...]:
    if args[0] != 0 or args[1] != 0:
        return ()
    wanted = _signed(args[2])
    return ("CAP_SYS_NICE",) if wanted < os.getpriority(os.PRIO_PROCESS, _tid) else ()


def _xattr(position: int) -> Rule:
    def rule(_inference: Inference, tid: int, args: tuple[int, ...], _credentials: Credentials) -> tuple[str, ...]:
        name = read_string(tid, args[position], 256) or b""
        if name == b"security.capability":
            return ("CAP_SETFCAP",)
        return ("CAP_SYS_ADMIN",) if name.startswith((b"security.", b"trusted.")) else ()

    return rule


def _setsockopt(_inference: Inference, _tid: int, args: tuple[int, ...], _credentials: Credentials) -> tuple[str, ...]:
    # SOL_SOCKET: SO_DEBUG 1, SO_SNDBUFFORCE 32, SO_RCVBUFFORCE 33, SO_MARK 36 (net/core/sock.c)
    return ("CAP_NET_ADMIN",) if args[1] == 1 and args[2] in (1, 32, 33, 36) else ()


RULES: dict[str, Rule] = {
    # files
    "open": _open(None, 0, 1),
    "openat": _open(0, 1, 2),
    "openat2": _open(0, 1, 2, how=True),
    "creat": _lookup(None, 0),
    "stat": _lookup(None, 0),
    "lstat": _lookup(None, 0, follow=False),
    "newfstatat": _lookup(0, 1),
    "statx": _lookup(0, 1),
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
    "link": _entry((None, 1)),
    "linkat": _entry((2, 3)),
    "rename": _entry((None, 0), (None, 1), removes=True),
    "renameat": _entry((0, 1), (2, 3), removes=True),
    "renameat2": _entry((0, 1), (2, 3), removes=True),
    "mknod": _mknod(None, 0, 1),
    "mknodat": _mknod(0, 1, 2),
    "chown": _chown(None, 0, 1, 2),
    "lchown": _chown(None, 0, 1, 2, follow=False),
    "fchown": _chown(0, None, 1, 2),
    "fchownat": _chown(0, 1, 2, 3),
    "chmod": _owner_only(None, 0),
    "fchmod": _owner_only(0, None),
    "fchmodat": _owner_only(0, 1),
    "fchmodat2": _owner_only(0, 1),
    "utimensat": _owner_only(0, 1, unless=2),
    "setxattr": _xattr(1),
    "lsetxattr": _xattr(1),
    "fsetxattr": _xattr(1),
    # ids and capabilities
    "setuid": _ids("uid", "CAP_SETUID", (0,)),
    "setreuid": _ids("uid", "CAP_SETUID", (0, 1)),
    "setresuid": _ids("uid", "CAP_SETUID", (0, 1, 2)),
    "setgid": _ids("gid", "CAP_SETGID", (0,)),
    "setregid": _ids("gid", "CAP_SETGID", (0, 1)),
    "setresgid": _ids("gid", "CAP_SETGID", (0, 1, 2)),
    "setgroups": _setgroups,
    "prctl": _when(lambda args: args[0] == 24, "CAP_SETPCAP"),  # PR_CAPBSET_DROP
    # processes and namespaces
    "kill": _kill,
    "ptrace": _when(lambda args: False),
    "process_vm_readv": _other_process(0),
    "process_vm_writev": _other_process(0),
    "clone": _namespaces(0),
    "clone3": _clone3,
    "unshare": _namespaces(0),
    "setns": _always("CAP_SYS_ADMIN"),
    "setpriority": _nice,
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
    "syslog": _when(lambda args: args[0] not in (3, 10), "CAP_SYSLOG"),
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
del RULES["ptrace"]

CHANGES_CREDENTIALS = frozenset(
    {"setuid", "setreuid", "setresuid", "setfsuid", "setgid", "setregid", "setresgid", "setfsgid", "setgroups", "capset"}
    | {"unshare", "setns", "execve", "execveat", "prctl"}
)

PATH_CALLS = frozenset(name for name, rule in RULES.items() if rule.__qualname__.split(".")[0] in {"_open", "_lookup", "_entry", "_access"})


def rules() -> Iterator[str]:
    """The names of the calls inference looks at, for the documentation's test."""
    return iter(sorted(RULES))
