"""profgen record's own parts: where the trace goes, limits, who runs the command, what is said. The rest is
tests/system."""

from __future__ import annotations

import dataclasses
import os
import pwd
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import strategies as st
from unit.cli import running
from unit.policy.making import call, trace

from profiler.cli import record, record_command, record_terminal
from profiler.cli.record import limits_from
from profiler.cli.record_terminal import Console, tell
from profiler.cli.watch import watch
from profiler.cli.workload import workload_of
from profiler.errors import InputError
from profiler.review.coverage import still_growing
from profiler.trace.model import FILES_FEATURE, Container, File, Pod, Syscall, Trace
from profiler.trace.store import loads, read_trace
from profiler.tracers.base import Options, Workload
from profiler.tracers.recording import Recording
from profiler.watch.outputs import default_output

CHECKOUT = Path(__file__).resolve().parents[3]
NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it is about changing users")


# -- the default output ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("ls", "ls.trace.json"),
        ("/usr/bin/ls", "ls.trace.json"),
        ("./app-1.2_x+y", "app-1.2_x+y.trace.json"),
        ("../../etc/passwd", "passwd.trace.json"),
        ("a b", "a_b.trace.json"),
        ("..", "workload.trace.json"),
        (".", "workload.trace.json"),
        (".hidden", "hidden.trace.json"),
        ("-rf", "rf.trace.json"),
        ("--", "workload.trace.json"),
        ("/", "workload.trace.json"),
        ("", "workload.trace.json"),
        ("\u00fc\n\x1b[31m", "____31m.trace.json"),
    ],
)
def test_default_output(command: str, name: str) -> None:
    assert default_output(command) == Path(name)


@given(st.text() | st.binary().map(os.fsdecode))
@example("a" * 5000)
@example("/" * 300)
@example("-" * 300 + "a")
@example("\udcff" * 300)
def test_default_output_is_a_plain_name_here(command: str) -> None:
    path = default_output(command)
    name = str(path)
    assert path.name == name, "in the working directory"
    assert name.endswith(".trace.json")
    assert name.isascii()
    assert name.isprintable()
    assert shlex.quote(name) == name, "it can be typed as it stands"
    assert not name.startswith((".", "-"))
    assert len(name) <= 255


def test_the_trace_on_standard_output(tmp_path: Path) -> None:
    """The command's output then goes to standard error."""
    for output in ("-", "/dev/stdout"):
        done = running.profgen("record", "--tracer", "ptrace", "-o", output, "--", "echo", "hello", cwd=tmp_path)
        assert done.returncode == 0
        assert loads(done.stdout.encode(), "trace").programs
        assert "hello\n" in done.stderr
        assert "wrote" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_directory_gets_the_default_name(tmp_path: Path) -> None:
    done = running.profgen("record", "--tracer", "ptrace", "-o", tmp_path, "--", "true")
    assert done.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["true.trace.json"]


@pytest.mark.parametrize("options", [["--snapshot", "5s", "--pid", "1"], ["--all-containers"]])
def test_several_traces_do_not_go_to_standard_output(options: list[str]) -> None:
    done = CliRunner().invoke(record.record, ["-o", "-", *options])
    assert done.exit_code == 2
    assert "standard output takes one trace" in done.output


# -- limits ------------------------------------------------------------------------------------------------------------


@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.integers(1, (1 << 31) - 1)))
def test_limits(limits: dict[str, int]) -> None:
    assert limits_from(None, None, tuple(f"{name}={size}" for name, size in limits.items())) == limits


@given(st.text())
@example("tasks")
@example("tasks=")
@example("tasks=0")
@example("tasks=-1")
@example("tasks=1.5")
@example("tasks=1_0")
@example("tasks=\u0661")
@example("tasks= 1")
@example(f"tasks={1 << 31}")
@example("tasks=" + "9" * 5000)
def test_limits_or_one_line(pair: str) -> None:
    limits = {}
    said = ""
    try:
        limits = limits_from(None, None, (pair,))
    except InputError as error:
        said = str(error)
    assert said.isprintable()
    assert len(said) < 1000
    assert bool(said) is not bool(limits)
    for name, size in limits.items():
        assert pair.startswith(f"{name}=")
        assert 0 < size < 1 << 31


# -- who ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _no_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SUDO_UID", "SUDO_GID"):
        monkeypatch.delenv(name, raising=False)


def test_same_user() -> None:
    work = workload_of(("true",), None, frozenset())
    assert work.user is None
    assert dict(work.env) == dict(os.environ)
    assert work.cwd == os.getcwd()
    assert os.path.basename(work.path) == "true"


@needs_root
@pytest.mark.parametrize("user", ["nobody", str(NOBODY)])
def test_named_user(user: str) -> None:
    work = workload_of(("true",), user, frozenset())
    entry = pwd.getpwuid(NOBODY)
    assert work.user == (NOBODY, entry.pw_gid, (entry.pw_gid,))
    assert (work.env["USER"], work.env["LOGNAME"], work.env["HOME"]) == ("nobody", "nobody", entry.pw_dir)


@needs_root
def test_unlisted_uid() -> None:
    assert workload_of(("true",), "54321", frozenset()).user == (54321, 54321, (54321,))


@needs_root
def test_root_by_name_keeps_roots_groups() -> None:
    user = workload_of(("true",), "root", frozenset()).user
    assert user is None or user[0] == 0


@pytest.mark.parametrize(
    "user", ["", "no-such-user", "-1", "4294967295", "99999999999999999999", "\u0661", "1 ", "0x0", "a\nb"]
)
def test_no_such_user(user: str) -> None:
    with pytest.raises(InputError) as caught:
        workload_of(("true",), user, frozenset())
    assert str(caught.value).isprintable()


@needs_root
def test_under_sudo_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_UID", str(NOBODY))
    monkeypatch.setenv("SUDO_GID", str(NOBODY))
    assert (workload_of(("true",), None, frozenset()).user or ())[0] == NOBODY
    # --user wins
    root = workload_of(("true",), "root", frozenset()).user
    assert root is None or root[0] == 0
    monkeypatch.setenv("SUDO_UID", "54321")
    monkeypatch.setenv("SUDO_GID", "12345")
    assert workload_of(("true",), None, frozenset()).user == (54321, 12345, (12345,))


# -- what is said ------------------------------------------------------------------------------------------------------


def test_summary(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    tell(trace(duration=10.0, last_new=9.0, exit_status=3), tmp_path / "app.trace.json")
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert all(line.startswith("profgen: ") for line in lines)
    assert "no capability" in lines[0]
    assert "exit status 3" in lines[0]
    assert lines[-1].endswith(f"profgen generate {tmp_path}/app.trace.json -o app.profile")


def test_an_incomplete_trace_is_recorded_again(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """generate refuses it, so that is not the next command."""
    tell(trace(complete=False, losses={"programs": 1}), tmp_path / "app.trace.json")
    err = capsys.readouterr().err
    assert "wrote" in err
    assert "next:" not in err


def test_the_summary_is_the_same_for_one_of_many(capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("web-0123.trace.json")
    tell(trace(), path)
    alone = capsys.readouterr().err
    Console(quiet=False, many=True).wrote(path, trace(), final=True)
    assert capsys.readouterr().err.replace("profgen: web-0123: ", "profgen: ") == alone
    Console(quiet=True, many=True).wrote(path, trace(), final=True)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("first", "status", "late"),
    [(1.0, 0, 0), (7.0, 0, 1), (9.9, 0, 0), (9.9, None, 1), (5.0, 0, 0)],
)
def test_growth_is_told_when_it_is_news(first: float, status: int | None, late: int) -> None:
    """What a workload does at its very end is new in every recording of it."""
    rows = [dataclasses.replace(call("read"), first=0.0), dataclasses.replace(call("write"), first=first)]
    shown = trace(*rows, duration=10.0, exit_status=status)
    assert still_growing(shown) == late
    told = [line for line in record_terminal.summary(shown, Path("a.json")) if "a recording twice as long" in line]
    assert len(told) == late
    assert all(line.endswith("may show about as many more (see: profgen coverage a.json)") for line in told)


@pytest.mark.parametrize("name", ["a b.trace.json", "-x.trace.json", "'.json", "\x1b[2J", "\udcff", "a\nb"])
def test_summary_of_a_hostile_name(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    tell(trace(), tmp_path / name)
    lines = capsys.readouterr().err.splitlines()
    assert all(line.isprintable() for line in lines)
    if name.isprintable():
        # The next command can be copied as it stands.
        words = shlex.split(lines[-1].partition("next: ")[2])
        assert words[:3] == ["profgen", "generate", str(tmp_path / name)]


def said(shown: Trace, capsys: pytest.CaptureFixture[str]) -> list[str]:
    tell(shown, Path("app.trace.json"))
    return capsys.readouterr().err.splitlines()


def a_file(path: str, access: str = "read") -> File:
    return File(path, access, "file", "linked", {"ok": 1}, frozenset(), frozenset({0}), 0.0, 0.0)


def test_summary_counts_paths_when_files_were_watched(capsys: pytest.CaptureFixture[str]) -> None:
    rows = (a_file("/a"), a_file("/a", "write"), a_file("/b"))
    watched = dataclasses.replace(trace(features=(FILES_FEATURE,)), files=rows)
    assert "1 program, 2 paths, no capability" in said(watched, capsys)[0]
    assert "1 program, 1 path, no capability" in said(dataclasses.replace(watched, files=rows[:1]), capsys)[0]
    assert "1 program, 0 paths, no capability" in said(trace(features=(FILES_FEATURE,)), capsys)[0]
    assert "path" not in said(trace(), capsys)[0], "nobody looked"


def test_summary_names_the_pod(capsys: pytest.CaptureFixture[str]) -> None:
    container = Container("containerd", None, "1", "web", "nginx:1", pod=Pod("shop", "web-0", None, "web"))
    assert "profgen: container shop/web-0/web of Kubernetes, image nginx:1" in said(trace(container=container), capsys)
    hostile = dataclasses.replace(container, name="x\ny", image="\x1b[1m")
    assert all(line.isprintable() for line in said(trace(container=hostile), capsys))
    assert not [
        line for line in said(trace(container=dataclasses.replace(container, pod=None)), capsys) if "web" in line
    ]


def test_pods_are_selected_among_all_containers() -> None:
    for command, words in ((record.record, ["--container", "x"]), (watch, ["x"])):
        done = CliRunner().invoke(command, ["--pod-selector", "namespace=shop", *words])
        assert done.exit_code == 2
        assert "--pod-selector chooses among all containers: it needs --all-containers" in done.output


def test_a_directory_that_is_gone(tmp_path: Path) -> None:
    words = (
        f"mkdir gone; cd gone; rmdir ../gone; exec {sys.executable} -m profiler record --tracer ptrace -o "
        f"{tmp_path}/trace.json -- true"
    )
    env = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(
        ["sh", "-c", words], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (
        2,
        "profgen: the working directory no longer exists: change to another\n",
    )


def test_a_replaced_recording_is_told(tmp_path: Path) -> None:
    """One recording alone is seldom enough: who lost one should know."""
    told = []
    for _ in range(2):
        words = [sys.executable, "-m", "profiler", "record", "--tracer", "ptrace", "--no-files", "--", "true"]
        env = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
        done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=True)
        told.append(done.stderr)
    assert "wrote true.trace.json\n" in told[0]
    assert "wrote true.trace.json, replacing an older trace; to keep several, name them with -o\n" in told[1]


@pytest.mark.parametrize(
    ("tracer", "mode", "warned"), [("ptrace", 0o4755, True), ("ptrace", 0o755, False), ("ebpf", 0o4755, False)]
)
def test_summary_warns_of_setuid_programs(
    tracer: str, mode: int, warned: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They gain nothing under no_new_privs, which an unprivileged recording sets."""
    program = tmp_path / "su"
    program.touch()
    program.chmod(mode)
    made = trace(tracer=tracer, no_new_privs=True)
    made = dataclasses.replace(
        made, programs=(dataclasses.replace(made.programs[0], path=str(program)), *made.programs[1:])
    )
    assert any(f"{program} gained no rights" in line for line in said(made, capsys)) is warned


@pytest.mark.parametrize(
    ("calls", "warned"),
    [
        ([call("io_uring_setup"), call("io_uring_enter")], True),
        ([call("io_uring_enter")], True),
        ([call("io_uring_setup")], True),
        ([call("io_uring_setup", abi="i386")], True),
        ([call("io_uring_setup", ok=0)], True),  # its result was not watched
        ([call("io_uring_setup", ok=0, errors={"ENOSYS": 1})], False),
        ([call("read")], False),
    ],
)
def test_summary_warns_of_io_uring(calls: list[Syscall], warned: bool, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for line in said(trace(*calls), capsys) if "io_uring" in line]
    assert len(lines) == warned
    if warned:
        assert "seccomp" in lines[0]
        assert "files" in lines[0]


@pytest.mark.parametrize(
    ("tracer", "losses", "larger"),
    [
        ("ebpf", {"programs": 3}, ["programs"]),
        ("ebpf", {"missed": 1, "programs": 3, "files": 2}, ["programs", "files"]),
        ("ebpf", {"names": 7}, ["paths"]),
        ("ebpf", {"missed": 1, "uses": 7}, []),
        ("ebpf", {"paths": 7}, []),
        ("ebpf", {"faults": 1}, []),
        ("ptrace", {"programs": 3}, []),
        ("ptrace", {"uses": 1}, []),
    ],
)
def test_incomplete_advises_what_can_be_done(tracer: str, losses: dict[str, int], larger: list[str]) -> None:
    """--limit only where a store was full."""
    text = record_terminal.incomplete(trace(tracer=tracer, losses=losses).meta)
    assert re.findall("--limit ([a-z]+)=N", text) == larger
    assert "docs/tracers.md" in text
    for name, count in losses.items():
        assert f"{count} {name}" in text


class _Watch:
    """A tracer that notes what it is asked for."""

    name = "noted"
    asked: ClassVar[list[bool]] = []

    def unavailable(self) -> str | None:
        return None

    def record(self, workload: Workload, options: Options, recording: Recording) -> int:
        self.asked.append(options.files)
        if options.files:
            recording.features.append(FILES_FEATURE)
        return 0


@pytest.mark.parametrize(("options", "files"), [([], True), (["--no-files"], False)])
def test_no_files_reaches_the_tracer(
    options: list[str], files: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_command, "first_that_works", lambda name, use: use(_Watch(), {}))
    _Watch.asked.clear()
    output = tmp_path / "t.json"
    done = CliRunner().invoke(record.record, [*options, "-o", str(output), "--", "true"], standalone_mode=False)
    assert done.exception is None, done.output
    assert _Watch.asked == [files]
    assert read_trace(output).has_files is files


# -- nothing is begun that cannot end well -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "status"),
    [
        (["-o", "none/x"], 125),
        (["-o", "/dev/null"], 125),
        (["--user", "no-such-user"], 2),
        (["--limit", "nonsense"], 2),
        (["--tracer", "ptrace", "--limit", "tasks=5"], 2),
        (["--tracer", "ebpf", "--limit", "nonsense=5"], 2 if os.geteuid() == 0 else 125),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_refused_before_the_command_runs(options: list[str], status: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "profiler", "record", *options, "--", "touch", str(tmp_path / "ran")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("profgen: ")
    assert list(tmp_path.iterdir()) == [], "the command did not run, and nothing was written"
