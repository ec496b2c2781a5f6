"""Fixtures of the programs: they lie where the virtual machine finds them at the same path."""

from __future__ import annotations

from pathlib import Path

import pytest
from programs.recordings import Programs
from system.harness import Profgen
from system.lab.fixtures import Runtimes, lab  # noqa: F401 - a fixture
from vm.guest import Guest


@pytest.fixture(scope="session")
def programs(profgen: Profgen, machine: Guest) -> Programs:
    return Programs(profgen, machine.work / "programs")


@pytest.fixture(scope="session")
def scratch(machine: Guest) -> Path:
    """A directory that no workload knows."""
    path = machine.directory / "scratch"
    path.mkdir()
    return path
