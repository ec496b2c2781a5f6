"""The virtual machine itself: that jobs run, that nothing of the kernel's log is lost, that nothing is left behind."""

from __future__ import annotations

from pathlib import Path

from vm.enforce import Confinement, Run, run
from vm.guest import Guest


def test_job(guest: Guest) -> None:
    result = guest.run("echo out; echo err >&2; uname -r; exit 7")
    assert (result.status, result.stderr) == (7, "err\n")
    assert result.stdout.startswith("out\n6.")


def test_job_that_hangs(guest: Guest) -> None:
    """It is ended, with what it started, and the next one runs."""
    assert guest.run("echo begun; (sleep 4000 &); setsid sleep 4000 & sleep 4000", seconds=2).status is None
    assert "sleep" not in guest.run("ps -e -o comm=").stdout


def test_every_denial_is_seen(guest: Guest) -> None:
    """A thousand at once: no limit of rate or backlog swallows one."""
    count = 1000
    script = f"n=0; while [ $n -lt {count} ]; do (: >/etc/denied-$n); n=$((n + 1)); done"
    nothing = Confinement("lab-many", "profile lab-many {\n}\n", 0)
    outcome = run(guest, "many", [Run("many", nothing, ["/usr/bin/busybox", "sh", "-c", script])])["many"]
    names = {denial.name for denial in outcome.denials if denial.operation == "mknod"}
    assert names == {f"/etc/denied-{number}" for number in range(count)}


def test_confined(guest: Guest) -> None:
    """The profile holds from the first instruction, whoever may be started with it cannot be signalled, and its end
    comes all the same."""
    nothing = Confinement("lab-nothing", "profile lab-nothing {\n}\n", 0)
    busybox = ["/usr/bin/busybox"]
    runs = [
        Run("reads", nothing, [*busybox, "cat", "/etc/hostname"]),
        Run("stays", nothing.named("lab-stays"), [*busybox, "sleep", "1000"], seconds=1),
    ]
    outcomes = run(guest, "confined", runs)
    assert [(denial.operation, denial.name) for denial in outcomes["reads"].denials] == [("open", "/etc/hostname")], (
        outcomes["reads"]
    )
    assert outcomes["reads"].status != 0
    assert outcomes["stays"].status == -1
    assert "busybox" not in guest.run("ps -e -o comm=").stdout


def test_names_are_decoded(guest: Guest) -> None:
    nothing = Confinement("lab-names", "profile lab-names {\n}\n", 0)
    name = '/tmp/a "b\n\udcff'
    runs = [Run("names", nothing, ["/usr/bin/busybox", "mkdir", name])]
    outcome = run(guest, "names", runs)["names"]
    assert [denial.name for denial in outcome.denials] == [f"{name}/"], outcome


def test_what_it_writes_stays_inside(guest: Guest) -> None:
    before = Path("/etc/hostname").read_bytes()
    assert guest.run("echo changed >/etc/hostname && cat /etc/hostname && : >/profgen-lab-inside").stdout == "changed\n"
    assert Path("/etc/hostname").read_bytes() == before
    assert not Path("/profgen-lab-inside").exists()
