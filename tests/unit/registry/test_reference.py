"""Names of artifacts."""

from __future__ import annotations

import pytest

from profiler.errors import InputError
from profiler.registry.reference import Reference, parse

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("localhost/a", Reference("localhost", "a")),
        ("localhost:5000/a/b:v1", Reference("localhost:5000", "a/b", "v1")),
        (f"registry.example.com/x@{DIGEST}", Reference("registry.example.com", "x", None, DIGEST)),
        (f"oci://r.example/x:1@{DIGEST}", Reference("r.example", "x", "1", DIGEST)),
        ("[::1]:5000/x:1", Reference("[::1]:5000", "x", "1")),
        ("127.0.0.1:5000/a__b/c-d.e", Reference("127.0.0.1:5000", "a__b/c-d.e")),
    ],
)
def test_names(text: str, reference: Reference) -> None:
    assert parse(text) == reference
    assert parse(str(reference)) == reference


def test_a_digest_wins() -> None:
    assert parse(f"localhost/x:1@{DIGEST}").pointer == DIGEST
    assert parse("localhost/x:1").pointer == "1"
    assert parse("localhost/x").pointer == "latest"
    assert parse("localhost/x:1").pinned(DIGEST) == f"localhost/x@{DIGEST}"


@pytest.mark.parametrize(
    "text",
    [
        "", "nginx", "nginx:1", "library/nginx:1", "a.b/", "a.b/X", "a.b/x:", "a.b/x@sha256:12", "a.b/../x", "a.b//x",
        "a.b/x?y", "user:pass@a.b/x", "a.b/x:1\n", "http://a.b/x", "-a.b/x", "a.b:/x", "a.b/x" * 4000,
    ],
)  # fmt: skip
def test_what_is_not_a_name(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(text)
    assert "does not name an artifact" in str(caught.value)
    assert len(str(caught.value)) < 400
