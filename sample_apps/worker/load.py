#!/usr/bin/python3
"""Drive the worker sample with batches of jobs over its socket; check every answer, and that every worker is used."""

import argparse
import hashlib
import pathlib
import socket
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from started import LoadFailed, run, started


def batch(path, texts):
    """Return the answers for the texts, each (worker's pid, digest)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(30)
        client.connect(path)
        client.sendall(b"".join(text + b"\n" for text in texts))
        client.shutdown(socket.SHUT_WR)
        answers = client.makefile("r").read().splitlines()
    return [tuple(answer.split()) for answer in answers]


def main():
    parser = argparse.ArgumentParser(description=__doc__, usage="%(prog)s [options] [-- COMMAND...]")
    parser.add_argument("--socket", default="/tmp/worker.sock")
    parser.add_argument("--batches", type=int, default=10)
    parser.add_argument("command", nargs="*", help="starts the master; without it, drive a running one")
    options = parser.parse_args()

    pids = set()
    with started(options.command, lambda: batch(options.socket, [])):
        for number in range(options.batches):
            texts = [b"job %d of batch %d" % (job, number) for job in range(100)]
            answers = batch(options.socket, texts)
            if [digest for _, digest in answers] != [hashlib.sha256(text).hexdigest() for text in texts]:
                raise LoadFailed(f"batch {number} got wrong answers ({len(answers)} of them)")
            pids.update(pid for pid, _ in answers)
    return f"{options.batches} batches answered by {len(pids)} workers"


if __name__ == "__main__":
    run(main)
