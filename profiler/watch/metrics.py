"""Serve figures of a recording over HTTP in the text format 0.0.4 of Prometheus."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from profiler.errors import InputError, OutputError
from profiler.files import kernel_text
from profiler.quoting.text import printable
from profiler.tracers.recording import Recording
from profiler.wording import cause

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True)
class SessionFigures:
    """Figures of one recording at its last snapshot."""

    name: str
    identity: str
    syscalls: int
    calls: int
    capabilities: int
    programs: int
    paths: int
    seconds: float
    last_new: float
    recording: Recording
    """What they were taken from."""


def figures_of(name: str, identity: str, recording: Recording) -> SessionFigures:
    """Return the figures of a recording. Another thread may add to it meanwhile."""
    rows = list(recording.rows.items())
    return SessionFigures(
        name=name,
        identity=identity,
        syscalls=len({(abi, number) for (_, abi, number), _ in rows}),
        calls=sum(row.calls for _, row in rows),
        capabilities=recording.capabilities_seen,
        programs=len(recording.programs),
        paths=recording.paths_seen,
        seconds=recording.elapsed(),
        last_new=recording.last_new,
        recording=recording,
    )


def resident_bytes() -> int:
    """Return the resident memory of this process (proc_pid_statm(5))."""
    with kernel_text("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Figures:
    """Figures of all recordings. ``stores``: entries and room of each of the kernel's stores. ``memory``: resident
    bytes of profgen. ``losses``: by class."""

    sessions: tuple[SessionFigures, ...] = ()
    begun: int = 0
    ended: int = 0
    written: int = 0
    failed: int = 0
    losses: Mapping[str, int] = field(default_factory=dict)
    stores: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    memory: int = 0


def label(value: str) -> str:
    """Return the value of a label, quoted; names of containers and processes are chosen by strangers."""
    return '"' + printable(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


Sample = tuple[Mapping[str, str], float]


def render(figures: Figures) -> str:
    """Return the page."""
    lines: list[str] = []

    def metric(name: str, kind: str, text: str, samples: Sequence[Sample]) -> None:
        lines.append(f"# HELP profgen_{name} {text}")
        lines.append(f"# TYPE profgen_{name} {kind}")
        for labels, value in samples:
            shown = ",".join(f"{key}={label(given)}" for key, given in labels.items())
            lines.append(f"profgen_{name}{{{shown}}} {_number(value)}" if shown else f"profgen_{name} {_number(value)}")

    def each(value: Callable[[SessionFigures], float]) -> list[Sample]:
        return [({"name": row.name, "id": row.identity}, value(row)) for row in figures.sessions]

    metric("sessions", "gauge", "Running recordings.", [({}, len(figures.sessions))])
    metric("sessions_begun_total", "counter", "Recordings that began.", [({}, figures.begun)])
    metric("sessions_ended_total", "counter", "Recordings that ended.", [({}, figures.ended)])
    metric("traces_written_total", "counter", "Traces written, snapshots included.", [({}, figures.written)])
    metric("traces_failed_total", "counter", "Traces that could not be written.", [({}, figures.failed)])
    metric(
        "lost_total",
        "counter",
        "What could not be recorded, by class.",
        [({"class": name}, n) for name, n in sorted(figures.losses.items())],
    )
    metric("syscalls", "gauge", "Different syscalls seen at the last snapshot.", each(lambda row: row.syscalls))
    metric("calls", "gauge", "Calls counted.", each(lambda row: row.calls))
    metric("capabilities", "gauge", "Different capabilities needed.", each(lambda row: row.capabilities))
    metric("programs", "gauge", "Different programs seen.", each(lambda row: row.programs))
    metric("paths", "gauge", "Different paths of files seen.", each(lambda row: row.paths))
    metric("recorded_seconds", "gauge", "Seconds since the recording began.", each(lambda row: row.seconds))
    metric("last_new_seconds", "gauge", "Seconds from the start to the last new item.", each(lambda row: row.last_new))
    metric(
        "store_entries",
        "gauge",
        "Entries used in a kernel store.",
        [({"store": n}, used) for n, (used, _) in sorted(figures.stores.items())],
    )
    metric(
        "store_room",
        "gauge",
        "Entries that a kernel store has room for.",
        [({"store": n}, room) for n, (_, room) in sorted(figures.stores.items())],
    )
    metric("resident_memory_bytes", "gauge", "Resident memory of profgen.", [({}, figures.memory)])
    return "\n".join(lines) + "\n"


def address(text: str) -> tuple[str, int]:
    """Parse ``9464``, ``127.0.0.1:9464`` or ``[::1]:9464``. Raises InputError."""
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) < 1 << 16):
        raise InputError(f"--metrics needs [ADDRESS:]PORT, not {text[:80]!a}")
    return host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(port)


class Server:
    """Answers GET /metrics from its own thread, on the loopback address unless another is given. Raises OutputError."""

    def __init__(self, where: tuple[str, int]) -> None:
        from http.server import (  # slow to load, and rarely needed
            BaseHTTPRequestHandler,
            ThreadingHTTPServer,
        )

        self.figures = Figures()
        """What is served: replaced as a whole, from any thread."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_GET(self) -> None:
                if self.path.partition("?")[0] != "/metrics":
                    self.send_error(404)
                    return
                body = render(outer.figures).encode("utf-8")
                self.send_response(200)
                self.send_header("Content-Type", CONTENT_TYPE)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Print nothing about requests."""

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            if ":" in where[0]:
                import socket

                address_family = socket.AF_INET6

            def handle_error(self, request: object, client_address: object) -> None:
                """Print nothing about clients that disconnect."""

        try:
            self._server = Quiet(where, Handler)
        except (OSError, OverflowError) as error:
            reason = cause(error) if isinstance(error, OSError) else str(error)
            raise OutputError(f"cannot serve metrics on {where[0]}:{where[1]}: {reason}") from error
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def serving(where: tuple[str, int] | None) -> Iterator[Server | None]:
    """Serve metrics at an address and port; None serves nothing. Raises OutputError."""
    if where is None:
        yield None
        return
    server = Server(where)
    try:
        yield server
    finally:
        server.close()
