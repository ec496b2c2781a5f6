"""An OCI artifact that holds a seccomp profile: its manifest, its image layout on a disk, and what a manifest may say.

Sources: image-spec 1.1 (manifest.md, image-layout.md), KEP-6061. Nothing in it changes from one time to the next, so
the same profile has the same digest.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from profiler.quoting.text import printable
from profiler.registry.rules import SIZE_MAX

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
SECCOMP = "application/vnd.cncf.seccomp-profile.config.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"
JSON = "application/json"
TITLE = "org.opencontainers.image.title"
CREATED = "org.opencontainers.image.created"
REF_NAME = "org.opencontainers.image.ref.name"
EPOCH = "1970-01-01T00:00:00Z"
CONFIG = b"{}"
MANIFEST_MAX = 64 << 10
"""A manifest of one layer has under 1 KiB."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Blob:
    """Some bytes and their media type."""

    media_type: str
    data: bytes

    @property
    def digest(self) -> str:
        """The digest in the words of OCI."""
        return digest(self.data)

    @property
    def descriptor(self) -> dict[str, Any]:
        """What a manifest says of it."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.data)}


@dataclass(frozen=True)
class Artifact:
    """A profile with all that goes to a registry."""

    manifest: Blob
    config: Blob
    layer: Blob

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """What the manifest names."""
        return (self.config, self.layer)


def digest(data: bytes) -> str:
    """Return the digest of some bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def artifact(profile: bytes, title: str = "seccomp.json") -> Artifact:
    """Return the artifact of a profile. ``title``: the name that tools give the file when they download it."""
    config, layer = Blob(SECCOMP, CONFIG), Blob(JSON, profile)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": SECCOMP,
        "config": config.descriptor,
        "layers": [{**layer.descriptor, "annotations": {TITLE: title}}],
        "annotations": {CREATED: EPOCH},
    }
    return Artifact(Blob(MANIFEST, _bytes(manifest)), config, layer)


def layout(made: Artifact, tag: str) -> dict[str, bytes]:
    """Return the files of an image layout that holds the artifact under a tag."""
    entry = {**made.manifest.descriptor, "artifactType": SECCOMP, "annotations": {REF_NAME: tag}}
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}
    return {
        "oci-layout": _bytes({"imageLayoutVersion": "1.0.0"}),
        "index.json": _bytes(index),
        **{
            f"blobs/sha256/{blob.digest[7:]}": blob.data
            for blob in sorted((*made.blobs, made.manifest), key=_by_digest)
        },
    }


def _by_digest(blob: Blob) -> str:
    return blob.digest


def _bytes(value: object) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=True).encode("ascii")


def layer_of(data: bytes, media_type: str | None = None) -> dict[str, Any]:
    """Return the descriptor of the profile that a manifest names. ``media_type``: what the registry calls the manifest.

    Raises ValueError for what a runtime refuses: another manifest than an OCI image's, another artifact type, more or
    less than one layer, external URLs, a size above the limit, or a digest that is not SHA-256.
    """
    try:
        manifest = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError("its manifest is not JSON") from error
    if not isinstance(manifest, dict):
        raise ValueError("its manifest is not a JSON object")
    said = (media_type or manifest.get("mediaType") or MANIFEST).partition(";")[0].strip()
    if said != MANIFEST or manifest.get("mediaType", MANIFEST) != MANIFEST:
        raise ValueError(f"its media type is {_shown(said)}, so it is not an OCI image manifest")
    config, kind = manifest.get("config"), manifest.get("artifactType")
    if not isinstance(config, dict):
        raise ValueError("its manifest has no config")
    if config.get("mediaType") != EMPTY:
        if kind not in (None, "", config.get("mediaType")):
            raise ValueError(f"its artifact type {_shown(kind)} is not that of its config")
        kind = config.get("mediaType")
    if kind != SECCOMP:
        raise ValueError(f"it holds {_shown(kind)}, not a seccomp profile ({SECCOMP})")
    layers = manifest.get("layers")
    if not isinstance(layers, list) or len(layers) != 1 or not isinstance(layers[0], dict):
        number = len(layers) if isinstance(layers, list) else 0
        raise ValueError(f"it has {number} layers, where a profile has one")
    for row in (layers[0], config):
        _check(row)
    return dict(layers[0])


def _check(row: Mapping[str, Any]) -> None:
    size = row.get("size")
    if row.get("urls"):
        raise ValueError("it names content outside of the registry")
    if not isinstance(size, int) or not 0 <= size <= SIZE_MAX:
        raise ValueError(f"its content has {_shown(size)} bytes, where runtimes accept {SIZE_MAX}")
    if not isinstance(row.get("digest"), str) or not _DIGEST.fullmatch(row["digest"]):
        raise ValueError(f"its digest {_shown(row.get('digest'))} is not one of SHA-256")


def _shown(value: object) -> str:
    return printable(str(value))[:80]
