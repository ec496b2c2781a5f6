"""Runs inside the virtual machine: starts workloads with given commands, drives each with its load, and says how it
went.

``python -m vm.drive SPEC``: SPEC is a pickled list of Drive. One JSON object a line on standard output: name, error (or
null), seconds.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from system.lab.processes import ENVIRONMENT, LabError
from system.lab.workloads import Workload
from waiting import HANG_SECONDS, eventually


@dataclass(frozen=True)
class Drive:
    """A workload, under a name of this run's own, and the command that starts it confined."""

    name: str
    workload: Workload
    command: tuple[str, ...]


def drive(each: Drive) -> str | None:
    """Start, load, stop, check: what was wrong, with the output; None when nothing was."""
    workload = each.workload
    workload.reset()
    # What it leaves behind is ended through its group: a profile may not let signals in.
    group = Path(f"/sys/fs/cgroup/drive-{each.name}")
    group.mkdir()
    process = subprocess.Popen(
        ["/bin/sh", "-c", 'echo $$ >"$0"; exec "$@"', str(group / "cgroup.procs"), *each.command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
        cwd="/",
        start_new_session=True,
    )
    output: dict[str, bytes] = {}

    def collect(name: str) -> None:
        output[name] = getattr(process, name).read()

    readers = [threading.Thread(target=collect, args=(name,), daemon=True) for name in ("stdout", "stderr")]
    for reader in readers:
        reader.start()
    error = None
    try:
        if not workload.batch:
            if not eventually(lambda: process.poll() is not None or workload.ready()):
                raise LabError("it never answered")
            if process.poll() is not None:
                raise LabError("it ended before it was ready")
            workload.load()
            process.send_signal(workload.stop)
        if not eventually(lambda: process.poll() is not None):
            raise LabError("it did not end")
        for reader in readers:
            reader.join(HANG_SECONDS)
        if process.returncode != 0:
            raise LabError(f"it ended with status {process.returncode}")
        workload.check(output["stdout"].decode())
    except (LabError, OSError) as caught:
        error = str(caught)
    finally:
        (group / "cgroup.kill").write_text("1")
        process.wait(HANG_SECONDS)
        eventually(lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()
    if error is not None:
        said = {name: output.get(name, b"").decode(errors="replace")[-2000:] for name in ("stdout", "stderr")}
        error = f"{error}; stdout: {said['stdout']!r}; stderr: {said['stderr']}"
    return error


def main() -> None:
    for each in pickle.loads(Path(sys.argv[1]).read_bytes()):
        begun = time.monotonic()
        error = drive(each)
        print(
            json.dumps({"name": each.name, "error": error, "seconds": round(time.monotonic() - begun, 1)}), flush=True
        )


if __name__ == "__main__":
    main()
