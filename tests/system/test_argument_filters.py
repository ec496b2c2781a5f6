"""Argument filters hold: under the profile of a service that only speaks TCP, a probe is refused what the service never
did."""
# ruff: noqa: F811 - the fixtures that are imported are arguments of the tests

from __future__ import annotations

import errno
import platform
import tempfile
from pathlib import Path

import pytest
from system.lab import runs
from system.lab.fixtures import Recordings, Runtimes, lab, recordings  # noqa: F401
from system.lab.processes import run
from system.lab.runtimes import RUNTIMES, Confinement, Job, container
from system.lab.workloads import WebServiceV1
from waiting import HANG_SECONDS

pytestmark = pytest.mark.usefixtures("as_root")

SERVICE = WebServiceV1
LIKE_THE_SERVICE = {"tcp", "tcp_high_bits", "thread", "mmap_rw", "mprotect_r"}
NOT_IMPLEMENTED = {"clone3", "clone3_user"}
REFUSED = {
    "alg", "alg_high_bits", "netlink", "packet", "raw", "udp",
    "unshare_user", "unshare_nothing",
    "clone_user", "clone_ns", "clone_pid", "clone_net", "clone_ipc", "clone_uts", "clone_cgroup",
    "mprotect_wx", "mprotect_x", "mmap_wx",
}  # fmt: skip
SIGSYS = 31
CAPABILITIES = ["CAP_SYS_ADMIN", "CAP_NET_RAW", "CAP_NET_BIND_SERVICE", "CAP_SETUID", "CAP_SETGID"]
"""What the probed calls take, so that nothing but the filter can refuse them."""


@pytest.fixture(scope="session")
def probe(public_dir: Path) -> Path:
    directory = Path(tempfile.mkdtemp(prefix="probe-", dir=public_dir))  # another file has this fixture too
    directory.chmod(0o755)
    source = Path(__file__).parent / "lab" / "programs" / "probe.c"
    run(["cc", "-O1", "-static", "-pthread", "-o", directory / "probe", source])
    return directory / "probe"


def results(probe: Path, runtime: str, seccomp: Path | None, lab: Runtimes) -> dict[str, int]:
    confinement = Confinement.with_capabilities(seccomp, CAPABILITIES)
    with container(lab[runtime], Job((str(probe),), readable=(probe.parent,)), confinement) as running:
        assert running.wait(HANG_SECONDS) == 0, running.report()
        return {name: int(number) for name, number in (line.split() for line in running.stdout.splitlines())}


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_probe_succeeds_without_a_filter(runtime: str, probe: Path, lab: Runtimes) -> None:
    """The control: whatever the tests below see refused, the kernel allows by itself."""
    got = results(probe, runtime, None, lab)
    lacking = (
        {"alg", "alg_high_bits"} if got["alg"] == errno.EAFNOSUPPORT else set()
    )  # a kernel may be built without it
    assert {name for name, number in got.items() if number} <= lacking, got
    assert set(got) == LIKE_THE_SERVICE | NOT_IMPLEMENTED | REFUSED


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_probe_is_refused(
    runtime: str,
    tracer: str,
    probe: Path,
    recordings: Recordings,
    lab: Runtimes,
    tmp_path: Path,
) -> None:
    confinement = runs.generated(recordings.trace(SERVICE, tracer), tmp_path / "profile", runtime, True)
    runs.confined(recordings.workload(SERVICE), lab[runtime], confinement)

    got = results(probe, runtime, confinement.seccomp, lab)
    # Docker before 23 knows no errno but EPERM for the default action; a rule's own errno it does know.
    expected = (
        dict.fromkeys(LIKE_THE_SERVICE, 0)
        | dict.fromkeys(NOT_IMPLEMENTED, errno.ENOSYS)
        | dict.fromkeys(REFUSED, errno.EPERM)
    )
    assert got == expected


@pytest.mark.skipif(platform.machine() != "x86_64", reason="i386 calls are made on x86-64 alone")
def test_another_abi_is_refused(
    probe: Path,
    recordings: Recordings,
    lab: Runtimes,
    tmp_path: Path,
) -> None:
    """A call of the 32-bit ABI, which the service never used, does not get around the filter."""
    confinement = runs.generated(recordings.trace(SERVICE, "ptrace"), tmp_path / "profile", "runc", True)
    with container(lab["runc"], Job((str(probe), "int80"), readable=(probe.parent,)), confinement) as running:
        assert running.wait(HANG_SECONDS) == 128 + SIGSYS, running.report()
    with container(lab["runc"], Job((str(probe), "int80"), readable=(probe.parent,)), Confinement(None)) as running:
        assert running.wait(HANG_SECONDS) == 0
        assert running.stdout == "int80 0\n", running.report()
