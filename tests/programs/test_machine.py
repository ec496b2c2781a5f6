"""Programs of Debian packages in the virtual machine: AppArmor enforces the profile, and the load runs in two starts
without a denial."""

from __future__ import annotations

from pathlib import Path

import pytest
from programs.catalogue import IN_THE_MACHINE
from programs.recordings import Programs
from system.lab.workloads import Workload
from vm import guest as virtual
from vm.guest import Guest
from vm.workloads import TRACERS, Workloads, check_clean, skip_unless_possible


@pytest.fixture(scope="module")
def made(
    request: pytest.FixtureRequest, machine: Guest, programs: Programs, tmp_path_factory: pytest.TempPathFactory
) -> Workloads:
    """The programs of the selected tests."""
    if reason := virtual.why_not():
        pytest.skip(reason)
    machine.start()
    selected = {item.callspec.params["kind"] for item in request.session.items if item.path == Path(__file__)}
    kinds = [kind for kind in IN_THE_MACHINE if kind in selected]
    return Workloads(machine, programs, tmp_path_factory.mktemp("programs"), kinds, turns=2)


@pytest.mark.parametrize("tracer", TRACERS)
@pytest.mark.parametrize("kind", IN_THE_MACHINE, ids=lambda kind: kind.name)
def test_clean(kind: type[Workload], tracer: str, made: Workloads) -> None:
    """Recorded, loaded, enforced, started twice: the load succeeds and the kernel's log has no refusal."""
    skip_unless_possible(kind, tracer)
    check_clean(made, kind, tracer)
