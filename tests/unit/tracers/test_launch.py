"""The program is found as execvp(3) does it, started behind a gate, and its status is that of a shell."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from executables import write_program
from hypothesis import given
from hypothesis import strategies as st

from profiler.errors import CommandNotExecutable, CommandNotFound, ProfgenError
from profiler.tracers import launch
from profiler.tracers.base import Workload
from profiler.tracers.launch import find_program, quoted, shell_status, spawn

NOBODY = 65534


def script(path: Path, text: str = "#!/bin/sh\nexit 0\n", mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_program(path, text, mode)


# -- find_program ------------------------------------------------------------------------------------------------------


def test_first_in_the_path(tmp_path: Path) -> None:
    one, two = script(tmp_path / "one" / "tool"), script(tmp_path / "two" / "tool")
    assert find_program("tool", {"PATH": f"{tmp_path}/none:{tmp_path}/one:{tmp_path}/two"}) == str(one)
    one.unlink()
    assert find_program("tool", {"PATH": f"{tmp_path}/none:{tmp_path}/one:{tmp_path}/two"}) == str(two)


def test_passes_over_what_cannot_be_executed(tmp_path: Path) -> None:
    script(tmp_path / "one" / "tool", mode=0o644)
    (tmp_path / "dir" / "tool").mkdir(parents=True)
    good = script(tmp_path / "two" / "tool")
    assert find_program("tool", {"PATH": f"{tmp_path}/one:{tmp_path}/dir:{tmp_path}/two"}) == str(good)
    with pytest.raises(CommandNotExecutable, match="permission denied"):
        find_program("tool", {"PATH": f"{tmp_path}/one"})
    with pytest.raises(CommandNotExecutable, match="permission denied"):
        find_program("tool", {"PATH": f"{tmp_path}/one:{tmp_path}/none"})


def test_empty_part_is_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path / "tool")
    monkeypatch.chdir(tmp_path)
    for path in ("", ":/none", "/none:", "/none::/other", "."):
        assert os.path.samefile(find_program("tool", {"PATH": path}), tmp_path / "tool")


def test_without_path() -> None:
    assert os.path.samefile(find_program("sh", {}), "/bin/sh")
    with pytest.raises(CommandNotFound):
        find_program("profgen-no-such-command", {})


def test_with_a_slash_the_path_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path / "sub" / "tool")
    monkeypatch.chdir(tmp_path)
    assert find_program("sub/tool", {"PATH": "/none"}) == "sub/tool"
    assert find_program("./sub/tool", {}) == "./sub/tool"
    with pytest.raises(CommandNotFound):
        find_program("./tool", {"PATH": f"{tmp_path}/sub"})


@pytest.mark.parametrize(
    "command",
    ["", "profgen-no-such-command", "/none/such", "a" * 300, "a" * 10_000, "/" + "a/" * 3000, "\udcff\n\x1b[2J"],
)
def test_not_found(command: str) -> None:
    with pytest.raises(CommandNotFound) as caught:
        find_program(command, {"PATH": "/usr/bin:/bin"})
    assert caught.value.exit_code == 127
    assert str(caught.value).isprintable()


def test_not_executable(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    script(tmp_path / "plain", mode=0o644)
    for name, why in (("dir", "directory"), ("loop", "symbolic link"), ("plain", "permission denied")):
        with pytest.raises(CommandNotExecutable, match=why) as caught:
            find_program(f"{tmp_path}/{name}", {})
        assert caught.value.exit_code == 126
    with pytest.raises(CommandNotFound):
        find_program(f"{tmp_path}/plain/below", {})


def test_links_are_followed(tmp_path: Path) -> None:
    script(tmp_path / "tool")
    (tmp_path / "link").symlink_to("tool")
    (tmp_path / "broken").symlink_to("none")
    assert find_program(f"{tmp_path}/link", {}) == f"{tmp_path}/link"
    with pytest.raises(CommandNotFound):
        find_program(f"{tmp_path}/broken", {})


@given(st.text(max_size=30))
def test_quoted_is_safe_for_a_terminal(text: str) -> None:
    assert quoted(text).isprintable()
    assert quoted(text)[0] == quoted(text)[-1] == "'"


def test_as_env_finds_it(tmp_path: Path) -> None:
    """find_program finds the same file as env(1), which calls execvp, in a PATH with all kinds of parts."""
    script(tmp_path / "a" / "tool", "#!/bin/sh\necho a\n", 0o644)
    script(tmp_path / "c" / "tool", "#!/bin/sh\necho c\n")
    script(tmp_path / "d" / "tool", "#!/bin/sh\necho d\n")
    (tmp_path / "b" / "tool").mkdir(parents=True)
    path = ":".join(f"{tmp_path}/{name}" for name in "abcd") + ":/usr/bin:/bin"
    done = subprocess.run(["/usr/bin/env", "tool"], env={"PATH": path}, capture_output=True, timeout=120, check=False)
    assert done.stdout == b"c\n"
    assert find_program("tool", {"PATH": path}) == f"{tmp_path}/c/tool"


# -- spawn -------------------------------------------------------------------------------------------------------------


def workload(*argv: str, **more: object) -> Workload:
    fields: dict[str, object] = {"path": argv[0], "env": {"PATH": "/usr/bin:/bin"}, "cwd": "/"}
    return Workload(argv, **(fields | more))  # type: ignore[arg-type]


def run(work: Workload) -> tuple[int, ProfgenError | None]:
    child = spawn(work)
    child.release()
    _, status = os.waitpid(child.pid, 0)
    return shell_status(status), child.exec_failure()


def test_waits_at_its_gate(tmp_path: Path) -> None:
    child = spawn(workload("/bin/sh", "-c", f"echo ran > {tmp_path}/f; exit 5"))
    assert not (tmp_path / "f").exists()
    assert os.readlink(f"/proc/{child.pid}/exe") == os.readlink("/proc/self/exe"), "it is still profgen"
    child.release()
    assert shell_status(os.waitpid(child.pid, 0)[1]) == 5
    assert child.exec_failure() is None
    assert (tmp_path / "f").exists()


def test_gate_closed_without_release(tmp_path: Path) -> None:
    child = spawn(workload("/bin/sh", "-c", f"echo ran > {tmp_path}/f"))
    child.close()
    assert shell_status(os.waitpid(child.pid, 0)[1]) == 125
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("no program at all", CommandNotExecutable, "#!"),
        ("#!/none/such\n", CommandNotFound, "interpreter"),
        ("", CommandNotExecutable, "#!"),
        ("\x7fELF", CommandNotExecutable, ""),
    ],
)
def test_exec_failure(text: str, error: type[ProfgenError], says: str, tmp_path: Path) -> None:
    path = script(tmp_path / "f", text)
    status, failure = run(workload(str(path)))
    assert status == 125
    assert type(failure) is error
    assert says in str(failure)


def test_other_failures(tmp_path: Path) -> None:
    assert "changing directory" in str(run(workload("/bin/true", cwd=f"{tmp_path}/none"))[1])
    assert isinstance(run(workload("/none/such"))[1], CommandNotFound)
    too_long = run(workload("/bin/true", "x" * (1 << 18)))[1]
    assert isinstance(too_long, CommandNotExecutable)
    assert "too long" in str(too_long)
    if os.geteuid() != 0:
        assert "becoming the user" in str(run(workload("/bin/true", user=(0, 0, ())))[1])


def test_signals_and_masks() -> None:
    """The workload starts with the given mask and the default actions, whatever Python did to them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
    try:
        reading, writing = os.pipe()
        os.set_inheritable(writing, True)
        child = spawn(
            workload("/bin/bash", "-c", f"cat /proc/self/status >&{writing}", mask=frozenset({signal.SIGUSR2}))
        )
        child.release()
        os.close(writing)
        text = os.fdopen(reading).read()
        os.waitpid(child.pid, 0)
        child.close()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    fields = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    assert int(fields["SigBlk"], 16) == 1 << (signal.SIGUSR2 - 1)
    assert not int(fields["SigIgn"], 16) >> (signal.SIGPIPE - 1) & 1
    assert not int(fields["SigIgn"], 16) >> (signal.SIGXFSZ - 1) & 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it changes users")
def test_becomes_the_user_wholly() -> None:
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    child = spawn(workload("/bin/bash", "-c", f"cat /proc/self/status >&{writing}", user=(NOBODY, NOBODY, (1, 2))))
    child.release()
    os.close(writing)
    text = os.fdopen(reading).read()
    os.waitpid(child.pid, 0)
    child.close()
    fields = {key: value.split() for key, value in (line.split(":", 1) for line in text.splitlines())}
    assert fields["Uid"] == fields["Gid"] == [str(NOBODY)] * 4
    assert fields["Groups"] == ["1", "2"]
    assert int(fields["CapEff"][0], 16) == int(fields["CapPrm"][0], 16) == 0


def test_no_descriptor_is_left_to_it() -> None:
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    child = spawn(workload("/bin/bash", "-c", f"ls /proc/$$/fd >&{writing}"))
    child.release()
    os.close(writing)
    listed = {int(word) for word in os.fdopen(reading).read().split()}
    os.waitpid(child.pid, 0)
    child.close()
    inherited = {fd for fd in range(256) if _inheritable(fd)}
    assert {0, 1, 2, writing} <= listed <= inherited | {writing}


def _inheritable(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False


def test_before_user_runs_first() -> None:
    reading, writing = os.pipe()
    child = spawn(workload("/bin/true"), lambda: os.write(writing, f"{os.getpid()} {os.geteuid()}".encode()) and None)
    child.release()
    os.waitpid(child.pid, 0)
    child.close()
    os.close(writing)
    assert os.read(reading, 100).decode() == f"{child.pid} {os.geteuid()}"
    os.close(reading)


def test_before_user_fails() -> None:
    def fail() -> None:
        raise OSError(1, "no")

    child = spawn(workload("/bin/true"), fail)
    child.release()
    assert shell_status(os.waitpid(child.pid, 0)[1]) == 125
    assert "setting the filter: operation not permitted" in str(child.exec_failure())


@pytest.mark.parametrize(
    ("user", "controlling", "stream", "expected"),
    [
        (None, 34816, True, False),
        (os.geteuid(), 34816, True, False),
        (os.geteuid() + 1, 34816, True, True),
        (os.geteuid() + 1, 34816, False, True),
        (os.geteuid() + 1, 0, True, True),
        (os.geteuid() + 1, 0, False, False),
    ],
)
def test_who_endangers_the_terminal(
    user: int | None, controlling: int, stream: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user, with a controlling terminal or one that is open."""
    monkeypatch.setattr(launch, "controlling_terminal", lambda: controlling)
    fds = pty.openpty()
    real = os.isatty
    monkeypatch.setattr(os, "isatty", lambda fd: stream and fd in fds and real(fd))
    try:
        work = workload("/bin/true", user=None if user is None else (user, user, ()))
        assert launch.endangers_terminal(work) is expected
    finally:
        for fd in fds:
            os.close(fd)


# -- statuses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 126, 127, 128, 255])
def test_exit_status(code: int) -> None:
    done = subprocess.Popen([sys.executable, "-c", f"import os; os._exit({code})"])
    assert shell_status(os.waitpid(done.pid, 0)[1]) == code
    done.returncode = code


@pytest.mark.parametrize(
    "number", [signal.SIGHUP, signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGRTMAX], ids=str
)
def test_death_by_signal(number: int) -> None:
    child = spawn(workload("/bin/sh", "-c", f"ulimit -c 0; kill -{int(number)} $$"))
    child.release()
    status = os.waitpid(child.pid, 0)[1]
    child.close()
    assert shell_status(status) == 128 + number


def test_core_dumped_is_the_same() -> None:
    assert shell_status(signal.SIGSEGV | 0x80) == 128 + signal.SIGSEGV


# -- standing ----------------------------------------------------------------------------------------------------------

SAY = "from profiler.tracers.launch import standing; import os; os.write(9, ' '.join(standing()).encode())"


@pytest.mark.parametrize(
    ("streams", "words"),
    [
        ("</dev/null >out 2>&1", {"stdin_null", "stdout_file", "stderr_file"}),
        ("<out >/dev/zero 2>/dev/null", {"stdin_file", "stdout_device", "stderr_null"}),
        ("<&- 2>&1 | cat", {"stdin_closed", "stdout_pipe", "stderr_pipe"}),
    ],
)
def test_how_a_command_stands(streams: str, words: set[str], tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    subprocess.run(
        ["sh", "-c", f'exec 9>said; "$0" -c "$1" {streams}', sys.executable, SAY],
        cwd=tmp_path,
        check=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        timeout=60,
    )
    said = set((tmp_path / "said").read_text().split())
    assert said == words | {"no_group_leader", "no_session_leader", "no_pid_1", "no_terminal"}
