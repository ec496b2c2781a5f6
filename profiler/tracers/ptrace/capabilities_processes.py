"""Which capabilities calls on ids, processes, limits, sockets and the machine need.

Sources: kernel/sys.c, kernel/signal.c, kernel/ptrace.c, kernel/sched/syscalls.c, net/ and those named at each rule.
"""

from __future__ import annotations

import contextlib
import os
import signal

from profiler.files import kernel_text
from profiler.kernel import netlink
from profiler.kernel.arguments import NAMESPACE_FLAGS
from profiler.kernel.capabilities import ALL
from profiler.kernel.processes import process_calls
from profiler.kernel.sockets import AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, SOCK_RAW
from profiler.tracers.memory import read_memory
from profiler.tracers.ptrace.capabilities_rules import KEEP, Rule, Stop, always, kernel, sysctl, when
from profiler.tracers.ptrace.capabilities_writes import WRITES
from profiler.tracers.ptrace.threads import CLONE_NEWUSER, U32, signed
from profiler.tracers.unchecked import Sets, claim_of_ambient, claim_of_capset

_CLONE_NEWTIME = 0x80
"""For unshare(2) and clone3(2): clone(2) has the signal of the child's end in these bits."""
_CLONE_NAMESPACES = NAMESPACE_FLAGS & ~CLONE_NEWUSER
"""Namespaces that need CAP_SYS_ADMIN to make: mount, cgroup, UTS, IPC, PID, network (clone(2))."""


# -- ids -----------------------------------------------------------------------------------------------------------


def _ids(which: str, capability: str, positions: tuple[int, ...], *, filesystem: bool = False) -> Rule:
    """set*id calls: a new id that differs from the caller's real, effective and saved ids (kernel/sys.c).

    setuid and setgid by a privileged caller set all three ids (setuid(2)), which another caller cannot do.
    """

    def rule(stop: Stop) -> tuple[str, ...]:
        own = (stop.credentials.uids if which == "uid" else stop.credentials.gids)[: 4 if filesystem else 3]
        new = [stop.args[position] & U32 for position in positions]
        changes = any(value != KEEP and value not in own for value in new)
        return (capability,) if changes else ()

    return rule


# -- capability sets -----------------------------------------------------------------------------------------------


_VERSION_1 = 0x19980330  # include/uapi/linux/capability.h
_PR_CAPBSET_DROP, _PR_SET_SECUREBITS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 24, 28, 47, 2  # linux/prctl.h


def _capget(stop: Stop) -> tuple[str, ...]:
    if stop.args[1]:  # else it only asks for the version
        stop.threads.looked.add(stop.tid)
    return ()


def _capset(stop: Stop) -> tuple[str, ...]:
    """security/commoncap.c cap_capset; struct __user_cap_data_struct, once or twice."""
    version = int.from_bytes(read_memory(stop.tid, stop.args[0], 4) or b"", "little")
    size = 12 if version == _VERSION_1 else 24
    data = read_memory(stop.tid, stop.args[1], size) or b""
    if len(data) < size:
        return ()
    words = [*(int.from_bytes(data[at : at + 4], "little") for at in range(0, size, 4)), 0, 0, 0]
    asked = Sets(*((words[at] | words[at + 3] << 32) & ALL for at in range(3)))
    had = stop.credentials.sets
    if not asked.effective & ~asked.permitted:
        looked = stop.tid in stop.threads.looked
        stop.claims.append((claim_of_capset(asked, had, stop.credentials.bounding, looked=looked), None))
    return ()


def _prctl(stop: Stop) -> tuple[str, ...]:
    """security/commoncap.c cap_task_prctl."""
    option, operation, number = stop.args[0] & U32, stop.args[1], stop.args[2]
    if option == _PR_CAP_AMBIENT and operation == _PR_CAP_AMBIENT_RAISE and number < ALL.bit_length():
        asked, had = 1 << number, stop.credentials.sets
        if asked & had.inheritable:
            stop.claims.append((claim_of_ambient(asked, had, stop.credentials.bounding), None))
    return ("CAP_SETPCAP",) if option in (_PR_CAPBSET_DROP, _PR_SET_SECUREBITS) else ()


# -- sockets -------------------------------------------------------------------------------------------------------


def _bind(stop: Stop) -> tuple[str, ...]:
    address = read_memory(stop.tid, stop.args[1], 4)
    if address is None or len(address) < 4 or int.from_bytes(address[:2], "little") not in (AF_INET, AF_INET6):
        return ()
    port = int.from_bytes(address[2:4], "big")
    return ("CAP_NET_BIND_SERVICE",) if 0 < port < _first_free_port(stop.tid) else ()


def _first_free_port(tid: int) -> int:
    """Read net.ipv4.ip_unprivileged_port_start of this network namespace (ip(7)); its default if it is unreadable."""
    try:
        if os.readlink(f"/proc/{tid}/ns/net") != os.readlink("/proc/self/ns/net"):
            return 1024
        with kernel_text("/proc/sys/net/ipv4/ip_unprivileged_port_start") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 1024


def _socket(stop: Stop) -> tuple[str, ...]:
    family, kind = stop.args[0], stop.args[1] & 0xF
    if family == AF_NETLINK and stop.args[2] & U32 in netlink.PROTOCOLS:
        stop.more.update(WRITES)
    raw = family == AF_PACKET or (family in (AF_INET, AF_INET6) and kind == SOCK_RAW)
    return ("CAP_NET_RAW",) if raw else ()


# -- processes -----------------------------------------------------------------------------------------------------


def _kill(stop: Stop) -> tuple[str, ...]:
    """Signals to other processes (kernel/signal.c check_kill_permission)."""
    call = process_calls()[stop.name]
    assert call.signal is not None
    if call.pidfd is not None:
        pid = stop.threads.pidfd(stop.tid, stop.args[call.pidfd]) or -1
    else:
        pid = signed(stop.args[call.process[0]])
    own = stop.credentials.uids
    for each in [pid] if pid > 0 else [] if pid == -1 else _group(-pid or os.getpgid(stop.tid)):
        uids = _uids_of(each, stop.tid)
        if uids is None or {own[0], own[1]} & {uids[0], uids[2]}:
            continue
        if stop.args[call.signal] & U32 == signal.SIGCONT and os.getsid(each) == os.getsid(stop.tid):
            continue
        return ("CAP_KILL",)
    return ()


def _group(number: int) -> list[int]:
    """List the processes of a process group."""
    found = []
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if entry.isdigit() and os.getpgid(int(entry)) == number:
                found.append(int(entry))
    return found


def _uids_of(pid: int, tid: int) -> tuple[int, int, int, int] | None:
    """Read the ids of another process, by the number that the tracee uses.

    None when the process is gone, or when the number means another process here.
    """
    try:
        if os.readlink(f"/proc/{tid}/ns/pid") != os.readlink("/proc/self/ns/pid"):
            return None
        with kernel_text(f"/proc/{pid}/status") as file:
            words = next(line.split()[1:5] for line in file if line.startswith("Uid:"))
    except OSError:
        return None
    return int(words[0]), int(words[1]), int(words[2]), int(words[3])


def _memory(stop: Stop) -> tuple[str, ...]:
    """Calls that access the memory of another process (kernel/ptrace.c __ptrace_may_access)."""
    uids = _uids_of(signed(stop.args[process_calls()[stop.name].process[0]]), stop.tid)
    return () if uids is None or set(uids[:3]) == {stop.credentials.uids[0]} else ("CAP_SYS_PTRACE",)


def _namespaces(flags: int) -> tuple[str, ...]:
    # With CLONE_NEWUSER the new user namespace gives the right to make the others (user_namespaces(7)).
    return ("CAP_SYS_ADMIN",) if flags & (_CLONE_NAMESPACES | _CLONE_NEWTIME) and not flags & CLONE_NEWUSER else ()


def _clone3(stop: Stop) -> tuple[str, ...]:
    data = read_memory(stop.tid, stop.args[0], 8)
    return () if data is None else _namespaces(int.from_bytes(data, "little"))


def _setrlimit(stop: Stop, resource: int = 0, address: int = 1) -> tuple[str, ...]:
    """Raising a hard limit (kernel/sys.c do_prlimit), by the positions of the resource and of the new limit."""
    if not stop.args[address]:
        return ()
    data = read_memory(stop.tid, stop.args[address], 16)
    if data is None or len(data) < 16 or not 0 <= stop.args[resource] < 16:
        return ()
    hard = _limits(stop.tid, stop.args[resource])[1]
    return ("CAP_SYS_RESOURCE",) if int.from_bytes(data[8:16], "little") > hard else ()


_UNLIMITED = (1 << 64) - 1
_MEMLOCK, _RTPRIO = 8, 14  # include/uapi/asm-generic/resource.h
_SCHED_DEADLINE = 6  # include/uapi/linux/sched.h


def _limits(tid: int, resource: int) -> tuple[int, int]:
    """Read the soft and hard limit from proc_pid_limits(5).

    prlimit(2) would itself need a capability for another user's process.
    """
    # The order of the file is that of the numbers (fs/proc/base.c lnames).
    with kernel_text(f"/proc/{tid}/limits") as file:
        words = file.readlines()[1 + resource][26:].split()
    soft, hard = (_UNLIMITED if word == "unlimited" else int(word) for word in words[:2])
    return soft, hard


def _nice(stop: Stop) -> tuple[str, ...]:
    which, who, nice = stop.args[:3]
    if which != os.PRIO_PROCESS:
        return ()
    if _others(stop, who):
        return ("CAP_SYS_NICE",)
    return ("CAP_SYS_NICE",) if signed(nice) < os.getpriority(os.PRIO_PROCESS, signed(who) or stop.tid) else ()


def _others(stop: Stop, pid: int) -> bool:
    """Whether a process (0: the caller) is another user's (kernel/sched/syscalls.c check_same_owner)."""
    uids = _uids_of(signed(pid), stop.tid) if signed(pid) else None
    return uids is not None and stop.credentials.uids[1] not in uids[:2]


def _schedule(stop: Stop) -> tuple[str, ...]:
    """Real-time policies above RLIMIT_RTPRIO, and other users' processes (kernel/sched/syscalls.c
    user_check_sched_setscheduler)."""
    attributes = stop.name == "sched_setattr"  # struct sched_attr has the policy too
    data = read_memory(stop.tid, stop.args[1] if attributes else stop.args[2], 24 if attributes else 4)
    if data is None:
        return ()
    policy = int.from_bytes(data[4:8], "little") if attributes else stop.args[1] & 0xFF
    priority = int.from_bytes(data[20:24] if attributes else data[:4], "little")
    above = policy in (os.SCHED_FIFO, os.SCHED_RR) and priority > _limits(stop.tid, _RTPRIO)[0]
    return ("CAP_SYS_NICE",) if policy == _SCHED_DEADLINE or above or _others(stop, stop.args[0]) else ()


def _lock(stop: Stop) -> tuple[str, ...]:
    """Locking more memory than RLIMIT_MEMLOCK (mm/mlock.c do_mlock). Pages locked already may be counted twice."""
    limit = _limits(stop.tid, _MEMLOCK)[0]
    with kernel_text(f"/proc/{stop.tid}/status") as file:
        locked = next((int(line.split()[1]) << 10 for line in file if line.startswith("VmLck:")), 0)
    page = os.sysconf("SC_PAGE_SIZE")
    wanted = -(-(stop.args[0] % page + stop.args[1]) // page) * page
    return ("CAP_IPC_LOCK",) if locked + wanted > limit else ()


def _log(stop: Stop) -> tuple[str, ...]:
    """kernel/printk/printk.c syslog_action_restricted."""
    return ("CAP_SYSLOG",) if stop.args[0] & U32 not in (3, 10) or sysctl("kernel/dmesg_restrict") else ()


def _chosen_freely(stop: Stop) -> bool:
    """Whether anybody may choose this congestion control (tcp(7))."""
    name = (read_memory(stop.tid, stop.args[3], min(stop.args[4] & U32, 16)) or b"").partition(b"\0")[0]
    with open("/proc/sys/net/ipv4/tcp_allowed_congestion_control", "rb") as file:
        return name in file.read().split()


def _queue(stop: Stop) -> tuple[str, ...]:
    """A message queue above the limits (ipc/mqueue.c mqueue_get_inode)."""
    data = read_memory(stop.tid, stop.args[3], 24) if stop.args[3] and stop.args[1] & os.O_CREAT else None
    if data is None or len(data) < 24:
        return ()
    count, size = (int.from_bytes(data[at : at + 8], "little") for at in (8, 16))
    above = count > sysctl("fs/mqueue/msg_max") or size > sysctl("fs/mqueue/msgsize_max")
    return ("CAP_SYS_RESOURCE",) if above else ()


def _clock(stop: Stop) -> tuple[str, ...]:
    """kernel/time/ntp.c, kernel/time/timekeeping.c timekeeping_validate_timex."""
    modes = int.from_bytes(read_memory(stop.tid, stop.args[stop.name == "clock_adjtime"], 4) or b"", "little")
    reads = modes & 0xA000 == 0xA000 or not modes  # ADJ_ADJTIME with ADJ_OFFSET_READONLY
    return () if reads else ("CAP_SYS_TIME",)


def _setsockopt(stop: Stop) -> tuple[str, ...]:
    """net/core/sock.c, net/ipv4/ip_sockglue.c, net/ipv6/ipv6_sockglue.c, net/ipv4/tcp.c.

    A forced size of a buffer (SO_SNDBUFFORCE, SO_RCVBUFFORCE) needs nothing: an unforced one is the second way.
    """
    level, option = stop.args[1] & U32, stop.args[2] & U32
    value = signed(int.from_bytes(read_memory(stop.tid, stop.args[3], 4) or b"", "little"))
    if level == 1 and option == 1 and value:  # SO_DEBUG
        return ("CAP_NET_ADMIN",)
    if (level, option) == (6, 13):  # TCP_CONGESTION
        return () if _chosen_freely(stop) else ("CAP_NET_ADMIN",)
    # SO_MARK, SO_PRIORITY; IP_TRANSPARENT, IPV6_TRANSPARENT: either of two capabilities, checked in this order
    either = (level, option) == (1, 36) or ((level, option) == (1, 12) and not 0 <= value <= 6)
    either = either or ((level, option) in ((0, 19), (41, 75)) and value != 0)
    if not either:
        return ()
    # CAP_NET_RAW was not enough for the first two before Linux 5.17.
    raw = stop.credentials.has("CAP_NET_RAW") and (level != 1 or kernel() >= (5, 17))
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
    "setgroups": always("CAP_SETGID"),
    "prctl": _prctl,
    "capget": _capget,
    "capset": _capset,
    # processes and namespaces
    **{name: _kill for name, call in process_calls().items() if call.operation == "signal"},
    "process_vm_readv": _memory,
    "process_vm_writev": _memory,
    "clone": lambda stop: _namespaces(stop.args[0] & ~_CLONE_NEWTIME),
    "clone3": _clone3,
    "unshare": lambda stop: _namespaces(stop.args[0]),
    "setns": always("CAP_SYS_ADMIN"),
    "setpriority": _nice,
    "sched_setscheduler": _schedule,
    "sched_setattr": _schedule,
    "sched_setaffinity": lambda stop: ("CAP_SYS_NICE",) if _others(stop, stop.args[0]) else (),
    "mlock": _lock,
    "mlock2": _lock,
    "prlimit64": lambda stop: _setrlimit(stop, 1, 2),
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
    "mq_open": _queue,
    "adjtimex": _clock,
    "clock_adjtime": _clock,
    **dict.fromkeys(
        ("timerfd_create", "timer_create", "clock_nanosleep"),
        when(lambda args: args[0] & U32 in (8, 9), "CAP_WAKE_ALARM"),  # CLOCK_REALTIME_ALARM, CLOCK_BOOTTIME_ALARM
    ),
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
