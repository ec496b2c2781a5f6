"""What each operation of ops.c must leave in a trace: written by hand, from the calls that the operation makes.

``EXPECTED`` maps an operation to its Evidence. Paths are written relative to the operation's directory; one that
begins with ``/`` is absolute, ``""`` is the directory itself. Numbers that differ from run to run are words: ``{pid}``,
``{tid}``, ``{inode}``, ``{random}``. A program is named by its path in the same way, and ``OPS`` is the program itself.

What the program leaves before it comes to the operation is ``startup()``: the same for all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

OPS = "{ops}"
"""Stands for the path of the compiled program."""


@dataclass(frozen=True)
class Use:
    """One result of one way to use one path.

    ``kind``, ``state`` and ``owner`` count for uses that succeeded: what failed need not have been looked at.
    """

    path: str
    access: str
    kind: str = "file"
    result: str = "ok"
    state: str = "linked"
    owner: str = "self"
    existing: str | None = None
    whose: str | None = None
    by: str = OPS

    @property
    def failed(self) -> bool:
        return self.result != "ok"


@dataclass(frozen=True)
class Operation:
    """One result of one socket operation."""

    family: str
    type: str
    protocol: int
    operation: str
    port: int | None = None
    address: str | None = None
    result: str = "ok"


@dataclass(frozen=True)
class Mounted:
    operation: str
    source: str | None
    target: str | None
    filesystem: str | None = None
    flags: tuple[str, ...] = ()
    result: str = "ok"


@dataclass(frozen=True)
class Evidence:
    """``signals`` and ``inspections``: (signal or operation, whom, result). ``execs``: (program, by whom) after the
    first.

    ``refused``: under ptrace the operation is refused, and this is its evidence then.
    """

    files: frozenset[Use] = frozenset()
    sockets: frozenset[Operation] = frozenset()
    signals: frozenset[tuple[str, str, str]] = frozenset()
    inspections: frozenset[tuple[str, str, str]] = frozenset()
    mounts: frozenset[Mounted] = frozenset()
    execs: frozenset[tuple[str, str]] = frozenset()
    losses: frozenset[str] = frozenset()
    refused: Evidence | None = None


def uses(path: str, accesses: str, **more: str) -> list[Use]:
    """One Use for each of the blank-separated words."""
    return [Use(path, access, **more) for access in accesses.split()]


def files(*rows: Use | list[Use]) -> Evidence:
    return Evidence(files=_set(rows))


def _set(rows: Iterable[Use | list[Use]]) -> frozenset[Use]:
    return frozenset(use for row in rows for use in (row if isinstance(row, list) else [row]))


def started(path: str, *, program: str | None = None, **more: str) -> list[Use]:
    """What the kernel and a static program's start do in the new program, after an exec of ``path``; ``program`` is its
    name in the trace, if it is another.

    The kernel maps the file and reads its headers (fs/binfmt_elf.c); glibc reads the link /proc/self/exe
    (elf/dl-origin.c, linked into static programs).
    """
    by = path if program is None else program
    link = Use("/proc/{pid}/exe", "readlink", kind="symlink", whose="self", by=by)
    return [*uses(path, "map read", by=by, **more), link]


def startup() -> list[Use]:
    """Rows of every run of the static program."""
    return [Use(OPS, "execute"), *started(OPS)]


def executed(path: str, *, program: str | None = None, **more: str) -> list[Use]:
    """All rows of a successful exec of a static program."""
    return [Use(path, "execute", **more), *started(path, program=program, **more)]


def _exec(path: str = "child", *rows: Use | list[Use], program: str | None = None, **more: str) -> Evidence:
    return Evidence(_set([executed(path, program=program, **more), *rows]), execs=frozenset({(program or path, OPS)}))


def _script(*scripts: str) -> Evidence:
    """``scripts`` from the one that is executed to the one whose interpreter is the program: the last is the one it
    opens."""
    by = scripts[0]
    rows = [
        *(Use(script, "execute") for script in scripts),
        Use("child", "execute"),
        *started("child", program=by),
        Use(scripts[-1], "read", by=by),
    ]
    return Evidence(_set(rows), execs=frozenset({(by, OPS)}))


def _stream(family: str, protocol: int, port: int | None = None, address: str | None = None) -> list[Operation]:
    """A server and a client in one process: converse() in ops.c."""
    to = {"port": port, "address": address}
    plain = [Operation(family, "stream", protocol, name) for name in ("create", "listen", "accept", "send", "receive")]
    return [*plain, *(Operation(family, "stream", protocol, name, **to) for name in ("bind", "connect"))]


def _datagram(port: int) -> list[Operation]:
    """A UDP socket that sends to itself."""
    plain = [Operation("inet", "dgram", 17, name) for name in ("create", "setoption")]
    return [*plain, *(Operation("inet", "dgram", 17, name, port) for name in ("bind", "send"))]


def _sockets(*rows: Operation | list[Operation], files: Iterable[Use | list[Use]] = ()) -> Evidence:
    return Evidence(
        _set(files), frozenset(row for each in rows for row in (each if isinstance(each, list) else [each]))
    )


def _signals(*rows: tuple[str, str] | tuple[str, str, str]) -> Evidence:
    return Evidence(signals=frozenset((*row, "ok")[:3] for row in rows))


def _looks(*rows: tuple[str, str], refused: tuple[str, str, str] | None = None) -> Evidence:
    other = Evidence(inspections=frozenset({refused})) if refused else None
    return Evidence(inspections=frozenset((*row, "ok") for row in rows), refused=other)


def _mounts(*rows: Mounted, files: Iterable[Use | list[Use]] = ()) -> Evidence:
    own = Mounted("propagation", None, "/", flags=("private", "rec"))
    return Evidence(_set(files), mounts=frozenset({own, *rows}))


LONG = "{long}"
"""Stands for a path of 4 000 bytes in all."""


def long_path(directory: str) -> str:
    """long_path() of ops.c: directories of 200 bytes below ``directory``, and a name that fills up to 4 000 bytes."""
    path = directory
    while 4000 - len(path) > 250:
        path += "/" + "d" * 200
    return path + "/" + "f" * (4000 - len(path) - 1)


_UNNAMED = "#{inode}"
_ODD = (
    "a b",
    "new\nline",
    "tab\tquote\"'",
    "[x]{y,z}*?",
    "@{HOME}",
    "#hash^",
    "back\\slash",
    "\udcff\udcfe bytes",
    "gone (deleted)",
    "café",
    "-> arrow,",
)
_INET = ("inet", "stream", 6)
_UDP = ("inet", "dgram", 17)
_UNIX = ("unix", "stream", 0)

EXPECTED: Mapping[str, Evidence] = {
    "nothing": Evidence(),
    # opening
    "read": files(Use("file", "read")),
    "write": files(Use("file", "write")),
    "read_write": files(uses("file", "read write")),
    "append_existing": files(Use("file", "append")),
    "append_create": files(uses("new", "append create")),
    "create": files(uses("new", "write create truncate")),
    "create_existing": files(uses("file", "write create")),
    "create_exclusive": files(uses("new", "read write create")),
    "create_taken": files(uses("file", "write create", result="EEXIST")),
    "open_truncate": files(uses("file", "write truncate")),
    "truncate": files(Use("file", "truncate")),
    "ftruncate": files(uses("file", "read write truncate")),
    "path_only": files(),
    "open_beneath": files(Use("file", "read")),
    "open_in_root": files(
        Use("sub/file", "read"),
        *(Use(f"sub/{name}", "read", result="ENOENT") for name in ("etc/passwd", "up", "nowhere", "here")),
    ),
    "replace_file": files(uses("file.new", "write create rename_from"), Use("file", "rename_to")),
    "temporary_file": files(uses("work-{random}", "read write create remove")),
    "unnamed_file": files(uses(_UNNAMED, "read write", state="deleted")),
    "unnamed_file_named": files(Use(_UNNAMED, "write", state="deleted"), Use("named", "link", existing=_UNNAMED)),
    # names
    "link": files(Use("other", "link", existing="file")),
    "link_descriptor": files(Use("file", "read"), Use("other", "link", existing="file")),
    "link_proc": files(Use("file", "read"), Use("other", "link", existing="file")),
    "symlink": files(Use("link", "make", "symlink"), Use("file", "read")),
    "symlink_directory": files(Use("real/deep/file", "read")),
    "symlink_chain": files(Use("real/deep/file", "read")),
    "symlink_nofollow": files(Use("real/to-file", "read", result="ELOOP")),
    "dangling": files(Use("nowhere", "read", result="ENOENT")),
    "dangling_create": files(uses("nowhere", "write create")),
    "readlink": files(Use("dangling", "readlink", "symlink")),
    "mkdir": files(Use("new", "make", "directory")),
    "mkdirat": files(Use("new", "make", "directory")),
    "rmdir": files(Use("sub", "remove", "directory")),
    "unlinkat_directory": files(Use("sub", "remove", "directory")),
    "rename_directory": files(Use("sub", "rename_from", "directory"), Use("moved", "rename_to", "directory")),
    "unlink": files(Use("file", "remove")),
    "unlink_symlink": files(Use("dangling", "remove", "symlink")),
    "exchange": files(uses("one", "rename_from rename_to"), uses("two", "rename_from rename_to")),
    "renameat": files(Use("sub/file", "rename_from"), Use("target/moved", "rename_to")),
    "list": files(uses("sub", "read list", kind="directory")),
    "mkfifo": files(uses("fifo", "make read write", kind="fifo")),
    "mknod_socket": files(Use("socket", "make", "socket")),
    "mknod_file": files(Use("new", "make")),
    "mknod_device": files(uses("null", "make write", kind="char")),
    # locks and attributes
    "flock": files(uses("file", "read lock_exclusive lock")),
    "flock_held": files(uses("file", "read lock_exclusive"), Use("file", "lock_exclusive", result="EAGAIN")),
    "fcntl_lock": files(uses("file", "read write lock_exclusive")),
    "fcntl_look": files(uses("file", "read write lock")),
    "chmod": files(Use("file", "mode")),
    "fchmod": files(uses("file", "read mode")),
    "fchmodat": files(Use("file", "mode")),
    "fchmodat2": files(Use("file", "mode")),
    "chown": files(Use("file", "owner")),
    "lchown": files(Use("dangling", "owner", "symlink")),
    "fchown": files(uses("file", "read owner")),
    "utimens": files(Use("file", "times")),
    "futimens": files(uses("file", "read times")),
    "setxattr": files(Use("file", "xattr")),
    "removexattr": files(uses("file", "read xattr")),
    # executing
    "execve": _exec(),
    "execve_itself": _exec(),
    "execve_proc_self": _exec(OPS),
    "execveat_descriptor": _exec(),
    "execveat_directory": _exec(),
    "execve_symlink": _exec(),
    "execve_thread": _exec(),
    "execve_missing": files(Use("nowhere", "execute", result="ENOENT")),
    "execve_forbidden": files(Use("file", "execute", result="EACCES")),
    "execve_nonsense": files(Use("nonsense", "execute", result="ENOEXEC")),
    "script": _script("script"),
    "script_relative": _script("script"),
    "script_of_script": _script("outer", "script"),
    "memfd_execute": _exec("memfd:code", Use("child", "read"), state="detached"),
    "memfd_map": files(Use("memfd:some code", "map", state="detached")),
    "map_library": files(uses("child", "read map")),
    "protect_mapping": files(uses("child", "read map")),
    # places
    "at_directory": files(Use("sub/file", "read")),
    "after_chdir": files(Use("sub/file", "read")),
    "after_fchdir": files(Use("sub", "read", "directory"), Use("sub/file", "read")),
    "dots": files(Use("sub/file", "read"), uses("sub/made", "make remove", kind="directory")),
    "renamed_directory": files(
        Use("sub", "rename_from", "directory"), Use("moved", "rename_to", "directory"), Use("moved/file", "read")
    ),
    "magic_links": files(Use("file", "read"), Use("sub/file", "read")),
    "path_at_page_end": files(Use("file", "read")),
    "odd_names": files(*(uses(name, "write create") for name in _ODD)),
    "long_path": files(uses(LONG, "write create")),
    "long_path_at": files(uses(LONG, "write create")),
    "too_long_path": Evidence(losses=frozenset({"paths"})),
    "deleted_directory": files(
        Use("sub", "remove", "directory"),
        uses("sub/file", "write create", result="ENOENT"),
        *(Use(f"sub/{name}/file", "read", result="ENOENT") for name in ("some", "other")),
        Use("sub/new/below", "make", result="ENOENT"),
    ),
    "named_deleted": files(
        uses("gone (deleted)/file (deleted)", "read write remove"),
        Use("gone (deleted)/some/file", "read", result="ENOENT"),
        Use("gone (deleted)/file (deleted)", "mode", state="deleted"),
    ),
    "deleted_file": files(uses("file", "read write remove"), Use("file", "write", state="deleted")),
    "moved_file": files(uses("file", "read write rename_from"), uses("moved", "rename_to mode")),
    "made_and_gone": files(uses("new", "make remove", kind="directory"), uses("new/file", "write create remove")),
    # refusals
    "missing": files(Use("nowhere", "read", result="ENOENT")),
    "missing_directory": files(uses("nowhere/file", "write create", result="ENOENT")),
    "not_directory": files(Use("file/below", "read", result="ENOTDIR")),
    "bad_pointers": files(),
    "unread_pointers": Evidence(
        sockets=frozenset({Operation(*_UNIX, "create")}),
        mounts=frozenset(
            {Mounted("umount", None, None, None, ("0xfffffff0", "detach", "expire", "force", "nofollow"), "EINVAL")}
        ),
    ),
    "name_too_long": files(Use("n" * 300, "read", result="ENAMETOOLONG")),
    "symlink_loop": files(Use("loop", "read", result="ELOOP")),
    "failed_names": files(
        Use("sub", "make", result="EEXIST"),
        Use("sub", "remove", result="ENOTEMPTY"),
        Use("nowhere", "remove", result="ENOENT"),
        Use("nothing", "rename_from", result="ENOENT"),
        Use("other", "rename_to", result="ENOENT"),
        Use("sub", "truncate", result="EISDIR"),
    ),
    "look_missing": files(
        *(Use(name, "look", result="ENOENT") for name in ("no-stat", "no-access", "no-chdir")),
        Use("no-readlink", "readlink", result="ENOENT"),
    ),
    "denied": files(uses("closed", "read write", result="EACCES")),
    "denied_directory": files(uses("shut/file", "read look", result="EACCES")),
    "others_file": files(Use("file", "read", owner="other")),
    # processes
    "threads": files(Use("one", "read"), Use("two", "read")),
    "thread_apart": files(
        uses("target/new", "write create"), Use("target/made", "make", "directory"), Use("sub/file", "read")
    ),
    "open_restarted": replace(_signals(("USR1", "workload")), files=_set([uses("fifo", "read write", kind="fifo")])),
    "open_interrupted": _signals(("USR1", "workload")),
    "short_child": files(Use("file", "read")),
    "killed_child": replace(_signals(("KILL", "self")), files=_set([Use("file", "read")])),
    "shared_descriptors": _sockets(
        *(Operation(*_UNIX, name) for name in ("pair", "send", "receive")), files=[Use("file", "read")]
    ),
    "signal_child": _signals(("TERM", "workload")),
    "signal_parent": _signals(("USR2", "workload")),
    "signal_self": _signals(("USR1", "self")),
    # glibc keeps the first two real-time signals to itself: its SIGRTMIN+3 is the kernel's SIGRTMIN+5
    "signal_queue": _signals(("RTMIN+5", "self")),
    "signal_check": _signals(("0", "self"), ("0", "outside", "ESRCH")),
    "signal_outside": _signals(("0", "outside")),
    "signal_group": _signals(("USR1", "group")),
    "signal_pidfd": _signals(("KILL", "workload")),
    "signal_directory": replace(
        _signals(("0", "self"), ("KILL", "workload")),
        files=_set([[Use("/proc/{pid}", "read", "directory", whose=whose) for whose in ("self", "workload")]]),
    ),
    "signal_inner_directory": replace(
        _mounts(Mounted("mount", "proc", "/proc", "proc")),
        signals=frozenset({("0", "self", "ok"), ("KILL", "workload", "ok")}),
        files=_set(
            [
                Use("/proc/{pid}", "read", "directory", whose="self"),
                Use("/proc/{pid}", "read", "directory", whose="workload"),
            ]
        ),
    ),
    "trace_me": _looks(("traceme", "workload"), refused=("traceme", "workload", "EPERM")),
    "trace_child": _looks(("trace", "workload"), refused=("trace", "workload", "EPERM")),
    "read_memory": _looks(("read", "workload")),
    "proc_self": files(
        Use("/proc/{pid}/maps", "read", whose="self"), Use("/proc/{pid}/task/{tid}/stat", "read", whose="self")
    ),
    "proc_child": files(Use("/proc/{pid}/environ", "read", whose="workload")),
    "proc_outside": files(Use("/proc/1/status", "read", whose="outside")),
    "namespace_files": files(
        *(Use(f"/proc/{{pid}}/ns/{name}", "read", whose="self") for name in ("uts", "mnt")),
        Use("/proc/{pid}/ns/net", "readlink", "symlink", whose="self"),
        Use("/proc/{pid}/ns/none", "read", result="ENOENT", whose="self"),
        uses("/proc/{pid}/ns/uts", "read write", result="EPERM", whose="self"),
    ),
    # sockets
    "unix_path": _sockets(
        _stream(*_UNIX[::2], address="{dir}/socket"), files=[uses("socket", "bind connect", kind="socket")]
    ),
    "unix_datagram": _sockets(
        Operation("unix", "dgram", 0, "create"),
        Operation("unix", "dgram", 0, "bind", address="{dir}/socket"),
        Operation("unix", "dgram", 0, "send", address="{dir}/socket"),
        files=[uses("socket", "bind connect", kind="socket")],
    ),
    "unix_missing": _sockets(
        Operation(*_UNIX, "create"),
        Operation(*_UNIX, "connect", address="{dir}/nowhere", result="ENOENT"),
        files=[Use("nowhere", "connect", result="ENOENT")],
    ),
    "unix_at_sign": _sockets(
        _stream(*_UNIX[::2], address="{dir}/@socket"), files=[uses("@socket", "bind connect", kind="socket")]
    ),
    "socket_leader_gone": _sockets(_datagram(23457)),
    "socket_apart": _sockets(Operation("unix", "dgram", 0, "create"), _datagram(23458)),
    "unix_abstract": _sockets(_stream(*_UNIX[::2], address="@profgen operation")),
    "socketpair": _sockets(Operation("unix", "seqpacket", 0, "pair")),
    "tcp": _sockets(_stream("inet", 6, 23451), Operation(*_INET, "setoption")),
    "tcp_refused": _sockets(Operation(*_INET, "create"), Operation(*_INET, "connect", 23459, result="ECONNREFUSED")),
    "tcp_waiting": _sockets(
        *(Operation(*_INET, name) for name in ("create", "setoption", "listen", "getoption", "name", "shutdown")),
        Operation(*_INET, "bind", 23454),
        Operation(*_INET, "connect", 23454, result="EINPROGRESS"),
    ),
    "tcp6": _sockets(_stream("inet6", 6, 23453), Operation("inet6", "stream", 6, "setoption")),
    "address_form": _sockets(
        *(Operation("inet6", "dgram", 17, name) for name in ("create", "setoption")),
        Operation("inet6", "dgram", 17, "connect", 23460),
        *(Operation(*_UDP, name) for name in ("setoption", "send")),
    ),
    "udp": _sockets(
        *(Operation(*_UDP, name) for name in ("create", "setoption", "receive")),
        *(Operation(*_UDP, name, 23452) for name in ("bind", "send")),
    ),
    "udp_messages": _sockets(
        *(Operation(*_UDP, name) for name in ("create", "setoption", "receive")),
        *(Operation(*_UDP, name, 23455) for name in ("bind", "send")),
    ),
    "many_messages": _sockets(
        Operation(*_UDP, "create"),
        *(Operation(*_UDP, "send", port) for port in range(23500, 23600)),
        Operation("unix", "dgram", 0, "create"),
        *(
            Operation("unix", "dgram", 0, word, address=f"{{dir}}/{name}")
            for word in ("bind", "send")
            for name in ("first", "second")
        ),
        files=[uses(name, "bind connect", kind="socket") for name in ("first", "second")],
    ),
    "netlink": _sockets(Operation("netlink", "raw", 0, "create"), Operation("netlink", "raw", 0, "bind")),
    "raw_socket": _sockets(Operation("inet", "raw", 1, "create")),
    "packet_socket": _sockets(Operation("packet", "dgram", 0, "create")),
    "socketcall": _sockets(Operation(*_UDP, "create"), Operation(*_UDP, "connect", 23456)),
    "unknown_family": _sockets(Operation("appletalk", "dgram", 0, "create", result="EAFNOSUPPORT")),
    # namespaces and mounts
    "namespace_bound": _mounts(
        Mounted("bind", "/proc/{pid}/ns/uts", "file", flags=("bind",)),
        Mounted("umount", None, "file", flags=("detach",)),
        files=[Use("file", "read")],
    ),
    "bind_mount": _mounts(
        Mounted("bind", "sub", "target", flags=("bind",)),
        Mounted("remount", None, "target", flags=("bind", "rdonly", "remount")),
        Mounted("umount", None, "target", flags=("detach",)),
        files=[Use("target/file", "read")],
    ),
    "new_mount": _mounts(
        Mounted("mount", "scratch", "target", "tmpfs", ("nodev", "nosuid")),
        Mounted("move", "target", "sub", flags=("move",)),
        Mounted("umount", None, "sub"),
        files=[uses("target/new", "write create"), Use("sub/new", "read")],
    ),
    "detached_mount": _mounts(
        Mounted("mount", "scratch", "target", "tmpfs"),
        Mounted("umount", None, "target", flags=("detach",)),
        files=[uses("/new", "write create", state="detached")],
    ),
    "detached_names": _mounts(
        Mounted("mount", "scratch", "target", "tmpfs"),
        Mounted("umount", None, "target", flags=("detach",)),
        files=[
            Use("/new", "make", "directory", state="detached"),
            Use("/new/below", "make", "directory", state="detached"),
        ],
    ),
    "chroot": files(Use("", "chroot", "directory"), Use("sub/file", "read"), Use("file", "read")),
    "chroot_symlinks": files(Use("", "chroot", "directory"), Use("sub/file", "read"), Use("file", "read")),
    # the program's start finds no /proc below its root
    "chroot_execute": Evidence(
        _set(
            [
                Use("", "chroot", "directory"),
                Use("child", "execute"),
                uses("child", "map read", by="/child"),
                Use("proc/self/exe", "readlink", result="ENOENT", by="/child"),
            ]
        ),
        execs=frozenset({("/child", OPS)}),
    ),
    "pivot_root": _mounts(
        Mounted("bind", "", "", flags=("bind",)),
        Mounted("pivot_root", "", "target"),
        Mounted("umount", None, "/target", flags=("detach",)),
        files=[Use("/sub/file", "read")],
    ),
    "pid_namespace": _signals(("0", "self"), ("TERM", "workload")),
    "user_namespace": Evidence(),
    "io_uring": Evidence(),
}


class Places:
    """Turns the table's paths into those of a run, and a run's numbers into the table's words."""

    def __init__(self, directory: str, program: str) -> None:
        self.directory = directory
        self.program = program

    def absolute(self, path: str) -> str:
        if path == OPS:
            return self.program
        if path == LONG:
            return long_path(self.directory)
        if path.startswith(("/", "memfd:")):
            return path
        if path.startswith("{dir}"):
            return self.directory + path[5:]
        return f"{self.directory}/{path}" if path else self.directory

    def general(self, path: str) -> str:
        """A path of a trace with the numbers that differ from run to run as words."""
        path = re.sub(r"^/proc/(?!1/)\d+(/task/)\d+", r"/proc/{pid}\1{tid}", path)
        path = re.sub(r"^/proc/(?!1/)\d+", "/proc/{pid}", path)
        if path.startswith(self.directory + "/"):
            path = re.sub(r"/#\d+$", "/#{inode}", path)
            path = re.sub(r"/work-\w{6}$", "/work-{random}", path)
        return path

    def expected(self, evidence: Evidence) -> Evidence:
        """``evidence`` with absolute paths, the start of the program included."""

        def mount(row: Mounted) -> Mounted:
            source = row.source
            if source is not None and row.operation in ("bind", "move", "pivot_root"):
                source = self.absolute(source)
            return replace(row, source=source, target=None if row.target is None else self.absolute(row.target))

        return Evidence(
            files=frozenset(self._use(use) for use in (*evidence.files, *startup())),
            sockets=frozenset(
                replace(
                    row,
                    address=self.absolute(row.address)
                    if row.address and row.address.startswith("{dir}")
                    else row.address,
                )
                for row in evidence.sockets
            ),
            signals=evidence.signals,
            inspections=evidence.inspections,
            mounts=frozenset(mount(row) for row in evidence.mounts),
            execs=frozenset((self.absolute(program), self.absolute(by)) for program, by in evidence.execs),
            losses=evidence.losses,
            refused=evidence.refused and self.expected(evidence.refused),
        )

    def _use(self, use: Use) -> Use:
        return settled(
            replace(
                use,
                path=self.absolute(use.path),
                existing=None if use.existing is None else self.absolute(use.existing),
                by=self.absolute(use.by),
            )
        )


def settled(use: Use) -> Use:
    """``use`` with nothing said of what counts only for successes."""
    return replace(use, kind="unknown", state="linked", owner="") if use.failed else use
