"""Web servers and what stands behind them: lighttpd and Apache with CGI, haproxy, php-fpm."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import struct
from pathlib import Path

from executables import write_program
from programs.languages import fetch
from system.lab.processes import LabError, marked
from system.lab.workloads import Workload, free_port
from waiting import eventually

CGI = """#!/bin/sh
echo "Content-Type: text/plain"
echo
echo "$QUERY_STRING $(id -un)"
"""


class _Web(Workload):
    """Serves a page and a CGI script as www-data."""

    def prepare(self) -> None:
        self.port = free_port(601, 1024)

    def reset(self) -> None:
        super().reset()
        for name in ("html", "cgi", "log"):
            (self.directory / name).mkdir()
        (self.directory / "html" / "index.html").write_text("<p>hello</p>\n" * 1000)
        write_program(self.directory / "cgi" / "ask", CGI)
        os.chown(self.directory / "log", pwd.getpwnam("www-data").pw_uid, -1)
        (self.directory / "conf").write_text(self.configuration())

    def configuration(self) -> str:
        raise NotImplementedError

    def ready(self) -> bool:
        return self.answers_on(self.port)

    def load(self) -> None:
        for turn in range(20):
            if len(fetch(self.port)) != 13000 or fetch(self.port, f"/cgi/ask?{turn}") != f"{turn} www-data\n":
                raise LabError("a wrong answer")


class Lighttpd(_Web):
    name = "lighttpd"
    stop = signal.SIGINT  # after SIGTERM its status is 1 now and then
    needs = ("/usr/sbin/lighttpd",)

    @property
    def argv(self) -> tuple[str, ...]:
        return ("/usr/sbin/lighttpd", "-D", "-f", str(self.directory / "conf"))

    def configuration(self) -> str:
        return f"""server.modules = ("mod_cgi", "mod_alias", "mod_accesslog")
server.document-root = "{self.directory}/html"
server.bind = "127.0.0.1"
server.port = {self.port}
server.username = "www-data"
server.groupname = "www-data"
server.pid-file = "{self.directory}/pid"
server.errorlog = "{self.directory}/log/error"
accesslog.filename = "{self.directory}/log/access"
index-file.names = ("index.html")
mimetype.assign = (".html" => "text/html")
alias.url = ("/cgi/" => "{self.directory}/cgi/")
$HTTP["url"] =~ "^/cgi/" {{ cgi.assign = ("" => "") }}
"""


class Apache(_Web):
    """The event MPM with mod_cgid. Each load ends with a graceful restart, and one request more."""

    name = "apache"
    needs = ("/usr/sbin/apache2",)

    @property
    def argv(self) -> tuple[str, ...]:
        return ("/usr/sbin/apache2", "-DFOREGROUND", "-f", str(self.directory / "conf"))

    def configuration(self) -> str:
        modules = {
            name: f"mod_{name}.so"
            for name in ("mpm_event", "authz_core", "authz_host", "cgid", "alias", "dir", "mime", "deflate", "filter")
        }
        loaded = "\n".join(f"LoadModule {name}_module /usr/lib/apache2/modules/{so}" for name, so in modules.items())
        return f"""{loaded}
ServerRoot {self.directory}
ServerName localhost
Listen 127.0.0.1:{self.port}
User www-data
Group www-data
PidFile {self.directory}/pid
DefaultRuntimeDir {self.directory}
ScriptSock {self.directory}/cgisock
ErrorLog {self.directory}/log/error
CustomLog {self.directory}/log/access "%h %r %>s"
TypesConfig /etc/mime.types
DocumentRoot {self.directory}/html
DirectoryIndex index.html
ScriptAlias /cgi/ {self.directory}/cgi/
AddOutputFilterByType DEFLATE text/html
StartServers 2
<Directory {self.directory}>
    Require all granted
</Directory>
"""

    def load(self) -> None:
        super().load()
        error = self.directory / "log" / "error"
        before = error.read_text().count("resuming normal operations")
        os.kill(self._main(), signal.SIGUSR1)
        if not eventually(lambda: error.read_text().count("resuming normal operations") > before):
            raise LabError(f"no graceful restart: {error.read_text()}")
        super().load()

    def _main(self) -> int:
        """Return the process that the others are children of; in this process' pid namespace, unlike its pid file."""
        for pid in marked(str(self.directory / "conf")):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
            if words[0] == b"/usr/sbin/apache2" and Path(f"/proc/{parent}/comm").read_bytes().strip() != b"apache2":
                return pid
        raise LabError("Apache does not run")


class Haproxy(Workload):
    """A proxy in front of a second one, which answers by itself; with an administration socket, in its own root."""

    name = "haproxy"
    needs = ("/usr/sbin/haproxy",)
    stop = signal.SIGUSR1  # after SIGTERM its status is 143

    def prepare(self) -> None:
        self.port, self._behind = free_port(8400, 8500), free_port(8400, 8500)

    @property
    def argv(self) -> tuple[str, ...]:
        return ("/usr/sbin/haproxy", "-db", "-f", str(self.directory / "conf"))

    def reset(self) -> None:
        super().reset()
        (self.directory / "root").mkdir()
        (self.directory / "conf").write_text(
            f"""global
    user haproxy
    group haproxy
    chroot {self.directory}/root
    stats socket {self.directory}/sock mode 600 level admin
    nbthread 2
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend front
    bind 127.0.0.1:{self.port}
    default_backend behind
backend behind
    option httpchk
    server one 127.0.0.1:{self._behind} check inter 200ms
frontend last
    bind 127.0.0.1:{self._behind}
    http-request return status 200 content-type text/plain string answer
"""
        )

    def ready(self) -> bool:
        return self.answers_on(self.port)

    def load(self) -> None:
        for _ in range(30):
            if fetch(self.port) != "answer":
                raise LabError("a wrong answer")
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(60)
            client.connect(str(self.directory / "sock"))
            client.sendall(b"show info\n")
            if b"Uptime" not in client.recv(4096):
                raise LabError("no statistics")


SCRIPT = """<?php
session_start();
$_SESSION['turn'] = ($_SESSION['turn'] ?? 0) + 1;
session_write_close();
$name = tempnam($_SERVER['PLACE'], 'up');
file_put_contents($name, str_repeat('content', 1000));
$size = filesize($name);
unlink($name);
echo $size, ' ', trim(shell_exec('id -un')), ' ', date('Y') > 2000 ? 'dated' : '', ' ', strlen(random_bytes(8)), "\n";
"""


class PhpFpm(Workload):
    name = "php"
    program = "/usr/sbin/php-fpm8.2"
    needs = (program,)

    @property
    def argv(self) -> tuple[str, ...]:
        return (self.program, "-F", "-n", "-y", str(self.directory / "conf"))

    def reset(self) -> None:
        super().reset()
        for name in ("sessions", "files"):
            (self.directory / name).mkdir()
            os.chown(self.directory / name, pwd.getpwnam("www-data").pw_uid, -1)
        (self.directory / "index.php").write_text(SCRIPT)
        (self.directory / "conf").write_text(
            f"""[global]
pid = {self.directory}/pid
error_log = {self.directory}/error
[www]
user = www-data
group = www-data
listen = {self.directory}/sock
pm = dynamic
pm.max_children = 4
pm.start_servers = 2
pm.min_spare_servers = 1
pm.max_spare_servers = 3
access.log = {self.directory}/access
php_value[session.save_path] = {self.directory}/sessions
; old sessions are removed by chance: each time
php_value[session.gc_probability] = 1
php_value[session.gc_divisor] = 1
"""
        )

    def ready(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self.directory / "sock")) == 0

    def load(self) -> None:
        for _ in range(20):
            if not (said := self._ask()).endswith(b"7000 www-data dated 8\n"):
                raise LabError(f"php-fpm answered {said!r}")

    def _ask(self) -> bytes:
        """Return the answer of the script, with its headers, by the FastCGI protocol."""
        script = self.directory / "index.php"
        parameters = {
            "SCRIPT_FILENAME": str(script),
            "SCRIPT_NAME": "/index.php",
            "REQUEST_METHOD": "GET",
            "PLACE": str(self.directory / "files"),
        }
        pairs = b"".join(
            struct.pack(">BI", len(name), 1 << 31 | len(value)) + name.encode() + value.encode()
            for name, value in parameters.items()
        )

        def record(kind: int, content: bytes) -> bytes:
            return struct.pack(">BBHHBx", 1, kind, 1, len(content), 0) + content

        begin = struct.pack(">HB5x", 1, 0)
        output = b""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(60)
            client.connect(str(self.directory / "sock"))
            client.sendall(record(1, begin) + record(4, pairs) + record(4, b"") + record(5, b""))
            with client.makefile("rb") as answer:
                while header := answer.read(8):
                    _, kind, _, length, padding = struct.unpack(">BBHHBx", header)
                    content = answer.read(length + padding)[:length]
                    output += content if kind == 6 else b""
        return output
