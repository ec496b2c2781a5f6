"""Profiles in a real registry: what is pushed is pulled, and other tools read it."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from system.harness import Profgen
from system.lab.processes import ENVIRONMENT, run
from system.lab.runtimes import DIE_WITH_US
from waiting import HANG_SECONDS, eventually

CONFIG = """version: 0.1
storage:
  filesystem:
    rootdirectory: {root}
http:
  addr: {address}
"""


@contextlib.contextmanager
def registry(directory: Path) -> Iterator[str]:
    """Debian's docker-registry with a store of its own; gives its address."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    configuration = directory / "registry.yml"
    configuration.write_text(CONFIG.format(root=directory / "store", address=address))
    with open(directory / "registry.log", "wb") as log:
        server = subprocess.Popen([*DIE_WITH_US, program, "serve", configuration], stdout=log, stderr=log)
    try:

        def answers() -> bool:
            with contextlib.suppress(OSError):
                host, port = address.split(":")
                socket.create_connection((host, int(port)), timeout=5).close()
                return True
            return server.poll() is not None

        eventually(answers)
        assert server.poll() is None, (directory / "registry.log").read_text()[-2000:]
        yield address
    finally:
        server.terminate()
        server.wait(HANG_SECONDS)


def test_push_and_pull(profgen: Profgen, tmp_path: Path) -> None:
    done = profgen("record", "-q", "-o", "true.json", "--", "true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = profgen("generate", "-q", "true.json", "-o", "profile", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with registry(tmp_path) as address:
        place = f"{address}/profiles/true:1"
        pushed = [profgen("push", "-q", "--plain-http", "profile", place, cwd=tmp_path) for _ in range(2)]
        for done in pushed:
            assert done.returncode == 0, done.stderr
        pinned = pushed[0].stdout.strip()
        assert pinned == pushed[1].stdout.strip(), "the same profile has the same digest"
        assert pinned.startswith(f"{address}/profiles/true@sha256:")
        for name in (place, pinned):
            done = profgen("pull", "--plain-http", name, "-o", "pulled.json", cwd=tmp_path)
            assert done.returncode == 0, done.stderr
            assert pinned in done.stderr
        pulled = (tmp_path / "pulled.json").read_bytes()
        done = profgen("lint", "--for", "kep-6061", "--baseline", "docker-default", "pulled.json", cwd=tmp_path)
        assert done.returncode == 0, done.stdout
        foreign(profgen, pinned, pulled, tmp_path)
        missing = profgen("pull", "--plain-http", f"{address}/profiles/none:1", cwd=tmp_path)
        assert (missing.returncode, missing.stdout) == (125, "")
        assert "there is no such artifact" in missing.stderr


def foreign(profgen: Profgen, pinned: str, profile: bytes, directory: Path) -> None:
    """skopeo reads what was pushed, and copies the layout that ``generate`` writes to the registry: it is the same."""
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    raw = run(["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{pinned}"]).stdout
    manifest = json.loads(raw)
    assert manifest["artifactType"] == "application/vnd.cncf.seccomp-profile.config.v1+json"
    (layer,) = manifest["layers"]
    run(["skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{pinned}", f"dir:{directory}/copied"])
    assert (directory / "copied" / layer["digest"].removeprefix("sha256:")).read_bytes() == profile
    done = profgen("generate", "-q", "profile", "-t", "oci-artifact", "-o", "layout/", cwd=directory)
    assert done.returncode == 0, done.stderr
    index = json.loads((directory / "layout/seccomp.oci/index.json").read_text())
    assert index["manifests"][0]["digest"] == pinned.partition("@")[2]
    other = pinned.partition("@")[0] + ":2"
    source = f"oci:{directory}/layout/seccomp.oci:latest"
    run(["skopeo", "copy", "-q", "--dest-tls-verify=false", source, f"docker://{other}"], env=ENVIRONMENT)
    done = profgen("pull", "-q", "--plain-http", other, cwd=directory)
    assert done.stdout.encode() == profile
