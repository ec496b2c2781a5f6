"""The options of a unit that confine a service: one table. Each has a condition over the policy, and is set where the
policy shows that it costs the service nothing (systemd.exec(5), systemd.resource-control(5))."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from profiler.errors import InputError
from profiler.kernel.arguments import render
from profiler.kernel.syscalls import number_of
from profiler.kernel.systemd import ARCHITECTURES, NAMESPACES, words
from profiler.quoting.systemd import unit_path
from profiler.targets.systemd.facts import TEMPORARY, Facts

Values = tuple[str, ...] | None
"""The values of a key, one line each; None when it is not set. A list begins with an empty one, which takes back what
the unit says elsewhere."""

_COLUMNS = 100
_OWNERS = (
    "setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setgroups", "setfsuid", "setfsgid",
    "chown", "fchown", "lchown", "fchownat", "mount", "umount2", "keyctl", "add_key", "request_key",
)  # fmt: skip
_SHARED_MEMORY = (
    "shmget", "shmat", "semget", "msgget", "mq_open", "mq_unlink", "ipc", "semop", "semtimedop", "semtimedop_time64",
)  # fmt: skip
_MODES = ("chmod", "fchmod", "fchmodat", "fchmodat2", "openat2")
_EXECUTABLE, _WRITABLE_TOO = 4, 6


@dataclass(frozen=True)
class Option:
    """One key of the section [Service]. ``reason`` is a comment for people."""

    key: str
    group: str
    values: Callable[[Facts], Values]
    reason: str


@dataclass(frozen=True)
class Chosen:
    """A key, its lines and why it is there."""

    key: str
    group: str
    values: tuple[str, ...]
    reason: str


def chosen(facts: Facts) -> tuple[Chosen, ...]:
    """Return the options for a policy, in the order of the table."""
    found = ((option, option.values(facts)) for option in OPTIONS)
    return tuple(Chosen(row.key, row.group, values, row.reason) for row, values in found if values is not None)


def wrapped(names: Iterable[str], prefix: str = "") -> tuple[str, ...]:
    """Return the names on as many lines as they take, each with the prefix."""
    lines: list[str] = []
    for name in names:
        if lines and len(lines[-1]) + 1 + len(name) <= _COLUMNS:
            lines[-1] += f" {name}"
        else:
            lines.append(prefix + name)
    return tuple(lines)


def _yes(condition: Callable[[Facts], bool], value: str = "yes") -> Callable[[Facts], Values]:
    return lambda facts: (value,) if condition(facts) else None


def _list(values: Iterable[str]) -> Values:
    return ("", *values)


# --- calls


def allowed(facts: Facts) -> frozenset[str]:
    """Return the names of the calls that the filter lets pass."""
    return frozenset(entry.name for entry in facts.entries) | frozenset(words("own"))


def taken_out(facts: Facts) -> tuple[str, ...]:
    """Return the calls of systemd's own default list that the policy does not allow."""
    native = facts.policy.abis[0]
    return tuple(
        name for name in words("default") if name not in allowed(facts) and number_of(native, name) is not None
    )


def _filter(facts: Facts) -> Values:
    refused = {row.name: row.errno for row in facts.policy.refused if row.name not in allowed(facts)}
    return _list(
        (
            *wrapped(sorted(allowed(facts))),
            *wrapped((name for name in taken_out(facts) if name not in refused), "~"),
            *wrapped((f"{name}:{errno}" for name, errno in sorted(refused.items())), "~"),
        )
    )


def _architectures(facts: Facts) -> Values:
    known = [ARCHITECTURES.get(abi) for abi in facts.policy.abis[1:]]
    if None in known:
        raise InputError(f"systemd has no name for one of the ABIs {', '.join(facts.policy.abis)}")
    return _list([" ".join(("native", *(name for name in known if name is not None)))])


def _executable_memory(facts: Facts) -> bool:
    return not (
        facts.calls("shmat", "ipc")
        or any(facts.passes(name, 2, _WRITABLE_TOO) for name in ("mmap", "mmap2"))
        or any(facts.passes(name, 2, _EXECUTABLE) for name in ("mprotect", "pkey_mprotect"))
        or any(entry.name == "mmap" and entry.abi == "i386" for entry in facts.entries)
    )


# --- privileges


def _capabilities(facts: Facts) -> Values:
    return _list([" ".join(facts.policy.needed())] if facts.policy.needed() else [])


def _ambient(facts: Facts) -> Values:
    return _capabilities(facts) if facts.policy.workload.uid else _list([])


def _namespaces(facts: Facts) -> Values:
    found = facts.namespaces
    if found is None or len(found) == len(NAMESPACES):
        return None
    return _list([" ".join(sorted(found)) or "yes"])


def _private_users(facts: Facts) -> bool:
    return (
        facts.has_paths
        and not facts.policy.needed()
        and not facts.calls(*_OWNERS)
        and not facts.serves_unix
        and not facts.policy.user_namespaces
    )


# --- files


def _system(facts: Facts) -> Values:
    if not facts.has_paths:
        return None
    if facts.written is not None:
        return ("strict",)
    if not _needs(facts, "/usr", "/boot", "/efi"):
        return ("full",) if not _needs(facts, "/etc") else ("yes",)
    return None


def _needs(facts: Facts, *places: str) -> bool:
    """Return whether one of the places must stay as it is: writable, or on one mount with another."""
    return facts.changes(*places) or facts.moves(*places)


def _writable(facts: Facts) -> Values:
    if not facts.has_paths or facts.written is None:
        return None
    private = TEMPORARY if _own_tmp(facts) else ()
    return _list(f"-{unit_path(place)}" for place in facts.written if place not in private)


def _own_tmp(facts: Facts) -> bool:
    return facts.has_paths and facts.own_temporary and not facts.moves(*TEMPORARY)


def _home(facts: Facts) -> Values:
    places = ("/home", "/root", "/run/user")
    if not facts.has_paths or _needs(facts, *places):
        return None
    return ("read-only",) if facts.uses(*places) else ("tmpfs",)


# --- devices


def _private_devices(facts: Facts) -> bool:
    return (
        facts.has_paths
        and facts.private_devices
        and not facts.needs("CAP_MKNOD", "CAP_SYS_RAWIO")
        and not facts.calls(*words("raw_io"))
    )


def _known_devices(facts: Facts) -> bool:
    return facts.has_paths and facts.devices is not None


def _device_allow(facts: Facts) -> Values:
    devices = facts.devices if facts.has_paths else None
    return None if devices is None else _list(f"{unit_path(path)} {access}" for path, access in devices)


# --- network


def _families(facts: Facts) -> Values:
    numbers = facts.families
    if numbers is None:
        return None
    names = [render("socket", "domain", number) for number in sorted(numbers) if number]  # 0 (AF_UNSPEC) never works
    if not all(name.startswith("AF_") for name in names):
        return None
    return _list([" ".join(names) or "none"])


def _bound(facts: Facts) -> Values:
    return _list(facts.bound) if facts.policy.has_files and facts.bound is not None else None


def _denies_addresses(facts: Facts) -> bool:
    return facts.loopback or (facts.policy.has_files and not facts.internet)


def _addresses(facts: Facts) -> Values:
    return _list(["localhost"] if facts.loopback else []) if _denies_addresses(facts) else None


def _private_network(facts: Facts) -> bool:
    return facts.has_paths and facts.unix_only and not facts.reads_network


def _kernel(*places: str) -> Callable[[Facts], bool]:
    return lambda facts: facts.has_paths and not facts.changes(*places)


OPTIONS: tuple[Option, ...] = (
    Option("SystemCallArchitectures", "calls", _architectures, "the ABIs that were seen"),
    Option("SystemCallErrorNumber", "calls", lambda _: ("EPERM",), "what every other call is answered with"),
    Option(
        "SystemCallFilter",
        "calls",
        _filter,
        "the calls that were seen; ~ takes out what systemd adds by itself, or gives a call an error of its own",
    ),
    Option("LockPersonality", "calls", _yes(lambda f: f.values("personality", 0) in (frozenset(), frozenset({0}))),
           "no other personality is set"),
    Option("MemoryDenyWriteExecute", "calls", _yes(_executable_memory),
           "no memory is writable and executable, or made executable later"),
    Option("RestrictRealtime", "calls", _yes(lambda f: not f.calls("sched_setscheduler", "sched_setattr")),
           "no scheduling policy is set"),
    Option("RestrictSUIDSGID", "calls", _yes(lambda f: not f.calls(*_MODES)),
           "no mode of a file is changed, so no set-user-ID or set-group-ID file is made"),
    Option("RestrictNamespaces", "calls", _namespaces, "the namespaces that are made or entered"),

    Option("CapabilityBoundingSet", "privileges", _capabilities, "the capabilities that were needed"),
    Option("AmbientCapabilities", "privileges", _ambient, "what a user other than root keeps of them"),
    Option("NoNewPrivileges", "privileges", _yes(lambda f: f.policy.no_new_privs),
           "no program gained privileges by its file"),
    Option("PrivateUsers", "privileges", _yes(_private_users), "no capabilities, and no other user's id"),

    Option("ProtectSystem", "files", _system, "everything is read-only, or what never changed"),
    Option("ReadWritePaths", "files", _writable, "the directories in which something was changed"),
    Option("ProtectHome", "files", _home, "how much of the homes was used"),
    Option("PrivateTmp", "files", _yes(_own_tmp), "nothing that others put into /tmp or /var/tmp is used"),
    Option("PrivateMounts", "files", _yes(lambda f: f.policy.has_files and not f.policy.mounts),
           "nothing is mounted for others to see"),
    Option("UMask", "files", _yes(lambda f: f.policy.has_files and not f.makes_files, "0077"),
           "no file is made that others could need"),
    Option("ProtectProc", "files", _yes(lambda f: f.has_paths and f.own_processes_only, "invisible"),
           "no other process is looked at"),
    Option("ProcSubset", "files", _yes(lambda f: f.has_paths and f.own_processes_only and not f.reads_kernel, "pid"),
           "nothing of /proc is read but what is about processes"),

    Option("PrivateDevices", "devices", _yes(_private_devices), "no device but those that every program uses"),
    Option("DevicePolicy", "devices", _yes(_known_devices, "closed"), "only these devices and the usual ones"),
    Option("DeviceAllow", "devices", _device_allow, "the devices that were used"),

    Option("RestrictAddressFamilies", "network", _families, "the families of the sockets that are made"),
    Option("SocketBindDeny", "network", _yes(lambda f: f.policy.has_files and f.bound is not None, "any"),
           "no port is bound but those below"),
    Option("SocketBindAllow", "network", _bound, "the ports that were bound"),
    Option("IPAddressDeny", "network", _yes(_denies_addresses, "any"),
           "no Internet socket is made or inherited, or this machine alone is talked to"),
    Option("IPAddressAllow", "network", _addresses, "the addresses that may be talked to"),
    Option("PrivateNetwork", "network", _yes(_private_network), "no socket but unix sockets with a path"),

    Option("ProtectKernelTunables", "kernel",
           _yes(lambda f: _kernel("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/fs", "/proc/acpi", "/sys")(f)
                and not f.uses("/proc/kallsyms", "/proc/kcore")),
           "no setting of the kernel is changed"),
    Option("ProtectKernelModules", "kernel",
           _yes(lambda f: f.has_paths and not f.uses("/usr/lib/modules", "/lib/modules")
                and not f.calls(*words("module")) and not f.needs("CAP_SYS_MODULE")),
           "no module is loaded or looked at"),
    Option("ProtectKernelLogs", "kernel",
           _yes(lambda f: f.has_paths and not f.uses("/dev/kmsg", "/proc/kmsg") and not f.calls("syslog")
                and not f.needs("CAP_SYSLOG")),
           "the kernel's log is not read"),
    Option("ProtectControlGroups", "kernel", _yes(_kernel("/sys/fs/cgroup")), "no control group is changed"),
    # With a list of devices alone it would add one to it, which restricts the others.
    Option("ProtectClock", "kernel",
           _yes(lambda f: _known_devices(f) and not f.calls(*words("clock"))
                and not f.needs("CAP_SYS_TIME", "CAP_WAKE_ALARM") and not f.uses("/dev/rtc", "/dev/rtc0")),
           "no clock is set"),
    Option("ProtectHostname", "kernel", _yes(lambda f: not f.calls("sethostname", "setdomainname")),
           "the name of the host is not set"),
    Option("PrivateIPC", "kernel", _yes(lambda f: not f.calls(*_SHARED_MEMORY) and not f.reads_ipc),
           "no message queues, semaphores or shared memory of System V or POSIX"),

    Option("TasksMax", "limits", lambda f: (str(f.stance.tasks),) if f.stance.tasks else None,
           "at least four times as many threads and processes as were seen"),
)  # fmt: skip
"""Every option that a policy can decide."""

KEYS = frozenset(option.key for option in OPTIONS) | {"AppArmorProfile", "SELinuxContext"}
