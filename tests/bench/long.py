"""``python -m tests.bench.long [CALLS FORKS]``: a recording of a day's work in minutes; what profgen takes meanwhile,
and what it lost.

As root. Calls are counted by the workload too, and compared.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.__main__ import HERE, PROFGEN, run, table

SNAPSHOT_SECONDS = 10
SAMPLE_SECONDS = 5
JOIN_SECONDS = 10
"""Far more than joining takes; what was made before would be missing in the comparison."""


def resident(pid: int) -> int:
    """Memory of a process in KiB (proc_pid_status(5), VmRSS)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS:")), 0)


def main(calls: int, forks: int) -> None:
    """Run it. ``calls`` and ``forks`` are numbers of each."""
    os.environ["PYTHONPATH"] = str(HERE.parent.parent)
    with tempfile.TemporaryDirectory(prefix="profgen-bench-") as folder:
        work = Path(folder)
        day, trace, files = work / "day", work / "out.json", work / "files"
        files.mkdir()
        run(["cc", "-O2", "-o", str(day), str(HERE / "day.c")])
        with subprocess.Popen(
            [str(day), str(calls), str(forks), str(files)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as workload:
            options = ["--pid", str(workload.pid), "--snapshot", f"{SNAPSHOT_SECONDS}s", "-q", "-o", str(trace)]
            with subprocess.Popen([*PROFGEN, "record", *options]) as profgen:
                time.sleep(JOIN_SECONDS)
                assert workload.stdin is not None
                workload.stdin.close()
                started = time.monotonic()
                samples: list[tuple[float, int]] = []
                while profgen.poll() is None:
                    time.sleep(SAMPLE_SECONDS)
                    if profgen.poll() is None and (kib := resident(profgen.pid)):
                        samples.append((time.monotonic() - started, kib))
            output = workload.stdout.read() if workload.stdout else ""
        if profgen.returncode != 0 or workload.returncode != 0:
            sys.exit(f"exit {profgen.returncode}, {workload.returncode}")
        taken = time.monotonic() - started
        document = json.loads(trace.read_text())
        counted = {row["name"]: row["calls"] for row in document["syscalls"]}
        made = {name: int(number) for name, number in (line.split() for line in output.splitlines())}
        third = max(len(samples) // 3, 1)
        table(
            f"{calls:,} calls and {forks:,} processes".replace(",", " "),
            [
                ("start to end", f"{taken:.0f} s"),
                ("calls in the trace", f"{sum(counted.values()):,}".replace(",", " ")),
                *(
                    (f"{name}, made / in the trace", f"{number} / {counted.get(name, 0)}")
                    for name, number in made.items()
                ),
                ("lost", str(sum(document["meta"]["losses"].values()))),
                (
                    "memory of profgen: after 5 s, median of the first third, of the last, most",
                    ", ".join(
                        f"{kib / 1024:.1f}"
                        for kib in (
                            samples[0][1],
                            sorted(kib for _, kib in samples[:third])[third // 2],
                            sorted(kib for _, kib in samples[-third:])[third // 2],
                            max(kib for _, kib in samples),
                        )
                    )
                    + " MiB",
                ),
                ("size of the trace", f"{trace.stat().st_size / 1024:.0f} KiB"),
            ],
        )


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:3] or ("1000000000", "1000000")))
