"""The terminal that profgen shares with its workload: profgen takes nothing from the workload, and a workload of
another user does not reach the shell behind profgen."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from system.harness import NOBODY, TIMEOUT, Profgen, Until, environment
from system.terminals import Terminal

ESCAPES = re.compile(rb"\x1b|\r(?!\n)")
DRAWN = re.compile(rb"\r\x1b\[\?7l([^\x1b]*)\x1b\[J\x1b\[\?7h\r")
ERASED = b"\r\x1b[J"

# -- a workload of another user ----------------------------------------------------------------------------------------

WAYS = ("plain", "high", "selection", "i386", "x32", "x32-without-bit", "supervisor")
"""Ways to put text into the terminal's input, in the words of terminal/push.c."""
EPERM = 1


@pytest.fixture(scope="module")
def push(public_dir: Path) -> Path:
    """A program that tries to put text into the input of its terminal."""
    path = public_dir / "push"
    subprocess.run(["gcc", "-Wall", "-o", path, Path(__file__).parent / "terminal" / "push.c"], check=True, timeout=120)
    return path


def outcomes(output: bytes) -> dict[str, int]:
    """What push printed: each way to its errno, 0 for success."""
    return {name.decode(): int(code) for name, code in re.findall(rb"([a-z0-9-]+)=(\d+)\r", output)}


def pushed(terminal: Terminal) -> dict[str, int]:
    assert terminal.status() == 0, terminal.output
    return outcomes(terminal.output)


def ways() -> tuple[str, ...]:
    return (*WAYS, "other") if os.uname().machine == "x86_64" else ("plain", "high", "selection", "supervisor", "other")


REFUSED = {way: 0 if way == "other" else EPERM for way in ways()}


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize("who", ["--user", "sudo"])
def test_another_user_cannot_type(who: str, tracer: str, profgen: Profgen, push: Path, public_dir: Path) -> None:
    """In no ABI, whatever the upper half of the request is, and not past the tracer either."""
    options, env = (("--user", str(NOBODY)), {}) if who == "--user" else ((), {"SUDO_UID": "1", "SUDO_GID": "1"})
    args = ["record", "-q", "--tracer", tracer, "--allow-loss", *options, "-o", "push.json", "--", str(push), *ways()]
    directory = public_dir / f"push-{who}-{tracer}"
    directory.mkdir()
    directory.chmod(0o777)
    assert pushed(Terminal(profgen, args, directory, **env)) == REFUSED
    assert "terminal:guarded" in json.loads((directory / "push.json").read_bytes())["meta"]["features"]


@pytest.mark.usefixtures("as_root")
def test_the_same_user_can(tracer: str, profgen: Profgen, push: Path, public_dir: Path) -> None:
    """profgen leaves a workload as it is that could reach the shell anyway."""
    args = ["record", "-q", "--tracer", tracer, "--user", "root", "-o", f"{tracer}.json", "--", str(push), "plain"]
    assert pushed(Terminal(profgen, args, public_dir)) == {"plain": 0}
    assert "terminal:guarded" not in json.loads((public_dir / f"{tracer}.json").read_bytes())["meta"]["features"]


@pytest.mark.usefixtures("as_root")
def test_no_filter_without_a_terminal(tracer: str, profgen: Profgen, tmp_path: Path) -> None:
    recording = profgen.record(
        tracer, ["grep", "Seccomp_filters", "/proc/self/status"], cwd=tmp_path, options=["--user", str(NOBODY)]
    )
    assert recording.stdout.split()[1] == (b"0" if tracer == "ebpf" else b"1")
    assert "terminal:guarded" not in recording.meta["features"]


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize("redirected", ["<&- >out 2>&1", "</dev/null 3<>/dev/tty >out 2>&1"])
def test_a_controlling_terminal_counts(redirected: str, profgen: Profgen, public_dir: Path) -> None:
    command = ["grep", "Seccomp_filters", "/proc/self/status"]
    args = ["record", "-q", "--tracer", "ptrace", "--user", str(NOBODY), "-o", "grep.json", "--", *command]
    assert Terminal(profgen, args, public_dir, redirected=redirected).status() == 0
    assert (public_dir / "out").read_text().split()[1] == "2"


@pytest.fixture(scope="module")
def policy(profgen: Profgen, push: Path, public_dir: Path) -> Path:
    """A policy that allows what push does, TIOCSTI too."""
    args = ["record", "-q", "--tracer", "ptrace", "--user", "root", "-o", "allowed.json", "--", str(push), *ways()[:2]]
    assert set(pushed(Terminal(profgen, args, public_dir)).values()) == {0}
    made = profgen("generate", "allowed.json", "--runtime", "none", "-o", "allowed", cwd=public_dir)
    assert made.returncode == 0, made.stderr
    assert "TIOCSTI" in (public_dir / "allowed" / "policy.yaml").read_text()
    return public_dir / "allowed" / "policy.yaml"


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize("mode", ["enforce", "log"])
def test_verify(mode: str, profgen: Profgen, push: Path, policy: Path, public_dir: Path) -> None:
    """Also what the policy allows is refused, and the report says that such a run does not see it."""
    report = public_dir / f"report.{mode}"
    args = ["verify", str(policy), "--mode", mode, "--user", str(NOBODY), "--json", "--report", str(report)]
    terminal = Terminal(profgen, [*args, "--", str(push), "plain", "high"], public_dir)
    terminal.status()
    assert outcomes(terminal.output) == {"plain": EPERM, "high": EPERM}
    found = json.loads(report.read_bytes())
    assert any("TIOCSTI" in row for row in found["unseen"])
    assert any("TIOCSTI" in row for row in found["means"])


@pytest.mark.usefixtures("as_root")
def test_minimise(profgen: Profgen, push: Path, policy: Path, public_dir: Path) -> None:
    """The runs have no terminal at all: not as a stream, not as their session's, and none to take."""
    script = f"! {push} plain high | grep -q =0 && ! test -t 0 && ! test -t 1 && ! test -t 2 && ! (: </dev/tty)"
    args = ["minimise", str(policy), "-q", "--only", "capabilities", "--user", str(NOBODY), "--repeat", "1"]
    recorded = profgen(
        "record", "-q", "--tracer", "ptrace", "-o", "sh.json", "--user", str(NOBODY), "--", "sh", "-c", script,
        cwd=public_dir,
    )  # fmt: skip
    assert recorded.returncode == 0, recorded.stderr
    made = profgen("generate", "sh.json", "--runtime", "none", "-o", "sh", cwd=public_dir)
    assert made.returncode == 0, made.stderr
    args[1] = "sh/policy.yaml"
    terminal = Terminal(profgen, [*args, "-o", "least.yaml", "--", "sh", "-c", script], public_dir)
    assert terminal.status() == 0, terminal.output


# -- the workload's terminal is the workload's -------------------------------------------------------------------------

SUMMARY = b"profgen: "
LONG_WAIT = re.compile(rb"profgen: [^\r\n]* \.\.\.\r\n")
"""What is said on a slow machine before the command starts."""
Shown = bytes | Callable[[bytes], object]
"""What the terminal shows at some time: this text, or anything for which the function holds."""


def prompts(count: int) -> Shown:
    """Return what holds once Python has asked so often. What is typed before that is shown before the prompt."""
    return lambda output: output.count(b">>> ") == count


def typed(
    profgen: Profgen, tracer: str, command: Sequence[str], keys: Sequence[tuple[Shown, bytes]], cwd: Path
) -> bytes:
    """What a command on a terminal shows under profgen until the summary. ``keys``: what to type, each once the text
    before it is there."""
    words = command if not tracer else ["record", "--tracer", tracer, "-o", "out.json", "--", *command]
    runner = profgen if tracer else _Bare()
    terminal = Terminal(runner, words, cwd)
    for text, key in keys:
        terminal.read_until(text)
        if tracer:
            time.sleep(0.5)  # a live line would be drawn in this time
        terminal.type(key)
    terminal.status()
    shown, mark, _ = LONG_WAIT.sub(b"", terminal.output).partition(SUMMARY)
    assert bool(mark) is bool(tracer)
    return shown


class _Bare(Profgen):
    """No profgen at all."""

    def __init__(self) -> None:
        super().__init__()
        self.command = []


@pytest.mark.parametrize(
    ("command", "keys"),
    [
        (["bash", "-c", 'read -p "name? " x; echo "[$x]"'], [(b"name? ", b"so"), (b"so", b"me\n")]),
        (["sh", "-c", 'printf half; read x; printf " a line"; read x'], [(b"half", b"\n"), (b"line", b"\n")]),
        (
            ["python3", "-I", "-q", "-i"],
            [(prompts(1), b"6 * 7\n"), (prompts(2), b"pri"), (b">>> pri", b"nt('a')\n"), (prompts(3), b"exit()\n")],
        ),
        (
            ["sh", "-c", "stty raw -echo; printf :; dd bs=1 count=3 status=none; stty sane"],
            [(b":", b"a"), (b":a", b"b"), (b":ab", b"c")],
        ),
        (["less", "/etc/services"], [(b"/etc/services", b" "), (b":", b"q")]),
        (["sh", "-c", "printf half >&2; read x </dev/tty"], [(b"half", b"\n")]),
    ],
    ids=["read", "half a line", "python", "raw", "less", "stderr"],
)
def test_prompts_survive(
    command: list[str], keys: list[tuple[Shown, bytes]], tracer: str, profgen: Profgen, tmp_path: Path
) -> None:
    """The terminal shows the same bytes as without profgen."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    assert typed(profgen, tracer, command, keys, tmp_path) == typed(profgen, "", command, keys, tmp_path)


@pytest.mark.parametrize("redirected", ["", "</dev/null", ">out", "</dev/null >out"])
def test_no_line_on_a_commands_terminal(redirected: str, tracer: str, profgen: Profgen, tmp_path: Path) -> None:
    """Its standard error is the command's too."""
    args = ["record", "--tracer", tracer, "-o", "out.json", "--", "sleep", "1"]
    terminal = Terminal(profgen, args, tmp_path, redirected=redirected)
    assert terminal.status() == 0, terminal.output
    assert not ESCAPES.search(terminal.output)
    quiet = Terminal(profgen, [args[0], "-q", *args[1:]], tmp_path, redirected=redirected)
    assert (quiet.status(), quiet.output) == (0, b"")


# -- the live line -----------------------------------------------------------------------------------------------------


@pytest.fixture
def watched() -> Iterator[int]:
    """A process that works, on no terminal."""
    process = subprocess.Popen(
        ["sh", "-c", "while :; do ls / >/dev/null; sleep 0.1; done"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    yield process.pid
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def rows(output: bytes) -> list[bytes]:
    """The texts of all draws."""
    return DRAWN.findall(output)


def watch(pid: int, *options: str) -> list[str]:
    return ["record", "--pid", str(pid), "-o", "out.json", *options]


def ended(terminal: Terminal) -> bytes:
    """Type Ctrl-C; return all output."""
    terminal.type(b"\x03")
    assert terminal.status() == 0, terminal.output
    return terminal.output


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_the_line_fits(columns: int, ebpf: str, watched: int, profgen: Profgen, tmp_path: Path) -> None:
    terminal = Terminal(profgen, watch(watched), tmp_path, columns=columns, COLUMNS="300")
    terminal.read_until(lambda output: len(rows(output)) >= 3)
    output = ended(terminal)
    assert all(row.startswith(b"profgen: ") and len(row) < columns for row in rows(output))
    rest = DRAWN.sub(b"", output)
    assert rest.count(ERASED) == 1, "it is erased before the summary"
    assert not ESCAPES.search(rest.replace(ERASED, b""))


def test_resizing(ebpf: str, watched: int, profgen: Profgen, tmp_path: Path) -> None:
    terminal = Terminal(profgen, watch(watched), tmp_path)
    terminal.read_until(lambda output: rows(output))
    for columns in (70, 20, 45, 12):
        terminal.resize(columns)
        seen = len(terminal.output)
        # One draw may have asked for the width before.
        terminal.read_until(lambda output, seen=seen: len(rows(output[seen:])) >= 2)
        assert len(rows(terminal.output[seen:])[-1]) < columns
    ended(terminal)


def test_rows_that_a_resize_wrapped(ebpf: str, watched: int, profgen: Profgen, public_dir: Path, until: Until) -> None:
    """tmux wraps what is on its screen when that is made narrower. Nothing stays of the line, and all that was above
    it does."""
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed")
    tmux = ["tmux", "-f", "/dev/null", "-S", str(public_dir / "tmux")]

    def screen() -> list[str]:
        """The rows from the oldest on, without empty ones."""
        shown = subprocess.run([*tmux, "capture-pane", "-p", "-S-"], capture_output=True, text=True, timeout=TIMEOUT)
        return [row for row in shown.stdout.splitlines() if row]

    def drawn() -> bool:
        return screen()[-1:] != [] and screen()[-1].startswith("profgen: ") and len(screen()) == 4

    line = shlex.join([*profgen.command, *watch(watched)])
    script = f"seq 3; exec {line}"
    words = ["new-session", "-d", "-x100", "-y12", "-c", str(public_dir), "exec sh -c " + shlex.quote(script)]
    subprocess.run([*tmux, *words], env=environment(TERM="xterm"), check=True, timeout=TIMEOUT)
    try:
        for columns in (100, 60, 35, 20, 50, 100):
            subprocess.run([*tmux, "resize-window", f"-x{columns}"], check=True, timeout=TIMEOUT)
            until(lambda columns=columns: drawn() and len(screen()[-1]) < columns, "the line fits, and is alone")
            assert screen()[:3] == ["1", "2", "3"]
    finally:
        subprocess.run([*tmux, "kill-server"], check=False, timeout=TIMEOUT)


@pytest.mark.parametrize(
    ("options", "env"), [(["--no-progress"], {}), (["-q"], {}), ([], {"TERM": "dumb"})], ids=["option", "quiet", "dumb"]
)
def test_no_line(
    options: list[str], env: dict[str, str], ebpf: str, watched: int, profgen: Profgen, tmp_path: Path
) -> None:
    terminal = Terminal(profgen, watch(watched, *options, "--duration", "2"), tmp_path, **env)
    assert terminal.status() == 0, terminal.output
    assert not ESCAPES.search(terminal.output)


def test_no_colours_but_a_line(ebpf: str, watched: int, profgen: Profgen, tmp_path: Path) -> None:
    """NO_COLOR is about colours."""
    terminal = Terminal(profgen, watch(watched), tmp_path, NO_COLOR="1")
    terminal.read_until(lambda output: rows(output))
    ended(terminal)


@pytest.mark.parametrize("started", ["sleep 100", "setsid sleep 100"])
def test_a_process_of_the_same_terminal(started: str, ebpf: str, profgen: Profgen, tmp_path: Path) -> None:
    """It may write there, so no line is drawn."""
    shell = Profgen()
    shell.command = ["bash", "-c"]
    recorded = " ".join([*profgen.command, "record", "--pid", "$!", "-o", "out.json", "--duration", "2"])
    terminal = Terminal(shell, [f"{started} & {recorded}; kill $!"], tmp_path)
    terminal.status()
    assert b"wrote out.json" in terminal.output
    assert not ESCAPES.search(terminal.output)


def test_in_the_background(ebpf: str, watched: int, profgen: Profgen, tmp_path: Path, until: Until) -> None:
    """A job in the background draws nothing, and tostop does not stop it."""
    shell = Profgen()
    shell.command = ["bash", "--norc", "--noprofile", "-i"]
    job = Terminal(shell, [], tmp_path)
    line = " ".join([*profgen.command, *watch(watched, "--duration", "2", "-q")])
    job.type(f"stty tostop; PS1='prompt''> '; {line} & wait; echo st''atus=$?\n".encode())
    job.read_until(b"status=0")
    job.type(b"exit\n")
    job.status()
    assert not DRAWN.search(job.output)
    assert (tmp_path / "out.json").exists()


@pytest.mark.parametrize("columns", [20, 80])
def test_minimise_draws_within_the_width(columns: int, profgen: Profgen, tmp_path: Path) -> None:
    command = ["sh", "-c", "sleep 0.1"]
    assert profgen("record", "--tracer", "ptrace", "-q", "-o", "t.json", "--", *command, cwd=tmp_path).returncode == 0
    assert profgen("generate", "t.json", "--runtime", "none", "-o", "p", cwd=tmp_path).returncode == 0
    args = ["minimise", "p/policy.yaml", "-o", "least.yaml", "--max-runs", "30", "--only", "syscalls"]
    args += ["--color", "never"]
    terminal = Terminal(profgen, [*args, "--", *command], tmp_path, columns=columns)
    terminal.status()
    assert rows(terminal.output)
    assert all(len(row) < columns for row in rows(terminal.output))
    assert not ESCAPES.search(DRAWN.sub(b"", terminal.output).replace(ERASED, b""))
    (tmp_path / "least.yaml").unlink()
    silent = Terminal(profgen, [*args, "--no-progress", "--", *command], tmp_path)
    silent.status()
    assert not ESCAPES.search(silent.output)
    assert b"wrote least.yaml" in silent.output
