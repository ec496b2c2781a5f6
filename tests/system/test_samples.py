"""The sample applications and the tour work by themselves, as root and as an ordinary user."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from system.harness import NOBODY, Profgen
from system.lab.processes import LabError, run
from system.lab.workloads import PYTHON, SAMPLES, free_port

USERS = pytest.mark.parametrize("user", ["root", "ordinary"])


@pytest.fixture
def samples(user: str, public_dir: Path) -> Path:
    """The sample applications where the user can read them: the checkout may lie in root's home."""
    if user == "root" or os.geteuid() != 0:
        return SAMPLES
    copy = public_dir / "samples"
    if not copy.exists():
        shutil.copytree(SAMPLES, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture
def place(user: str, nobodys_dir: Path) -> Iterator[tuple[list[str], Path]]:
    """(words in front of a command that make it run as the user, a directory that is the user's)."""
    if user == "root":
        if os.geteuid() != 0:
            pytest.skip("needs root")
        os.chown(nobodys_dir, 0, 0)
        nobodys_dir.chmod(0o755)
        yield [], nobodys_dir
        return
    drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"] if os.geteuid() == 0 else []
    yield drop, nobodys_dir


@USERS
@pytest.mark.parametrize("release", ["v1", "v2"])
def test_web_service(release: str, user: str, place: tuple[list[str], Path], samples: Path) -> None:
    prefix, directory = place
    port = str(free_port(601, 1024) if user == "root" else free_port(8080, 8200))
    log = directory / "access.log"
    server = [samples / "webservice" / release / "server.py", "--port", port, "--log", log]
    run([*prefix, samples / "webservice" / "load.py", "--rare", "--port", port, "--", *server], seconds=90)
    assert log.owner() == ("root" if (user, release) == ("root", "v1") else "nobody")
    assert log.read_text().count(" 200 ") > 200


@USERS
def test_daemon(user: str, place: tuple[list[str], Path], samples: Path) -> None:
    prefix, directory = place
    run(["make", "-C", samples / "daemon", f"OUT={directory}"])
    port = str(free_port(7007, 7100))
    load = [*prefix, samples / "daemon" / "load.py", "--port", port]
    run([*load, "--daemon", directory / "echod"], seconds=90)
    run([*load, "--", directory / "echod", "-w", "-s", port, "-p", directory / "pid"], seconds=90)


@USERS
def test_pipeline(user: str, place: tuple[list[str], Path], samples: Path) -> None:
    prefix, _ = place
    assert "same result" in run([*prefix, samples / "pipeline" / "load.sh"], seconds=90).stdout


@USERS
def test_worker(user: str, place: tuple[list[str], Path], samples: Path) -> None:
    prefix, directory = place
    words = ["--socket", directory / "sock"]
    run([*prefix, samples / "worker" / "load.py", *words, "--", samples / "worker" / "worker.py", *words], seconds=90)


def test_a_load_notices_what_is_wrong(nobodys_dir: Path) -> None:
    """An application that is not there, one that ends at once, and one that answers wrongly."""
    port = str(free_port(8080, 8200))
    web = [SAMPLES / "webservice" / "load.py", "--port", port]
    with pytest.raises(LabError, match="load failed: no answer"):
        run(web)
    with pytest.raises(LabError, match="load failed: /usr/bin/false ended with status 1"):
        run([*web, "--", "/usr/bin/false"])
    with pytest.raises(LabError, match="load failed: GET / returned an unexpected greeting"):
        run([*web, "--", PYTHON, "-m", "http.server", "--bind", "127.0.0.1", port])
    with pytest.raises(LabError, match="load failed: run 1 ended with status"):
        run([SAMPLES / "pipeline" / "load.sh", "/usr/bin/false"])


@USERS
def test_tour(user: str, ordinary: Profgen, profgen: Profgen, samples: Path, nobodys_dir: Path) -> None:
    """`make demo` without the installing."""
    if user == "root" and os.geteuid() != 0:
        pytest.skip("needs root")
    chosen = profgen if user == "root" else ordinary
    prefix = chosen.prefix
    script = chosen.program(nobodys_dir / "profgen")
    result = run(
        [*prefix, "sh", samples / "demo.sh"], seconds=200, env={"PROFGEN": str(script), "HOME": str(nobodys_dir)}
    )
    assert "demo: done" in result.stdout
    assert "GET /report gave 500" in result.stdout
