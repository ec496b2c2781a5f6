"""Facts read from /proc and from files: programs, scripts, hashes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from executables import copy_program, write_program
from waiting import until

from profiler.trace.model import Program
from profiler.tracers import host as host_module
from profiler.tracers.host import absolute, host, identify_process, with_hashes

REAL_SH = os.path.realpath("/bin/sh")
ANSWER = "read x; echo; read x"


@contextmanager
def running(*argv: str | bytes, executable: str | None = None, **more: object) -> Iterator[int]:
    """Start a process and wait until it runs its program (it echoes a line, as cat does)."""
    process = subprocess.Popen(argv, executable=executable, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **more)  # type: ignore[call-overload]
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"\n"
    try:
        yield process.pid
    finally:
        process.communicate(timeout=120)


def script(path: Path, interpreter: str = "/bin/sh") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_program(path, f"#!{interpreter}\n{ANSWER}\n")


# -- programs ----------------------------------------------------------------------------------------------------------


def test_binary() -> None:
    with running("/bin/sh", "-c", ANSWER) as pid:
        assert identify_process(pid) == (REAL_SH, None, "/bin/sh")


def test_argv0_is_what_was_given() -> None:
    with running("another name", "-c", ANSWER, executable="/bin/sh") as pid:
        assert identify_process(pid) == (REAL_SH, None, "another name")
    with running(b"\xff\n", "-c", ANSWER, executable="/bin/sh") as pid:
        assert identify_process(pid) == (REAL_SH, None, "\udcff\n")


@pytest.mark.parametrize("how", ["absolute", "relative", "dotted", "link"])
def test_script(how: str, tmp_path: Path) -> None:
    path = script(tmp_path / "sub" / "tool")
    (tmp_path / "link").symlink_to("sub/tool")
    command = {
        "absolute": str(path),
        "relative": "sub/tool",
        "dotted": "./sub/../sub/./tool",
        "link": str(tmp_path / "link"),
    }[how]
    with running(command, cwd=tmp_path) as pid:
        # A script is known by the name by which it was executed, not by where a link of that name leads.
        assert identify_process(pid) == (str(tmp_path / "link" if how == "link" else path), REAL_SH, "/bin/sh")


def test_script_of_a_descriptor_is_its_interpreter(tmp_path: Path) -> None:
    """The number of a descriptor is not the name of a program."""
    script(tmp_path / "tool")
    fd = os.open(tmp_path / "tool", os.O_RDONLY)
    try:
        with running("tool", executable=f"/dev/fd/{fd}", pass_fds=[fd]) as pid:
            assert identify_process(pid) == (REAL_SH, None, "/bin/sh")
    finally:
        os.close(fd)


def test_script_of_a_script_is_the_outer_one(tmp_path: Path) -> None:
    inner = script(tmp_path / "inner")
    outer = script(tmp_path / "outer", str(inner))
    with running(str(outer)) as pid:
        found = identify_process(pid)
        assert found is not None
        assert found[:2] == (str(outer), REAL_SH)


def test_deleted_program(tmp_path: Path) -> None:
    copy = copy_program("/bin/cat", tmp_path / "cat")
    with running(str(copy)) as pid:
        os.unlink(copy)
        assert identify_process(pid) == (str(tmp_path / "cat"), None, str(copy))


def test_name_that_looks_deleted(tmp_path: Path) -> None:
    copy = copy_program("/bin/cat", tmp_path / "cat (deleted)")
    with running(str(copy)) as pid:
        assert identify_process(pid) == (str(copy), None, str(copy))


@pytest.mark.parametrize("name", ["a b", "a\nb", "\udcff", "\u00fc"])
def test_any_name(name: str, tmp_path: Path) -> None:
    copy = copy_program("/bin/cat", tmp_path / name)
    with running(str(copy)) as pid:
        assert identify_process(pid) == (f"{tmp_path}/{name}", None, f"{tmp_path}/{name}")


def test_changed_root(tmp_path: Path) -> None:
    """Paths are those that the process itself sees."""
    if os.geteuid() != 0 or not Path("/bin/busybox").exists():
        pytest.skip("needs root and a static program")
    (tmp_path / "bin").mkdir()
    copy_program("/bin/busybox", tmp_path / "bin" / "busybox")
    script(tmp_path / "bin" / "tool", "/bin/busybox sh")
    for command, found in (
        (["/bin/busybox", "cat"], ("/bin/busybox", None)),
        (["/bin/tool"], ("/bin/tool", "/bin/busybox")),
    ):
        with running("chroot", str(tmp_path), *command) as pid:
            identity = identify_process(pid)
            assert identity is not None
            assert identity[:2] == found


def test_memfd() -> None:
    fd = os.memfd_create("code")
    with open("/bin/sleep", "rb") as program:
        os.write(fd, program.read())
    pid = os.fork()
    if pid == 0:
        os.execve(fd, ["code", "60"], {})
    try:
        # an exec changes the file first and the arguments a moment later; a tracer looks when it is over
        while (found := identify_process(pid)) is not None and not (found[0].startswith("memfd:") and found[2]):
            pass
        assert found == ("memfd:code", None, "code")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(fd)


def test_gone() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    assert identify_process(process.pid) is None
    assert identify_process(2**22) is None


@pytest.mark.parametrize(
    ("directory", "name", "result"),
    [
        ("/a", "b", "/a/b"),
        ("/a", "./b", "/a/b"),
        ("/a/c", "../b", "/a/b"),
        ("/", "../../b", "/b"),
        ("/a", "/b//c/./d", "/b/c/d"),
        ("/a", "//b", "/b"),
        ("/a", "///b", "/b"),
        ("/a b", "c\nd", "/a b/c\nd"),
        ("/a", "\udcff", "/a/\udcff"),
    ],
)
def test_absolute(directory: str, name: str, result: str) -> None:
    assert absolute(directory, name) == result


# -- hashes ------------------------------------------------------------------------------------------------------------


def build_id(path: str | Path) -> str | None:
    """Return the build-id that readelf prints."""
    text = subprocess.run(["readelf", "-n", str(path)], capture_output=True, text=True, timeout=120, check=True).stdout
    return next((line.split(":")[1].strip() for line in text.splitlines() if "Build ID" in line), None)


@pytest.mark.parametrize(
    "path", ["/bin/ls", "/bin/sh", "/usr/bin/python3", sys.executable, "/lib64/ld-linux-x86-64.so.2", "/bin/busybox"]
)
def test_hashes_of_programs(path: str) -> None:
    if not os.path.exists(path):
        pytest.skip(f"there is no {path} here")
    real = os.path.realpath(path)
    program = with_hashes(Program(real, None, "x", executions=3))
    assert program == Program(real, None, "x", hashlib.sha256(Path(real).read_bytes()).hexdigest(), build_id(real), 3)


@pytest.mark.parametrize("style", ["none", "sha1", "md5", "uuid", "0xdeadbeef"])
@pytest.mark.parametrize("bits", ["-m64", "-m32"])
def test_build_id_styles(style: str, bits: str, tmp_path: Path) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("-m32 is of x86-64")
    source = tmp_path / "x.c"
    source.write_text("void _start(void) { for (;;); }\n")
    built = tmp_path / "x"
    subprocess.run(
        ["gcc", bits, "-nostdlib", "-static", f"-Wl,--build-id={style}", "-o", built, source],
        check=True,
        timeout=60,
        capture_output=True,
    )
    found = with_hashes(Program(str(built))).build_id
    assert found == build_id(built)
    assert (found is None) is (style == "none")


def test_changed_file_is_hashed_again(tmp_path: Path) -> None:
    path = script(tmp_path / "x")
    first = with_hashes(Program(str(path)))
    assert first.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert first.build_id is None
    path.write_text("other")
    assert with_hashes(Program(str(path))).sha256 == hashlib.sha256(b"other").hexdigest()


@pytest.mark.parametrize("path", ["/none/such", "(unknown)", "", "/dev/null", "/tmp", "/a\0b", "/proc/self/mem"])
def test_no_hash(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("(unknown)").write_text("a trap: a relative name is not what was executed")
    program = with_hashes(Program(path))
    assert (program.sha256, program.build_id) == (None, None)


def test_truncated_elf(tmp_path: Path) -> None:
    data = Path("/bin/ls").read_bytes()
    for size in (4, 5, 64, 0x370, 0x380):
        (tmp_path / "x").write_bytes(data[:size])
        assert with_hashes(Program(str(tmp_path / "x"))).sha256


def test_this_host() -> None:
    here = host()
    assert here.kernel == platform.release()
    assert here.distribution is None or here.distribution in Path("/etc/os-release").read_text()
    assert here.libc is None or here.libc.split()[0] in ("glibc", "musl")


@pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
def test_who_uses_a_terminal(stream: str) -> None:
    """A process with a stream there, in whatever session; not one without, and not one that is gone."""
    master, slave = pty.openpty()
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with contextlib.ExitStack() as stack:
        for fd in (master, slave):
            stack.callback(os.close, fd)
        for given, expected in (({**streams, stream: slave}, True), (streams, False)):
            process = subprocess.Popen(["sleep", "600"], start_new_session=True, **given)
            try:
                assert host_module.uses_terminal(process.pid, slave) is expected
            finally:
                process.kill()
                process.wait()
            assert not host_module.uses_terminal(process.pid, slave)


def test_a_process_of_the_same_session_uses_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_module, "controlling_terminal", lambda pid=None: 34816 if pid in (None, 7) else 0)
    assert host_module.uses_terminal(7, 2)
    assert not host_module.uses_terminal(0, 2)


def test_controlling_terminal() -> None:
    """That of a shell on a terminal is the terminal's device number (proc_pid_stat(5))."""
    master, slave = pty.openpty()
    process = subprocess.Popen(["setsid", "--ctty", "cat"], stdin=slave, stdout=slave, stderr=slave)
    number = os.fstat(slave).st_rdev
    try:
        until(lambda: host_module.controlling_terminal(process.pid), "the process has a terminal")
        found = host_module.controlling_terminal(process.pid)
        assert (found >> 8 & 0xFFF, found & 0xFF | found >> 12 & 0xFFF00) == (os.major(number), os.minor(number))
    finally:
        process.kill()
        process.wait()
        os.close(master)
        os.close(slave)
    assert host_module.controlling_terminal(process.pid) == 0
