"""Names of artifacts in registries: ``REGISTRY/NAME:TAG`` and ``REGISTRY/NAME@sha256:DIGEST``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from profiler.errors import InputError
from profiler.quoting.text import printable

_HOST = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[0-9a-fA-F:]+\])"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?P<host>{_HOST}(?::[0-9]{{1,5}})?)/(?P<name>{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
"""The grammar of the distribution specification, with the registry always named: nothing is looked up on a default
one."""


NAME_MAX = 255
"""Characters of a registry and a name together."""


@dataclass(frozen=True)
class Reference:
    """Where an artifact is. ``digest`` wins over ``tag``."""

    registry: str
    name: str
    tag: str | None = None
    digest: str | None = None

    @property
    def pointer(self) -> str:
        """What the registry looks the manifest up by."""
        return self.digest or self.tag or "latest"

    def pinned(self, digest: str) -> str:
        """Return the name that always means the same content."""
        return f"{self.registry}/{self.name}@{digest}"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.registry}/{self.name}{tag}{f'@{self.digest}' if self.digest else ''}"


def parse(text: str) -> Reference:
    """Return the reference. Raises InputError."""
    found = _REFERENCE.fullmatch(text.removeprefix("oci://"))
    host = found["host"] if found else ""
    too_long = found is not None and len(host) + len(found["name"]) >= NAME_MAX
    if found is None or too_long or not (set(host) & set(".:") or host == "localhost"):
        raise InputError(
            f"{printable(text)[:120]!r} does not name an artifact: write REGISTRY/NAME:TAG or "
            "REGISTRY/NAME@sha256:DIGEST, such as registry.example.com/profiles/web:1"
        )
    return Reference(host, found["name"], found["tag"], found["digest"])
