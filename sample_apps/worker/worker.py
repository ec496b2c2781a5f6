#!/usr/bin/python3
"""A master with worker processes: a worker hashes each line that arrives over a Unix socket, and the master answers."""

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
    """Run one worker process until it is told to stop."""
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))
    if os.getuid() == 0:
        account = pwd.getpwnam(user)
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    while os.getppid() == master:  # a worker must not outlive a master that could not stop it
        try:
            number, text = jobs.get(timeout=1)
        except queue.Empty:
            continue
        results.put((number, os.getpid(), hashlib.sha256(text).hexdigest()))


def next_result(results, workers):
    """Return the next result of any worker; exit if a worker has died, because its result would never come."""
    while True:
        with contextlib.suppress(queue.Empty):
            return results.get(timeout=1)
        if not all(worker.is_alive() for worker in workers):
            sys.exit("a worker ended early")


def answer(connection, jobs, results, workers):
    """Answer all lines of one client in order: distribute them to the workers, and collect the results."""
    lines = connection.makefile("rb").read().splitlines()
    for job in enumerate(lines):
        jobs.put(job)
    answers = sorted(next_result(results, workers) for _ in lines)
    connection.sendall("".join(f"{pid} {digest}\n" for _, pid, digest in answers).encode())


def stop(workers):
    """Signal every worker and wait for its end; a worker that cannot be stopped must not block the master."""
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
    parser.add_argument("--user", default="nobody", help="the user to run the workers as when started by root")
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
            # Exit at once: what the thread that feeds the queue does while the interpreter shuts down depends on
            # timing.
            jobs.close()
            jobs.join_thread()
        else:
            jobs.cancel_join_thread()
        stop(workers)


if __name__ == "__main__":
    main()
