"""Start the application with the given command, and stop it again; shared by the Python load scripts."""

import contextlib
import signal
import subprocess
import sys
import time


class LoadFailed(Exception):
    """The application gave a wrong or late answer, or none."""


@contextlib.contextmanager
def started(command, ready, seconds=30):
    """Run `command` until the block ends, then send SIGTERM and expect status 0. No command: use a running application.

    `ready()` raises OSError until the application answers.
    """
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL) if command else None
    try:
        deadline = time.monotonic() + (seconds if process else 3)
        while True:
            if process and process.poll() is not None:
                raise LoadFailed(f"{command[0]} ended with status {process.returncode} before it was ready")
            try:
                ready()
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    raise LoadFailed(f"no answer from the application: {error}") from None
                time.sleep(0.05)
        yield
        if process:
            process.send_signal(signal.SIGTERM)
            try:
                status = process.wait(seconds)
            except subprocess.TimeoutExpired:
                raise LoadFailed(f"{command[0]} did not stop within {seconds} s of SIGTERM") from None
            if status != 0:
                raise LoadFailed(f"{command[0]} ended with status {status}")
    finally:
        if process and process.poll() is None:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def run(main):
    """Run `main()` as a load script, with one line and status 1 if the load failed."""
    try:
        print(main())
    except (LoadFailed, OSError) as error:
        sys.exit(f"load failed: {error}")
