"""What recording takes from a server's throughput: nginx under wrk, Redis under redis-benchmark, on all processors."""

from __future__ import annotations

import re
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

PORT = 7180
SETTLE_SECONDS = 2.2
"""The eBPF tracer learns until 2 s after the last new item; steady state begins there."""
ROUNDS = 5
FILES = {"small": 240, "large": 65536}
"""Names and sizes in bytes."""

NGINX = """daemon off;
user www-data;
worker_processes 1;
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
    server {{
        listen 127.0.0.1:{port};
        root html;
    }}
}}
"""


def _command(arguments: Sequence[str]) -> str:
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(arguments)}: exit {done.returncode}\n{done.stderr}")
    return done.stdout


def _wrk(file: str) -> float:
    """Requests a second of a static file."""
    output = _command(["wrk", "-t1", "-c16", "-d2s", f"http://127.0.0.1:{PORT}/{file}"])
    found = re.search(r"Requests/sec: +([\d.]+)", output)
    assert found is not None
    assert "Non-2xx" not in output
    return float(found[1])


def _redis_benchmark() -> float:
    """Requests a second of SET and GET, together."""
    output = _command(["redis-benchmark", "-p", str(PORT), "-c", "20", "-n", "120000", "--csv", "-t", "set,get"])
    rates = [float(row.split(",")[1].strip('"')) for row in output.splitlines()[1:]]
    return len(rates) / sum(1 / rate for rate in rates)


def _serve(command: Sequence[str], settle: float, measure: Callable[[], float]) -> float:
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            time.sleep(0.1)
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", PORT)) == 0:
                    break
        else:
            sys.exit(f"{command[-1]} does not answer")
        measure()  # all that is new
        time.sleep(settle)
        return measure()
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=60)


def throughput(
    record: Callable[..., list[str]],
    work: Path,
    table: Callable[[str, Sequence[tuple[str, str]]], None],
    rounds: int = ROUNDS,
) -> None:
    """Print which part of its throughput each server keeps while it is recorded: medians of the ratios to the runs
    before and after."""
    folder = work / "nginx"
    (folder / "html").mkdir(parents=True)
    for name, size in FILES.items():
        (folder / "html" / name).write_bytes(b"x" * size)
    (folder / "nginx.conf").write_text(NGINX.format(port=PORT))
    servers: dict[str, tuple[list[str], Callable[[], float]]] = {
        **{
            f"nginx, files of {size} bytes": (
                ["/usr/sbin/nginx", "-e", "stderr", "-p", f"{folder}/", "-c", "nginx.conf"],
                lambda name=name: _wrk(name),  # type: ignore[misc]
            )
            for name, size in FILES.items()
        },
        "Redis": (
            ["/usr/bin/redis-server", "--port", str(PORT), "--bind", "127.0.0.1", "--save", ""],
            _redis_benchmark,
        ),
    }
    ways = {"with --no-files": ["--no-files"], "with files": []}
    for name, (command, measure) in servers.items():
        plain: list[float] = []
        kept: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(rounds):
            before = _serve(command, 0, measure)
            for way, options in ways.items():
                recorded = _serve([*record("ebpf", work, *options), *command], SETTLE_SECONDS, measure)
                after = _serve(command, 0, measure)
                kept[way].append(2 * recorded / (before + after))
                before = after
            plain.append(before)
        table(
            f"{name}: requests a second",
            [
                ("not recorded", f"{statistics.median(plain):.0f}"),
                *((f"kept while recorded {way}", f"{statistics.median(values):.2f}") for way, values in kept.items()),
            ],
        )
