"""Fixtures of the tests in the virtual machine. It is booted when the first of them begins, while the host records."""

from __future__ import annotations

from pathlib import Path

import pytest
from system.harness import Profgen
from system.lab.fixtures import Recordings
from vm import guest as virtual
from vm.guest import Guest


@pytest.fixture(scope="session")
def guest(machine: Guest) -> Guest:
    if reason := virtual.why_not():
        pytest.skip(reason)
    machine.start()
    return machine


@pytest.fixture(scope="session")
def work(guest: Guest) -> Path:
    """Where workloads are recorded, and found again in the machine: there at first empty."""
    return guest.work


@pytest.fixture(scope="session")
def recordings(profgen: Profgen, work: Path) -> Recordings:
    """Recordings of the workloads."""
    return Recordings(profgen, work / "workloads")
