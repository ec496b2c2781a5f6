"""The wheel and the sdist: the same bytes wherever and whenever they are built, with all that belongs in them and
nothing else. ``make packages`` installs them, and the Debian package, in bare systems."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from system.harness import CHECKOUT, TIMEOUT, environment

from profiler import __version__
from profiler.cli.main import COMMANDS

NAME = f"profgen-{__version__}"


LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", ".hypothesis", "build", "dist")


def built(into: Path, umask: int) -> dict[str, Path]:
    """Build from a copy of the checkout, and return the wheel and the sdist by suffix."""
    source = into / "source"
    shutil.copytree(CHECKOUT, source, symlinks=True, ignore=LEFT_OUT)
    for path in source.rglob("*"):
        path.chmod(path.stat().st_mode & 0o777 & ~umask)
    before = os.umask(umask)
    try:
        subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-d", into / "dist"],
            cwd=source,
            env={**environment(), "SOURCE_DATE_EPOCH": "1796000000", "TZ": f"UTC{umask % 7}"},
            capture_output=True,
            check=True,
            timeout=TIMEOUT,
        )
    finally:
        os.umask(before)
    return {path.suffix: path for path in (into / "dist").iterdir()}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return built(tmp_path_factory.mktemp("first"), 0o022)


def test_same_bytes(packages: dict[str, Path], tmp_path: Path) -> None:
    again = built(tmp_path / "another" / "place", 0o077)
    assert {suffix: path.read_bytes() for suffix, path in packages.items()} == {
        suffix: path.read_bytes() for suffix, path in again.items()
    }


def test_what_the_wheel_holds(packages: dict[str, Path]) -> None:
    with zipfile.ZipFile(packages[".whl"]) as wheel:
        names = set(wheel.namelist())
        data = {name.removeprefix(f"{NAME}.data/data/") for name in names if name.startswith(f"{NAME}.data/")}
        pages = {wheel.read(f"{NAME}.data/data/share/man/man1/profgen-{name}.1")[:4] for name in COMMANDS}
        metadata = wheel.read(f"{NAME}.dist-info/METADATA").decode()
    assert data == {
        "share/man/man1/profgen.1",
        *(f"share/man/man1/profgen-{name}.1" for name in COMMANDS),
        "share/bash-completion/completions/profgen",
        "share/zsh/site-functions/_profgen",
        "share/fish/vendor_completions.d/profgen.fish",
    }
    assert pages == {b".TH "}
    templates = {
        f"profiler/{path.relative_to(CHECKOUT)}" for path in (CHECKOUT / "templates").rglob("*") if path.is_file()
    }
    assert {name for name in names if name.startswith("profiler/templates/")} == templates
    assert f"{NAME}.dist-info/licenses/LICENSE" in names
    code = {name for name in names if name.startswith("profiler/")} - templates
    suffixes = (".py", ".yaml", ".c", ".h", ".bash", ".fish", "/_profgen")
    assert not [name for name in code if not name.endswith(suffixes)]
    assert not [name for name in names if not name.startswith(("profiler/", f"{NAME}."))]
    assert f"\nVersion: {__version__}\n" in metadata


def test_what_the_sdist_holds(packages: dict[str, Path]) -> None:
    with tarfile.open(packages[".gz"]) as archive:
        names = {name.removeprefix(f"{NAME}/") for name in archive.getnames()}
    assert {"hatch_build.py", "debian/rules", "docs/tutorial.md", "tests/conftest.py", "templates/macros.j2"} <= names
    assert not [name for name in names if "__pycache__" in name or "/.venv" in name]
    hidden = [name for name in names if name.startswith(".")]
    assert sorted(hidden) == [".clang-format", ".gitignore", ".pre-commit-hooks.yaml"]


def test_the_wheel_works_alone(packages: dict[str, Path], tmp_path: Path) -> None:
    """It records with ptrace and finds its templates, with no checkout near."""
    with zipfile.ZipFile(packages[".whl"]) as wheel:
        wheel.extractall(tmp_path / "installed")
    environ = {**environment(), "PYTHONPATH": str(tmp_path / "installed")}
    profgen = [sys.executable, "-P", "-m", "profiler"]
    for words in (
        ["record", "-q", "--tracer", "ptrace", "-o", "t.json", "--", "true"],
        ["generate", "-q", "t.json", "-o", "p"],
    ):
        subprocess.run([*profgen, *words], cwd=tmp_path, env=environ, check=True, timeout=TIMEOUT)
    assert {"policy.yaml", "seccomp.json", "apparmor.profile", "docker-run.sh"} <= set(os.listdir(tmp_path / "p"))
    where = subprocess.run(
        [sys.executable, "-P", "-c", "import profiler; print(profiler.__file__)"],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert where.stdout.startswith(str(tmp_path))


def test_the_debian_package_has_the_same_version() -> None:
    assert (CHECKOUT / "debian" / "changelog").read_text().startswith(f"profgen ({__version__}) ")
