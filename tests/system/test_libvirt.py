"""``generate -t libvirt-lxc,launcher --into`` on a domain: libvirt runs it as it is written, and what the workload
never did is refused."""
# ruff: noqa: F811 - the fixtures that are imported are arguments of the tests

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from system.harness import Profgen, run_here
from system.lab import libvirt, probe, runs
from system.lab.fixtures import Recordings, recordings  # noqa: F401
from system.lab.libvirt import Libvirt, domain
from system.lab.processes import run
from system.lab.runtimes import Job
from system.lab.workloads import SAMPLE_WORKLOADS, Nginx, Redis, Workload
from waiting import HANG_SECONDS

pytestmark = [
    pytest.mark.usefixtures("as_root"),
    pytest.mark.skipif(libvirt.why_not() is not None, reason=f"libvirt {libvirt.why_not()}"),
]


@pytest.fixture(scope="module")
def daemon(public_dir: Path) -> Iterator[Libvirt]:
    state = public_dir / "libvirt"
    state.mkdir()
    started = Libvirt(state)
    yield started
    started.close()


@pytest.mark.parametrize("kind", [*SAMPLE_WORKLOADS, Nginx, Redis], ids=lambda kind: kind.name)
def test_runs_as_it_is_written(daemon: Libvirt, kind: type[Workload], recordings: Recordings, public_dir: Path) -> None:
    workload = recordings.workload(kind)
    directory = public_dir / f"domain-{kind.name}"
    directory.mkdir()
    runs.generated(recordings.trace(kind, "ebpf"), directory / "profile", "none", True)
    workload.reset()
    with domain(daemon, directory, workload.job, directory / "profile") as running:
        runs.served(workload, running, "libvirt-lxc")


def test_what_was_never_done_is_refused(daemon: Libvirt, profgen: Profgen, public_dir: Path) -> None:
    """Ten acts, in a domain whose root cannot be written: only the limit of processes is one that libvirt lacks."""
    quiet = (*probe.QUIET[:-1], probe.QUIET[-1] + "print('quiet')\n")
    place = public_dir / "domain-quiet"
    place.mkdir()
    done = profgen("record", "-q", "-o", "quiet.json", "--", *quiet, cwd=place)
    assert done.returncode == 0, done.stderr
    runs.generated(place / "quiet.json", place / "profile", "none", True)
    job = Job((*quiet, *probe.ACTS))
    for name, profile in (("free", None), ("tried", place / "profile")):
        directory = public_dir / f"domain-{name}"
        directory.mkdir()
        with domain(daemon, directory, job, profile, ["libvirt-lxc.read-only=yes"]) as running:
            assert running.wait(HANG_SECONDS) == 0
            acts, report = set(running.stdout.split()) - {"quiet"}, running.report()
            assert "quiet" in running.stdout, report
        if profile is None:
            assert {"write", "ptrace", "chown", "setuid", "forks"} <= acts, report
        else:
            assert acts == {"forks"}, report


EXAMPLES = Path("/usr/share/doc/lxc/examples")
MORE = """
lxc.rootfs.path = /srv/root
lxc.cap.drop = sys_admin mknod
lxc.mount.entry = /srv/data srv/data none bind,ro 0 0
"""
OURS = re.compile(r"</?capabilities|<[a-z_]+ state='o(n|ff)'/>")


def rewritten(text: str, profile: Path, place: Path) -> str:
    """The domain with a profile put into it twice, which libvirt's schema allows."""
    (place / "domain.xml").write_text(text)
    for _ in range(2):
        once = (place / "domain.xml").read_text()
        run_here("generate", "-q", str(profile), "-t", "libvirt-lxc", "-o", str(place), "--into", f"{place}/domain.xml")
    assert (place / "domain.xml").read_text() == once, "twice is the same as once"
    run(["/usr/bin/virt-xml-validate", str(place / "domain.xml"), "domain"])
    return once


@pytest.fixture(scope="module")
def changes_an_owner(profgen: Profgen, public_dir: Path) -> Path:
    """A profile with one capability."""
    place = public_dir / "owner"
    place.mkdir()
    (place / "file").touch()
    done = profgen("record", "-q", "-o", "chown.json", "--", "chown", "1", "file", cwd=place)
    assert done.returncode == 0, done.stderr
    runs.generated(place / "chown.json", place / "profile", "none", True)
    return place / "profile"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("lxc-*.conf")), ids=lambda path: path.stem)
def test_domains_that_libvirt_wrote_are_rewritten(
    daemon: Libvirt, changes_an_owner: Path, path: Path, tmp_path: Path
) -> None:
    """Domains that it makes of the configurations in LXC's package, and prints once they are defined."""
    native = tmp_path / "native"
    # libvirt takes no address of version 6 without a prefix.
    native.write_text("".join(f"{row}\n" for row in path.read_text().splitlines() if "ipv6" not in row) + MORE)
    text, names = daemon.printed("domxml-from-native", "lxc-tools", str(native)), []
    try:
        for _ in range(2):  # as it is converted, then as it is printed
            once = rewritten(text, changes_an_owner, tmp_path)
            changed = [row for row in difflib.ndiff(text.splitlines(), once.splitlines()) if row[0] in "+-"]
            assert [row for row in changed if not OURS.search(row)] == []
            daemon.virsh("define", "--validate", str(tmp_path / "domain.xml"))
            names.append(ElementTree.fromstring(once).findtext("name") or "")
            text = daemon.printed("dumpxml", "--inactive", names[0])
            found = ElementTree.fromstring(text).find("features/capabilities")
            assert found is not None
            assert (found.get("policy"), [(row.tag, row.get("state")) for row in found]) == ("deny", [("chown", "on")])
    finally:
        for name in names[:1]:
            daemon.virsh("undefine", name)
