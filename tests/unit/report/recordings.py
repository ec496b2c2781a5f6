"""Traces for tests of the report: small, hostile, and large."""

from __future__ import annotations

from dataclasses import replace

from unit.policy.making import PROGRAMS, call, check, file, touching

from profiler.trace.model import Exec, Program, Signal, Socket, Trace

ZERO = frozenset({0})
MARKUP = "<img src=x onerror=alert(1)>"
HOSTILE = (
    f"/srv/{MARKUP}",
    "/srv/</script><script>alert(2)<",
    "/srv/{{ 7 * 7 }}",
    "/srv/rtl\u202egpj.exe",
    "/srv/\x1b[31mred",
    "/srv/bad\udcffname",
    "/srv/" + "/".join("long" * 60 for _ in range(16)),
)


def recording(*paths: str, **meta: object) -> Trace:
    """An application that uses these paths, with an entry of each kind."""
    found = touching(
        file("/etc/app.conf", first=0.1),
        file("/usr/lib/libc.so.6", "map"),
        file("/var/log/app.log", "append", own=True, first=0.3),
        file("/usr/bin/tool", "execute", first=0.5),
        *(file(path, first=0.6) for path in paths),
        sockets=[
            Socket("inet", "stream", 6, "bind", 80, None, {"ok": 1}, ZERO, 0.2, 0.75),
            Socket("inet", "dgram", 17, "connect", 53, None, {"ok": 1}, ZERO, 0.3, 0.75),
        ],
        signals=[Signal("TERM", "workload", {"ok": 2}, ZERO)],
        execs=[Exec(0, None, 1), Exec(1, 0, 3)],
        syscalls=[
            call("openat", errors={"ENOENT": 2}),
            call("socket", [(2, 1, 6)]),
            call("mmap", [(3,)]),
            replace(call("ptrace", [(16,)]), programs={1: 3}),
        ],
        **meta,
    )
    return replace(found, capabilities=(check("CAP_NET_BIND_SERVICE"), check("CAP_SYS_ADMIN", decisive=False)))


def hostile() -> Trace:
    """An application whose files, programs and arguments were named by an attacker."""
    found = recording(*HOSTILE, argv=(MARKUP, "--", "</script>"))
    return replace(found, programs=(Program(f"/usr/sbin/{MARKUP}", executions=1), *PROGRAMS[1:]))
