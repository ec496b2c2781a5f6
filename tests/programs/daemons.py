"""Daemons of a system and tools with privileges: dnsmasq, rsyslog, cron, ping, bubblewrap."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import struct
from dataclasses import replace
from pathlib import Path

from system.lab.processes import LabError, marked, run
from system.lab.runtimes import Job
from system.lab.workloads import Workload, free_port
from waiting import eventually


def _query(name: str, kind: int) -> bytes:
    """Return a question of the DNS (RFC 1035): 1 for A, 16 for TXT."""
    labels = b"".join(bytes([len(each)]) + each.encode() for each in name.split("."))
    return struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0) + labels + struct.pack(">BHH", 0, kind, 1)


class Dnsmasq(Workload):
    """Answers over UDP and TCP, gives addresses by DHCP, and asks a server that does not exist. When it ends, it kills
    the process of a connection over TCP that is still open."""

    name = "dnsmasq"
    needs = ("/usr/sbin/dnsmasq",)

    def prepare(self) -> None:
        self.port = free_port(5300, 5400)

    @property
    def argv(self) -> tuple[str, ...]:
        return ("/usr/sbin/dnsmasq", "--keep-in-foreground", f"--conf-file={self.directory}/conf")

    def reset(self) -> None:
        super().reset()
        (self.directory / "hosts").write_text("10.1.2.4 other.test\n")
        (self.directory / "leases").touch()
        os.chown(self.directory / "leases", pwd.getpwnam("dnsmasq").pw_uid, -1)
        (self.directory / "conf").write_text(
            f"""port={self.port}
listen-address=127.0.0.1
bind-interfaces
interface=lo
no-resolv
no-hosts
addn-hosts={self.directory}/hosts
address=/one.test/10.1.2.3
server=127.0.0.1#9
dhcp-range=127.0.0.50,127.0.0.60,255.0.0.0
dhcp-leasefile={self.directory}/leases
pid-file={self.directory}/pid
log-queries
log-facility={self.directory}/log
"""
        )

    def ready(self) -> bool:
        return self.answers_on(self.port)

    def load(self) -> None:
        question = _query("one.test", 1)
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.settimeout(60)
            client.connect(("127.0.0.1", self.port))
            for name, address in (("one.test", "10.1.2.3"), ("other.test", "10.1.2.4")):
                client.send(_query(name, 1))
                if not client.recv(512).endswith(socket.inet_aton(address)):
                    raise LabError(f"a wrong answer for {name}")
            client.send(_query("elsewhere.test", 1))  # goes on to a server that is not there
            client.send(_query("elsewhere.test", 16))
        self._still_open = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        self._still_open.sendall(struct.pack(">H", len(question)) + question)
        if not self._still_open.recv(512).endswith(socket.inet_aton("10.1.2.3")):
            raise LabError("a wrong answer over TCP")


class Rsyslog(Workload):
    """Takes messages from a unix socket, over UDP and TCP, and opens its files anew after SIGHUP."""

    name = "rsyslog"
    needs = ("/usr/sbin/rsyslogd", "/usr/bin/logger")

    def prepare(self) -> None:
        self.port = free_port(10500, 10600)

    @property
    def argv(self) -> tuple[str, ...]:
        return ("/usr/sbin/rsyslogd", "-n", "-f", f"{self.directory}/conf", "-i", f"{self.directory}/pid")

    def reset(self) -> None:
        super().reset()
        for name in ("work", "log"):
            (self.directory / name).mkdir()
        (self.directory / "conf").write_text(
            f"""global(workDirectory="{self.directory}/work")
module(load="imuxsock" sysSock.use="off")
module(load="imudp")
module(load="imtcp")
input(type="imuxsock" socket="{self.directory}/sock")
input(type="imudp" address="127.0.0.1" port="{self.port}")
input(type="imtcp" address="127.0.0.1" port="{self.port}")
template(name="by_tag" type="string" string="{self.directory}/log/%programname%")
action(type="omfile" dynaFile="by_tag")
action(type="omfile" file="{self.directory}/all" fileCreateMode="0640")
"""
        )

    def ready(self) -> bool:
        return (self.directory / "sock").exists() and self.answers_on(self.port)

    def load(self) -> None:
        log = self.directory / "all"
        network = ("--server", "127.0.0.1", "--port", str(self.port))
        ways: tuple[tuple[str, ...], ...] = (
            ("--socket", str(self.directory / "sock")),
            (*network, "--udp"),
            (*network, "--tcp"),
        )
        for turn in range(2):
            before = log.read_text().count("a message") if log.exists() else 0
            for tag, way in zip(("unix", "udp", "tcp"), ways, strict=True):
                run(["logger", *way, "--tag", tag, f"a message {turn}"])
            if not eventually(lambda before=before: log.exists() and log.read_text().count("a message") == before + 3):
                raise LabError("messages are missing")
            log.rename(log.with_name(f"all.{turn}"))
            main = [pid for pid in marked(f"{self.directory}/conf") if _comm(pid) == "rsyslogd"]
            os.kill(main[0], signal.SIGHUP)


def _comm(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


CRONTABS = Path("/var/spool/cron/crontabs")


class Cron(Workload):
    """Runs jobs of root and of an ordinary user, and is ended after them: SIGTERM kills it. Its tables are at fixed
    places: it needs a machine, or a mount namespace (tests/programs/apart.sh), that has none."""

    name = "cron"
    batch = True
    needs = ("/usr/sbin/cron",)

    @property
    def argv(self) -> tuple[str, ...]:
        script = (
            'cd "$1"; /usr/sbin/cron -f -L 0 & '
            "for _ in $(seq 90); do [ -s root/ran ] && [ -s games/ran ] && break; sleep 1; done; "
            "kill $!; wait $!; cat root/ran games/ran"
        )
        return ("/usr/bin/sh", "-c", script, self.name, str(self.directory))

    @property
    def job(self) -> Job:
        return replace(super().job, readable=(CRONTABS,))

    def reset(self) -> None:
        super().reset()
        for user in ("root", "games"):
            place = self.directory / user
            place.mkdir()
            account = pwd.getpwnam(user)
            os.chown(place, account.pw_uid, account.pw_gid)
            table = CRONTABS / user
            table.write_text(f'MAILTO=""\n* * * * * id -un >{place}/new && cat {place}/new >>{place}/ran\n')
            table.chmod(0o600)
            os.chown(table, account.pw_uid, account.pw_gid)

    def check(self, stdout: str) -> None:
        if set(stdout.split()) != {"root", "games"}:
            raise LabError(f"the jobs said {stdout}")


class Ping(Workload):
    """Has a file capability."""

    name = "ping"
    batch = True
    needs = ("/usr/bin/ping",)

    @property
    def argv(self) -> tuple[str, ...]:
        return ("/usr/bin/ping", "-c", "3", "-i", "0.2", "127.0.0.1")

    def check(self, stdout: str) -> None:
        if "3 packets transmitted, 3 received" not in stdout:
            raise LabError(f"ping said {stdout}")


class Bubblewrap(Workload):
    name = "bubblewrap"
    batch = True
    needs = ("/usr/bin/bwrap",)

    @property
    def argv(self) -> tuple[str, ...]:
        place = ("--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp")
        apart = ("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--hostname", "inside", "--die-with-parent")
        script = 'hostname; echo content >/tmp/file; cat /tmp/file; touch "$0" 2>/dev/null || echo refused'
        file = str(self.directory / "file")
        return ("/usr/bin/bwrap", *place, *apart, "--", "/usr/bin/sh", "-c", script, file)

    def check(self, stdout: str) -> None:
        if stdout != "inside\ncontent\nrefused\n":
            raise LabError(f"bubblewrap's shell said {stdout}")
