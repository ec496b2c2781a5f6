"""The image of docs/deploy/Containerfile: built, and recording another container with the rights that it names."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packages.conftest import HANDED_ON, SECONDS
from system.harness import CHECKOUT
from system.lab.images import ImageEngine
from system.lab.processes import run
from system.lab.runtimes import Docker
from waiting import eventually

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
CONTAINERFILE = CHECKOUT / "docs/deploy/Containerfile"
LARGEST_BYTES = 600 << 20
"""Most of it is Debian's LLVM, which compiles the eBPF programs."""


class Engine(ImageEngine):
    """A dockerd with a Debian 12, whose builds use the host's network."""

    name = "docker-packages"

    def _prepare(self) -> None:
        Docker._prepare(self)

    def docker(self, *words: str | Path) -> str:
        """Run the client and return what it prints."""
        return run([*self._tool(), *words], seconds=SECONDS, env={"DOCKER_BUILDKIT": "0"}).stdout.strip()

    @property
    def socket(self) -> Path:
        return self.state / "sock"


@pytest.fixture(scope="module")
def engine(bare: Path) -> Iterator[Engine]:
    state = Path(tempfile.mkdtemp(prefix="profgen-packages-"))
    found = Engine(state)
    try:
        found.docker("import", bare, "bare")
        context = state / "base"
        for name in HANDED_ON:
            source, copy = Path("/etc", name), context / "etc" / name
            if source.exists() and name != "resolv.conf":
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copytree(source, copy) if source.is_dir() else shutil.copy(source, copy)
        # Under a name that the package ca-certificates does not write over.
        shutil.copy(CERTIFICATES, context / "etc/host.crt")
        (context / "etc/pip.conf").write_text("[global]\ncert = /etc/host.crt\n")
        (context / "Dockerfile").write_text("FROM bare\nCOPY etc /etc\n")
        found.docker("build", "--quiet", "-t", "debian:12-slim", context)
        yield found
    finally:
        found.close()
        shutil.rmtree(state, ignore_errors=True)


@pytest.fixture(scope="module")
def image(engine: Engine) -> str:
    context = engine.state / "context"
    context.mkdir()
    for name in re.findall(r"^COPY (?!--from)(.*) /src", CONTAINERFILE.read_text(), re.MULTILINE):
        for word in name.split():
            source = CHECKOUT / word
            if source.is_dir():
                shutil.copytree(source, context / word, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, context)
    engine.docker("build", "--quiet", "--network=host", "-f", CONTAINERFILE, "-t", "profgen", context)
    return "profgen"


def test_it_is_small(engine: Engine, image: str) -> None:
    assert int(engine.docker("image", "inspect", "-f", "{{.Size}}", image)) < LARGEST_BYTES


def test_it_generates(engine: Engine, image: str) -> None:
    shown = engine.docker("run", "--rm", "--network=none", image, "targets")
    assert "docker-run.sh" in shown


def documented_run() -> list[str]:
    """The words of ``docker run`` in the head of the file."""
    text = re.sub(r"^# ?", "", CONTAINERFILE.read_text().partition("\nFROM")[0], flags=re.MULTILINE)
    (command,) = re.findall(r"docker (run (?:.*\\\n)*.*)", text)
    return shlex.split(command.replace("\\\n", " "))


def test_it_records_another_container(engine: Engine, image: str, tmp_path: Path) -> None:
    words = [
        word.replace("/run/docker.sock:", f"{engine.socket}:").replace("/var/lib/profgen:", f"{tmp_path}:", 1)
        for word in documented_run()
    ]
    engine.docker(*words)
    try:

        def watches() -> bool:
            return "recording; SIGUSR1" in run(engine._tool("logs", "profgen")).stderr

        assert eventually(watches), run(engine._tool("logs", "profgen")).stderr
        engine.docker("run", "--name", "other", "--network=host", "debian:12-slim", "ls", "/usr")
        engine.docker("stop", "profgen")
        (path,) = tmp_path.glob("other*.trace.json")
        trace = json.loads(path.read_bytes())
        assert trace["meta"]["container"]["image"] == "debian:12-slim"
        assert {"execve", "getdents64"} <= {row["name"] for row in trace["syscalls"]}
    finally:
        engine.docker("rm", "--force", "profgen", "other")
