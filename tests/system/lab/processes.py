"""Running and ending other programs so that nothing waits for ever and nothing is left behind.

A broken seccomp profile can hang a runtime (runc's init spins when it may not exit, and its parent waits for it), so
every command has a time limit, and what belongs to a run is found again by a word that only it has: in its command line
or its cgroup.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from system.harness import descendants, state_of
from waiting import HANG_SECONDS, eventually


class LabError(Exception):
    """The lab itself, a load or a container failed; the text says how and shows what there is of output."""


ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/", "LANG": "C.UTF-8"}
"""Of workloads, recorded or contained, and of the tools that drive them."""


def run(
    command: Sequence[str | os.PathLike[str]],
    *,
    seconds: float = HANG_SECONDS,
    check: bool = True,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """One command to its end, output as text. LabError when it takes too long or, with `check`, fails."""
    words = [os.fspath(word) for word in command]
    process = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env={**ENVIRONMENT, **(env or {})},
        start_new_session=True,
    )
    try:
        stdout, stderr = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=5)
        raise LabError(f"{' '.join(words)} took longer than {seconds} s") from None
    if check and process.returncode != 0:
        raise LabError(f"{' '.join(words)} ended with status {process.returncode}: {stdout.strip()} {stderr.strip()}")
    return subprocess.CompletedProcess(words, process.returncode, stdout, stderr)


def marked(word: str) -> set[int]:
    """Live processes with `word` in the command line or cgroup, and everything below them; never this process or its
    ancestors."""
    found: set[int] = set()
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            text = Path(f"/proc/{entry}/cmdline").read_bytes() + Path(f"/proc/{entry}/cgroup").read_bytes()
        except OSError:
            continue
        if word.encode() in text:
            found.add(int(entry))
    found -= {os.getpid(), os.getppid()}
    for pid in list(found):
        found |= descendants(pid)
    return {pid for pid in found if (state_of(pid) or "X") not in "ZX"}


def stop(daemon: subprocess.Popen[bytes]) -> None:
    """End a daemon that a test started, whatever state it is in."""
    daemon.terminate()
    try:
        daemon.wait(15)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def kill_marked(word: str) -> None:
    """SIGKILL everything `marked`, until nothing is left or five rounds have passed."""
    for _ in range(5):
        pids = marked(word)
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        eventually(lambda: not marked(word), 2)


def unmount_below(directory: Path) -> None:
    """Detach every mount at or below the directory."""
    points = [
        line.split()[4].encode().decode("unicode_escape")
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
    ]
    for point in sorted((p for p in points if Path(p).is_relative_to(directory)), reverse=True):
        with contextlib.suppress(LabError):
            run(["umount", "-l", point], check=False)


def seccomp_log() -> list[str]:
    """The kernel's lines about seccomp (audit type 1326) so far. The kernel limits their rate, so some may be
    missing."""
    try:
        return [line for line in run(["dmesg"], check=False).stdout.splitlines() if "type=1326" in line]
    except (OSError, LabError):
        return []
