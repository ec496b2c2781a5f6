"""The Debian package, in a bare Debian 12; and the wheel in a bare virtual environment of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from packages.conftest import SECONDS, Debian
from system.harness import CHECKOUT

from profiler import __version__
from profiler.cli.main import COMMANDS


@pytest.fixture(scope="module")
def installed(debian: Debian, package: Path) -> Debian:
    debian.install(package)
    return debian


def test_lintian(package: Path) -> None:
    subprocess.run(["lintian", "--allow-root", "--fail-on", "error", package], check=True, timeout=SECONDS)


def test_same_bytes(package: Path, tmp_path: Path) -> None:
    """Built again elsewhere, from the sdist."""
    (sdist,) = (CHECKOUT / "dist").glob("profgen-*.tar.gz")
    subprocess.run(["tar", "xf", sdist, "-C", tmp_path], check=True, timeout=SECONDS)
    (source,) = tmp_path.iterdir()
    words = ["dpkg-buildpackage", "--unsigned-source", "--unsigned-changes", "-b"]
    environ = {**os.environ, "PYTHON": str(CHECKOUT / ".venv/bin/python"), "TZ": "Asia/Kathmandu", "LC_ALL": "C"}
    subprocess.run(words, cwd=source, check=True, timeout=SECONDS, env=environ, capture_output=True)
    assert (tmp_path / package.name).read_bytes() == package.read_bytes()


def test_what_is_installed(installed: Debian) -> None:
    root = installed.root
    assert installed.run("profgen", "--version").stdout.strip().endswith(__version__)
    for name in ("profgen", *(f"profgen-{name}" for name in COMMANDS)):
        assert (root / f"usr/share/man/man1/{name}.1.gz").is_file()
    for name in ("bash-completion/completions/profgen", "zsh/vendor-completions/_profgen"):
        assert (root / "usr/share" / name).is_file()
    assert (root / "usr/share/fish/vendor_completions.d/profgen.fish").is_file()
    assert (root / "usr/share/doc/profgen/copyright").is_file()
    assert list((root / "usr/lib/profgen/profiler").glob("__pycache__/*.pyc")), "compiled when it was installed"


@pytest.mark.parametrize("tracer", ["ptrace", "ebpf"])
def test_records_and_generates(tracer: str, installed: Debian) -> None:
    script = f"""
        cd /tmp
        profgen record --tracer {tracer} -o t.json -- ls /usr >ls.txt
        profgen generate -q t.json -o p
        test -s p/apparmor.profile
        cat p/seccomp.json
    """
    shown = installed.run("sh", "-ec", script).stdout
    names = {name for row in json.loads(shown)["syscalls"] for name in row["names"]}
    assert {"execve", "openat", "getdents64"} <= names


def test_doctor_has_nothing_to_fix_for_the_tracers(installed: Debian) -> None:
    found = json.loads(installed.run("profgen", "doctor", "--json").stdout)
    status = {each["name"]: each["status"] for each in found["findings"] if each["subject"] == "tracer"}
    assert status == {"ptrace": "ok", "ebpf": "ok"}


def test_an_ordinary_user_records(installed: Debian) -> None:
    words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", "HOME=/tmp"]
    installed.run(
        *words, "sh", "-ec", "cd /tmp && profgen record -q --tracer ptrace -o t.json -- true && test -s t.json"
    )


def test_nothing_is_left(installed: Debian, package: Path) -> None:
    installed.run("apt-get", "purge", "-y", "-qq", "profgen")
    assert not (installed.root / "usr/lib/profgen").exists()
    assert not (installed.root / "usr/bin/profgen").exists()
    installed.install(package)


def test_the_wheel_in_a_bare_environment(wheel: Path, tmp_path: Path) -> None:
    """As `pip install profgen` puts it there, with Debian's Python."""
    script = """
        python3 -m venv venv
        venv/bin/pip install -q "$1"
        venv/bin/pip check
        venv/bin/profgen record -q --tracer ptrace -o t.json -- ls /
        venv/bin/profgen generate -q t.json -o p
        test -s p/seccomp.json
        test -s venv/share/man/man1/profgen-record.1
    """
    path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    subprocess.run(
        ["sh", "-ec", script, "sh", wheel], cwd=tmp_path, env={**os.environ, **path}, check=True, timeout=SECONDS
    )
    shutil.rmtree(tmp_path / "venv")
