#!/usr/bin/python3
"""A small web service, release 1: binds its port as root, then serves as an ordinary user and logs each request."""

import argparse
import os
import pwd
import signal
import socketserver
import subprocess
import sys
from http.server import BaseHTTPRequestHandler

RELEASE = "v1"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536  # send each answer in one piece

    def do_GET(self):
        if self.path == "/":
            self.answer(200, f"hello from {RELEASE}\n")
        elif self.path == "/report":
            self.report()
        else:
            self.answer(404, "no such page\n")

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer(200, f"{len(body)} bytes\n")

    def report(self):
        """Answer the rarely used /report: count the log's lines with another program."""
        try:
            done = subprocess.run(
                ["/usr/bin/wc", "-l", self.server.log_path], capture_output=True, text=True, check=True
            )
        except (OSError, subprocess.SubprocessError) as error:
            self.answer(500, f"report failed: {error}\n")
        else:
            self.answer(200, f"{done.stdout.split()[0]} requests, load {os.getloadavg()[0]}\n")

    def answer(self, status, text):
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format, *args):
        print(self.address_string(), self.log_date_time_string(), format % args, file=self.server.log, flush=True)


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


def drop_privileges(user):
    """Give up root for good, unless the process is not root or is to stay root."""
    account = pwd.getpwnam(user)
    if os.getuid() != 0 or account.pw_uid == 0:
        return
    os.setgroups([])
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=80)
    parser.add_argument("--user", default="nobody", help="the user to become when started by root")
    parser.add_argument("--log", default="access.log")
    options = parser.parse_args()

    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    try:
        with Server((options.host, options.port), Handler) as server, open(options.log, "a", encoding="utf-8") as log:
            server.log_path, server.log = options.log, log
            drop_privileges(options.user)
            print(
                f"{RELEASE} serves on {options.host}:{options.port} as uid {os.getuid()}", file=sys.stderr, flush=True
            )
            server.serve_forever()
    except SystemExit:
        # Exit at once: what threads that still serve do while the interpreter shuts down depends on timing.
        os._exit(0)


if __name__ == "__main__":
    main()
