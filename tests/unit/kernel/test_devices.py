"""Numbers of device nodes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from profiler.kernel.data import load
from profiler.kernel.devices import node_of


@pytest.mark.parametrize(
    ("path", "node"),
    [
        ("/dev/fuse", ("c", 10, 229)),
        ("/dev/loop7", ("b", 7, 7)),
        ("/dev/loop", None),
        ("/dev/loop07", None),
        ("/dev/ttyS1", ("c", 4, 65)),
        ("/dev/dri/renderD128", ("c", 226, 128)),
        ("/dev/loop1\n", None),
        ("/dev/rtc0", None),
        ("", None),
    ],
)
def test_numbers(path: str, node: tuple[str, int, int] | None) -> None:
    assert node_of(path) == node


def test_this_machine_agrees() -> None:
    """Of what it has."""
    for path in [*load("devices.yaml")["fixed"], "/dev/loop0", "/dev/tty1", "/dev/ttyS0"]:
        if not Path(path).exists():
            continue
        status = os.stat(path)
        kind = "b" if stat.S_ISBLK(status.st_mode) else "c"
        assert node_of(path) == (kind, os.major(status.st_rdev), os.minor(status.st_rdev)), path
