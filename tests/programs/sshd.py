"""sshd: logins with a key and a terminal, and copies over both protocols, as root and as an ordinary user."""

from __future__ import annotations

import os
import pwd
from dataclasses import replace
from pathlib import Path

from system.lab.processes import LabError, run
from system.lab.runtimes import Job
from system.lab.workloads import Workload, free_port

SEPARATION = Path("/run/sshd")
"""sshd's own: the directory into which it changes its root (sshd(8))."""


class Sshd(Workload):
    name = "sshd"
    needs = ("/usr/sbin/sshd", "/usr/bin/ssh", "/usr/bin/scp")

    def prepare(self) -> None:
        self.port = free_port(2200, 2300)
        self._keys = self.directory.parent / "keys"
        # Also the home of logins: what bash reads in root's differs between machines, and from one minute to the next.
        self._keys.mkdir()
        for name in ("host", "user"):
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self._keys / name])
        (self._keys / "authorized").write_text((self._keys / "user.pub").read_text())
        (self._keys / "config").write_text(
            f"""Port {self.port}
ListenAddress 127.0.0.1
HostKey {self._keys}/host
AuthorizedKeysFile {self._keys}/authorized
StrictModes no
PermitRootLogin prohibit-password
UsePAM yes
PidFile {self.directory}/pid
SetEnv HOME={self._keys}
Subsystem sftp /usr/lib/openssh/sftp-server
Match User nobody
    ForceCommand internal-sftp
"""
        )

    @property
    def argv(self) -> tuple[str, ...]:
        return ("/usr/sbin/sshd", "-D", "-e", "-f", str(self._keys / "config"))

    @property
    def job(self) -> Job:
        return replace(super().job, readable=(self._keys, SEPARATION))

    def reset(self) -> None:
        super().reset()
        SEPARATION.mkdir(exist_ok=True)
        (self.directory / "sent").write_text("content\n" * 10000)
        (self.directory / "theirs").mkdir()
        os.chown(self.directory / "theirs", pwd.getpwnam("nobody").pw_uid, -1)

    def ready(self) -> bool:
        return self.answers_on(self.port)

    def load(self) -> None:
        settings = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "IdentityAgent=none", "LogLevel=ERROR")
        options = ["-F", "none", "-i", str(self._keys / "user"), *(f"-o{each}" for each in settings)]
        said = run(["ssh", "-tt", "-p", f"{self.port}", *options, "root@127.0.0.1", "tty && id -un"]).stdout
        if "/dev/pts/" not in said or "root" not in said:
            raise LabError(f"no login with a terminal: {said}")
        copy = ["scp", "-q", "-P", f"{self.port}", *options]
        sent, there = self.directory / "sent", "127.0.0.1:" + str(self.directory)
        run([*copy, sent, f"root@{there}/first"])
        run([*copy, "-O", f"root@{there}/first", self.directory / "second"])
        run([*copy, sent, f"nobody@{there}/theirs/third"])
        for name in ("second", "theirs/third"):
            if (self.directory / name).read_text() != sent.read_text():
                raise LabError(f"the copy differs: {name}")
