"""Push artifacts to a registry and pull them, with the ``oras`` package, which is loaded at the first use."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from importlib.util import find_spec
from types import MethodType
from typing import Any, TypeVar
from urllib.parse import urlencode, urljoin

from profiler.errors import ExtraMissing, InputError, ProgramError
from profiler.quoting.text import printable
from profiler.registry.manifest import MANIFEST, MANIFEST_MAX, Artifact, Blob, digest, layer_of
from profiler.registry.reference import Reference
from profiler.registry.rules import broken

T = TypeVar("T")

SECONDS = 60.0
"""Time limit for a connection, and for each read from it."""
ALL_SECONDS = 300.0
"""Time limit for all that a client does. A registry that sends a byte now and then meets the limit for each read."""


class RegistryError(ProgramError):
    """A registry did not answer, or refused what was asked."""


class Client:
    """A connection to one registry. ``plain_http``: without TLS. Credentials are those of ``docker login``.

    Raises ExtraMissing without the package, RegistryError when the registry does not answer.
    """

    def __init__(self, reference: Reference, plain_http: bool = False) -> None:
        if find_spec("oras") is None:
            raise ExtraMissing("a connection to a registry", "oras", "registry")
        self.reference = reference
        self._base = f"{'http' if plain_http else 'https'}://{reference.registry}/v2/{reference.name}"
        self._end = time.monotonic() + ALL_SECONDS
        self._oras = self._in_time(lambda: _oras(reference, plain_http))

    def _in_time(self, work: Callable[[], T]) -> T:
        """Return what the work returns, with its failures in one line. Raises RegistryError when the time is over: the
        work is then given up, and ends with this process at the latest."""
        done: Future[T] = Future()

        def run() -> None:
            try:
                with self._said():
                    done.set_result(work())
            except BaseException as error:
                done.set_exception(error)

        # A ThreadPoolExecutor would wait for its thread when the process ends.
        threading.Thread(target=run, daemon=True).start()
        try:
            return done.result(max(0.0, self._end - time.monotonic()))
        except TimeoutError as error:
            if done.done():
                raise
            raise RegistryError(f"{self.reference}: the registry took more than {ALL_SECONDS:g} s") from error

    def push(self, made: Artifact) -> None:
        """Upload the blobs that the registry lacks, and the manifest. Raises RegistryError."""
        self._in_time(lambda: self._push(made))

    def _push(self, made: Artifact) -> None:
        for blob in made.blobs:
            self._upload(blob)
        url = f"{self._base}/manifests/{self.reference.pointer}"
        answer = self._oras.do_request(url, "PUT", data=made.manifest.data, headers={"Content-Type": MANIFEST})
        self._expect(answer, "store the manifest")

    def _upload(self, blob: Blob) -> None:
        """Upload one blob unless it is there (distribution-spec, POST then PUT)."""
        if self._oras.do_request(f"{self._base}/blobs/{blob.digest}", "HEAD").status_code == 200:
            return
        url, what = f"{self._base}/blobs/uploads/", f"store {blob.digest}"
        answer = self._oras.do_request(url, "POST")
        self._expect(answer, what)
        place = urljoin(url, answer.headers.get("Location", ""))
        place += f"{'&' if '?' in place else '?'}{urlencode({'digest': blob.digest})}"
        headers = {"Content-Type": "application/octet-stream"}
        self._expect(self._oras.do_request(place, "PUT", data=blob.data, headers=headers), what)

    def pull(self) -> tuple[bytes, str]:
        """Return the profile and the digest of its manifest.

        Raises RegistryError when it cannot be had, InputError for one that no runtime accepts: the rules of KEP-6061
        are checked before anything is trusted.
        """
        pointer = self.reference.pointer
        url = f"{self._base}/manifests/{pointer}"
        kind, data = self._in_time(lambda: self._get(url, MANIFEST_MAX, {"Accept": MANIFEST}))
        found = digest(data)
        try:
            if self.reference.digest not in (None, found):
                raise ValueError(f"the registry sent {found} instead")
            layer = layer_of(data, kind)
        except ValueError as error:
            raise InputError(f"{self.reference}: {error}") from error
        url = f"{self._base}/blobs/{layer['digest']}"
        _, profile = self._in_time(lambda: self._get(url, layer["size"], {}))
        if digest(profile) != layer["digest"] or len(profile) != layer["size"]:
            raise InputError(f"{self.reference}: the profile that the registry sent is not the one of its manifest")
        if problems := broken(profile):
            first = problems[0]
            raise InputError(f"{self.reference}: {first.where + ': ' if first.where else ''}{first.what}")
        return profile, found

    def _get(self, url: str, most: int, headers: Mapping[str, str]) -> tuple[str | None, bytes]:
        """Return the type and the content of an answer, of at most so many bytes."""
        answer = self._oras.do_request(url, "GET", headers=dict(headers), stream=True)
        with contextlib.closing(answer):
            self._expect(answer, "send it")
            data = b""
            for part in answer.iter_content(1 << 16):
                data += part
                if len(data) > most:
                    raise InputError(
                        f"{self.reference}: the registry sends more than the {most} bytes that it may have"
                    )
        return answer.headers.get("Content-Type"), data

    def _expect(self, answer: Any, what: str) -> None:
        """Raise RegistryError unless the registry did what it was asked for."""
        status = answer.status_code
        if 200 <= status < 300:
            return
        reasons = {
            401: f"it wants credentials: docker login {self.reference.registry}",
            403: f"these credentials may not: docker login {self.reference.registry}",
            404: "there is no such artifact",
        }
        why = reasons.get(status) or _message(answer) or f"status {status}"
        raise RegistryError(f"{self.reference}: the registry did not {what}: {why}")

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        """Turn the failures of the package into one line."""
        from requests.exceptions import RequestException, SSLError

        try:
            yield
        except SSLError as error:
            what = "TLS failed; a local registry without TLS needs --plain-http"
            raise RegistryError(f"{self.reference}: {what} ({_innermost(error)})") from error
        except RequestException as error:
            raise RegistryError(f"{self.reference}: the registry cannot be reached: {_innermost(error)}") from error
        except ValueError as error:  # oras has no exception of its own for refused credentials
            why = f"it wants credentials: docker login {self.reference.registry} ({printable(str(error))[:80]})"
            raise RegistryError(f"{self.reference}: {why}") from error


def _oras(reference: Reference, plain_http: bool) -> Any:
    """Return oras's registry, which adds credentials to requests. Raises ValueError when there are none."""
    import requests
    from oras.container import Container
    from oras.provider import Registry

    logging.getLogger("oras.logger").setLevel(logging.CRITICAL)
    container = Container(f"{reference.registry}/{reference.name}:{reference.tag or 'latest'}")
    session: Any = requests.Session()
    session.request = functools.partial(session.request, timeout=SECONDS)
    ping = session.get(f"{'http' if plain_http else 'https'}://{reference.registry}/v2/")
    basic = ping.status_code == 401 and ping.headers.get("Www-Authenticate", "").lower().startswith("basic")
    found: Any = Registry(insecure=plain_http, auth_backend="basic" if basic else "token")
    # Each request is made once: oras would repeat a refused connection for two minutes.
    found.do_request = MethodType(Registry.do_request.__wrapped__, found)
    found.session.request = functools.partial(found.session.request, timeout=SECONDS)
    found.auth.load_configs(container)
    if basic and not hasattr(found.auth, "_basic_auth"):
        raise ValueError("there are none")
    return found


def _message(answer: Any) -> str:
    """Return what a registry says about an error (distribution-spec, error codes)."""
    try:
        found = json.loads(answer.content[:4096])["errors"][0]
        return printable(str(found.get("message") or found.get("code")))[:120]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return ""


def _innermost(error: BaseException) -> str:
    """Return the reason at the bottom of nested exceptions."""
    reason = getattr(error.args[0] if error.args else None, "reason", None) or error
    text = str(reason).rpartition(": ")[2].rstrip(")'\"")
    return printable(re.sub(r"\[Errno -?\d+\] |\[?[A-Z_]+\] | \(_ssl.*", "", text))[:120].lower()
