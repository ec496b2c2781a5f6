"""Fixtures of the tests in the virtual machine. It is booted when the first of them begins, while the host records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from system.harness import Profgen
from system.lab.fixtures import Recordings
from vm import guest as machine
from vm.guest import Guest
from vm.recorded import Runs


@pytest.fixture(scope="session")
def guest() -> Iterator[Guest]:
    if reason := machine.why_not():
        pytest.skip(reason)
    guest = Guest()
    try:
        guest.start()
        yield guest
    finally:
        guest.close()


@pytest.fixture(scope="session")
def profgen() -> Profgen:
    return Profgen()


@pytest.fixture(scope="session")
def work(guest: Guest) -> Path:
    """Where workloads are recorded, and found again in the machine: there at first empty."""
    return guest.work


@pytest.fixture(scope="session")
def runs(profgen: Profgen, work: Path) -> Iterator[Runs]:
    """Recordings of the operations."""
    runs = Runs(profgen, work / "operations")
    try:
        yield runs
    finally:
        runs.close()


@pytest.fixture(scope="session")
def recordings(profgen: Profgen, work: Path) -> Recordings:
    """Recordings of the workloads."""
    return Recordings(profgen, work / "workloads")
