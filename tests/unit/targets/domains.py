"""Domains of libvirt-lxc, read as libvirt does: the schema's check first."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

SCHEMA = Path("/usr/share/libvirt/schemas/domain.rng")


def read(data: bytes, place: Path) -> ElementTree.Element:
    """The domain. AssertionError when the schema does not allow it."""
    path = place / "domain.xml"
    path.write_bytes(data)
    if SCHEMA.exists() and shutil.which("xmllint"):
        words = ["xmllint", "--noout", "--relaxng", str(SCHEMA), str(path)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
    return ElementTree.fromstring(data)


def kept(domain: ElementTree.Element) -> set[str]:
    """The capabilities of the container."""
    (found,) = domain.findall("features/capabilities")
    assert found.get("policy") == "deny"
    assert all(row.get("state") == "on" for row in found)
    return {f"CAP_{row.tag.upper()}" for row in found}


def command(domain: ElementTree.Element) -> list[str]:
    """What is started."""
    return [domain.findtext("os/init") or "", *(row.text or "" for row in domain.findall("os/initarg"))]
