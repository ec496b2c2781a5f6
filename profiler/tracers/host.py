"""Read facts about this host and its processes from /proc, /etc and the files themselves."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import os
import platform
import posixpath
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from profiler.files import kernel_text, process_stat
from profiler.kernel.capabilities import number_of
from profiler.tracers.memory import forget_memory, read_string
from profiler.tracers.served import same_file, status_of

if TYPE_CHECKING:
    from profiler.trace.model import Program

_AT_EXECFN = 31  # include/uapi/linux/auxvec.h
DELETED = " (deleted)"
"""What the kernel appends to the name of a file that is no longer in its directory (fs/d_path.c d_path)."""

HASH_LIMIT_BYTES = 512 << 20
"""Larger files are not hashed."""


@dataclass(frozen=True)
class Host:
    """The kernel release, distribution (PRETTY_NAME of os-release(5)) and libc of a machine."""

    kernel: str
    distribution: str | None
    libc: str | None


def host() -> Host:
    """Return the facts about this machine."""
    try:
        distribution = platform.freedesktop_os_release().get("PRETTY_NAME")
    except OSError:
        distribution = None
    try:
        libc = os.confstr("CS_GNU_LIBC_VERSION")
    except (ValueError, OSError):
        libc = None
    return Host(platform.release(), distribution, libc)


def controlling_terminal(pid: int | None = None) -> int:
    """Return the device number of the controlling terminal of a process, by default profgen itself; 0 when it has
    none, or is gone (proc_pid_stat(5), tty_nr)."""
    with contextlib.suppress(OSError):
        return int(process_stat("self" if pid is None else pid)[4])
    return 0


def uses_terminal(pid: int, fd: int) -> bool:
    """Return whether a process may read or write on the terminal that ``fd`` is open on: it is the controlling terminal
    of both profgen and the process, or one of the process's standard streams leads there."""
    own = controlling_terminal()
    if own and controlling_terminal(pid) == own:
        return True
    with contextlib.suppress(OSError):
        name = os.ttyname(fd)
        return any(os.readlink(f"/proc/{pid}/fd/{stream}") == name for stream in range(3))
    return False


def has_capability(name: str) -> bool:
    """Return whether profgen itself has a capability in its effective set.

    Root of a user namespace appears to have them all.
    """
    number = number_of(name)
    assert number is not None
    with kernel_text("/proc/self/status") as status:
        effective = next((int(line.split()[1], 16) for line in status if line.startswith("CapEff:")), 0)
    return bool(effective >> number & 1)


def shares_root(pid: int) -> bool:
    """Return whether a process has profgen's root and mount namespace, and so the same files under the same paths."""
    try:
        return same_file(f"/proc/{pid}/root", "/") and os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink(
            "/proc/self/ns/mnt"
        )
    except OSError:
        return False


def identify_process(
    pid: int,
    find: Callable[[str], os.stat_result | None] | None = None,
    executable: os.stat_result | None = None,
) -> tuple[str, str | None, str | None] | None:
    """Return (path, interpreter, argv[0]) of the program that a stopped process has just started to execute.

    The path is relative to the process's own root. For a script it is the script's path (execve(2) gives its name in
    AT_EXECFN, getauxval(3)); relative names start at the working directory. None if the process is gone. ``find``:
    returns the status of the file that a name means to the process; without it, the name is looked up here.
    ``executable``: the status of the file that runs, if it is known.
    """
    forget_memory(pid)  # that of the program before
    try:
        link = os.readlink(f"/proc/{pid}/exe")
        executable = executable or status_of(f"/proc/{pid}/exe")
        root = os.readlink(f"/proc/{pid}/root")
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            argv0 = os.fsdecode(file.read(4096).split(b"\0", 1)[0])
    except OSError:
        return None
    path = _inside(link.removesuffix(DELETED) if executable.st_nlink == 0 else link, root)
    if is_memfd(link, executable):
        path = path.removeprefix("/")
    name = _executed_name(pid)
    if name is None:
        return path, None, argv0
    script = _script(pid, name, executable, root, find)
    return (path, None, argv0) if script is None else (script, path, argv0)


def is_memfd(link: str, status: os.stat_result) -> bool:
    """Return whether a file is a memfd.

    Its link in procfs is ``/memfd:NAME (deleted)``, on a tmpfs that is not mounted anywhere (mm/memfd.c).
    """
    named = link.startswith("/memfd:") and link.endswith(DELETED)
    return named and status.st_nlink == 0 and status.st_dev != status_of("/").st_dev


def _inside(path: str, root: str) -> str:
    if root != "/" and (path == root or path.startswith(root + "/")):
        return path[len(root) :] or "/"
    return path


def _executed_name(pid: int) -> str | None:
    try:
        with open(f"/proc/{pid}/auxv", "rb") as file:
            auxv = file.read(4096)
    except OSError:
        return None
    # A type is a small number. In a 32-bit vector, the first pair read as 64 bits is not: the upper half is its value,
    # an address.
    entry = struct.Struct("=QQ" if auxv[4:8] == bytes(4) else "=II")
    for kind, value in entry.iter_unpack(auxv[: len(auxv) // entry.size * entry.size]):
        if kind == _AT_EXECFN:
            text = read_string(pid, value)
            forget_memory(pid)  # most of the processes are not read again
            return None if text is None else os.fsdecode(text)
    return None


def _script(
    pid: int, name: str, executable: os.stat_result, root: str, find: Callable[[str], os.stat_result | None] | None
) -> str | None:
    """Return the script's absolute path if ``name`` is not the executable itself, else None."""
    if name.startswith("/dev/fd/"):
        return None  # execveat(2) of a descriptor, or from one: it has no name for other processes
    try:
        script = absolute(_inside(os.readlink(f"/proc/{pid}/cwd"), root), name)
        status = _status_of_name(pid, name, script) if find is None else find(name)
    except OSError:
        return None
    return None if status is None or os.path.samestat(status, executable) else script


def _status_of_name(pid: int, name: str, path: str) -> os.stat_result:
    look = f"/proc/{pid}/root{name}" if name.startswith("/") else f"/proc/{pid}/cwd/{name}"
    for own, its in (("/proc/self/", f"/proc/{pid}/"), ("/proc/thread-self/", f"/proc/{pid}/task/{pid}/")):
        if path.startswith(own):  # in procfs, where it would mean profgen itself
            look = its + path.removeprefix(own)
    return os.stat(look)


def absolute(directory: str, name: str) -> str:
    """Join ``name`` to ``directory`` and resolve ``.`` and ``..`` in the text alone, as both tracers do for scripts."""
    joined = posixpath.normpath(posixpath.join(directory, name))
    return joined[1:] if joined.startswith("//") else joined


@functools.lru_cache(maxsize=4096)
def _hashes(path: str, identity: tuple[int, int, int, int]) -> tuple[str | None, str | None]:
    del identity  # part of the cache key: a changed file is read again
    try:
        with open(path, "rb") as file:
            return hashes_of(file)
    except OSError:
        return None, None


def hashes_of(file: io.BufferedReader) -> tuple[str, str | None]:
    """Return the sha256 and the build-id (or None) of an open file, read from its start. Raises OSError."""
    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    file.seek(0)
    return sha256, _build_id(file.read(1 << 16))


def with_hashes(program: Program) -> Program:
    """Return the program with the hash and build-id of its file, if the file can still be read."""
    if not program.path.startswith("/"):
        return program  # wording.UNKNOWN, or a file without a name (memfd)
    try:
        status = os.stat(program.path)
    except (OSError, ValueError):
        return program
    if not os.path.isfile(program.path) or status.st_size > HASH_LIMIT_BYTES:
        return program
    sha256, build_id = _hashes(program.path, (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
    return replace(program, sha256=sha256, build_id=build_id)


_BUILD_ID = re.compile(
    rb"([\x01-\x40]\0\0\0)\x03\0\0\0GNU\0"
)  # n_descsz (20 for sha1, 16 for md5, any), n_type 3, name "GNU"


def _build_id(head: bytes) -> str | None:
    """Return the GNU build-id note (elf(5), NT_GNU_BUILD_ID = 3), which linkers put near the start of the file."""
    if head[:4] != b"\x7fELF":
        return None
    match = _BUILD_ID.search(head)
    if match is None:
        return None
    size = int.from_bytes(match[1], "little")
    note = head[match.end() : match.end() + size]
    return note.hex() if len(note) == size else None
