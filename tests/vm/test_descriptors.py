"""Descriptors that a workload is given at its start: what AppArmor asks of them, and that a profile from a recording
has it."""

from __future__ import annotations

import shlex
import socket
from pathlib import Path

from system.harness import Profgen, finish
from vm.enforce import Confinement, generate, load
from vm.guest import Guest, python

COMMAND = ("/usr/bin/busybox", "echo", "said")
WITH_A_SOCKET = """
import socket, subprocess, sys
ours, theirs = socket.socketpair()
subprocess.run(sys.argv[1:], stdout=theirs, stderr=subprocess.DEVNULL)
theirs.close()
print(ours.recv(100).decode(), end="")
"""


def test_streams(guest: Guest, profgen: Profgen, tmp_path: Path) -> None:
    """A socket needs a rule, and has one when it was recorded with one. Files and pipes that an unconfined process
    opened need none."""
    recorded: list[Confinement] = []
    ours, theirs = socket.socketpair()
    with ours, theirs, open(tmp_path / "log", "wb") as log:
        for name, stdout in (("lab-socket", theirs), ("lab-file", log)):
            cwd = tmp_path / name
            cwd.mkdir()
            finish(
                profgen.start(
                    "record", "-q", "--tracer", "ptrace", "-o", "out.json", "--", *COMMAND, cwd=cwd, stdout=stdout
                )
            )
            recorded.append(generate(cwd / "out.json", name, cwd / "made"))
    shared = guest.shared / "descriptors"
    script = [load(recorded, shared / "profiles"), "mkfifo /run/fifo", "cd /"]
    (shared / "with_a_socket.py").write_text(WITH_A_SOCKET)
    for each in recorded:
        confined = shlex.join([str(guest.agent), "confine", "-p", each.name, "--", *COMMAND])
        script += [
            f"echo {each.name} to a socket: $({python(shared / 'with_a_socket.py')} {confined})",
            f"{confined} >>/run/file; echo {each.name} to a file: $(cat /run/file); rm /run/file",
            f"(cat /run/fifo & {confined} >/run/fifo; wait) >/run/out; echo {each.name} to a pipe: $(cat /run/out)",
        ]
    result = guest.run("\n".join(script))
    assert result.stdout.splitlines() == [
        "lab-socket to a socket: said",
        "lab-socket to a file: said",
        "lab-socket to a pipe: said",
        "lab-file to a socket:",
        "lab-file to a file: said",
        "lab-file to a pipe: said",
    ], result
    assert [(denial.profile, denial.operation) for denial in result.denials] == [("lab-file", "sendmsg")]
