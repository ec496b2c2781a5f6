"""Real workloads, each with its load: the sample applications, nginx under wrk, Redis under redis-benchmark, PostgreSQL
under pgbench.

The same argument vector is recorded on the host and run in a container, on the same paths: a workload's directory lies
in the lab's and is mounted at its own place. `reset` puts that directory into the state in which every run, recorded or
confined, begins.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import socket
from abc import ABC, abstractmethod
from pathlib import Path

from system.harness import CHECKOUT
from system.lab.processes import LabError, run
from system.lab.runtimes import Job

SAMPLES = CHECKOUT / "sample_apps"
PYTHON = "/usr/bin/python3"
POSTGRESQL = "/usr/lib/postgresql/15/bin"

_ports: set[int] = set()


def free_port(first: int, last: int) -> int:
    """Return a port of 127.0.0.1 that is free for TCP and UDP and was not returned before. To bind one below 1024 takes
    a capability."""
    # Each process begins elsewhere, so that two test sessions do not choose the same port before one of them binds it.
    turn = os.getpid() * 7 % (last - first)
    for port in (*range(first + turn, last), *range(first, first + turn)):
        if port in _ports:
            continue
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp, contextlib.suppress(OSError):
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tcp.bind(("127.0.0.1", port))
            udp.bind(("127.0.0.1", port))
            _ports.add(port)
            return port
    raise LabError(f"no free port from {first} to {last}")


class Workload(ABC):
    """One workload. `directory` is its own, writable, the same in the container."""

    name: str
    user = "root"
    batch = False
    """A batch ends by itself; its output is checked. Anything else is a service, driven by a load and ended by
    ``stop``."""
    stop = signal.SIGTERM
    needs: tuple[str, ...] = (PYTHON,)
    """Programs without which it cannot run or be driven."""
    rounds = 3
    """Rounds of the load while recording, so that what it does only now and then is seen. Confined, one is run."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.directory.mkdir()
        self.directory.chmod(0o755)
        account = pwd.getpwnam(self.user)
        self.uid, self.gid = account.pw_uid, account.pw_gid
        self.groups = tuple(sorted(set(os.getgrouplist(self.user, self.gid)) - {self.gid}))
        self.prepare()

    @property
    @abstractmethod
    def argv(self) -> tuple[str, ...]: ...

    @property
    def job(self) -> Job:
        return Job(self.argv, self.uid, self.gid, self.groups, (SAMPLES,), (self.directory,))

    def prepare(self) -> None:  # noqa: B027 - most have nothing to prepare
        """Once, before the first run."""

    def reset(self) -> None:
        """Before each run."""
        for path in self.directory.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def ready(self) -> bool:
        """Whether a service answers."""
        return True

    def load(self) -> None:  # noqa: B027
        """Drive a service. LabError when anything was wrong."""

    def check(self, stdout: str) -> None:  # noqa: B027
        """Look at what it left. LabError when anything was wrong."""

    def answers_on(self, port: int) -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            return False
        return True


class WebService(Workload):
    release: str

    def prepare(self) -> None:
        self.port = free_port(601, 1024)

    @property
    def argv(self) -> tuple[str, ...]:
        server = SAMPLES / "webservice" / self.release / "server.py"
        return (str(server), "--port", str(self.port), "--log", str(self.directory / "access.log"))

    def ready(self) -> bool:
        return self.answers_on(self.port)

    def load(self) -> None:
        run([PYTHON, SAMPLES / "webservice" / "load.py", "--rare", "--port", str(self.port)])

    def check(self, stdout: str) -> None:
        log = self.directory / "access.log"
        lines = log.read_text().count("\n")
        if lines < 200:
            raise LabError(f"{log} has only {lines} lines")
        if self.release == "v2" and log.owner() != "nobody":
            raise LabError(f"{log} belongs to {log.owner()}")


class WebServiceV1(WebService):
    name, release = "web-v1", "v1"


class WebServiceV2(WebService):
    name, release = "web-v2", "v2"


class Daemon(Workload):
    name = "daemon"
    needs = ("/usr/bin/cc", "/usr/bin/make")

    def prepare(self) -> None:
        self.port = free_port(7007, 7100)
        # Next to the directory, because reset empties the directory.
        self._program = self.directory.parent / "bin"
        self._program.mkdir()
        run(["make", "-C", SAMPLES / "daemon", f"OUT={self._program}"])

    @property
    def argv(self) -> tuple[str, ...]:
        return (str(self._program / "echod"), "-w", "-s", str(self.port), "-p", str(self.directory / "pid"))

    @property
    def job(self) -> Job:
        job = super().job
        return Job(job.argv, job.uid, job.gid, job.groups, (*job.readable, self._program), job.writable)

    def ready(self) -> bool:
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.settimeout(1)
            client.connect(("127.0.0.1", self.port))
            try:
                client.send(b"ready?")
                return client.recv(100) == b"READY?"
            except OSError:
                return False

    def load(self) -> None:
        run([PYTHON, SAMPLES / "daemon" / "load.py", "--port", str(self.port)])

    def check(self, stdout: str) -> None:
        if (self.directory / "pid").read_text():
            raise LabError("the daemon did not empty its pid file")


class Pipeline(Workload):
    name = "pipeline"
    batch = True

    @property
    def argv(self) -> tuple[str, ...]:
        return (str(SAMPLES / "pipeline" / "pipeline.sh"), str(self.directory / "result"))

    def check(self, stdout: str) -> None:
        result = self.directory / "result"
        counts = re.findall(r"^(\d+) /page/\d+$", stdout, re.MULTILINE)
        if len(counts) != 10 or stdout != result.read_text() or result.owner() != "nobody":
            raise LabError(f"the pipeline's result is wrong: {stdout!r}, owner {result.owner()}")


class Worker(Workload):
    name = "worker"

    @property
    def address(self) -> str:
        return str(self.directory / "sock")

    @property
    def argv(self) -> tuple[str, ...]:
        return (str(SAMPLES / "worker" / "worker.py"), "--socket", self.address)

    def ready(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(self.address)
        except OSError:
            return False
        return True

    def load(self) -> None:
        run([PYTHON, SAMPLES / "worker" / "load.py", "--socket", self.address])


class Nginx(Workload):
    """Without a lingering close: it calls shutdown(2) or not, as the last request of a client happens to come."""

    name = "nginx"
    needs = ("/usr/sbin/nginx", "/usr/bin/wrk")

    def prepare(self) -> None:
        self.port = free_port(601, 1024)

    @property
    def argv(self) -> tuple[str, ...]:
        return ("/usr/sbin/nginx", "-e", "stderr", "-p", f"{self.directory}/", "-c", "nginx.conf")

    def reset(self) -> None:
        super().reset()
        (self.directory / "html").mkdir()
        (self.directory / "html" / "index.html").write_text("<p>hello</p>\n" * 1000)
        (self.directory / "nginx.conf").write_text(
            f"""daemon off;
user www-data;
worker_processes 2;
pid nginx.pid;
events {{ worker_connections 256; }}
http {{
    access_log access.log;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    sendfile on;
    tcp_nopush on;
    lingering_close off;
    keepalive_timeout 65;
    server {{
        listen 127.0.0.1:{self.port};
        root html;
    }}
}}
"""
        )

    def ready(self) -> bool:
        return self.answers_on(self.port)

    def load(self) -> None:
        output = run(["wrk", "-t2", "-c8", "-d1s", f"http://127.0.0.1:{self.port}/index.html"]).stdout
        if "Socket errors" in output or "Non-2xx" in output or not re.search(r"\b[1-9]\d* requests in", output):
            raise LabError(f"wrk was not content: {output}")


class Redis(Workload):
    name = "redis"
    needs = ("/usr/bin/redis-server", "/usr/bin/redis-benchmark")
    user = "redis"
    requests = 500
    tests = ("ping", "set", "get", "incr", "lpush", "lrange", "hset", "zadd", "mset")

    def prepare(self) -> None:
        self.port = free_port(6400, 6500)
        os.chown(self.directory, self.uid, self.gid)

    @property
    def argv(self) -> tuple[str, ...]:
        address = ("--bind", "127.0.0.1", "--port", str(self.port))
        return (
            "/usr/bin/redis-server",
            *address,
            "--dir",
            str(self.directory),
            "--save",
            "",
            "--appendonly",
            "yes",
            "--maxclients",
            "200",
        )

    def ready(self) -> bool:
        return run(["redis-cli", "-p", str(self.port), "ping"], check=False).stdout.strip() == "PONG"

    def load(self) -> None:
        command = [
            "redis-benchmark",
            "-p",
            str(self.port),
            "-c",
            "20",
            "-n",
            str(self.requests),
            "--csv",
            "-t",
            ",".join(self.tests),
        ]
        result = run(command)
        rows = result.stdout.count("\n") - 1
        if rows < len(self.tests) or "rror" in result.stdout + result.stderr:
            raise LabError(f"redis-benchmark was not content: {result.stdout} {result.stderr}")


class PostgreSQL(Workload):
    name = "postgresql"
    needs = (f"{POSTGRESQL}/postgres", "/usr/bin/pgbench")
    user = "postgres"
    transactions = 200

    def prepare(self) -> None:
        self.port = free_port(5440, 5520)  # below the range that clients' own ports come from
        os.chown(self.directory, self.uid, self.gid)
        self._data = self.directory / "data"
        self._pristine = self.directory.parent / "pristine"
        self._pristine.mkdir()
        os.chown(self._pristine, self.uid, self.gid)
        data, program = self._pristine / "data", f"{POSTGRESQL}/pg_ctl"
        self._as_user(f"{POSTGRESQL}/initdb", "--auth=trust", "--no-sync", "--no-instructions", "--pgdata", str(data))
        options = f"-c listen_addresses=127.0.0.1 -p {self.port} -k {self._pristine}"
        self._as_user(program, "--wait", "--pgdata", str(data), "--log", str(data / "log"), "-o", options, "start")
        try:
            self._as_user("createdb", *self._address, "bench")
            self._as_user("pgbench", *self._address, "--initialize", "--quiet", "bench")
        finally:
            self._as_user(program, "--wait", "--pgdata", str(data), "--mode=fast", "stop")

    def _as_user(self, *command: str) -> str:
        who = (f"--reuid={self.uid}", f"--regid={self.gid}", "--init-groups")
        return run(["setpriv", *who, "--", *command]).stdout

    @property
    def _address(self) -> tuple[str, ...]:
        return ("--host=127.0.0.1", f"--port={self.port}", "--username=postgres")

    @property
    def argv(self) -> tuple[str, ...]:
        settings = (
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            f"unix_socket_directories={self.directory}",
            "-c",
            "fsync=off",
        )
        return (f"{POSTGRESQL}/postgres", "-D", str(self._data), "-p", str(self.port), *settings)

    def reset(self) -> None:
        super().reset()
        run(["cp", "-a", self._pristine / "data", self._data])

    def ready(self) -> bool:
        return run(["pg_isready", "--quiet", *self._address], check=False).returncode == 0

    def load(self) -> None:
        each = self.transactions // 4
        output = run(
            ["pgbench", *self._address, "--client=4", "--jobs=2", f"--transactions={each}", "bench"],
        ).stdout
        processed = f"processed: {self.transactions}/{self.transactions}"
        if processed not in output or "failed transactions: 0 " not in output:
            raise LabError(f"pgbench was not content: {output}")
        # A signal between its processes, which pgbench brings about only when one happens to wait for another.
        told = (
            "SELECT bool_and(pg_log_backend_memory_contexts(pid)) FROM pg_stat_activity WHERE backend_type "
            "= 'background writer'"
        )
        if (
            run(["psql", *self._address, "--tuples-only", "--no-align", "--command", told, "bench"]).stdout.strip()
            != "t"
        ):
            raise LabError("no process was told")


SAMPLE_WORKLOADS: tuple[type[Workload], ...] = (WebServiceV1, WebServiceV2, Daemon, Pipeline, Worker)
WORKLOADS: tuple[type[Workload], ...] = (*SAMPLE_WORKLOADS, Nginx, Redis, PostgreSQL)
BY_NAME = {workload.name: workload for workload in WORKLOADS}


def why_not(workload: type[Workload]) -> str | None:
    """What this machine lacks for the workload; None when nothing."""
    missing = [path for path in workload.needs if not os.access(path, os.X_OK)]
    return f"not installed: {', '.join(missing)}" if missing else None
