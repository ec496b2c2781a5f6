"""The ptrace tracer's evidence beyond the operations of tests/system: what depends on the process, and what must leave
nothing."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from profiler.trace.model import FILES_FEATURE, File, Trace
from profiler.trace.store import read_trace

PYTHON = "/usr/bin/python3"
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def recorded(directory: Path, *command: str | Path, options: tuple[str, ...] = (), **more: object) -> Trace:
    out = directory / "trace.json"
    argv = [
        sys.executable,
        "-m",
        "profiler",
        "record",
        "-q",
        "--tracer",
        "ptrace",
        *options,
        "-o",
        str(out),
        "--",
        *map(str, command),
    ]
    done = subprocess.run(argv, cwd=directory, capture_output=True, text=True, timeout=120, **more)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr
    return read_trace(out)


def python(directory: Path, code: str, **more: object) -> Trace:
    prelude = "import ctypes, os, socket, sys\nlibc = ctypes.CDLL(None, use_errno=True)\nhere = os.getcwd()\n"
    return recorded(directory, PYTHON, "-I", "-c", prelude + code, **more)  # type: ignore[arg-type]


def rows(trace: Trace, path: Path | str) -> dict[str, File]:
    return {row.access: row for row in trace.files if row.path == str(path)}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path.resolve()


@root_only
@pytest.mark.parametrize("mounts", [(), ("--mount-proc",)])
def test_proc_of_another_pid_namespace(mounts: tuple[str, ...], place: Path) -> None:
    """A process has the numbers of the /proc that it sees, whether that is of its own pid namespace or not."""
    trace = recorded(place, "unshare", "--pid", "--fork", *mounts, "cat", "/proc/self/status")
    (row,) = [row for row in trace.files if row.path.endswith("/status") and row.access == "read"]
    assert row.whose == "self"


def test_switched_off(place: Path) -> None:
    trace = recorded(place, "ls", "/", options=("--no-files",))
    assert FILES_FEATURE not in trace.meta.features
    assert not trace.has_files
    assert not any((trace.files, trace.sockets, trace.signals, trace.inspections, trace.mounts))


def test_every_program_lists_for_itself(place: Path) -> None:
    """The same process lists the same directory again, as another program."""
    (place / "sub").mkdir()
    trace = python(place, f"os.listdir('sub'); os.execv('/bin/ls', ['ls', '{place}/sub'])")
    row = rows(trace, place / "sub")["list"]
    assert {trace.programs[index].name for index in row.programs} == {Path(PYTHON).resolve().name, "ls"}


def test_looks_that_leave_nothing(place: Path) -> None:
    (place / "file").write_text("")
    code = """
os.stat("file"); os.access("file", os.F_OK); os.path.lexists("file")
libc.getxattr(b"file", b"user.none", None, 0)
libc.open(ctypes.c_void_p(1), 0)
libc.open(b"", 0)
os.open("file", os.O_PATH)
"""
    assert not [row for row in python(place, code).files if row.path.startswith(f"{place}/")]


def test_looks_that_fail(place: Path) -> None:
    (place / "file").write_text("")
    (place / "loop").symlink_to("loop")
    code = """
for name in ("no", "no/../file", "file/", "file/.", "loop", "x" * 300):
    try: os.stat(name)
    except OSError: pass
    else: raise SystemExit(name)
os.lstat("loop")
"""
    trace = python(place, code)
    found = {(row.path, result) for row in trace.files if row.path.startswith(f"{place}/") for result in row.results}
    names = {("no", "ENOENT"), ("file", "ENOENT"), ("file", "ENOTDIR"), ("loop", "ELOOP"), ("x" * 300, "ENAMETOOLONG")}
    assert found == {(f"{place}/{name}", result) for name, result in names}
    assert {row.access for row in trace.files if row.path.startswith(f"{place}/")} == {"look"}


@pytest.mark.skipif(
    os.geteuid() == 0 and not Path("/bin/setpriv").exists() and not Path("/usr/bin/setpriv").exists(),
    reason="needs setpriv",
)
def test_looks_that_are_refused(place: Path) -> None:
    """A file that is there and cannot be reached: not taken for found."""
    (place / "shut").mkdir()
    (place / "shut/file").write_text("")
    (place / "shut").chmod(0)
    for parent in (place, *place.parents):
        if parent.stat().st_uid == os.geteuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o055)
    (place / "shut").chmod(0)
    wrap = ("setpriv", "--reuid=65534", "--clear-groups") if os.geteuid() == 0 else ("env",)
    try:
        code = "import os\ntry: os.stat('shut/file')\nexcept PermissionError: pass\nelse: raise SystemExit(1)"
        trace = recorded(place, *wrap, PYTHON, "-I", "-c", code)
    finally:
        (place / "shut").chmod(0o700)
    assert rows(trace, place / "shut/file")["look"].results == {"EACCES": 1}


def test_new_or_not_at_all(place: Path) -> None:
    """O_CREAT with O_EXCL follows no link (open(2))."""
    (place / "link").symlink_to("target")
    trace = python(
        place,
        "import contextlib\nwith contextlib.suppress(FileExistsError): os.open('link', os.O_CREAT | os.O_EXCL "
        "| os.O_WRONLY)",
    )
    assert rows(trace, place / "link")["create"].results == {"EEXIST": 1}
    assert not rows(trace, place / "target")


def test_open_in_a_root_of_its_own(place: Path) -> None:
    (place / "etc").mkdir()
    (place / "etc/own").write_text("")
    code = """
import struct
at = os.open(".", os.O_PATH)
how = struct.pack("=QQQ", 0, 0, 0x10)
assert libc.syscall(437, at, b"/etc/own", how, 24) > 0
assert libc.syscall(437, at, b"/etc/none", how, 24) < 0
"""
    trace = python(place, code)
    assert rows(trace, place / "etc/own")["read"].results == {"ok": 1}
    assert rows(trace, place / "etc/none")["read"].results == {"ENOENT": 1}


@root_only
def test_owner_follows_the_filesystem_id(place: Path) -> None:
    (place / "one").write_text("")
    (place / "two").write_text("")
    for parent in (place, *place.parents):
        if parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o055)
    trace = python(place, "open('one').close()\nos.seteuid(65534)\nopen('two').close()")
    assert rows(trace, place / "one")["read"].owner == {"self"}
    assert rows(trace, place / "two")["read"].owner == {"other"}


def test_inherited_socket(place: Path) -> None:
    """A socket that was made before the recording began tells of itself."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as given:
        trace = python(place, f"socket.socket(fileno={given.fileno()}).setsockopt(1, 2, 1)", pass_fds=(given.fileno(),))
    found = {(row.family, row.type, row.protocol, row.operation) for row in trace.sockets if row.family == "inet6"}
    assert ("inet6", "dgram", 17, "setoption") in found
    assert ("inet6", "dgram", 17, "create") not in found


REFUSED = {"x86_64": (310, 438), "aarch64": (270, 438)}
"""process_vm_readv and pidfd_getfd."""


def _refuse() -> None:
    """From here on in this process: both answered EPERM, as by Docker 20.10's profile for a container without
    CAP_SYS_PTRACE."""
    libc = ctypes.CDLL(None, use_errno=True)
    load, equal, give = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
    numbers = REFUSED[platform.machine()]
    rows = [(load, 0, 0, 0), *((equal, len(numbers) - at, 0, number) for at, number in enumerate(numbers))]
    rows += [(give, 0, 0, 0x7FFF0000), (give, 0, 0, 0x00050000 | errno.EPERM)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *row) for row in rows))
    program = struct.pack("HxxxxxxQ", len(rows), ctypes.addressof(code))
    libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    if libc.prctl(22, 2, program, 0, 0) != 0:  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
        os._exit(99)


def test_nothing_is_missed_where_a_filter_is_in_the_way(place: Path) -> None:
    """Other processes' memory and sockets are looked at by other ways then."""
    code = """
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
accepted = server.accept()[0]
client.setsockopt(6, 1, 1); accepted.setsockopt(6, 1, 1)
names = socket.socket(socket.AF_UNIX); names.bind("name"); names.listen()
socket.socket(socket.AF_UNIX).connect("name")
socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 9).bind((0, 0))
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 9))
os.remove("name")
"""

    def seen(trace: Trace) -> tuple[object, ...]:
        return (
            {(row.path, row.access) for row in trace.files},
            {(row.family, row.type, row.protocol, row.operation, row.address) for row in trace.sockets},
        )

    assert seen(python(place, code, preexec_fn=_refuse)) == seen(python(place, code))


def test_socket_operations_are_counted_until_they_succeed(place: Path) -> None:
    code = """
a, b = socket.socketpair()
a.setblocking(False)
for _ in range(3):
    try: a.recv(1)
    except BlockingIOError: pass
for _ in range(50): b.send(b"x")
for _ in range(50): a.recv(1)
"""
    trace = python(place, code)
    by = {row.operation: row.results for row in trace.sockets if row.family == "unix" and row.address is None}
    assert by["receive"] == {"EAGAIN": 3, "ok": 1}
    assert by["send"] == {"ok": 1}


def test_other_processes(place: Path) -> None:
    """By every call that looks into one. The outside one is this test."""
    code = f"""
outside, own = {os.getpid()}, os.getpid()
libc.syscall(312, own, own, 0, 0, 0)
libc.syscall(312, own, outside, 0, 0, 0)
libc.process_vm_writev(outside, None, 0, None, 0, 0)
libc.ptrace(0x4206, 999999999, 0, 0)
pidfd = os.pidfd_open(own)
assert libc.syscall(438, pidfd, 0, 0) > 0
"""
    if platform.machine() != "x86_64":
        pytest.skip("numbers of x86-64")
    found = {(row.operation, row.whom) for row in python(place, code).inspections}
    assert found == {("read", "self"), ("read", "outside"), ("trace", "outside")}


def test_processes_below_proc(place: Path) -> None:
    code = f"""
import subprocess
open("/proc/self/stat").close(); open("/proc/{os.getpid()}/stat").close()
child = subprocess.Popen(["sleep", "60"])
open(f"/proc/{{child.pid}}/stat").close()
child.kill(); child.wait()
"""
    trace = python(place, code)
    assert {row.whose for row in trace.files if row.path.endswith("/stat") and row.path.count("/") == 3} == {
        "self",
        "workload",
        "outside",
    }
    assert rows(trace, f"/proc/{os.getpid()}/stat")["read"].whose == "outside"


SOCKETCALL = """
#include <sys/socket.h>
#include <netinet/in.h>
#include <linux/net.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(23461),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    long make[] = {AF_INET, SOCK_DGRAM, 0};
    int fd = syscall(SYS_socketcall, SYS_SOCKET, make);
    long bind[] = {fd, (long)&address, sizeof address}, send[] = {fd, (long)"x", 1, 0, (long)&address, sizeof address};
    return fd < 0 || syscall(SYS_socketcall, SYS_BIND, bind) || syscall(SYS_socketcall, SYS_SENDTO, send) != 1;
}
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="i386's own call")
def test_socketcall(place: Path) -> None:
    (place / "x.c").write_text(SOCKETCALL)
    subprocess.run(["gcc", "-m32", "-static", "-o", place / "x", place / "x.c"], check=True, timeout=60)
    found = {
        (row.family, row.type, row.protocol, row.operation, row.port) for row in recorded(place, place / "x").sockets
    }
    assert found == {
        ("inet", "dgram", 17, "create", None),
        ("inet", "dgram", 17, "bind", 23461),
        ("inet", "dgram", 17, "send", 23461),
    }
