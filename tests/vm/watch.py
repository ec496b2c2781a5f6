"""Runs in the virtual machine: watches a made-up container and a process that is joined; prints what it saw as JSON.

The container has no runtime: a shell moves itself into a cgroup with an id's name and becomes ``unshare``, which
executes the entry point in a mount namespace and a pid namespace of its own, as runc's last step is.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from profiler.kernel.syscalls import name_of
from profiler.tracers.base import Options
from profiler.tracers.ebpf.watcher import EbpfWatcher
from profiler.tracers.watcher import Selection

OPTIONS = Options(files=False, denials=True)

plain, storm = sys.argv[1:]
with EbpfWatcher() as first:  # compiles the recorder, for which the storm would leave little of the processors
    first.start(Selection(all_containers=True), OPTIONS)
place = Path("/run/profgen-cgroup")
place.mkdir(exist_ok=True)
subprocess.run(["mount", "-t", "cgroup2", "none", str(place)], check=True)
group = place / f"docker-{'5e' * 32}.scope"
group.mkdir()
joined = subprocess.Popen([storm], stdout=subprocess.PIPE, text=True)
assert joined.stdout is not None
joined.stdout.readline()
with EbpfWatcher() as watcher:
    watcher.start(Selection(all_containers=True, pids=(joined.pid,)), OPTIONS)
    joined.send_signal(signal.SIGUSR1)
    joined.stdout.readline()
    script = f"echo $$ > {group}/cgroup.procs; exec unshare --mount --pid --fork {plain} 3 2"
    container = subprocess.Popen(["/bin/sh", "-c", script])
    end = time.monotonic() + 600
    while container.poll() is None and time.monotonic() < end:
        watcher.wait(0.1)
    joined.send_signal(signal.SIGUSR2)
    children = int(joined.stdout.readline())
    joined.wait(600)
    while not all(session.ended for session in watcher.sessions()) and time.monotonic() < end:
        watcher.wait(0.1)
    found = {}
    for session in watcher.sessions():
        recording = watcher.snapshot(session)
        calls: Counter[str] = Counter()
        for (_, abi, number), row in recording.rows.items():
            calls[name_of(abi, number) or str(number)] += row.calls
        found[session.kind] = {
            "subject": session.subject,
            "ended": session.ended,
            "calls": calls,
            "losses": recording.losses,
            "programs": [program.path for program in recording.programs],
            "features": recording.features,
            "refused": len(watcher.refused(session)),
        }
os.rmdir(group)
subprocess.run(["umount", str(place)], check=False)
print(json.dumps({"children": children, "sessions": found, "status": container.returncode}))
