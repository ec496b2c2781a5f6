"""The units of this machine, edited in place: whoever wrote them, only what confines the service changes."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from unit.policy.making import call, check, trace
from unit.targets.policies import file

from profiler.policy.derive import derive
from profiler.policy.model import Options, Policy
from profiler.rewriting.units import MARK
from profiler.targets.base import Existing, Request
from profiler.targets.catalogue import find
from profiler.targets.systemd.options import KEYS

PLACES = ("/lib/systemd/system", "/usr/lib/systemd/system", "/etc/systemd/system")
UNITS = sorted(
    {
        path.resolve()
        for place in PLACES
        for path in Path(place).glob("*.service")
        if path.is_file() and b"[Service]" in path.read_bytes()
    }
)
pytestmark = pytest.mark.skipif(not UNITS, reason="no units of systemd are installed")


def policy(*files: str) -> Policy:
    seen = trace(call("read"), call("socket", [(2, 1, 6)]), capabilities=[check("CAP_KILL")])
    rules = tuple(file(name, "create") for name in files)
    return replace(derive(seen, Options(runtime="none")), has_files=True, files=rules)


NARROW, WIDE = policy("/srv/a b/x"), policy("/{name}/x")


def edited(data: bytes, chosen: Policy) -> bytes:
    (made,) = find("systemd").render(Request(chosen, existing=Existing("x.service", data))).files
    return made.data


def others(data: bytes) -> list[bytes]:
    """The lines that the edit may not touch, without those of a value that goes on."""
    kept, ours, goes_on = [], False, False
    for line in data.splitlines(keepends=True):
        key = line.partition(b"=")[0].strip().decode("utf-8", "surrogateescape")
        ours = ours if goes_on else key in KEYS or line.startswith(MARK.encode())
        goes_on = line.rstrip(b"\r\n").endswith(b"\\")
        if not ours:
            kept.append(line.rstrip(b"\r\n"))
    return kept


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_an_edit_changes_nothing_else(path: Path) -> None:
    before = path.read_bytes()
    once = edited(before, NARROW)
    assert edited(once, NARROW) == once
    assert others(once) == others(before)
    assert b'\nReadWritePaths="-/srv/a b"\n' in once or b'\nReadWritePaths=-"/srv/a b"\n' in once
    again = edited(once, WIDE)
    assert edited(again, WIDE) == again
    assert others(again) == others(before)
    assert b"/srv/a b" not in again


def test_systemd_reads_them_as_before(tmp_path: Path) -> None:
    """One batch each: what systemd says about lines is what it says about the units as they are, and about calls that
    libseccomp does not know."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    said = {}
    for name in ("before", "after"):
        place = tmp_path / name
        place.mkdir()
        for path in UNITS:
            data = path.read_bytes()
            (place / path.name).write_bytes(data if name == "before" else edited(data, NARROW))
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", *(f"./{path.name}" for path in UNITS)],
            cwd=place,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=120,
            check=False,
        )
        found = (re.fullmatch(r"\S+:[0-9]+: (.*)", line) for line in done.stderr.splitlines())
        said[name] = {match[1] for match in found if match}
    assert {line for line in said["after"] - said["before"] if "Failed to parse system call" not in line} == set()
