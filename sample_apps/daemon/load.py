#!/usr/bin/python3
"""Drive echod with datagrams of several sizes from several sockets, and check each answer."""

import argparse
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from started import LoadFailed, run, started


def ask(port, text):
    """Send one datagram, up to five times, because UDP may lose one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(1)
        client.connect(("127.0.0.1", port))
        for _ in range(5):
            client.send(text)
            try:
                answer = client.recv(2000)
            except TimeoutError:
                continue
            if answer != text.upper():
                raise LoadFailed(f"{text[:20]!r} was answered {answer[:20]!r}")
            return
        raise LoadFailed("no answer within 5 s")


def stop_by_pid_file(path):
    """Stop the detached daemon and wait until its process is gone."""
    pid = int(pathlib.Path(path).read_text())
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    raise LoadFailed(f"the daemon (pid {pid}) did not stop within 10 s of SIGTERM")


def main():
    parser = argparse.ArgumentParser(description=__doc__, usage="%(prog)s [options] [-- COMMAND...]")
    parser.add_argument("--port", type=int, default=7007)
    parser.add_argument("--datagrams", type=int, default=100)
    parser.add_argument("--daemon", help="start this program detached, and stop it through its pid file")
    parser.add_argument(
        "command", nargs="*", help="starts the daemon and waits for it; without it, drive a running one"
    )
    options = parser.parse_args()

    if options.daemon:
        pid_file = f"/tmp/echod.{os.getpid()}.pid"
        subprocess.run([options.daemon, "-s", str(options.port), "-p", pid_file], check=True, timeout=10)
    with started(options.command, lambda: ask(options.port, b"ready?")):
        for number in range(options.datagrams):
            ask(options.port, b"datagram %d " % number * (number % 60 + 1))
    if options.daemon:
        stop_by_pid_file(pid_file)
        os.unlink(pid_file)
    return f"{options.datagrams} datagrams answered"


if __name__ == "__main__":
    run(main)
