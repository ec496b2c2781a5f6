"""Shared fixtures of the system tests."""

from __future__ import annotations

import compileall
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import waiting
from system.harness import CHECKOUT, NOBODY, TIMEOUT, Observed, Profgen, Until, why_no_ebpf
from system.torture.build import Program, build


@pytest.fixture(params=["ptrace", "ebpf"], scope="session")
def tracer(request: pytest.FixtureRequest) -> str:
    """Each tracer in turn."""
    if request.param == "ebpf" and (reason := why_no_ebpf()):
        pytest.skip(reason)
    return str(request.param)


@pytest.fixture
def ebpf() -> str:
    """For tests of the eBPF tracer alone."""
    if reason := why_no_ebpf():
        pytest.skip(reason)
    return "ebpf"


@pytest.fixture
def as_root() -> None:
    """For tests that change users, mount, or look at BPF programs."""
    if os.geteuid() != 0:
        pytest.skip("needs root")


@pytest.fixture(scope="session")
def public_dir() -> Iterator[Path]:
    """A directory that every user can read and enter, unlike pytest's own."""
    path = Path(tempfile.mkdtemp(prefix="profgen-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def torture(public_dir: Path) -> Path:
    """The directory of the compiled torture programs."""
    path = public_dir / "torture"
    path.mkdir()
    build(path)
    return path


@pytest.fixture(scope="session")
def ordinary(public_dir: Path) -> Profgen:
    """profgen run by the user nobody: from a copy that nobody can read, as checkout and interpreter may lie in root's
    home."""
    if os.geteuid() != 0:
        return Profgen()
    copy = public_dir / "copy"
    copy.mkdir()
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in ("profiler", "templates"):
        if (CHECKOUT / name).is_dir():
            shutil.copytree(CHECKOUT / name, copy / name, ignore=ignore)
    for name in ("click", "jinja2", "markupsafe", "yaml", "ptrace", "pyseccomp", "system_calls"):
        spec = importlib.util.find_spec(name)
        assert spec is not None, f"{name} is not installed here"
        assert spec.origin is not None
        if Path(spec.origin).name == "__init__.py":
            shutil.copytree(Path(spec.origin).parent, copy / name, ignore=ignore)
        else:
            shutil.copy(spec.origin, copy)
    compileall.compile_dir(copy, quiet=2)
    drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]
    for python in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        # by way of a shell: setpriv itself still has root's capabilities when it executes something
        if (
            subprocess.run(
                [*drop, "sh", "-c", 'exec "$0" -c ""', python], capture_output=True, timeout=TIMEOUT
            ).returncode
            == 0
        ):
            return Profgen(python, drop, {"PYTHONPATH": str(copy)})
    pytest.fail("no Python that the user nobody can run")


@pytest.fixture
def nobodys_dir(public_dir: Path) -> Iterator[Path]:
    """A working directory that belongs to nobody (or to the user who runs the tests)."""
    path = Path(tempfile.mkdtemp(dir=public_dir))
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def observed(
    request: pytest.FixtureRequest, profgen: Profgen, torture: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Observed]:
    if shutil.which("strace") is None or platform.system() != "Linux":
        pytest.skip("strace, the oracle, is not installed")
    seen = Observed(profgen, torture, tmp_path_factory.mktemp("observed"))
    for item in request.session.items:
        parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        program = parameters.get("program")
        if isinstance(program, Program) and (os.geteuid() == 0 or not program.root):
            seen.begin(program, "strace")
            if "tracer" in parameters and (parameters["tracer"] != "ebpf" or why_no_ebpf() is None):
                seen.begin(program, parameters["tracer"])
    yield seen
    seen.close()


@pytest.fixture
def until() -> Until:
    """Return the function that waits until something holds."""
    return waiting.until
