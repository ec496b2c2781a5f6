"""What tests of several rooms share, and how they are spread over processes.

What shares something expensive, or would see the other, runs in one process: recordings of the operations serve the
tests of the evidence and, in the virtual machine, those of the profiles; tests of containers share a docker daemon and
recordings of the workloads, and some watch every container of the machine; two files share recordings of the torture
programs, and as a filter kills one of these, refine, which reads the kernel's log, comes after them. All other files of
tests are a group each; the suite of real programs is grouped by program.

The longest groups come first, and unit tests last, so that the processes end at about the same time.
"""

from __future__ import annotations

import compileall
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from system.harness import CHECKOUT, Profgen, own_network, why_no_ebpf
from system.operations.build import VARIANTS
from system.operations.runs import Runs
from vm import guest as virtual
from vm.guest import Guest

# No time decides a test: Hypothesis has no deadline, and a slow machine is not a failure. Nor does chance: the same
# code meets the same inputs at each run, so that more of them tell less. `make campaigns` tries others, and twice as
# many (--hypothesis-profile=random).
settings.register_profile("random", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=100)
settings.register_profile("same", settings.get_profile("random"), derandomize=True, max_examples=50)
settings.load_profile("same")

_SHARED = {
    "machine": ("system/test_files.py", "vm/", "programs/test_machine.py"),
    "containers": tuple(
        f"system/test_{name}.py"
        for name in (
            "argument_filters",
            "births",
            "containerd",
            "containers",
            "images",
            "kube_play",
            "incus",
            "libvirt",
            "lxc",
            "minimal",
            "minimise",
            "oci",
            "review",
            "run",
            "sandboxes",
            "score",
            "sufficient",
            "verify",
            "watching",
        )
    ),
    "torture": ("system/test_complete.py", "system/test_tracers_agree.py", "system/test_refine.py"),
}
"""Groups of more than one file, the longest first, with the beginnings of the files' names."""


def pytest_configure(config: pytest.Config) -> None:
    """What was started in the background ignores some signals and hands that down; the tests send them."""
    for number in (signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):
        # The commands that tests start write no bytecode (harness.environment); compiling profgen at each start is a
        # third of its time.
        compileall.compile_dir(CHECKOUT / "profiler", quiet=2)


def _group(test: str) -> str:
    """Tests of one group run in one process, which sets up once what they share; by the id of a test."""
    place = test.partition("::")[0].removeprefix("tests/")
    if place.startswith("programs/test_programs.py"):
        return test.rpartition("-")[2]
    return next((name for name, files in _SHARED.items() if place.startswith(files)), place)


def _order(test: str) -> int:
    group = _group(test)
    return [*_SHARED].index(group) if group in _SHARED else len(_SHARED) + group.startswith("unit/")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest groups."""
    items.sort(key=lambda item: _order(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """For pytest-xdist, whose own groups (3.8) are without effect under pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling

    config.option.loadscopereorder = False  # it counts tests, which says little of their time

    class Groups(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return _group(nodeid)

    return Groups(config, log)


@pytest.fixture(autouse=True)
def mask() -> Iterator[None]:
    """Restore the signals that are blocked: a command that records holds them to the end of its process."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


@pytest.fixture(scope="session")
def profgen() -> Profgen:
    return Profgen()


@pytest.fixture(scope="session")
def machine() -> Iterator[Guest]:
    """The virtual machine, not started: the directories that it and the host have in common."""
    guest = Guest()
    try:
        yield guest
    finally:
        guest.close()


@pytest.fixture(scope="session")
def runs(request: pytest.FixtureRequest, machine: Guest) -> Iterator[Runs]:
    """Recordings of the operations; those that the selected tests ask for by name are begun ahead of them."""
    items = request.session.items
    if virtual.why_not() is None and any(item.path.parent.name == "vm" for item in items):
        machine.start()  # it boots while the host records
    runs = Runs(Profgen(prefix=own_network()), machine.work / "operations")
    tracers = ["ptrace"] if why_no_ebpf() else ["ptrace", "ebpf"]
    try:
        for item in items:
            parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
            operation, variant = parameters.get("operation"), parameters.get("variant", "ops")
            wanted = (
                operation
                and isinstance(item, pytest.Function)
                and "runs" in item.fixturenames
                and "ordinary" not in item.fixturenames
            )
            if wanted and variant in VARIANTS and runs.possible(operation):
                for tracer in [parameters["tracer"]] if "tracer" in parameters else tracers:
                    if tracer in tracers:
                        runs.begin(operation, tracer, variant)
        yield runs
    finally:
        runs.close()
