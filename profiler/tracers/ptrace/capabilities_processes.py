"""Which capabilities calls on ids, processes, limits, sockets and the machine need: kernel/sys.c, kernel/signal.c,
net/, and others."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

from profiler.kernel.arguments import NAMESPACE_FLAGS
from profiler.tracers.host import read_memory
from profiler.tracers.ptrace.capabilities_rules import KEEP, U32, Rule, always, kernel, sysctl, when
from profiler.tracers.ptrace.threads import Credentials, signed

if TYPE_CHECKING:
    from profiler.tracers.ptrace.capabilities import Inference

CLONE_NEWUSER = 0x10000000
CLONE_NAMESPACES = NAMESPACE_FLAGS & ~CLONE_NEWUSER
"""Namespaces whose making needs CAP_SYS_ADMIN: mount, cgroup, UTS, IPC, PID, network (clone(2))."""


# -- ids -----------------------------------------------------------------------------------------------------------


def _ids(which: str, capability: str, positions: tuple[int, ...], *, filesystem: bool = False) -> Rule:
    """set*id calls: a new id that is none of the caller's real, effective and saved ones (kernel/sys.c).

    setuid and setgid by a privileged caller set all three ids (setuid(2)), which a plain caller could not do.
    """

    def rule(_inference: Inference, _tid: int, args: tuple[int, ...], credentials: Credentials) -> tuple[str, ...]:
        own = (credentials.uids if which == "uid" else credentials.gids)[: 4 if filesystem else 3]
        new = [args[position] & U32 for position in positions]
        changes = any(value != KEEP and value not in own for value in new)
        return (capability,) if changes else ()

    return rule


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
    """Signals to others (kernel/signal.c check_kill_permission), by the positions of the process or thread and of the
    signal."""

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
            if args[number] & U32 == signal.SIGCONT and os.getsid(each) == os.getsid(tid):
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
    """Of another process by a number that the tracee uses; None when it is gone or the number means something else
    here."""
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
    """Soft and hard limit, from proc_pid_limits(5): prlimit(2) would itself need a capability for another user's
    process."""
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
    """Real-time policies above RLIMIT_RTPRIO, and other users' processes (kernel/sched/syscalls.c
    user_check_sched_setscheduler)."""

    def rule(_inference: Inference, tid: int, args: tuple[int, ...], credentials: Credentials) -> tuple[str, ...]:
        data = read_memory(tid, args[1] if attributes else args[2], 24 if attributes else 4)
        if data is None:
            return ()
        policy = int.from_bytes(data[4:8], "little") if attributes else args[1] & 0xFF
        priority = int.from_bytes(data[20:24] if attributes else data[:4], "little")
        real_time = policy == 6 or (
            policy in (1, 2) and priority > _limits(tid, _RTPRIO)[0]
        )  # SCHED_DEADLINE; FIFO, RR
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


def _log(_inference: Inference, _tid: int, args: tuple[int, ...], _credentials: Credentials) -> tuple[str, ...]:
    """kernel/printk/printk.c syslog_action_restricted."""
    return ("CAP_SYSLOG",) if args[0] & U32 not in (3, 10) or sysctl("kernel/dmesg_restrict") else ()


def _setsockopt(_inference: Inference, tid: int, args: tuple[int, ...], credentials: Credentials) -> tuple[str, ...]:
    """net/core/sock.c, net/ipv4/ip_sockglue.c, net/ipv6/ipv6_sockglue.c."""
    level, option = args[1] & U32, args[2] & U32
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
    raw = credentials.has("CAP_NET_RAW") and (level != 1 or kernel() >= (5, 17))
    return ("CAP_NET_RAW",) if raw else ("CAP_NET_ADMIN",)


PROCESSES: dict[str, Rule] = {
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
    "prctl": when(lambda args: args[0] in (24, 28), "CAP_SETPCAP"),  # PR_CAPBSET_DROP, PR_SET_SECUREBITS
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
    "setns": always("CAP_SYS_ADMIN"),
    "setpriority": _nice,
    "sched_setscheduler": _schedule(),
    "sched_setattr": _schedule(attributes=True),
    "sched_setaffinity": _affinity,
    "mlock": _lock,
    "mlock2": _lock,
    "prlimit64": _prlimit,
    "setrlimit": _setrlimit,
    # network
    "bind": _bind,
    "socket": _socket,
    "setsockopt": _setsockopt,
    # the machine
    "chroot": always("CAP_SYS_CHROOT"),
    "acct": always("CAP_SYS_PACCT"),
    "reboot": always("CAP_SYS_BOOT"),
    "init_module": always("CAP_SYS_MODULE"),
    "finit_module": always("CAP_SYS_MODULE"),
    "delete_module": always("CAP_SYS_MODULE"),
    "settimeofday": always("CAP_SYS_TIME"),
    "clock_settime": always("CAP_SYS_TIME"),
    "iopl": always("CAP_SYS_RAWIO"),
    "ioperm": when(lambda args: bool(args[2]), "CAP_SYS_RAWIO"),
    "vhangup": always("CAP_SYS_TTY_CONFIG"),
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
    always("CAP_SYS_ADMIN"),
)
