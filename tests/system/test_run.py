"""A policy enforced on a plain process by the kernel alone: ``profgen run``, and the script of the target launcher,
which runs without profgen."""
# ruff: noqa: F811 - the fixtures that are imported are arguments of the tests

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from system.harness import CHECKOUT, NOBODY, Profgen, descendants, run_here
from system.lab import probe, runs
from system.lab.fixtures import Recordings, recordings  # noqa: F401
from system.lab.processes import ENVIRONMENT
from system.lab.workloads import (
    Daemon,
    Nginx,
    Pipeline,
    PostgreSQL,
    Redis,
    WebServiceV1,
    WebServiceV2,
    Worker,
    Workload,
)
from waiting import HANG_SECONDS

from profiler.confinement import landlock_abi

pytestmark = pytest.mark.skipif(landlock_abi() < 6, reason="needs Landlock of Linux 6.12")

PROFGEN = (sys.executable, "-m", "profiler")
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--")


class Process:
    """A confined process, as a container is seen (system.lab.runs.Running)."""

    def __init__(self, command: Sequence[str | Path], output: Path) -> None:
        self._output = output
        environment = {**ENVIRONMENT, "PYTHONPATH": str(CHECKOUT)} if command[:3] == list(PROFGEN) else ENVIRONMENT
        with open(output, "wb") as stdout, open(output.with_suffix(".stderr"), "wb") as stderr:
            self.process = subprocess.Popen(
                [*map(str, command)], cwd="/", env=environment, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
            )

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    @property
    def stdout(self) -> str:
        return self._output.read_text()

    def signal(self, name: str) -> None:
        self.process.send_signal(getattr(signal, f"SIG{name}"))

    def wait(self, seconds: float) -> int:
        status = self.process.wait(seconds)
        return 128 - status if status < 0 else status

    def report(self) -> str:
        return self._output.with_suffix(".stderr").read_text(errors="replace")

    def end(self) -> None:
        for pid in (*descendants(self.process.pid), *([self.process.pid] if self.running else [])):
            os.kill(pid, signal.SIGKILL)
        self.process.wait()


def starter(way: str, profile: Path, workload: Workload) -> list[str | Path]:
    """The words in front of a command."""
    if way == "run":
        user = () if workload.user == "root" else ("--user", workload.user)
        return [*PROFGEN, "run", *user, profile / "policy.yaml", "--"]
    groups = ",".join(map(str, (workload.gid, *workload.groups)))
    user = (f"--reuid={workload.uid}", f"--regid={workload.gid}", f"--groups={groups}") if workload.uid else ()
    return [*(("setpriv", *user, "--") if user else ()), profile / "launcher.py", "--"]


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize(
    ("way", "kind"),
    [
        ("run", WebServiceV1),
        ("launcher", WebServiceV2),
        ("run", Daemon),
        ("launcher", Pipeline),
        ("run", Worker),
        ("launcher", Nginx),
        ("run", Nginx),
        ("launcher", Redis),
        ("run", PostgreSQL),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_workloads(way: str, kind: type[Workload], recordings: Recordings, public_dir: Path, tmp_path: Path) -> None:
    """Under its load, as root and as its own user, a workload is not refused anything."""
    workload = recordings.workload(kind)
    profile = public_dir / f"{way}-{kind.name}"
    run_here("generate", str(recordings.trace(kind, "ebpf")), "-t", "launcher", "-o", f"{profile}/")
    workload.reset()
    process = Process([*starter(way, profile, workload), *workload.argv], tmp_path / "out")
    try:
        runs.served(workload, process, way)
    finally:
        process.end()
    assert "does not refuse" not in process.report()


KEPT = Path(f"/tmp/kept-{secrets.token_hex(8)}")
QUIET = tuple(word.replace("/tmp/kept", str(KEPT)) for word in probe.QUIET)
"""The probe without a container: another one on this host may run at the same time, as another user."""


@pytest.fixture(scope="module")
def quiet(profgen: Profgen, public_dir: Path) -> Path:
    """The profile of a program that does none of the ten acts."""
    place = public_dir / "run-quiet"
    place.mkdir()
    place.chmod(0o755)
    done = profgen("record", "-q", "-o", "quiet.json", "--", *QUIET, cwd=place)
    KEPT.unlink(missing_ok=True)
    assert done.returncode == 0, done.stderr
    run_here("generate", str(place / "quiet.json"), "-t", "launcher", "-o", f"{place}/profile/")
    return place / "profile"


def ways(profile: Path) -> dict[str, list[str]]:
    policy = str(profile / "policy.yaml")
    return {"launcher": [str(profile / "launcher.py")], "run": [*PROFGEN, "run", "-q", policy, "--"]}


def done(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    environment = {**ENVIRONMENT, "PYTHONPATH": str(CHECKOUT)}
    return subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, timeout=HANG_SECONDS)


LIMIT_OF_TASKS = {"forks"}
"""The act that only a cgroup refuses."""


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize("way", ["launcher", "run"])
@pytest.mark.parametrize("who", ["root", "nobody"])
def test_what_was_never_done_is_refused(way: str, who: str, quiet: Path) -> None:
    start = ways(quiet)[way]
    if who == "nobody":  # who may not read the checkout
        start = [*AS_NOBODY, *start] if way == "launcher" else [*start[:4], "--user", who, *start[4:]]
    KEPT.unlink(missing_ok=True)
    found = done([*start, *QUIET, *probe.ACTS])
    KEPT.unlink(missing_ok=True)
    assert found.returncode == 0, found.stderr
    assert set(found.stdout.split()) == LIMIT_OF_TASKS


OTHER = """
for name in ('/etc/passwd', '/etc/hostname'):
    try:
        open(name).close()
    except OSError as error:
        print(error.errno)
"""


@pytest.mark.parametrize("way", ["launcher", "run"])
def test_statuses(way: str, quiet: Path) -> None:
    """Of the command, of a signal that ended it, and of commands that cannot be started."""
    start = ways(quiet)[way]
    python = "/usr/bin/python3"
    for command, status in (
        ((python, "-ISc", "raise SystemExit(7)"), 7),
        (("/usr/bin/cat", "/etc/hostname"), 126),
        (("/etc/hostname",), 126),
        (("no-such-command",), 127),
    ):
        assert done([*start, *command]).returncode == status, command
    found = done([*start, python, "-ISc", OTHER])
    assert (found.stdout, found.returncode) == ("13\n13\n", 0), found.stderr
    for number in (signal.SIGTERM, signal.SIGINT):
        reading, writing = os.pipe()
        process = subprocess.Popen(
            [*start, python, "-ISc", "import os; print(flush=True); os.read(0, 1)"],
            env={**ENVIRONMENT, "PYTHONPATH": str(CHECKOUT)}, cwd="/", stdin=reading, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(reading)
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        # Nothing stands between: the process that was started is the command.
        assert os.readlink(f"/proc/{process.pid}/exe").startswith("/usr/bin/python3")
        process.send_signal(number)
        # Python ends itself with the signal, which the policy does not allow; then it exits with this status.
        assert process.wait(HANG_SECONDS) == (130 if number is signal.SIGINT else -number)
        os.close(writing)
        process.stdout.close()


TERMINALS = """
import os
for opened in (os.openpty(), os.openpty()):
    os.write(opened[1], b"seen")
    print(os.read(opened[0], 4).decode(), os.ttyname(opened[1]).startswith("/dev/pts/"))
"""


def test_terminals_of_its_own(profgen: Profgen, tmp_path: Path) -> None:
    """A program that opens terminals may open others, which are made after the rules are enforced."""
    command = ("/usr/bin/python3", "-ISc", TERMINALS)
    recorded = profgen("record", "-q", "-o", "pty.json", "--", *command, cwd=tmp_path)
    assert recorded.returncode == 0, recorded.stderr
    run_here("generate", f"{tmp_path}/pty.json", "-t", "launcher", "-o", f"{tmp_path}/profile/")
    taken = [os.openpty() for _ in range(3)]  # the numbers of the recording are in use
    try:
        for start in ways(tmp_path / "profile").values():
            found = done([*start, *command])
            assert (found.stdout, found.returncode) == ("seen True\n" * 2, 0), found.stderr
        words = ("verify", "profile", "--under", "landlock", "--", *command)
        found = profgen(*words, cwd=tmp_path)
    finally:
        for fd in (fd for pair in taken for fd in pair):
            os.close(fd)
    assert (found.returncode, "nothing was refused" in found.stderr) == (0, True), found.stderr


UNLIMITED = """
mounts:
  - {operation: mount, target: /mnt, filesystem: tmpfs}
"""


@pytest.mark.parametrize("options", [(), ("--strict",)], ids=["plain", "strict"])
def test_what_landlock_is_not_used_for(options: Sequence[str], quiet: Path, tmp_path: Path) -> None:
    """It is said, and with --strict nothing starts. A policy without rules for files lacks nothing."""
    mounting = tmp_path / "mounting"
    mounting.mkdir()
    policy = (quiet / "policy.yaml").read_text()
    (mounting / "policy.yaml").write_text(policy + UNLIMITED)
    run_here("generate", f"{mounting}/policy.yaml", "-t", "launcher", "-o", f"{mounting}/launcher.py")
    command = ["/usr/bin/python3", "-ISc", "print('started')"]
    for start in (
        [*PROFGEN, "run", *options, str(mounting / "policy.yaml"), "--", *command],
        [str(mounting / "launcher.py"), *options, *command],
    ):
        found = done(start)
        assert "Landlock does not limit files: the policy allows mounts" in found.stderr
        assert (found.stdout, found.returncode) == (("", 125) if options else ("started\n", 0)), found.stderr
    without = tmp_path / "without"
    assert done([*PROFGEN, "record", "-q", "--no-files", "-o", f"{without}.json", "--", *command]).returncode == 0
    run_here("generate", f"{without}.json", "-o", f"{without}/")
    found = done([*PROFGEN, "run", *options, str(without), "--", *command])
    assert (found.stdout, found.returncode) == ("started\n", 0), found.stderr
    assert "the policy has no rules for files" in found.stderr


ACTS = """
import os, socket
for name in ('/etc/passwd', '/usr/share/no-such-file'):
    try:
        open(name).close()
    except OSError:
        pass
try:
    os.mkdir('/tmp/made')
except OSError:
    pass
"""


def test_signals_that_landlock_refuses_are_named(profgen: Profgen, tmp_path: Path) -> None:
    """Also to a process of the same user, which the kernel's own check would let through without a capability."""
    command = ("/usr/bin/python3", "-ISc", "import os, sys; os.kill(int(sys.argv[1]) or os.getpid(), 0)")
    recorded = profgen("record", "-q", "-o", "signal.json", "--", *command, "0", cwd=tmp_path)
    assert recorded.returncode == 0, recorded.stderr
    run_here("generate", f"{tmp_path}/signal.json", "-o", f"{tmp_path}/profile/")
    other = subprocess.Popen(["sleep", "600"], process_group=0)
    try:
        for target in (other.pid, -other.pid):
            words = ("verify", "profile", "--under", "landlock", "-q", "--", *command, str(target))
            found = profgen(*words, cwd=tmp_path)
            assert found.returncode == 1, found.stderr
            whom = "outside" if target > 0 else "group"
            assert f"profgen:   signal 0 to {whom}: python3" in found.stderr
    finally:
        other.kill()
        other.wait()


@pytest.mark.usefixtures("as_root")
def test_verify_under_landlock(profgen: Profgen, recordings: Recordings, quiet: Path, tmp_path: Path) -> None:
    """The kernel's refusals are named, and none is where the policy allows all."""
    words = ("verify", str(quiet), "--under", "landlock", "-q", "--", "/usr/bin/python3", "-ISc")
    found = profgen(*words, ACTS, cwd=tmp_path)
    assert found.returncode == 1, found.stderr
    named = [line.partition(": python3")[0].strip() for line in found.stderr.splitlines() if ", pid " in line]
    assert "profgen:   file /etc/passwd: read" in named
    assert not Path("/tmp/made").exists()
    assert "(let pass)" not in found.stderr
    assert "no-such-file" not in found.stderr, "it is not there, with or without a policy"
    workload = recordings.workload(Nginx)
    run_here("generate", str(recordings.trace(Nginx, "ebpf")), "-o", f"{tmp_path}/profile/")
    status = runs.driven(profgen, workload, ("verify", f"{tmp_path}/profile", "--under", "landlock"), tmp_path / "out")
    said = (tmp_path / "out.stderr").read_text()
    assert (status, "nothing was refused" in said) == (0, True), said
