"""The manifest of docs/deploy: a cluster accepts it, and it gives what the page next to it explains."""

from __future__ import annotations

import re
from typing import Any

import kubernetes_validate
import pytest
import yaml
from click.testing import CliRunner
from unit.documents import TOP, rows

from profiler.cli.record import record

DEPLOY = TOP / "docs/deploy"
NAMESPACE, DAEMONSET = yaml.safe_load_all((DEPLOY / "daemonset.yaml").read_text(encoding="utf-8"))
(CONTAINER,) = DAEMONSET["spec"]["template"]["spec"]["containers"]


@pytest.mark.parametrize("version", ["1.31", "1.37"])
@pytest.mark.parametrize("document", [NAMESPACE, DAEMONSET], ids=lambda document: document["kind"])
def test_the_manifest_is_valid(document: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


def test_the_labels_select_its_pods() -> None:
    spec = DAEMONSET["spec"]
    assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
    assert DAEMONSET["metadata"]["namespace"] == NAMESPACE["metadata"]["name"]


def test_each_capability_is_explained() -> None:
    explained = {row[0] for row in rows((DEPLOY / "README.md").read_text(encoding="utf-8"))}
    names = {name for cell in explained for name in re.findall(r"\b[A-Z_]{3,}\b", cell)}
    assert names == set(CONTAINER["securityContext"]["capabilities"]["add"])


def test_its_arguments_are_those_of_profgen() -> None:
    command, *words = CONTAINER["args"]
    assert command == "record"
    record.make_context("record", list(words))
    assert CliRunner().invoke(record, [*words, "--none-such"]).exit_code == 2
