"""A good wrapper: the workload hardly notices profgen, and no failure of either costs a file or leaves a process
behind."""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import shlex
import signal
import stat
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from executables import copy_program, write_program
from system.harness import (
    NOBODY,
    TIMEOUT,
    Profgen,
    Until,
    bpf_exists,
    bpf_objects,
    descendants,
    environment,
    finish,
    state_of,
    with_argument,
)
from system.terminals import Terminal

from profiler.kernel.abi import native_abi
from profiler.kernel.syscalls import number_of

OLD = b"an older file\n"


def trace_in(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_bytes())
    assert document["schema"] == "profgen.trace/1"
    return document


def one_line(text: str) -> None:
    assert text.startswith("profgen: ")
    assert text.endswith("\n")
    assert text.count("\n") == 1, f"more than one line: {text!r}"
    assert "Traceback" not in text


# Input, output, environment


def test_stdin_and_stdout(tracer: str, profgen: Profgen, tmp_path: Path) -> None:
    data = bytes(range(256)) * 300
    process = profgen.start(
        "record", "--tracer", tracer, "-o", "out.json", "--", "cat", cwd=tmp_path, stdin=subprocess.PIPE
    )
    stdout, stderr = finish(process, stdin=data)
    assert process.returncode == 0, stderr
    assert stdout == data, "profgen touched the workload's input or output"
    assert trace_in(tmp_path / "out.json")["meta"]["complete"] is True


def test_quiet_and_plain(tracer: str, profgen: Profgen, tmp_path: Path) -> None:
    quiet = profgen.record(tracer, ["sh", "-c", "echo out; echo err >&2"], cwd=tmp_path, options=["--quiet"])
    assert (quiet.status, quiet.stdout, quiet.stderr) == (0, b"out\n", "err\n")
    loud = profgen.record(tracer, ["true"], cwd=tmp_path)
    assert loud.status == 0
    assert loud.stdout == b""
    assert "profgen generate" in loud.stderr, "the summary names the next command"
    assert all(line.startswith("profgen: ") for line in loud.stderr.splitlines())
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", loud.stderr), "terminal codes without a terminal"


def test_default_output_is_named_after_the_command(profgen: Profgen, tmp_path: Path) -> None:
    assert profgen("record", "--tracer", "ptrace", "-q", "--", "/bin/true", cwd=tmp_path).returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["true.trace.json"]


def test_options_behind_the_command_are_the_commands(profgen: Profgen, tmp_path: Path) -> None:
    result = profgen(
        "record", "--tracer", "ptrace", "-q", "-o", "out.json", "printf", "%s|", "-o", "--help", "--", cwd=tmp_path
    )
    assert (result.returncode, result.stdout) == (0, "-o|--help|--|")


_STATE = (
    "import os, re, resource; print(open('/proc/self/limits').read());"
    "print(re.findall('(?:Sig[BIC]|Shd|Cap|Umask|Uid|Gid|Groups).*', open('/proc/self/status').read()));"
    "print(os.getcwd(), os.nice(0), os.getpgrp() == os.getpgid(os.getppid()), sorted(os.environ.items()), "
    "os.sched_getaffinity(0));"
    "fds = [(fd, '/proc/self/fd/' + fd) for fd in sorted(os.listdir('/proc/self/fd'))];"
    "print([(fd, os.path.exists(link) and os.readlink(link)) for fd, link in fds])"
)


def test_process_state_is_untouched(tracer: str, profgen: Profgen, tmp_path: Path) -> None:
    """Limits, signal mask and dispositions, capabilities, umask, ids, environment, open files: as without profgen."""
    command = ["/usr/bin/python3", "-I", "-S", "-c", _STATE]
    read, write = os.pipe()
    high = (fcntl.fcntl(read, fcntl.F_DUPFD, 217), fcntl.fcntl(write, fcntl.F_DUPFD, 219))
    try:
        settings: dict[str, Any] = {
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "stdin": subprocess.DEVNULL,
            "pass_fds": high,
        }
        bare = subprocess.run(
            command, cwd=tmp_path, env=environment(), start_new_session=True, timeout=TIMEOUT, **settings
        ).stdout.decode()
        process = profgen.start(
            "record", "--tracer", tracer, "-q", "-o", "out.json", "--", *command, cwd=tmp_path, pass_fds=high
        )
        stdout, stderr = finish(process)
    finally:
        for fd in (read, write, *high):
            os.close(fd)
    assert process.returncode == 0, stderr

    def comparable(text: str) -> list[str]:
        # Each run has output pipes of its own, and the child of pytest is in no group of its parent.
        text = re.sub(r"\('([12])', '[^']*'\)", r"\1", text).replace(" True ", " False ")
        return text.splitlines()

    assert comparable(stdout.decode()) == comparable(bare)


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_files(closed: str, tracer: str, profgen: Profgen, tmp_path: Path) -> None:
    """What was closed stays closed for the workload, and no file of profgen's own takes the place of standard error."""
    command = ["sh", "-c", "echo hello; echo hello >&2; read x; exit 3"]
    script = 'exec "$@" ' + closed
    args = ["sh", "-c", script, "sh", *profgen.command, "record", "--tracer", tracer, "-o", "out.json", "--", *command]
    process = subprocess.Popen(
        args,
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    _, stderr = finish(process)
    assert process.returncode == 3, stderr
    assert trace_in(tmp_path / "out.json")["meta"]["exit_status"] == 3


# Exit status


@pytest.mark.parametrize(
    ("command", "status"),
    [("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143), ("exit 255", 255)],
)
def test_exit_status(command: str, status: int, tracer: str, profgen: Profgen, tmp_path: Path) -> None:
    recording = profgen.record(tracer, ["sh", "-c", command], cwd=tmp_path)
    assert recording.status == status, recording.stderr
    assert recording.meta["exit_status"] == status
    assert recording.meta["complete"] is True


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("no-such-command", 127),
        ("./no-such-file", 127),
        ("", 127),
        ("./plain", 126),
        ("./directory", 126),
        ("./plain/below", 127),
        ("./noise", 126),
        ("./script", 127),
        ("./loop", 126),
    ],
)
def test_cannot_execute(name: str, status: int, tracer: str, profgen: Profgen, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("#!/bin/sh\n")
    (tmp_path / "directory").mkdir()
    for file, text in (("noise", "no program\n"), ("script", "#!/no/such/interpreter\n")):
        write_program(tmp_path / file, text)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "out.json").write_bytes(OLD)
    before = sorted(path.name for path in tmp_path.iterdir())
    recording = profgen.record(tracer, [name], cwd=tmp_path)
    assert recording.status == status, recording.stderr
    one_line(recording.stderr)
    assert (tmp_path / "out.json").read_bytes() == OLD
    assert sorted(path.name for path in tmp_path.iterdir()) == before


# Signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signal_reaches_the_workload_once(
    number: signal.Signals, tracer: str, profgen: Profgen, torture: Path, tmp_path: Path
) -> None:
    process = profgen.start(
        "record", "--tracer", tracer, "-o", "out.json", "--", str(torture / "wrapped"), "count", cwd=tmp_path
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    _, stderr = finish(process)
    assert process.returncode == 41, stderr
    meta = trace_in(tmp_path / "out.json")["meta"]
    assert (meta["complete"], meta["exit_status"]) == (True, 41)


def test_trap_of_a_shell(tracer: str, profgen: Profgen, tmp_path: Path) -> None:
    command = "trap 'exit 42' TERM; echo ready; while :; do sleep 0.05; done"
    process = profgen.start("record", "--tracer", tracer, "-o", "out.json", "--", "sh", "-c", command, cwd=tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    _, stderr = finish(process)
    assert process.returncode == 42, stderr
    assert trace_in(tmp_path / "out.json")["meta"]["complete"] is True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_death_by_forwarded_signal(
    number: signal.Signals, tracer: str, profgen: Profgen, torture: Path, tmp_path: Path
) -> None:
    process = profgen.start(
        "record", "--tracer", tracer, "-o", "out.json", "--", str(torture / "wrapped"), "forever", cwd=tmp_path
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    _, stderr = finish(process)
    assert process.returncode == 128 + number, stderr
    assert trace_in(tmp_path / "out.json")["meta"]["complete"] is True


def test_a_second_signal_after_the_end(tracer: str, profgen: Profgen, tmp_path: Path) -> None:
    """Whenever it comes, the trace is whole and the status is the workload's."""
    script = "trap 'exit 42' TERM; echo ready; while :; do sleep 0.05; done"
    process = profgen.start("record", "--tracer", tracer, "-o", "out.json", "--", "sh", "-c", script, cwd=tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    until = time.monotonic() + TIMEOUT
    while process.poll() is None:
        process.send_signal(signal.SIGTERM)
        time.sleep(0.001)
        assert time.monotonic() < until
    _, stderr = finish(process)
    assert process.returncode == 42, stderr
    assert "wrote out.json" in stderr
    assert trace_in(tmp_path / "out.json")["meta"]["complete"] is True


def executable_of(pid: int) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return None


def command_line_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_signal_ends_what_outlives_the_command(
    tracer: str, profgen: Profgen, torture: Path, tmp_path: Path, until: Until
) -> None:
    """When the command has ended and its daemon has not, the recording goes on; a signal ends it with the command's
    status."""
    word = f"w{secrets.token_hex(8)}"
    command = [str(torture / "wrapped"), "leaves_forever", word]
    process = profgen.start("record", "--tracer", tracer, "-o", "out.json", "--", *command, cwd=tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"

    def only_the_daemon() -> bool:
        """Whether the command has ended and profgen has reaped it."""
        workload = [pid for pid in with_argument(word) if executable_of(pid) == command[0]]
        # A process that is ending has no command line any more, and later it is a zombie: it is looked for afterwards.
        ending = [pid for pid in descendants(process.pid) if not command_line_of(pid)]
        return len(workload) == 1 and not ending

    until(only_the_daemon, "the command itself ends")
    assert process.poll() is None, "profgen did not wait for the daemon"
    process.send_signal(signal.SIGTERM)
    _, stderr = finish(process)
    assert process.returncode == 5, stderr
    assert trace_in(tmp_path / "out.json")["meta"]["exit_status"] == 5
    assert not with_argument(word)


@pytest.mark.usefixtures("as_root")
def test_signal_while_the_command_is_ending(tracer: str, profgen: Profgen, tmp_path: Path, until: Until) -> None:
    """The command cannot take it any more, so it ends the rest. profgen is stopped until the command is ending."""
    script = "sleep 600 & echo ready; read first; echo $$; read second; exit 5"
    process = profgen.start(
        "record", "--tracer", tracer, "-o", "out.json", "--", "sh", "-c", script, cwd=tmp_path, stdin=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.stdin.write(b"\n")
    process.stdin.flush()
    main = int(process.stdout.readline())
    # Before it waits in read(2), a tracer may hold it there, and would for as long as profgen is stopped.
    until(lambda: in_call(main, "read") and state_of(main) == "S", "the command reads again")
    process.send_signal(signal.SIGSTOP)
    until(lambda: state_of(process.pid) == "T", "profgen stops")
    process.stdin.write(b"\n")
    process.stdin.flush()
    until(lambda: state_of(main) == "Z" or in_call(main, "exit_group"), "the command is ending")
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    _, stderr = finish(process)
    assert process.returncode == 5, stderr
    assert trace_in(tmp_path / "out.json")["meta"]["complete"] is True


def in_call(pid: int, name: str) -> bool:
    """Whether a process is in this call (proc_pid_syscall(5)), waiting in it or stopped."""
    text = Path(f"/proc/{pid}/syscall").read_text()
    return text.split()[0] == str(number_of(native_abi(), name))


def test_terminal_passes(tracer: str, profgen: Profgen, tmp_path: Path) -> None:
    command = ["sh", "-c", 'test -t 0 -a -t 1 -a -t 2 && tty >/dev/null && read line && echo "got $line" && exit 9']
    terminal = Terminal(profgen, ["record", "--tracer", tracer, "-o", "out.json", "--", *command], tmp_path)
    terminal.type(b"some words\n")
    assert terminal.status() == 9, terminal.output
    assert b"got some words" in terminal.output
    assert trace_in(tmp_path / "out.json")["meta"]["complete"] is True


@pytest.mark.parametrize(("key", "status"), [(b"\x03", 130), (b"\x1c", 131)])
def test_key_reaches_the_workload(
    key: bytes, status: int, tracer: str, profgen: Profgen, torture: Path, tmp_path: Path
) -> None:
    """Ctrl-C and Ctrl-\\ typed at the terminal: the workload dies of it, profgen writes the trace."""
    terminal = Terminal(
        profgen, ["record", "--tracer", tracer, "-o", "out.json", "--", str(torture / "wrapped"), "forever"], tmp_path
    )
    terminal.read_until(b"ready")
    terminal.type(key)
    assert terminal.status() == status, terminal.output
    meta = trace_in(tmp_path / "out.json")["meta"]
    assert (meta["complete"], meta["exit_status"]) == (True, status)
    assert b"Traceback" not in terminal.output


def test_ctrl_c_comes_once(tracer: str, profgen: Profgen, torture: Path, tmp_path: Path) -> None:
    terminal = Terminal(
        profgen, ["record", "--tracer", tracer, "-o", "out.json", "--", str(torture / "wrapped"), "count"], tmp_path
    )
    terminal.read_until(b"ready")
    terminal.type(b"\x03")
    assert terminal.status() == 41, terminal.output
    assert trace_in(tmp_path / "out.json")["meta"]["complete"] is True


def test_ctrl_z_and_fg(tracer: str, profgen: Profgen, torture: Path, tmp_path: Path, until: Until) -> None:
    """Under a shell with job control Ctrl-Z stops both, and fg continues both."""
    shell = Profgen()
    shell.command = ["bash", "--norc", "--noprofile", "-i"]
    words = ["record", "--tracer", tracer, "-q", "-o", "out.json", "--", str(torture / "wrapped"), "count"]
    line = shlex.join([*profgen.command, *words])
    job = Terminal(shell, [], tmp_path)
    job.type(f"PS1='prompt''> '; {line}\n".encode())
    job.read_until(b"ready\r\n")
    job.type(b"\x1a")
    job.read_until(b"Stopped")
    until(lambda: os.tcgetpgrp(job.master) == job.process.pid, "the shell is in the foreground")
    job.type(b"echo still; fg >/dev/null\n")
    job.read_until(b"still\r\n")
    until(lambda: os.tcgetpgrp(job.master) != job.process.pid, "the job is in the foreground again")
    job.type(b"\x03")
    job.read_until(b"prompt> ")
    job.type(b"echo status=$?\n")
    job.read_until(b"status=41")
    job.type(b"exit\n")
    job.status()
    assert trace_in(tmp_path / "out.json")["meta"]["complete"] is True


# Duration


def test_duration_ends_an_endless_workload(tracer: str, profgen: Profgen, torture: Path, tmp_path: Path) -> None:
    recording = profgen.record(
        tracer, [str(torture / "wrapped"), "forever"], cwd=tmp_path, options=["--duration", "0.7"]
    )
    assert recording.status == 143, recording.stderr
    assert recording.meta["complete"] is True
    assert recording.meta["duration"] >= 0.7


def test_duration_kills_what_ignores_it(profgen: Profgen, torture: Path, tmp_path: Path) -> None:
    """SIGTERM, then SIGKILL after a grace: all tracers at once, as the grace is long."""
    from system.harness import why_no_ebpf

    tracers = ["ptrace"] if why_no_ebpf() else ["ptrace", "ebpf"]
    command = [str(torture / "wrapped"), "stubborn"]
    runs = [
        profgen.start(
            "record", "--tracer", name, "--duration", "0.5", "-o", f"{name}.json", "--", *command, cwd=tmp_path
        )
        for name in tracers
    ]
    errors = [finish(process)[1] for process in runs]
    assert [process.returncode for process in runs] == [137] * len(tracers), errors
    for name in tracers:
        assert trace_in(tmp_path / f"{name}.json")["meta"]["complete"] is True


def test_duration_longer_than_the_workload(tracer: str, profgen: Profgen, tmp_path: Path) -> None:
    recording = profgen.record(tracer, ["sh", "-c", "exit 4"], cwd=tmp_path, options=["--duration", "50"])
    assert recording.status == 4
    assert recording.meta["duration"] < 40


@pytest.mark.usefixtures("as_root")
def test_duration_reaches_into_a_pid_namespace(tracer: str, profgen: Profgen, torture: Path, tmp_path: Path) -> None:
    """Process 1 of a namespace ignores SIGTERM unless it has a handler; its children are reached all the same."""
    word = f"w{secrets.token_hex(8)}"
    command = [
        "unshare",
        "--pid",
        "--fork",
        "sh",
        "-c",
        f"trap 'exit 3' TERM; {torture}/wrapped forever {word} & wait; exit 5",
    ]
    recording = profgen.record(tracer, command, cwd=tmp_path, options=["--duration", "1"])
    assert recording.status != 0
    assert recording.meta["duration"] < 9, "it had to be killed"
    assert recording.meta["complete"] is True
    assert not with_argument(word)


@pytest.mark.parametrize("files", [8, 16, 40])
def test_few_file_descriptors(files: int, tracer: str, profgen: Profgen, tmp_path: Path) -> None:
    """With RLIMIT_NOFILE low it works, or says so in one line before the workload starts."""
    low = Profgen(prefix=["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh"])
    recording = low.record(tracer, ["touch", "marker"], cwd=tmp_path)
    if recording.status == 0:
        assert recording.meta["complete"] is True
        assert (tmp_path / "marker").exists()
    else:
        assert recording.status == 125, recording.stderr
        assert "internal error" not in recording.stderr
        assert not (tmp_path / "marker").exists()
        assert not (tmp_path / "out.json").exists()
        one_line(recording.stderr)


# Users


@pytest.mark.parametrize("kilobytes", range(20_000, 80_000, 7_000))
def test_little_memory(kilobytes: int, tracer: str, profgen: Profgen, tmp_path: Path) -> None:
    """With RLIMIT_AS low it works, or says in one line that memory is short. The workload has the limit too."""
    low = Profgen(prefix=["sh", "-c", f'ulimit -v {kilobytes}; exec "$@"', "sh"])
    result = low("record", "-q", "--tracer", tracer, "-o", "out.json", "--", "/bin/true", cwd=tmp_path)
    if result.returncode:
        assert result.returncode == 125, result.stderr
        last = result.stderr.splitlines()[-1]
        assert last.startswith("profgen: ")
        assert "internal error" not in result.stderr
        assert "Traceback" not in result.stderr


@pytest.mark.usefixtures("as_root")
class TestUsers:
    command = ("sh", "-c", "id -u; id -ru; id -g; id -G")

    def test_user_option(self, tracer: str, profgen: Profgen, tmp_path: Path) -> None:
        recording = profgen.record(tracer, self.command, cwd=tmp_path, options=["--user", "nobody"])
        assert recording.status == 0, recording.stderr
        assert recording.stdout.split() == [b"65534"] * 4
        assert recording.meta["uid"] == NOBODY
        assert (tmp_path / "out.json").stat().st_uid == 0

    def test_user_option_by_number(self, tracer: str, profgen: Profgen, tmp_path: Path) -> None:
        recording = profgen.record(tracer, self.command, cwd=tmp_path, options=["--user", "54321"])
        assert recording.status == 0, recording.stderr
        assert recording.stdout.split() == [b"54321"] * 4

    def test_user_loses_capabilities(self, tracer: str, profgen: Profgen, tmp_path: Path) -> None:
        recording = profgen.record(
            tracer,
            ["grep", "-E", "Cap(Prm|Eff|Inh|Amb)", "/proc/self/status"],
            cwd=tmp_path,
            options=["--user", "nobody"],
        )
        assert re.findall(rb"[0-9a-f]{16}", recording.stdout) == [b"0" * 16] * 4

    def test_program_that_only_root_may_execute(
        self, tracer: str, profgen: Profgen, torture: Path, public_dir: Path, tmp_path: Path
    ) -> None:
        program = copy_program(torture / "leaf", public_dir / f"roots-{tracer}", 0o700)
        (tmp_path / "out.json").write_bytes(OLD)
        recording = profgen.record(tracer, [str(program)], cwd=tmp_path, options=["--user", "nobody"])
        assert recording.status == 126, recording.stderr
        one_line(recording.stderr)
        assert (tmp_path / "out.json").read_bytes() == OLD

    def test_sudo(self, tracer: str, profgen: Profgen, nobodys_dir: Path) -> None:
        sudo = {"SUDO_UID": str(NOBODY), "SUDO_GID": str(NOBODY)}
        recording = profgen.record(tracer, self.command, cwd=nobodys_dir, env=sudo)
        assert recording.status == 0, recording.stderr
        assert recording.stdout.split() == [b"65534"] * 4
        status = (nobodys_dir / "out.json").stat()
        assert (status.st_uid, status.st_gid) == (NOBODY, NOBODY)
        assert recording.meta["uid"] == NOBODY
        root = profgen.record(tracer, self.command, cwd=nobodys_dir, env=sudo, options=["--user", "root"])
        assert root.stdout.split()[:2] == [b"0", b"0"], root.stderr

    def test_sudo_cannot_write_where_the_user_cannot(
        self, tracer: str, profgen: Profgen, tmp_path: Path, public_dir: Path
    ) -> None:
        """Root's rights are not lent to the user for the output file."""
        closed = public_dir / f"closed-{tracer}"
        closed.mkdir(mode=0o755)
        sudo = {"SUDO_UID": str(NOBODY), "SUDO_GID": str(NOBODY)}
        marker = public_dir / f"marker-{tracer}"
        recording = profgen.record(tracer, ["touch", str(marker)], cwd=closed, env=sudo)
        assert recording.status == 125
        one_line(recording.stderr)
        assert not list(closed.iterdir())
        assert not marker.exists()

    @pytest.mark.parametrize("value", ["", "x", "-1", "99999999999999999999", "0"])
    def test_strange_sudo_variables(self, value: str, profgen: Profgen, tmp_path: Path) -> None:
        """Not a user id: never a crash, never a half-dropped identity."""
        recording = profgen.record("ptrace", ["id", "-u"], cwd=tmp_path, env={"SUDO_UID": value, "SUDO_GID": value})
        assert "Traceback" not in recording.stderr
        assert "internal error" not in recording.stderr
        assert (recording.status, recording.stdout) == (0, b"0\n") or (
            recording.status in (2, 125) and recording.stdout == b""
        )


def test_unknown_user(profgen: Profgen, tmp_path: Path) -> None:
    recording = profgen.record("ptrace", ["touch", "marker"], cwd=tmp_path, options=["--user", "no-such-user"])
    assert recording.status == 2
    one_line(recording.stderr)
    assert not list(tmp_path.iterdir())


def test_ordinary_user(ordinary: Profgen, nobodys_dir: Path) -> None:
    recording = ordinary.record("ptrace", ["id", "-u"], cwd=nobodys_dir)
    uid = os.geteuid() or NOBODY
    assert recording.status == 0, recording.stderr
    assert recording.stdout == f"{uid}\n".encode()
    assert recording.meta["uid"] == uid
    assert recording.meta["no_new_privs"] is True
    assert recording.meta["complete"] is True


def test_ordinary_user_cannot_become_another(ordinary: Profgen, nobodys_dir: Path) -> None:
    recording = ordinary.record("ptrace", ["id", "-u"], cwd=nobodys_dir, options=["--user", "root"])
    assert recording.status == 2
    one_line(recording.stderr)


def test_ordinary_user_with_ebpf_is_told(ordinary: Profgen, nobodys_dir: Path) -> None:
    recording = ordinary.record("ebpf", ["touch", "marker"], cwd=nobodys_dir)
    assert recording.status == 125
    one_line(recording.stderr)
    assert not (nobodys_dir / "marker").exists()


def test_auto_falls_back_for_an_ordinary_user(ordinary: Profgen, nobodys_dir: Path) -> None:
    recording = ordinary.record("auto", ["true"], cwd=nobodys_dir)
    assert recording.status == 0, recording.stderr
    assert recording.meta["tracer"] == "ptrace"


# Output files


@pytest.mark.parametrize(
    "where", ["no/such/directory/out.json", "directory", "file/out.json", "link-to-nowhere/out.json"]
)
def test_unwritable_output_is_said_first(where: str, tracer: str, profgen: Profgen, tmp_path: Path) -> None:
    (tmp_path / "directory/touch.trace.json").mkdir(parents=True)
    (tmp_path / "file").write_bytes(OLD)
    (tmp_path / "link-to-nowhere").symlink_to("nowhere")
    before = sorted(path.name for path in tmp_path.rglob("*"))
    result = profgen("record", "--tracer", tracer, "-o", where, "--", "touch", "marker", cwd=tmp_path)
    assert result.returncode == 125, result.stderr
    one_line(result.stderr)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before, "the workload ran, or something was written"
    assert (tmp_path / "file").read_bytes() == OLD


def test_unwritable_directory(ordinary: Profgen, tmp_path: Path, public_dir: Path, nobodys_dir: Path) -> None:
    closed = public_dir / "closed"
    closed.mkdir(mode=0o755)
    (closed / "out.json").write_bytes(OLD)
    if os.geteuid() != 0:
        closed.chmod(0o555)
    result = ordinary(
        "record", "--tracer", "ptrace", "-o", closed / "out.json", "--", "touch", "marker", cwd=nobodys_dir
    )
    assert result.returncode == 125, result.stderr
    one_line(result.stderr)
    assert not (nobodys_dir / "marker").exists()
    assert (closed / "out.json").read_bytes() == OLD


_ON_SMALL_DISK = """
mount -t tmpfs -o size="$1" none "$2" || exit 77
printf 'an older file\\n' > "$2/out.json"
[ "$3" = full ] && cat /dev/zero > "$2/filler" 2>/dev/null
cd "$2" || exit 77
shift 3
"$@"
status=$?
cp out.json ../kept.json
ls -A > ../names
exit $status
"""


def on_small_disk(
    profgen: Profgen, tmp_path: Path, size: str, how: str, args: Sequence[str]
) -> subprocess.CompletedProcess[str]:
    """Run profgen on a tiny file system of its own, which holds an older out.json; afterwards it is kept.json and
    names."""
    (tmp_path / "disk").mkdir()
    prefix = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        _ON_SMALL_DISK,
        "sh",
        size,
        str(tmp_path / "disk"),
        how,
    ]
    private = Profgen()
    private.command = [*prefix, *profgen.command]
    return private(*args, cwd=tmp_path)


@pytest.mark.usefixtures("as_root")
def test_full_disk_is_said_first(tracer: str, profgen: Profgen, tmp_path: Path) -> None:
    args = ["record", "--tracer", tracer, "-o", "out.json", "--", "touch", str(tmp_path / "marker")]
    result = on_small_disk(profgen, tmp_path, "64k", "full", args)
    assert result.returncode == 125, result.stderr
    one_line(result.stderr)
    assert "space" in result.stderr
    assert not (tmp_path / "marker").exists(), "the workload ran"
    assert (tmp_path / "kept.json").read_bytes() == OLD
    assert (tmp_path / "names").read_text().split() == ["filler", "out.json"]


@pytest.mark.usefixtures("as_root")
def test_disk_that_the_workload_fills(tracer: str, profgen: Profgen, tmp_path: Path) -> None:
    """The space for the trace was set aside before the workload started."""
    args = [
        "record",
        "--tracer",
        tracer,
        "-q",
        "-o",
        "out.json",
        "--",
        "sh",
        "-c",
        "cat /dev/zero > filler 2>/dev/null; exit 6",
    ]
    result = on_small_disk(profgen, tmp_path, "4m", "empty", args)
    assert result.returncode == 6, result.stderr
    assert trace_in(tmp_path / "kept.json")["meta"]["exit_status"] == 6
    assert (tmp_path / "names").read_text().split() == ["filler", "out.json"]


@pytest.mark.usefixtures("as_root")
def test_read_only_disk(tracer: str, profgen: Profgen, tmp_path: Path) -> None:
    args = ["sh", "-c", 'mount -o remount,ro . && exec "$@"', "sh", *profgen.command]
    private = Profgen()
    private.command = args
    command = ["record", "--tracer", tracer, "-o", "out.json", "--", "touch", str(tmp_path / "marker")]
    result = on_small_disk(private, tmp_path, "4m", "empty", command)
    assert result.returncode == 125, result.stderr
    one_line(result.stderr)
    assert not (tmp_path / "marker").exists()
    assert (tmp_path / "kept.json").read_bytes() == OLD


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize("at_the_destination", [True, False])
def test_planted_links_are_not_followed(
    at_the_destination: bool, tracer: str, profgen: Profgen, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(OLD)
    work = tmp_path / "work"
    work.mkdir()
    for name in ("out.json", "out.json.tmp", ".out.json.tmp", "out.json~", ".out.json", "out.json.new", "tmp"):
        if name != "out.json" or at_the_destination:
            (work / name).symlink_to(victim)
            os.chown(work / name, 1234, 1234, follow_symlinks=False)
    result = profgen("record", "--tracer", tracer, "-o", "out.json", "--", "touch", "marker", cwd=work)
    assert victim.read_bytes() == OLD
    if at_the_destination:
        assert result.returncode == 125, result.stderr
        assert "symbolic link of another user" in result.stderr
        assert not (work / "marker").exists(), "the workload ran"
        assert len(list(work.iterdir())) == 7
    else:
        assert result.returncode == 0, result.stderr
        trace_in(work / "out.json")


@pytest.mark.parametrize("kind", ["fifo", "null"])
@pytest.mark.usefixtures("as_root")
def test_special_files_stay_what_they_are(kind: str, profgen: Profgen, tmp_path: Path) -> None:
    """``-o /dev/null`` must never make a regular file of a device."""
    path = tmp_path / "out.json"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    before = path.stat().st_mode
    result = profgen("record", "--tracer", "ptrace", "-o", "out.json", "--", "touch", "marker", cwd=tmp_path)
    assert path.lstat().st_mode == before, "the special file was replaced"
    assert (result.returncode, (tmp_path / "marker").exists()) in ((125, False), (0, True))


def test_output_replaced_by_the_workload(tracer: str, profgen: Profgen, tmp_path: Path) -> None:
    """A workload that removes its working directory, and the pending file in it, costs a trace but no sense."""
    work = tmp_path / "work"
    work.mkdir()
    result = profgen(
        "record", "--tracer", tracer, "-q", "-o", str(work / "out.json"), "--", "rm", "-rf", str(work), cwd=tmp_path
    )
    assert result.returncode == 125, "the trace is lost and nothing was said"
    one_line(result.stderr)


# Names that a stranger chose


def test_hostile_names_never_reach_the_terminal(tracer: str, profgen: Profgen, torture: Path, tmp_path: Path) -> None:
    evil = b"\x1b[31mred\x1b]0;title\x07\n\xff\xfe\xc2\x9b31m \xe2\x80\xae"
    directory = os.fsencode(tmp_path) + b"/" + evil.replace(b"/", b"")
    os.mkdir(directory)
    program = directory + b"/" + evil
    copy_program(torture / "leaf", Path(os.fsdecode(program)))
    for args in ([program, b"2" + evil], [b"sh", b"-c", b'exec 2>/dev/null; "$0" 2; "$1"; exit 2', program, evil]):
        terminal = Terminal(profgen, ["record", "--tracer", tracer, "--", *args], tmp_path)
        assert terminal.status() == 2, terminal.output
        for code in (b"\x1b[31m", b"\x1b]", b"\x07", b"\xff", b"\xc2\x9b", b"\xe2\x80\xae"):
            assert code not in terminal.output, terminal.output
        plain = profgen("record", "--tracer", tracer, "-o", "plain.json", "--", *args, cwd=tmp_path)
        assert plain.stderr.isascii()
        assert all(line.startswith("profgen: ") for line in plain.stderr.splitlines())
    document = trace_in(tmp_path / "plain.json")
    assert os.fsdecode(program) in [row["path"] for row in document["programs"]]
    names = [path.name for path in tmp_path.iterdir() if path.name.endswith(".json")]
    assert all(name.isascii() and name.isprintable() and " " not in name for name in names), names


@pytest.mark.parametrize("name", [b"\x1b[31mno-such\n", b"./\xff\x1b]0;x\x07"])
def test_hostile_name_not_found(name: bytes, profgen: Profgen, tmp_path: Path) -> None:
    result = profgen("record", "--tracer", "ptrace", "--", name, cwd=tmp_path)
    assert result.returncode == 127
    one_line(result.stderr)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\udc80-\udcff]", result.stderr), repr(result.stderr)


@pytest.mark.parametrize("name", ["\x1b[31m/out.json", "a\nb/out.json"])
def test_hostile_output_name(name: str, profgen: Profgen, tmp_path: Path) -> None:
    result = profgen("record", "--tracer", "ptrace", "-o", name, "--", "true", cwd=tmp_path)
    assert result.returncode == 125
    one_line(result.stderr)
    assert "\x1b" not in result.stderr


# profgen is killed


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda number: signal.Signals(number).name
)
def test_profgen_killed_at_any_moment(
    number: int, tracer: str, profgen: Profgen, torture: Path, tmp_path: Path, until: Until
) -> None:
    """Whenever it comes: no workload process is left stopped or waiting for ever, no BPF program is left, no older file
    is broken."""
    seen: set[tuple[str, int]] = set()
    for step in range(9) if number != signal.SIGINT else (2, 4, 6, 8):
        word = f"w{secrets.token_hex(8)}"
        (tmp_path / "out.json").write_bytes(OLD)
        command = [str(torture / "wrapped"), "busy", "500", word]
        process = profgen.start("record", "--tracer", tracer, "-o", "out.json", "--", *command, cwd=tmp_path)
        if step < 8:
            time.sleep(0.06 * step)
        else:  # certainly while the workload runs
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        seen |= bpf_objects(process.pid)
        process.send_signal(number)
        _, stderr = finish(process)
        until(
            lambda word=word: not with_argument(word),
            f"the workload ends after {number} at step {step}; {with_argument(word)}",
        )
        assert "internal error" not in stderr
        content = (tmp_path / "out.json").read_bytes()
        if content != OLD:
            trace_in(tmp_path / "out.json")
        for path in tmp_path.glob(".*"):
            assert number == signal.SIGKILL, f"{path.name} was left behind"
            path.unlink()
    if tracer == "ebpf":
        assert seen, "the eBPF tracer was never seen with a program"
    until(lambda: not any(bpf_exists(*each) for each in seen), "BPF programs and maps are gone")


def test_a_killed_tracer_takes_the_workload_with_it(
    tracer: str, profgen: Profgen, torture: Path, tmp_path: Path, until: Until
) -> None:
    """An endless workload is killed by the kernel (ptrace) or by the guardian (eBPF), never left stopped."""
    word = f"w{secrets.token_hex(8)}"
    process = profgen.start(
        "record", "--tracer", tracer, "-o", "out.json", "--", str(torture / "wrapped"), "forever", word, cwd=tmp_path
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.kill()
    process.wait()
    try:
        until(lambda: not with_argument(word), "the workload is killed with its tracer")
    finally:
        for pid in with_argument(word):
            os.kill(pid, signal.SIGKILL)
        process.stdout.close()


@pytest.mark.usefixtures("as_root")
def test_auto_goes_on_with_ptrace_when_the_kernel_refuses_ebpf(tmp_path: Path) -> None:
    """Root of a user namespace has every capability to look at, and none that eBPF asks for."""
    inside = Profgen(prefix=["unshare", "--user", "--map-root-user"])
    result = inside("record", "-o", "out.json", "--", "sh", "-c", "exit 7", cwd=tmp_path)
    assert result.returncode == 7, result.stderr
    assert trace_in(tmp_path / "out.json")["meta"]["tracer"] == "ptrace"
    result = inside("record", "--tracer", "ebpf", "-o", "ebpf.json", "--", "touch", "marker", cwd=tmp_path)
    assert result.returncode == 125
    assert not (tmp_path / "marker").exists()
