#!/usr/bin/python3
"""A master with worker processes: each line that comes over a Unix socket is hashed by a worker and answered."""

import argparse
import contextlib
import hashlib
import multiprocessing
import os
import pwd
import queue
import signal
import socket
import sys


def work(jobs, results, user, master):
    """One worker process, until it is told to stop."""
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))
    if os.getuid() == 0:
        account = pwd.getpwnam(user)
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    while os.getppid() == master:  # never outlive a master that could not stop its workers
        try:
            number, text = jobs.get(timeout=1)
        except queue.Empty:
            continue
        results.put((number, os.getpid(), hashlib.sha256(text).hexdigest()))


def next_result(results, workers):
    """Of whichever worker is ready; without all of them it may never come."""
    while True:
        with contextlib.suppress(queue.Empty):
            return results.get(timeout=1)
        if not all(worker.is_alive() for worker in workers):
            sys.exit("a worker ended early")


def answer(connection, jobs, results, workers):
    """All lines of one client, in order: send them out to the workers, gather what comes back."""
    lines = connection.makefile("rb").read().splitlines()
    for job in enumerate(lines):
        jobs.put(job)
    answers = sorted(next_result(results, workers) for _ in lines)
    connection.sendall("".join(f"{pid} {digest}\n" for _, pid, digest in answers).encode())


def stop(workers):
    """Signal every worker and see it end; a worker that cannot be stopped must not hold the master back."""
    try:
        for worker in workers:
            os.kill(worker.pid, signal.SIGTERM)
    except OSError as error:
        print(f"cannot stop the workers: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    for worker in workers:
        worker.join(10)
        if worker.exitcode != 0:
            os._exit(1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--socket", default="/tmp/worker.sock")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--user", default="nobody", help="who the workers are when root is the master")
    options = parser.parse_args()

    context = multiprocessing.get_context("fork")
    jobs, results = context.Queue(), context.Queue()
    workers = [
        context.Process(target=work, args=(jobs, results, options.user, os.getpid())) for _ in range(options.workers)
    ]
    for worker in workers:
        worker.start()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))

    if os.path.exists(options.socket):
        os.unlink(options.socket)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(options.socket)
    listener.listen()
    try:
        while all(worker.is_alive() for worker in workers):
            connection, _ = listener.accept()
            with connection, contextlib.suppress(ConnectionError):  # a client may leave early
                answer(connection, jobs, results, workers)
        sys.exit("a worker ended early")
    finally:
        os.unlink(options.socket)
        if all(worker.is_alive() for worker in workers):
            # The thread that feeds the queue must not meet the end of the interpreter: what it does then depends on the
            # moment.
            jobs.close()
            jobs.join_thread()
        else:
            jobs.cancel_join_thread()
        stop(workers)


if __name__ == "__main__":
    main()
