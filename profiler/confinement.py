"""Confine the calling process: capability sets, no_new_privs, Landlock and a seccomp filter.

Standard library only, for Python 3.7 or newer: the target ``launcher`` writes this text into its script, which runs on
machines without profgen. Sources: capabilities(7), prctl(2), seccomp(2), landlock(7), include/uapi/linux/landlock.h.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import stat
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), what)
    return result


# --- capabilities

_PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_SET_KEEPCAPS, _PR_CAP_AMBIENT = 23, 24, 8, 47
_AMBIENT_RAISE, _AMBIENT_CLEAR_ALL = 2, 4
_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3, include/uapi/linux/capability.h
_CAP_SETPCAP, _CAP_SYS_ADMIN = 8, 21


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Data(ctypes.Structure):
    _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32)]


def _prctl(option: int, first: int = 0, second: int = 0, what: str = "capabilities") -> int:
    numbers = [ctypes.c_ulong(each) for each in (first, second, 0, 0)]
    return _checked(_libc.prctl(option, *numbers), what)


def permitted() -> int:
    """Return the permitted set of the calling thread as a bit mask."""
    header, data = _Header(_VERSION, 0), (_Data * 2)()
    _checked(_libc.capget(ctypes.byref(header), ctypes.byref(data)), "capabilities")
    return int(data[0].permitted) | int(data[1].permitted) << 32


def _set(effective: int, allowed: int, inheritable: int) -> None:
    data = (_Data * 2)()
    for index in range(2):
        data[index] = _Data(*((mask >> 32 * index) & 0xFFFFFFFF for mask in (effective, allowed, inheritable)))
    header = _Header(_VERSION, 0)
    _checked(_libc.capset(ctypes.byref(header), ctypes.byref(data)), "capabilities")


def reduce_bounding(wanted: int) -> None:
    """Before the user changes: take from the bounding set what is not in the mask. Does nothing without
    CAP_SETPCAP."""
    if permitted() >> _CAP_SETPCAP & 1:
        for number in range(64):
            try:
                present = _prctl(_PR_CAPBSET_READ, number)
            except OSError:
                break  # past the kernel's last one
            if present and not wanted >> number & 1:
                _prctl(_PR_CAPBSET_DROP, number)
    _prctl(_PR_SET_KEEPCAPS, 1)


def reduce(capabilities: int, *, keep_until_exec: bool) -> None:
    """Reduce all sets to the mask, after the user has changed. ``keep_until_exec``: keep the permitted set, to load a
    filter; execve(2) drops it.

    execve(2) takes root's capabilities from the bounding set, and another user's from the ambient set.
    """
    have = permitted()
    wanted = capabilities & have
    kept = wanted if os.geteuid() != 0 else 0
    left = have if keep_until_exec else wanted
    _prctl(_PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL)
    _set(left, left, kept)
    for number in range(64):
        if kept >> number & 1:
            _prctl(_PR_CAP_AMBIENT, _AMBIENT_RAISE, number)


# --- no_new_privs and the filter

PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
INSTRUCTION_BYTES = 8
"""The size of struct sock_filter (include/uapi/linux/filter.h)."""


class _SockFprog(ctypes.Structure):
    _fields_ = [("len", ctypes.c_uint16), ("filter", ctypes.c_void_p)]


class Loader:
    """A filter that is ready to load: loading it makes only one system call, and allocates nothing."""

    def __init__(self, program: bytes) -> None:
        self._instructions = ctypes.create_string_buffer(program, len(program))
        self._program = _SockFprog(len(program) // INSTRUCTION_BYTES, ctypes.addressof(self._instructions))
        self._address = ctypes.c_ulong(ctypes.addressof(self._program))

    def load(self) -> None:
        """Load it into the calling thread (seccomp(2)). Raises OSError: EACCES without no_new_privs and
        CAP_SYS_ADMIN."""
        nothing = ctypes.c_ulong(0)
        result = _libc.prctl(PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), self._address, nothing, nothing)
        _checked(result, "the kernel refused the filter")


def forbid_new_privileges() -> None:
    """Set no_new_privs (prctl(2)). Raises OSError."""
    _prctl(PR_SET_NO_NEW_PRIVS, 1, what="no_new_privs")


# --- Landlock

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""The same numbers on every architecture (include/uapi/asm-generic/unistd.h, syscall_64.tbl)."""
_VERSION_FLAG = 1
_PATH_BENEATH, _NET_PORT = 1, 2


class Right(NamedTuple):
    """A right of Landlock. ``value``: its bit; ``abi``: the first ABI that has it, ``linux`` the kernel that brought
    this ABI. ``file``: it can be given for a file that is not a directory."""

    name: str
    value: int
    abi: int
    linux: str
    file: bool = False


class Path(NamedTuple):
    """A path, or several that a pattern of policy.yaml names, with {home} and {version} as its only classes, and the
    names of rights there: on a directory, also on all that is below.

    ``above``: where nothing is there yet, the closest directory that is there gets the rights.
    """

    pattern: str
    rights: str
    above: bool = False


class Ports(NamedTuple):
    """A right for ports from ``first`` to ``last``."""

    right: str
    first: int
    last: int


class Landlock(NamedTuple):
    """A ruleset. Rights in ``files``, ``ports`` and ``scopes`` are refused where no rule gives them; a scope has no
    rules."""

    files: Sequence[Right] = ()
    network: Sequence[Right] = ()
    scopes: Sequence[Right] = ()
    paths: Sequence[Path] = ()
    ports: Sequence[Ports] = ()


class Ready(NamedTuple):
    """A ruleset in the kernel. ``descriptor``: None when there is nothing to enforce. ``lacks``: the rights that this
    kernel cannot refuse. ``missing``: the patterns for which there is nothing."""

    descriptor: int | None
    lacks: tuple[Right, ...]
    missing: tuple[str, ...]


def landlock_abi() -> int:
    """Return the kernel's ABI of Landlock, 0 when it has none or does not use it."""
    found: int = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(_VERSION_FLAG))
    return max(found, 0)


def ready(rules: Landlock, version: str) -> Ready:
    """Make a ruleset, and find its paths. ``version``: the regular expression of the class {version}. Raises
    OSError."""
    abi = landlock_abi()
    groups = (rules.files, rules.network, rules.scopes)
    handled = [sum(right.value for right in group if right.abi <= abi) for group in groups]
    lacks = tuple(right for group in groups for right in group if right.abi > abi)
    if not any(handled):
        return Ready(None, lacks, ())
    attributes = struct.pack("=QQQ", *handled)
    # Older kernels take a longer structure if what they do not know is 0.
    ruleset = _checked(_libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(24), ctypes.c_uint(0)), "Landlock")
    usable = {right.name: right for group in groups[:2] for right in group if right.abi <= abi}
    missing = []
    for path in rules.paths if handled[0] else ():
        given = [usable[name] for name in path.rights.split() if name in usable]
        if not _add_path(ruleset, path, given, version):
            missing.append(path.pattern)
    for ports in rules.ports:
        if ports.right in usable:
            _add_ports(ruleset, usable[ports.right], ports)
    return Ready(ruleset, lacks, tuple(missing))


def _add_ports(ruleset: int, right: Right, ports: Ports) -> None:
    """Give a right for ports, each by a rule of its own: 30 000 of them take 30 ms."""
    rule = (ctypes.c_uint64 * 2)(right.value)
    add, arguments = _libc.syscall, (_ADD_RULE, ruleset, _NET_PORT, ctypes.byref(rule), 0)
    for rule[1] in range(ports.first, ports.last + 1):
        if add(*arguments) != 0:
            raise OSError(ctypes.get_errno(), "Landlock")


def _add_path(ruleset: int, path: Path, given: Sequence[Right], version: str) -> bool:
    """Give rights on all that a path names. Return whether there was something."""
    parts = _parts(path.pattern, version)
    found = False
    while not found:
        for name in _existing(parts):
            try:
                # A name of a policy is never a symbolic link: somebody else put it there.
                fd = os.open(name or b"/", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                mode = os.fstat(fd).st_mode
                if stat.S_ISLNK(mode):
                    continue
                found = True
                mask = sum(right.value for right in given if right.file or stat.S_ISDIR(mode))
                if mask:
                    rule = struct.pack("=Qi", mask, fd)
                    _checked(_libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0), "Landlock")
            finally:
                os.close(fd)
        if not path.above or len(parts) == 1:
            break
        del parts[-1]
    return found


_HOME = "{home}"
_TOKEN = re.compile(r"\\x([0-9A-Fa-f]{2})|\\(.)|(\{version\})|([^\\{]+)")


def _parts(pattern: str, version: str) -> list[object]:
    """Return the names in a pattern: each as bytes, or as a regular expression. The first is the root, or _HOME."""
    start: object = b""
    if pattern.startswith(_HOME):
        start, pattern = _HOME, pattern[len(_HOME) :]
    found: list[list[tuple[bytes, bool]]] = [[]]
    for number, escaped, is_version, text in _TOKEN.findall(pattern):
        if is_version:
            found[-1].append((version.encode(), True))
            continue
        literal = bytes.fromhex(number) or (escaped or text).encode("utf-8", "surrogateescape")
        first, *others = literal.split(b"/")
        found[-1].append((first, False))
        found += [[(other, False)] for other in others]
    parts = [start]
    for name in found[1:]:
        if any(special for _, special in name):
            parts.append(re.compile(b"".join(text if special else re.escape(text) for text, special in name)))
        else:
            parts.append(b"".join(text for text, _ in name))
    return parts if parts[1:] != [b""] else parts[:1]


def _existing(parts: Sequence[object]) -> Iterator[bytes]:
    """Yield the paths that the names lead to. The last one of each may be missing."""
    paths = [b""]
    if parts[0] == _HOME:
        paths = [b"/root", *(b"/home/" + name for name in _listed(b"/home"))]
    for part in parts[1:]:
        if isinstance(part, bytes):
            paths = [path + b"/" + part for path in paths]
        else:
            assert isinstance(part, re.Pattern)
            paths = [path + b"/" + name for path in paths for name in _listed(path or b"/") if part.fullmatch(name)]
    return iter(paths)


def _listed(directory: bytes) -> list[bytes]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def restrict(ruleset: int) -> None:
    """Enforce a ruleset on the calling thread. Raises OSError: EPERM without no_new_privs and CAP_SYS_ADMIN."""
    _checked(_libc.syscall(_RESTRICT_SELF, ruleset, 0), "Landlock")


# --- all together


def keeps_privileges(no_new_privs: bool) -> bool:
    """Return whether programs can gain privileges: a filter and Landlock take no_new_privs or CAP_SYS_ADMIN."""
    return not no_new_privs and bool(permitted() >> _CAP_SYS_ADMIN & 1)


def confine(capabilities: int, no_new_privs: bool, loader: Loader, ruleset: int | None = None) -> None:
    """Reduce capabilities, set no_new_privs, enforce Landlock and load the filter: after the change of user, right
    before execve(2). Raises OSError."""
    keep = keeps_privileges(no_new_privs)
    reduce(capabilities, keep_until_exec=keep)
    if not keep:
        forbid_new_privileges()
    if ruleset is not None:
        restrict(ruleset)
    loader.load()


def shortfalls(made: Ready, no_new_privs: bool) -> list[str]:
    """Return what cannot be enforced here as the policy has it, as sentences."""
    found = []
    if made.lacks:
        abi = landlock_abi()
        names = ", ".join(f"{right.name} (Linux {right.linux})" for right in made.lacks)
        reason = f"has ABI {abi} of Landlock and" if abi else "has no Landlock (or it is not in lsm=) and"
        found.append(f"this kernel {reason} does not refuse {names}")
    if not no_new_privs and not keeps_privileges(no_new_privs):
        found.append("no_new_privs is set, because the filter takes it or CAP_SYS_ADMIN: setuid programs gain nothing")
    return found


def default_signals() -> None:
    """Undo what Python did for itself, and execve(2) would pass on."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
