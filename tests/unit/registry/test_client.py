"""Pushing and pulling, against a registry of a few lines that can also lie. A real one is in
tests/system/test_registry.py."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from profiler.errors import InputError
from profiler.registry.client import Client, RegistryError
from profiler.registry.manifest import MANIFEST, artifact, digest
from profiler.registry.reference import parse

PROFILE = b'{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": []}\n'
MADE = artifact(PROFILE)


class Registry(BaseHTTPRequestHandler):
    """As much of the distribution specification as a client needs."""

    protocol_version = "HTTP/1.1"
    content: dict[str, tuple[str, bytes]]
    refusing: tuple[int, str, bytes] | None = None
    """A status, the challenge and the body for every request."""
    slow: tuple[str, threading.Event] | None = None
    """A part of the paths that are answered byte by byte, and when that ends."""

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle_any(self) -> None:
        path, _, query = self.path.partition("?")
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.slow is not None and self.slow[0] in path:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while not self.slow[1].wait(0.01):
                self.wfile.write(b"{")
            self.close_connection = True
        elif self.refusing is not None:
            status, challenge, body = self.refusing
            self.answer(status, body, **({"Www_Authenticate": challenge} if challenge else {}))
        elif self.command == "POST":
            self.answer(202, Location=path + "1")
        elif self.command == "PUT" and "/manifests/" in path:
            self.content[path] = self.content[path.rpartition("/")[0] + "/" + digest(data)] = (
                self.headers["Content-Type"],
                data,
            )
            self.answer(201)
        elif self.command == "PUT":
            name = query.partition("digest=")[2].replace("%3A", ":")
            self.content[path.partition("/uploads/")[0] + "/" + name] = ("application/octet-stream", data)
            self.answer(201)
        elif path == "/v2/":
            self.answer(200)
        elif path in self.content:
            kind, body = self.content[path]
            self.answer(200, body, Content_Type=kind)
        else:
            self.answer(404)

    do_GET = do_HEAD = do_POST = do_PUT = handle_any

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@pytest.fixture
def registry() -> Iterator[type[Registry]]:
    """The class of its requests: its members are what it holds and how it answers. ``place``: its address."""

    class Own(Registry):
        content: dict[str, tuple[str, bytes]] = {}
        place = ""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Own)
    Own.place = f"127.0.0.1:{server.server_port}/profiles/web"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield Own
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def no_credentials(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))


def client(registry: Any, name: str = ":1") -> Client:
    return Client(parse(registry.place + name), plain_http=True)


def test_what_is_pushed_is_pulled(registry: Any) -> None:
    client(registry).push(MADE)
    assert client(registry).pull() == (PROFILE, MADE.manifest.digest)
    assert client(registry, f"@{MADE.manifest.digest}").pull() == (PROFILE, MADE.manifest.digest)
    kind, data = registry.content["/v2/profiles/web/manifests/1"]
    assert (kind, data) == (MANIFEST, MADE.manifest.data)
    client(registry).push(MADE)  # the blobs are there already


def pulled(registry: Any, name: str = ":1") -> str:
    with pytest.raises((InputError, RegistryError)) as caught:
        client(registry, name).pull()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_not_there(registry: Any) -> None:
    assert "there is no such artifact" in pulled(registry)


def test_a_registry_that_lies(registry: Any) -> None:
    client(registry).push(MADE)
    blob, manifest = f"/v2/profiles/web/blobs/{MADE.layer.digest}", "/v2/profiles/web/manifests/1"
    kind, data = registry.content[blob]
    registry.content[blob] = (kind, data[::-1])
    assert "not the one of its manifest" in pulled(registry)
    registry.content[blob] = (kind, data + b" ")
    assert "sends more than" in pulled(registry)
    registry.content[blob] = (kind, data[:-1])
    assert "not the one of its manifest" in pulled(registry)
    registry.content[blob] = (kind, data)
    registry.content[manifest] = (MANIFEST, MADE.manifest.data + b"\n" * (1 << 17))
    assert "sends more than" in pulled(registry)
    registry.content[manifest] = ("application/vnd.oci.image.index.v1+json", MADE.manifest.data)
    assert "not an OCI image manifest" in pulled(registry)
    other = artifact(b'{"defaultAction": "SCMP_ACT_ALLOW"}')
    registry.content[f"/v2/profiles/web/manifests/{MADE.manifest.digest}"] = (MANIFEST, other.manifest.data)
    assert f"sent {other.manifest.digest} instead" in pulled(registry, f"@{MADE.manifest.digest}")


@pytest.mark.parametrize("part", ["/v2/", "/manifests/", "/blobs/"])
def test_a_registry_that_sends_byte_by_byte(registry: Any, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    """Each read succeeds, so only the limit for the whole ends it."""
    client(registry).push(MADE)
    monkeypatch.setattr("profiler.registry.client.ALL_SECONDS", 1.5)
    enough = threading.Event()
    registry.slow = (part, enough)
    try:
        assert "the registry took more than 1.5 s" in pulled(registry)
    finally:
        enough.set()


def test_a_profile_that_no_runtime_accepts(registry: Any) -> None:
    client(registry).push(artifact(b'{"defaultAction": "SCMP_ACT_NOTIFY"}'))
    assert "defaultAction: SCMP_ACT_NOTIFY" in pulled(registry)


@pytest.mark.parametrize(
    ("status", "challenge", "body", "said"),
    [
        (401, 'Basic realm="x"', b"", "wants credentials: docker login 127.0.0.1"),
        (401, "", b"", "wants credentials"),
        (403, "", b"", "wants credentials"),
        (500, "", b"", "status 500"),
        (503, "", b'{"errors": [{"code": "UNAVAILABLE", "message": "back\\nsoon"}]}', r"back\nsoon"),
        (503, "", b'{"errors": {}}', "status 503"),
    ],
)
def test_a_registry_that_refuses(registry: Any, status: int, challenge: str, body: bytes, said: str) -> None:
    registry.refusing = (status, challenge, body)
    assert said in pulled(registry)
    with pytest.raises(RegistryError) as caught:
        client(registry).push(MADE)
    assert said in str(caught.value)


def test_nobody_answers() -> None:
    with pytest.raises(RegistryError, match="cannot be reached"):
        Client(parse("127.0.0.1:1/x:1"), plain_http=True)


def test_digests() -> None:
    assert digest(b"") == f"sha256:{hashlib.sha256().hexdigest()}"
