"""Calls with random arguments: nothing in them ends a recorder, hangs it, or meets a rule that cannot take it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from system.harness import NOBODY, TIMEOUT, Profgen, environment

from profiler.kernel.abi import native_abi
from profiler.kernel.syscalls import number_of

SOURCE = Path(__file__).parent / "torture/random_calls.c"
LAST = 470
REPEATS = 3
BEYOND = (
    "reboot kexec_load kexec_file_load init_module finit_module delete_module swapon swapoff "
    "settimeofday clock_settime adjtimex clock_adjtime syslog acct iopl ioperm vhangup bpf "
    "perf_event_open fanotify_init quotactl quotactl_fd ptrace setns userfaultfd io_uring_setup sync "
    "syncfs setrlimit prlimit64 sched_setscheduler sched_setattr kill tkill tgkill rt_sigqueueinfo "
    "rt_tgsigqueueinfo pidfd_send_signal exit exit_group fork vfork clone clone3 rt_sigreturn "
    "setpriority ioprio_set nice mlockall"
)
"""Calls that reach beyond the namespaces of the program, or beyond its child."""

NAMESPACES = ["unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc"]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("random") / "random_calls"
    subprocess.run(["gcc", "-O1", "-Wall", "-Werror", "-static", "-o", built, SOURCE], check=True, timeout=TIMEOUT)
    return built


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize("user", [0, NOBODY], ids=["root", "nobody"])
@pytest.mark.parametrize("seed", [1, 2])
def test_random_calls(seed: int, user: int, tracer: str, program: Path, profgen: Profgen, nobodys_dir: Path) -> None:
    own = nobodys_dir / "random_calls"  # a call may change it
    shutil.copy(program, own)
    work = nobodys_dir / "work"
    work.mkdir()
    work.chmod(0o777)
    trace = nobodys_dir / "out.json"
    skipped = [str(number) for name in BEYOND.split() if (number := number_of(native_abi(), name)) is not None]
    done = subprocess.run(
        [
            *NAMESPACES, *profgen.command, "record", "--tracer", tracer, "--user", str(user), "--allow-loss",
            "-o", trace, "--", own, str(seed), str(LAST), str(REPEATS), *skipped,
        ],
        cwd=work, env={**environment(), **profgen.env}, capture_output=True, text=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 7, done.stderr
    assert "could not be interpreted" not in done.stderr, done.stderr
    assert "events" not in done.stderr
