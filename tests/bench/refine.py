"""The time and memory of reading a large log, next to ``grep -c``."""

from __future__ import annotations

import json
import os
import random
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

LOG_BYTES = 1 << 30
ROUNDS = 5
PROFGEN = [sys.executable, "-m", "profiler"]

_RECORD = (
    'auid=4294967295 uid=0 gid=0 ses=4294967295 subj=unconfined pid={pid} comm="app" exe="/usr/sbin/app" sig=0 '
    "arch=c000003e "
    "syscall={call} compat=0 ip=0x7f647539e829 code=0x7ffc0000"
)


def _line(choose: random.Random, number: int) -> str:
    time, pid = 1_795_360_000 + number, choose.randrange(300, 90_000)
    stamp = f"audit({time}.{number % 1000:03}:{1000 + number})"
    head = f"Nov 22 10:{number // 60 % 60:02}:{number % 60:02} web1"
    kind = choose.random()
    if kind < 0.35:
        return (
            f"type=SYSCALL msg={stamp}: arch=c000003e syscall={choose.randrange(450)} success=yes exit=3 "
            f"a0=ffffff9c a1=7ffd{pid:x}3 "
            f'a2=80000 a3=0 items=1 ppid=1 pid={pid} auid=4294967295 uid=0 gid=0 comm="cron" '
            'exe="/usr/sbin/cron" key=(null)'
        )
    if kind < 0.5:
        return (
            f'type=PATH msg={stamp}: item=0 name="/etc/passwd" inode={pid} dev=fe:00 mode=0100644 ouid=0 '
            "ogid=0 rdev=00:00 nametype=NORMAL"
        )
    if kind < 0.6:
        return f'type=CWD msg={stamp}: cwd="/var/lib/app"'
    if kind < 0.8:
        return (
            f"{head} kernel: [{number}.{pid}] IN=eth0 OUT= MAC=52:54:00:12:34:56 "
            f"SRC=10.0.{number % 256}.{pid % 256} DST=10.0.2.15 "
            f"LEN=60 TTL=64 ID={pid} DF PROTO=TCP SPT={pid} DPT=443 WINDOW=64240 RES=0x00 SYN URGP=0"
        )
    if kind < 0.9:
        address = f"10.0.{number % 256}.{pid % 256}"
        return (
            f"{head} sshd[{pid}]: Accepted publickey for deploy from {address} port {pid} ssh2: ED25519 SHA256:{pid:x}"
        )
    return f"{head} systemd[1]: Started session-{number}.scope - Session {number} of User deploy."


def write_log(path: Path, size: int = LOG_BYTES) -> int:
    """A log of this many bytes or a little more: what auditd, the kernel and services write, and one record in some 4
    000 lines that is a denial, some of which were never seen before until the very end. Gives the number of lines with
    one."""
    choose = random.Random(1)
    lines = [_line(choose, number) for number in range(4000)]
    body = ("\n".join(lines) + "\n").encode()
    written = found = 0
    with open(path, "wb") as file:
        while written < size:
            call = 40 + int(60 * written / size)
            stamp = f"audit({1_795_360_000 + found}.305:{500_000 + found})"
            record = f"[10548.7] audit: type=1326 {stamp}: {_RECORD.format(pid=9000 + found, call=call)}\n".encode()
            file.write(body + record)
            written += len(body) + len(record)
            found += 1
    return found


def cost(command: Sequence[str | Path]) -> tuple[float, float, str]:
    """(processor seconds, peak MiB so far of any child, output) of a command. Wall time tells little on a busy
    machine."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=600, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode in (0, 1), done.returncode
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, after.ru_maxrss / 1024, done.stdout


def large_log(work: Path, table: Callable[[str, Sequence[tuple[str, str]]], None], size: int = LOG_BYTES) -> None:
    """``profgen refine`` on a log of 1 GiB, in turns with ``grep -c type=1326``; then on one of a thousandth of it, for
    the memory."""
    from profiler.policy.document import dumps
    from profiler.policy.model import Policy, Workload

    policy, log = work / "refine.yaml", work / "refine.log"
    policy.write_text(dumps(Policy(Workload(("/usr/sbin/app",), 0, 1, "ebpf", "6.18"), ("x86_64",), True, "none")))
    command = [*PROFGEN, "refine", policy, "--from", log, "--format", "json"]
    # The smaller log first: the peak of all children only grows.
    write_log(log, size >> 10)
    _, small, _ = cost(command)
    records = write_log(log, size)
    rounds = []
    for _ in range(ROUNDS):
        grep, _, counted = cost(["grep", "-c", "type=1326", log])
        profgen, large, shown = cost(command)
        assert int(counted) == records == json.loads(shown)["log"]["records"]
        rounds.append((grep, profgen, large))
    log.unlink()
    table(
        f"refine: a log of {size >> 20} MiB with {records:,} denials".replace(",", " "),
        [
            ("grep -c type=1326", f"{statistics.median(row[0] for row in rounds):.2f} s of processor time = 1"),
            ("profgen refine, start to end", f"{statistics.median(row[1] for row in rounds):.2f} s"),
            ("profgen / grep", f"{statistics.median(row[1] / row[0] for row in rounds):.2f}"),
            ("peak memory, and with a log of a thousandth", f"{rounds[-1][2]:.0f} MiB, {small:.0f} MiB"),
        ],
    )


if __name__ == "__main__":
    import tempfile

    def _print(title: str, rows: Sequence[tuple[str, str]]) -> None:
        print(f"### {title}", *(f"{name}: {value}" for name, value in rows), sep="\n")

    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
    with tempfile.TemporaryDirectory(prefix="profgen-bench-") as folder:
        large_log(Path(folder), _print)
