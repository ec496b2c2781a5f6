#!/usr/bin/python3
"""Drive the web service: pages, a missing page, uploads, several clients at once, and with --rare also /report."""

import argparse
import concurrent.futures
import http.client
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from started import LoadFailed, run, started


def main():
    parser = argparse.ArgumentParser(description=__doc__, usage="%(prog)s [options] [-- COMMAND...]")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=80)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--requests", type=int, default=50, help="requests of each client")
    parser.add_argument("--rare", action="store_true", help="also request the rarely used /report")
    parser.add_argument("command", nargs="*", help="starts the service; without it, drive a running one")
    options = parser.parse_args()

    def connect():
        return http.client.HTTPConnection(options.host, options.port, timeout=10)

    def ask(connection, method, path, expected, body=None):
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            text = response.read().decode()
        except http.client.HTTPException as error:
            raise LoadFailed(f"{method} {path}: {error!r}") from None
        if response.status != expected:
            raise LoadFailed(f"{method} {path} gave {response.status}, not {expected}: {text.strip()}")
        return text

    def ready():
        connection = connect()
        connection.connect()
        connection.close()

    def client(number):
        connection = connect()
        for request in range(options.requests):
            if not ask(connection, "GET", "/", 200).startswith("hello"):
                raise LoadFailed("GET / returned an unexpected greeting")
            if request % 10 == 0:
                ask(connection, "GET", "/missing", 404)
                size = 1000 * (number + 1)
                if ask(connection, "POST", "/", 200, b"x" * size) != f"{size} bytes\n":
                    raise LoadFailed("POST / lost some of the body")
        connection.close()

    with started(options.command, ready):
        with concurrent.futures.ThreadPoolExecutor(options.clients) as pool:
            list(pool.map(client, range(options.clients)))
        if options.rare:
            ask(connect(), "GET", "/report", 200)
    return f"{options.clients} clients made {options.requests} requests each"


if __name__ == "__main__":
    run(main)
