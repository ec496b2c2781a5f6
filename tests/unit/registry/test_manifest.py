"""The artifact's bytes, and what a manifest may say."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from profiler.registry.manifest import CONFIG, INDEX, MANIFEST, SECCOMP, artifact, layer_of, layout

PROFILE = b'{"defaultAction": "SCMP_ACT_ERRNO"}\n'
MADE = artifact(PROFILE)


def manifest(**members: Any) -> bytes:
    found = {**json.loads(MADE.manifest.data), **members}
    return json.dumps({key: value for key, value in found.items() if value != "-"}).encode()


def test_the_same_profile_has_the_same_digest() -> None:
    assert artifact(PROFILE) == MADE
    assert MADE.manifest.digest != artifact(PROFILE + b"\n").manifest.digest
    # What has this digest in every registry; a change here changes it for everyone.
    assert MADE.config.digest == "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_the_manifest_names_both_blobs() -> None:
    found = json.loads(MADE.manifest.data)
    assert (found["mediaType"], found["artifactType"], found["config"]["mediaType"]) == (MANIFEST, SECCOMP, SECCOMP)
    assert found["config"]["size"] == len(CONFIG)
    (layer,) = found["layers"]
    assert layer["digest"] == f"sha256:{hashlib.sha256(PROFILE).hexdigest()}"
    assert layer_of(MADE.manifest.data, f"{MANIFEST}; charset=utf-8") == layer


def test_the_layout_holds_everything() -> None:
    files = layout(MADE, "v1")
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads(files["index.json"])
    (entry,) = index["manifests"]
    assert index["mediaType"] == INDEX
    assert entry["annotations"] == {"org.opencontainers.image.ref.name": "v1"}
    for blob in (MADE.manifest, MADE.config, MADE.layer):
        assert files[f"blobs/sha256/{blob.digest[7:]}"] == blob.data
    assert len(files) == 5
    for name, data in files.items():
        if name.startswith("blobs/"):
            assert name.endswith(hashlib.sha256(data).hexdigest())


LAYER = json.loads(MADE.manifest.data)["layers"][0]
EMPTY = "application/vnd.oci.empty.v1+json"
CONFIGURED = json.loads(MADE.manifest.data)["config"]


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"artifactType": "-"},
        {"config": {**CONFIGURED, "mediaType": EMPTY}},
        {"layers": [{**LAYER, "mediaType": "application/vnd.oci.image.layer.v1.tar"}]},
        {"mediaType": "-"},
    ],
)
def test_manifests_that_runtimes_accept(members: dict[str, Any]) -> None:
    assert layer_of(manifest(**members))["digest"] == MADE.layer.digest


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"mediaType": INDEX}, "not an OCI image manifest"),
        ({"config": "-"}, "no config"),
        ({"config": {**CONFIGURED, "mediaType": "application/x"}}, "is not that of its config"),
        ({"config": {**CONFIGURED, "mediaType": "application/x"}, "artifactType": "-"}, "not a seccomp profile"),
        ({"config": {**CONFIGURED, "mediaType": EMPTY}, "artifactType": "-"}, "not a seccomp profile"),
        ({"layers": []}, "0 layers"),
        ({"layers": [LAYER, LAYER]}, "2 layers"),
        ({"layers": [{**LAYER, "urls": ["https://x"]}]}, "outside of the registry"),
        ({"layers": [{**LAYER, "size": (1 << 20) + 1}]}, "where runtimes accept"),
        ({"layers": [{**LAYER, "size": -1}]}, "where runtimes accept"),
        ({"layers": [{**LAYER, "size": "9"}]}, "where runtimes accept"),
        ({"layers": [{**LAYER, "digest": "sha512:0"}]}, "not one of SHA-256"),
        ({"layers": [{**LAYER, "digest": "sha256:../../x"}]}, "not one of SHA-256"),
        ({"layers": [5]}, "1 layers"),
    ],
)
def test_manifests_that_runtimes_refuse(members: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError) as caught:
        layer_of(manifest(**members))
    assert said in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b"[" * 100_000])
def test_what_is_not_a_manifest(data: bytes) -> None:
    with pytest.raises(ValueError, match="manifest is not"):
        layer_of(data)


def test_the_media_type_of_the_registry_counts() -> None:
    with pytest.raises(ValueError, match="not an OCI image manifest"):
        layer_of(MADE.manifest.data, INDEX)
